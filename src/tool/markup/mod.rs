//! One reader of what models write when they call tools, for whoever the calls are for.
//!
//! [`Reader`] takes an answer's text in pieces and finds the calls in it, in whatever [`Dialect`]
//! they are written. What it finds goes to a [`Sink`] as it comes: text, reasoning, the beginning
//! of a call, its parameters piece by piece, its end. One sink writes the JSON arguments that
//! OpenAI's clients want ([`scan`](super::scan)), the other the tags that XML clients read
//! themselves ([`wrap`](super::wrap)). Where the two want text to be read differently, [`Rules`]
//! say so; everything else is read alike.
//!
//! | file | what it knows |
//! |---|---|
//! | `reader` | the states of an answer: think block, prose, call, what follows a call |
//! | `opener` | what opens a call |
//! | `lines` | where Markdown quotes, so that an opener is an example |
//! | `body`, `tags` | calls in tags: parameters, and where their values end |
//! | `hermes` | calls in JSON, key by key |
//! | `object`, `relay`, `unquote`, `escape` | JSON as models write it, repaired as it passes |
//! | `tag` | matching at the start of a text that may go on |
//! | `window` | text that is looked at, and how it leaves without a copy |
//!
//! Nothing here does I/O, and nothing depends on where the text is cut.

mod body;
mod escape;
mod hermes;
mod lines;
mod object;
mod opener;
mod reader;
mod relay;
mod sink;
mod tag;
mod tags;
mod unquote;
mod window;

pub use self::sink::Dialect;
pub(super) use self::{
    object::{Arguments, Fed},
    reader::Reader,
    sink::{Close, Names, Rules, Sink},
    window::{GROWTH, Window},
};
#[cfg(feature = "tool-wrap")]
pub(super) use self::{relay::Relay, tag::is_blank, unquote::Unquote};
#[cfg(feature = "tool-call")]
pub(super) use self::{
    relay::{DEPTH_LIMIT, is_number, plain},
    tag::NAME_LIMIT,
};
