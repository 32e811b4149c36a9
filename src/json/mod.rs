//! JSON strings: read without a copy, measured, written into a buffer of bytes; why JSON was not
//! read; and whether pieces of text are an object.

#[cfg(any(feature = "compatible", feature = "web"))]
mod error;
#[cfg(any(feature = "compatible", feature = "web"))]
mod measure;
pub(crate) mod object;
#[cfg(any(feature = "compatible", feature = "openai"))]
mod read;
#[cfg(any(feature = "compatible", feature = "openai"))]
mod write;

#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::error::ReadError;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::measure::escaped_len;
#[cfg(any(feature = "compatible", feature = "openai"))]
pub(crate) use self::read::Str;
#[cfg(feature = "openai")]
pub(crate) use self::read::unescape;
#[cfg(feature = "openai")]
pub(crate) use self::write::escape_into;
#[cfg(any(feature = "compatible", feature = "openai"))]
pub(crate) use self::write::string_into;
