//! The stack as a typed Rust client: without `OpenAiLayer`, a request is a `ChatRequest` and the
//! answer a stream of `ChatEvent`s.
//!
//! `cargo run --example client -- "What is tower?"` asks the emulator; with `QWEN_TOKEN` set it
//! asks chat.qwen.ai.

use std::{
    env,
    io::{self, Write},
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    FullBody,
    chat::{ChatEvent, ChatRequest, Message, Role},
    qwen::{client::QwenUpstream, web::QwenWebLayer},
};
use tower_qwen_emulator::Emulator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let words: Vec<String> = env::args().skip(1).collect();
    let question = if words.is_empty() { "Hello".to_owned() } else { words.join(" ") };
    match env::var("QWEN_TOKEN") {
        Ok(token) => ask(QwenUpstream::web().token(token).build()?, &question).await,
        Err(_) => ask(Emulator::new(), &question).await,
    }
}

/// Asks `upstream`, and shows the answer as it comes.
async fn ask<U, B>(upstream: U, question: &str) -> Result<(), BoxError>
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let client = ServiceBuilder::new().layer(QwenWebLayer::new()).service(upstream);
    let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, question)]);
    let mut answer = Box::pin(client.oneshot(Request::new(request)).await?.into_body());
    let mut out = io::stdout().lock();
    while let Some(event) = answer.next().await {
        match event? {
            ChatEvent::Text(text) => out.write_all(text.as_bytes())?,
            ChatEvent::Finished(reason) => writeln!(out, "\n({reason:?})")?,
            // Where in the upstream's chat to go on, reasoning, usage and so on.
            _ => {}
        }
        out.flush()?;
    }
    Ok(())
}
