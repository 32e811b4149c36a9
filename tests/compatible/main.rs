//! Every deviation of OpenAI-compatible servers that the adapter repairs, and what their errors
//! mean. Each test says whose deviation it is; docs/reference/qwen-wire.md#c has all of them.

mod answers;
mod any_bytes;
mod content;
mod edge;
mod errors;
mod repairs;
mod requests;
#[path = "../traced/mod.rs"]
mod traced;
mod upstream;
