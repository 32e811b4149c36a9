//! A layer of one's own between two of the crate's: it counts the tokens of each tenant, and
//! refuses a tenant who has used up his share.
//!
//! ```console
//! $ cargo run --example custom_layer
//! ```

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use http::Request;
use tower::{Layer, ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{Answer, ChatEvent, ChatRequest, ChatService, Message, Role, Tenant},
    dedup::DedupLayer,
    qwen::web::QwenWebLayer,
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::Emulator;

/// Lets each tenant use about so many tokens.
fn budget<S: ChatService>(tokens: u64) -> impl Layer<S, Service: ChatService> {
    let used = Arc::new(Mutex::new(HashMap::<_, u64>::new()));
    layer_fn(move |inner: S| {
        let used = Arc::clone(&used);
        service_fn(move |request: Request<ChatRequest>| {
            let (inner, used, tenant) = (inner.clone(), Arc::clone(&used), request.body().tenant);
            async move {
                if used.lock().expect("not poisoned").get(&tenant).is_some_and(|&sum| sum >= tokens)
                {
                    return Err(Error::new(ErrorKind::Quota, "this tenant's tokens are used up"));
                }
                Ok(inner.oneshot(request).await?.map(|answer| {
                    answer.inspect(move |event| {
                        if let Ok(ChatEvent::Usage(usage)) = event {
                            let mut used = used.lock().expect("not poisoned");
                            *used.entry(tenant).or_default() += usage.total_tokens;
                        }
                    })
                }))
            }
        })
    })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let qwen = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(budget(100))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::prompted())
        .layer(QwenWebLayer::new())
        .service(Emulator::new());
    loop {
        let story = vec![Message::new(Role::User, "Tell me a story, please.")];
        let mut request = ChatRequest::new("qwen3-max", story);
        request.tenant = Some(Tenant::from_digest([7; 32]));
        match qwen.clone().oneshot(Request::new(request)).await {
            Err(error) if error.is_quota() => {
                println!("{error}");
                return Ok(());
            }
            answer => println!("{}", Answer::collect(answer?.into_body()).await?.text),
        }
    }
}
