//! How many bytes of bodies are in work at once.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tower_layer::Layer;
use tower_service::Service;

use crate::{BoxError, Error, ErrorKind};

/// When a client that was sent away is asked to come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A layer that bounds how many bytes of request bodies are in memory at once. It counts over all
/// services that it or a clone of it was put around.
///
/// Bytes count from when they are read until nobody needs the request any more. A request's share
/// travels in the extensions of the [`http::Request`], which go from the edge to the leaf, and is
/// given back with the last copy of them. A body that nobody reads counts nothing, and neither does
/// one that is announced and does not come.
///
/// Where there is no room, a body is not read on, and the request waits: for 10 seconds, unless
/// [`wait`](BodyBudget::wait) says otherwise. Then reading fails with [`ErrorKind::Overloaded`],
/// which the edges answer with 503 and `retry-after`. One request may always have all of the
/// budget. So this layer does not decide how large a body may be.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, service_fn};
/// use tower_qwen::{
///     Error,
///     chat::{ChatEvent, ChatRequest, FinishReason},
///     edge::BodyBudget,
///     openai::OpenAiLayer,
/// };
///
/// let budget = BodyBudget::new(256 * 1024 * 1024);
/// let service = ServiceBuilder::new().layer(budget).layer(OpenAiLayer::new()).service(service_fn(
///     |_: Request<ChatRequest>| async {
///         let answer = [Ok(ChatEvent::Finished(FinishReason::Stop))];
///         Ok::<_, Error>(Response::new(futures_util::stream::iter(answer)))
///     },
/// ));
/// # let _ = tower::ServiceExt::<Request<Full<bytes::Bytes>>>::oneshot(service, Request::default());
/// ```
#[derive(Clone, Debug)]
pub struct BodyBudget {
    room: Arc<Semaphore>,
    /// In bytes.
    total: u32,
    wait: Duration,
}

impl BodyBudget {
    /// A budget of so many bytes, 4 GiB at most.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes).unwrap_or(u32::MAX);
        let total = total.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            room: Arc::new(Semaphore::new(total as usize)),
            total,
            wait: Duration::from_secs(10),
        }
    }

    /// How long a request waits for room before its client is sent away.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How many bytes there is room for now.
    #[must_use]
    pub fn left(&self) -> usize {
        self.room.available_permits()
    }

    fn full(&self) -> Error {
        metrics::counter!("tower_qwen_bodies_refused_total").increment(1);
        let message = format!(
            "the requests in work take all of the {} bytes that bodies may; try again in a moment",
            self.total
        );
        Error::new(ErrorKind::Overloaded, message).with_retry_after(RETRY_AFTER)
    }
}

impl<S> Layer<S> for BodyBudget {
    type Service = Budgeted<S>;

    fn layer(&self, inner: S) -> Budgeted<S> {
        Budgeted { inner, budget: self.clone() }
    }
}

/// The service of [`BodyBudget`].
#[derive(Clone, Debug)]
pub struct Budgeted<S> {
    inner: S,
    budget: BodyBudget,
}

impl<S, B> Service<Request<B>> for Budgeted<S>
where
    S: Service<Request<BudgetedBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let share = Share::default();
        request.extensions_mut().insert(share.clone());
        let budget = self.budget.clone();
        let body =
            request.map(|body| BudgetedBody { body, budget, share, held: None, waiting: None });
        self.inner.call(body)
    }
}

/// What one request has of the budget.
#[derive(Clone, Default)]
struct Share(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Share {
    fn with<T>(&self, with: impl FnOnce(&mut Option<OwnedSemaphorePermit>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn bytes(&self) -> u32 {
        let bytes = self.with(|own| own.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn add(&self, more: OwnedSemaphorePermit) {
        self.with(|own| match own {
            Some(own) => own.merge(more),
            None => *own = Some(more),
        });
    }
}

type Waiting = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

pin_project! {
    /// The body of a request that [`Budgeted`] passes on: the same, and not faster than there is
    /// room for it.
    pub struct BudgetedBody<B> {
        #[pin]
        body: B,
        budget: BodyBudget,
        share: Share,
        // What was read and has no room yet.
        held: Option<Bytes>,
        waiting: Option<Waiting>,
    }
}

impl<B> fmt::Debug for BudgetedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetedBody")
            .field("has", &self.share.bytes())
            .field("waits", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

impl<B> Body for BudgetedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if this.held.is_none() {
            let frame = match ready!(this.body.poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            };
            // Nobody waits for more than there is.
            let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let needs = len.min(this.budget.total.saturating_sub(this.share.bytes()));
            match Arc::clone(&this.budget.room).try_acquire_many_owned(needs) {
                Ok(more) => {
                    this.share.add(more);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                    metrics::counter!("tower_qwen_bodies_waited_total").increment(1);
                    let room = Arc::clone(&this.budget.room).acquire_many_owned(needs);
                    let room = tokio::time::timeout(this.budget.wait, room);
                    *this.held = Some(data);
                    *this.waiting = Some(Box::pin(async { room.await.ok()?.ok() }));
                }
            }
        }
        let more = match this.waiting {
            Some(waiting) => ready!(waiting.as_mut().poll(cx)),
            None => None,
        };
        *this.waiting = None;
        let data = this.held.take().unwrap_or_default();
        Poll::Ready(Some(match more {
            Some(more) => {
                this.share.add(more);
                Ok(Frame::data(data))
            }
            None => Err(this.budget.full().into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let held = self.held.as_ref().map_or(0, |held| held.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, stream};
    use http_body_util::{BodyExt, Full, StreamBody};
    use tower::{ServiceExt, service_fn};

    use super::*;

    type Read = Result<(Bytes, http::Extensions), BoxError>;

    /// Reads a body of these pieces; with it comes what holds its share.
    async fn read<B>(budget: BodyBudget, body: B) -> Read
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let read = service_fn(|request: Request<BudgetedBody<B>>| async move {
            let (head, body) = request.into_parts();
            Ok::<_, BoxError>((body.collect().await?.to_bytes(), head.extensions))
        });
        budget.layer(read).oneshot(Request::new(body)).await
    }

    fn full(len: usize) -> Full<Bytes> {
        Full::new(Bytes::from(vec![b'x'; len]))
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_while_the_request_is_in_work() {
        let budget = BodyBudget::new(100);
        let first = read(budget.clone(), full(60)).await.expect("there is room");
        assert_eq!(budget.left(), 40);
        let second = read(budget.clone(), full(40)).await.expect("there is room");
        assert_eq!(budget.left(), 0);
        // A copy of the envelope holds it as well.
        let kept = first.1.clone();
        drop(first);
        assert_eq!(budget.left(), 0);
        drop(kept);
        assert_eq!(budget.left(), 60);
        drop(second);
        assert_eq!(budget.left(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_and_is_then_sent_away() {
        let budget = BodyBudget::new(100);
        let first = read(budget.clone(), full(60)).await.expect("there is room");
        let before = tokio::time::Instant::now();
        let error = read(budget.clone(), full(60)).await.expect_err("no room");
        assert_eq!(before.elapsed(), Duration::from_secs(10));
        let error = error.downcast::<Error>().expect("an error of ours");
        assert_eq!((error.kind(), error.status().as_u16()), (ErrorKind::Overloaded, 503));
        assert_eq!(error.retry_after(), Some(RETRY_AFTER));
        assert!(error.to_string().contains("100 bytes"), "{error}");

        let mut second = Box::pin(read(budget.clone(), full(60)));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(second.await.expect("there is room now").0.len(), 60);
        assert_eq!(budget.left(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_may_have_it_all_and_no_more_is_asked_of_it() {
        let budget = BodyBudget::new(100);
        let pieces = (0..5).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 60]))));
        let body = StreamBody::new(stream::iter(pieces));
        let (read, share) = read(budget.clone(), body).await.expect("there is room");
        assert_eq!((read.len(), budget.left()), (300, 0));
        drop(share);
        assert_eq!(budget.left(), 100);
    }
}
