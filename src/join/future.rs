use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
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
    chat::{self, ChatRequest, ChatStream, Tenant},
    clock,
    offload::{is_large, offload},
};

/// How often the official SDKs have sent the request before.
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// For how long a client that is still there may keep its answer from the one that it asks for again.
const HAND_OVER: Duration = Duration::from_secs(1);

type Outcome<B> = Result<Response<JoinStream<B>>, Error>;

pin_project! {
    /// The response future of [`Join`](super::Join).
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        // Nobody can tell whose it is, so nobody gets another's.
        Alone { #[pin] call: F },
        Turn { #[pin] turn: chat::ResponseFuture<JoinStream<B>> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) const fn alone(call: F) -> Self {
        Self { state: State::Alone { call } }
    }

    pub(super) fn turn(turn: impl Future<Output = Outcome<B>> + Send + 'static) -> Self {
        Self { state: State::Turn { turn: chat::ResponseFuture::new(turn) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Outcome<B>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<B>> {
        match self.project().state.project() {
            StateProjection::Alone { call } => {
                let response = ready!(call.poll(cx)).map_err(Into::into)?;
                Poll::Ready(Ok(response.map(JoinStream::alone)))
            }
            StateProjection::Turn { turn } => turn.poll(cx),
        }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// One request of `tenant` up to the head of its response.
pub(super) async fn turn<S, B>(
    config: Config,
    register: Register,
    mut inner: S,
    tenant: Tenant,
    request: Request<ChatRequest>,
) -> Outcome<B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
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
        None => Ok(call.await?.map(JoinStream::beside)),
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

async fn head<B>(mut holder: Holder) -> Outcome<B> {
    let head = poll_fn(|cx| holder.poll_head(cx)).await?;
    Ok(Response::from_parts(head, JoinStream::joinable(holder)))
}
