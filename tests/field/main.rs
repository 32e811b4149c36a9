//! Every kind of fault that was found in what real servers send, as a table of the whole kind: each
//! row names it and says what a client is to be given. What does not depend on the wire goes through
//! all that there are: streamed and whole, over the wire of OpenAI-compatible servers and over that
//! of chat.qwen.ai, which has been seen to take on OpenAI's shape.
#![cfg(all(feature = "compatible", feature = "openai", feature = "web"))]

mod calls;
#[path = "../deviations/mod.rs"]
mod deviations;
mod differential;
mod embeddings;
mod ends;
#[path = "../deviations/model.rs"]
mod model;
mod odd;
mod refusals;
#[path = "../traced/mod.rs"]
mod traced;
mod turns;
#[cfg(all(feature = "anthropic", feature = "ollama", feature = "responses"))]
mod unread;
mod wires;
