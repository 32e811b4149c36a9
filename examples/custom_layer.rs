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
use http::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{Answer, ChatEvent, ChatRequest, ChatStream, Message, Role, Tenant},
    dedup::DedupLayer,
    qwen::web::QwenWebLayer,
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::Emulator;

const SHARE: u64 = 100;

type Used = Arc<Mutex<HashMap<Option<Tenant>, u64>>>;

/// The layer: everything that is special about it are the trait bounds.
fn budget<S, B>(
    inner: S,
    used: Used,
) -> impl Service<
    Request<ChatRequest>,
    Response = Response<impl ChatStream + Send>,
    Error = Error,
    Future: Send,
> + Clone
where
    S: Service<Request<ChatRequest>, Response = Response<B>, Error: Into<Error>, Future: Send>
        + Clone
        + Send,
    B: ChatStream + Send,
{
    service_fn(move |request: Request<ChatRequest>| {
        let (inner, used, tenant) = (inner.clone(), Arc::clone(&used), request.body().tenant);
        async move {
            if used.lock().expect("not poisoned").get(&tenant).is_some_and(|&sum| sum >= SHARE) {
                return Err(Error::new(ErrorKind::Quota, "this tenant's tokens are used up"));
            }
            let response = inner.oneshot(request).await.map_err(Into::into)?;
            Ok(response.map(|answer| {
                answer.inspect(move |event| {
                    if let Ok(ChatEvent::Usage(usage)) = event {
                        let mut used = used.lock().expect("not poisoned");
                        *used.entry(tenant).or_default() += usage.total_tokens;
                    }
                })
            }))
        }
    })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let used = Used::default();
    let counted = Arc::clone(&used);
    let qwen = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(layer_fn(move |inner| budget(inner, Arc::clone(&counted))))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::prompted())
        .layer(QwenWebLayer::new())
        .service(Emulator::new());

    for turn in 1.. {
        let question = format!("Tell me a story, number {turn}, please.");
        let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, question)]);
        request.tenant = Some(Tenant::from_digest([7; 32]));
        match qwen.clone().oneshot(Request::new(request)).await {
            Ok(response) => {
                let answer = Answer::collect(response.into_body()).await?;
                println!("{turn}: {} ({:?})", answer.text, answer.usage.map(|u| u.total_tokens));
            }
            Err(error) if error.is_quota() => {
                println!("{turn}: {error}");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
