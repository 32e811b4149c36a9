//! Tool calls for models that write them as text, and for clients that read them as text.
//!
//! Qwen models are asked for calls in their prompt and write them into their answer, in several
//! dialects, whole or in pieces. The layer of [`call`] puts tools, calls and results into words and
//! the calls in what comes back into OpenAI's form. [`scan`] is what finds them, for programs that
//! have the text of an answer and no stack. [`wrap`] serves the clients of the other kind, which
//! read XML themselves and take every reply for exactly one call.

#[cfg(feature = "tool-call")]
mod arguments;
#[cfg(feature = "tool-call")]
pub mod call;
#[cfg(feature = "tool-call")]
mod history;
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
mod markup;
#[cfg(feature = "tool-call")]
mod prompt;
#[cfg(feature = "tool-call")]
pub mod scan;
#[cfg(feature = "tool-call")]
mod schema;
#[cfg(feature = "tool-wrap")]
pub mod wrap;

pub use self::markup::Dialect;

/// What the layers are made of, for the tests, benches and fuzz targets of this crate. It is no
/// part of the API: it changes without notice.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "tool-wrap")]
    pub use super::wrap::{
        automaton::Automaton,
        outcome::{End, Outcome},
    };
    #[cfg(feature = "tool-call")]
    pub use super::{
        arguments::{Writer, convert},
        history::render_calls,
        prompt::rewrite,
        schema::Types,
    };
}
