use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tower_service::Service;
use tracing::debug;

use super::{
    config::Config,
    digest::digest,
    slot::{Call, Digest, Making, Register, boxed},
    stream::{Holder, JoinStream},
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream, Tenant},
    clock,
    offload::{is_large, offload},
};

/// How often the official SDKs have sent the request before.
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// For how long a client that is still there may keep its answer from the one that it asks for again.
const HAND_OVER: Duration = Duration::from_secs(1);

type Outcome = Result<Response<JoinStream>, Error>;

/// The response future of [`Join`](super::Join).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    turn: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl ResponseFuture {
    pub(super) fn new(turn: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self { turn: Box::pin(turn) }
    }
}

impl Future for ResponseFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.turn.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// One request up to the head of its response.
pub(super) async fn turn<S, B>(
    config: Config,
    register: Register,
    mut inner: S,
    request: Request<ChatRequest>,
) -> Outcome
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    // Nobody can tell whose it is, so nobody gets another's.
    let Some(tenant) = request.body().tenant else {
        let response = inner.call(request).await.map_err(Into::into)?;
        return Ok(boxed(response).map(JoinStream::alone));
    };
    let digest = digest_of(tenant, request.body()).await?;
    if let Some((making, slot, case)) = made(&register, &digest, request.headers()).await {
        debug!(case, "a repeated request gets the answer that is being made");
        metrics::counter!("tower_qwen_join_joined_total", "case" => case).increment(1);
        let place = register.take_over(digest, slot);
        return head(Holder::joined(making, place, config.linger)).await;
    }
    let call: Call =
        Box::pin(async move { inner.call(request).await.map(boxed).map_err(Into::into) });
    match register.enter(digest) {
        Some(place) => {
            let making = Making::new(call, config.max_kept);
            head(Holder::new(making, place, config.linger)).await
        }
        // Somebody asks for the same at the same time, on purpose.
        None => Ok(call.await?.map(JoinStream::alone)),
    }
}

async fn digest_of(tenant: Tenant, chat: &ChatRequest) -> Result<Digest, Error> {
    if is_large(chat) {
        let chat = chat.clone();
        return offload("join", move || digest(&tenant, &chat)).await;
    }
    Ok(digest(&tenant, chat))
}

/// The answer that is being made to the same request, if this one may have it; and why it may.
async fn made(
    register: &Register,
    digest: &Digest,
    headers: &HeaderMap,
) -> Option<(Making, std::sync::Arc<super::slot::Slot>, &'static str)> {
    let slot = register.get(digest)?;
    if let Some(making) = slot.take() {
        return Some((making, slot, "gone"));
    }
    if !is_repeated(headers) || !clock::is_there() {
        return None;
    }
    let making = tokio::time::timeout(HAND_OVER, slot.wish()).await.ok()?.ok()?;
    Some((making, slot, "repeated"))
}

/// Whether the client says that it has sent the request before.
fn is_repeated(headers: &HeaderMap) -> bool {
    let count = headers.get(RETRY_COUNT).and_then(|count| count.to_str().ok());
    count.and_then(|count| count.trim().parse::<u32>().ok()).is_some_and(|count| count > 0)
}

async fn head(mut holder: Holder) -> Outcome {
    let head = poll_fn(|cx| holder.poll_head(cx)).await?;
    Ok(Response::from_parts(head, JoinStream::joinable(holder)))
}
