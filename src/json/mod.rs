//! JSON strings: read without a copy, written into a buffer of bytes.

#[cfg(any(feature = "compatible", feature = "openai"))]
mod read;
mod write;

#[cfg(any(feature = "compatible", feature = "openai"))]
pub(crate) use self::read::Str;
#[cfg(feature = "openai")]
pub(crate) use self::read::unescape;
#[cfg(feature = "openai")]
pub(crate) use self::write::escape_into;
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) use self::write::escaped_len;
#[cfg(any(feature = "compatible", feature = "openai"))]
pub(crate) use self::write::string_into;
