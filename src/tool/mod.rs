//! The `tool` concern.

#[cfg(feature = "tool-call")]
pub mod history;
#[cfg(feature = "tool-call")]
pub mod prompt;
#[cfg(feature = "tool-wrap")]
pub mod wrap;
