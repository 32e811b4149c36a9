//! The upstreams: adapters to the wires that Qwen speaks, and the HTTP client below them.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "web")]
pub mod web;
