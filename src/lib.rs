//! Composable tower layers over a Qwen upstream.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "chat")]
pub mod chat;
#[cfg(feature = "dedup")]
pub mod dedup;
#[cfg(feature = "emulator")]
pub mod emulator;
mod error;
#[cfg(any(feature = "compatible", feature = "openai", feature = "tool-call"))]
mod json;
#[cfg(feature = "openai")]
pub mod openai;
#[cfg(any(feature = "client", feature = "compatible", feature = "web"))]
pub mod qwen;
#[cfg(feature = "session")]
pub mod session;
#[cfg(feature = "sse")]
pub mod sse;
#[cfg(any(feature = "tool-call", feature = "tool-wrap"))]
pub mod tool;

pub use self::error::{Error, ErrorKind};
