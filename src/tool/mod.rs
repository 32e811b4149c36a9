//! The `tool` concern.

#[cfg(feature = "tool-call")]
pub mod arguments;
#[cfg(feature = "tool-call")]
pub mod scan;
#[cfg(feature = "tool-call")]
pub mod schema;
