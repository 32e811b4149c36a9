//! JSON as text: strings read without a copy, measured, written into a buffer of bytes; members
//! of objects where they stand; why JSON was not read; and whether pieces of text are an object.

#[cfg(any(feature = "compatible", feature = "web"))]
mod error;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) mod lenient;
#[cfg(any(feature = "compatible", feature = "web"))]
mod measure;
mod members;
pub(crate) mod object;
mod read;
#[cfg(any(feature = "compatible", feature = "tool-call", feature = "web"))]
mod tree;
mod write;

#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::error::ReadError;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::measure::escaped_len;
#[cfg(any(
    test,
    feature = "ollama",
    feature = "openai",
    feature = "responses",
    feature = "tool-call"
))]
pub(crate) use self::members::compact;
#[cfg(any(test, feature = "compatible", feature = "tool-call", feature = "web"))]
pub(crate) use self::members::items;
#[cfg(any(feature = "edge", feature = "tool-call"))]
pub(crate) use self::members::nests_deeper_than;
#[cfg(feature = "compatible")]
pub(crate) use self::members::{string_len, value_len};
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
pub(crate) use self::read::escape;
#[cfg(feature = "edge")]
pub(crate) use self::read::unescape;
#[cfg(feature = "tool-call")]
pub(crate) use self::tree::tree_size;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::tree::tree_within;
#[cfg(any(feature = "compatible", feature = "tool-call", feature = "web"))]
pub(crate) use self::write::clean_len;
#[cfg(any(
    feature = "anthropic",
    feature = "ollama",
    feature = "openai",
    feature = "responses"
))]
pub(crate) use self::write::{escape_into, number_into};
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
pub(crate) use self::write::{push_escaped, push_string};
pub(crate) use self::{
    members::{Members, members, unquoted},
    read::Str,
    write::string_into,
};
