//! Tool calls for models that write them as text, and for clients that read them as text.
//!
//! Qwen models are asked for calls in their prompt and write them into their answer, in several
//! formats, whole or in pieces. [`prompt`] and [`history`] put tools, calls and results into
//! words; [`scan`] finds the calls in what comes back; [`arguments`] and [`schema`] make JSON of
//! their parameters; and the layer of [`call`] puts all that around a chat service, for clients that
//! speak OpenAI's form. [`wrap`] serves the clients of the other kind, which read XML themselves
//! and take every reply for exactly one call.

#[cfg(feature = "tool-call")]
pub mod arguments;
#[cfg(feature = "tool-call")]
pub mod call;
#[cfg(feature = "tool-call")]
pub mod history;
#[cfg(feature = "tool-call")]
pub mod prompt;
#[cfg(feature = "tool-call")]
pub mod scan;
#[cfg(feature = "tool-call")]
pub mod schema;
#[cfg(feature = "tool-wrap")]
pub mod wrap;
