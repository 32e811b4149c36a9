//! What becomes of a body that whoever answered did not read.
//!
//! The server closes a connection on which a body was left unread, and a client that reuses it for
//! its next request finds it closed. So what is left of a body of the usual size is read here, for
//! every answer alike; over a larger or a slower one the client is told that the connection ends.
//! How it ends without the answer being lost is the business of the server (`server/linger.rs`).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body as AxumBody,
    extract::Request,
    http::{HeaderValue, Response, Version, header::CONNECTION},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::Service;

/// How much of an unwanted body is read, and for how long.
const DRAINED: u64 = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Reads what its inner service leaves of bodies, or says that the connection ends.
#[derive(Clone, Debug)]
pub(crate) struct ReadsRest<S> {
    inner: S,
}

impl<S> ReadsRest<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

type Answered<B> = Result<Response<B>, Infallible>;

impl<S, B> Service<Request> for ReadsRest<S>
where
    S: Service<Request, Response = Response<B>, Error = Infallible, Future: Send + 'static>,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answered<B>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.body().is_end_stream() {
            return Box::pin(self.inner.call(request));
        }
        let version = request.version();
        let rest = Rest::default();
        let lent = |body| AxumBody::new(Lent { body: Some(body), rest: rest.clone() });
        let answer = self.inner.call(request.map(lent));
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(body) = rest.take()
                && let Some(body) = drain(body).await
            {
                if version <= Version::HTTP_11 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                } else {
                    rest.put(body);
                    response.extensions_mut().insert(rest);
                }
            }
            Ok(response)
        })
    }
}

/// Reads a body that nobody wants; gives it back where it is too large or too slow.
async fn drain(mut body: AxumBody) -> Option<AxumBody> {
    // To read any of it would tell a client that asks first that it shall be sent.
    if body.size_hint().lower() > DRAINED {
        return Some(body);
    }
    let mut left = DRAINED;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            left = left.checked_sub(len as u64)?;
        }
        Some(())
    };
    match timeout(DRAIN_TIME, read).await {
        Ok(Some(())) => None,
        _ => Some(body),
    }
}

/// Where a body goes that was not read to its end.
///
/// An answer of HTTP/2 has it among its extensions, for whoever sends it to keep until it is sent:
/// to drop the body before that would reset the stream, and the answer with it.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<AxumBody>>>);

impl Rest {
    fn take(&self) -> Option<AxumBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, body: AxumBody) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    /// `None` once it has ended.
    body: Option<AxumBody>,
    rest: Rest,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take_if(|body| !body.is_end_stream()) {
            self.rest.put(body);
        }
    }
}
