//! What the tests of the Messages edge have in common.

#![allow(dead_code, reason = "no test needs all of it")]

pub(crate) mod events;
pub(crate) mod reader;
