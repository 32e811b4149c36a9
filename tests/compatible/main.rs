//! Every deviation of OpenAI-compatible servers that the adapter repairs, by its row in
//! qwen-wire.md (B7 to B9, C1, C2), and what their errors mean. Each test is named after the
//! section, and says the row.

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
