//! One connection, from its first byte to its end.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderValue, Response, Version, header::CONNECTION},
};
use bytes::Bytes;
use futures_util::TryFutureExt;
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::TokioIo,
    server::{conn::auto, graceful::GracefulConnection},
};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, Sleep, sleep},
};
use tower::{BoxError, Service, ServiceExt};

use super::{
    super::{shutdown::Shutdown, unread::Rest},
    HEADER_TIMEOUT, LAST_TIMEOUT,
    drain::Watcher,
    linger::Lingering,
    write::{Exchanges, Watched, Writing},
};

pin_project! {
    /// Serves a connection, until its end or the first exchange after `watcher` is asked.
    ///
    /// It is polled at each event of a stream and is not in the processor's cache by then, so it
    /// is one flat struct: an `async` block for each of its concerns would be a line to load each.
    struct Serving<C> {
        watcher: Watcher,
        // Whether it is asked to end and has not been told yet.
        is_stopping: bool,
        unheard: Option<Pin<Box<Unheard>>>,
        #[pin]
        connection: C,
    }
}

pin_project! {
    /// The time that the peer may take to say anything.
    struct Unheard {
        heard: Arc<AtomicBool>,
        #[pin]
        limit: Sleep,
    }
}

/// Serves `stream` with the `app` of each request's moment. While `shutdown` is draining an answer over
/// HTTP/1 is the last of its connection; an HTTP/2 client is told when the connection is asked to end.
pub(super) fn serve<I, A, B>(
    stream: I,
    builder: &auto::Builder<Exchanges>,
    write_timeout: Duration,
    app: watch::Receiver<A>,
    shutdown: Shutdown,
    watcher: Watcher,
) -> impl Future<Output = ()> + use<I, A, B>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service<Request, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let heard = Arc::new(AtomicBool::new(false));
    // hyper's timeout begins when it knows the protocol; a peer that says nothing keeps it from
    // knowing.
    let unheard = Unheard { heard: Arc::clone(&heard), limit: sleep(HEADER_TIMEOUT) };
    let is_unread = Arc::new(AtomicBool::new(false));
    let stream = Lingering::new(stream, Arc::clone(&is_unread));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        heard.store(true, Ordering::Relaxed);
        let app = app.borrow().clone();
        let is_http2 = request.version() == Version::HTTP_2;
        let is_unread = Arc::clone(&is_unread);
        let shutdown = shutdown.clone();
        app.oneshot(request.map(axum::body::Body::new)).map_ok(move |mut response| {
            // Only over a body that was not read the app ends a connection.
            if response.headers().contains_key(CONNECTION) {
                is_unread.store(true, Ordering::Relaxed);
            }
            if shutdown.is_draining() && !is_http2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let unread = response.extensions_mut().remove::<Rest>();
            response.map(|body| Watched::new(body, is_http2, unread))
        })
    });
    let stream = TokioIo::new(Writing::new(stream, write_timeout));
    let connection = builder.serve_connection(stream, service).into_owned();
    Serving { watcher, is_stopping: false, unheard: Some(Box::pin(unheard)), connection }
}

impl<C: GracefulConnection<Error = BoxError>> Future for Serving<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            // First, so that a request that has arrived is under way before it is asked to end.
            if let Poll::Ready(result) = this.connection.as_mut().poll(cx) {
                if let Err(error) = result {
                    // Clients that go away in the middle are everyday.
                    tracing::debug!(error, "a connection ended with an error");
                }
                return Poll::Ready(());
            }
            let is_asked = this.watcher.poll_asked(cx).is_ready();
            *this.is_stopping |= is_asked;
            if let Some(unheard) = this.unheard {
                let mut unheard = unheard.as_mut().project();
                if unheard.heard.load(Ordering::Relaxed) {
                    *this.unheard = None;
                } else {
                    if is_asked {
                        // hyper would cut it off, and who has just connected may be asking.
                        let last = (Instant::now() + LAST_TIMEOUT).min(unheard.limit.deadline());
                        unheard.limit.as_mut().reset(last);
                    }
                    if unheard.limit.poll(cx).is_ready() {
                        tracing::debug!("a connection brought no request in time");
                        return Poll::Ready(());
                    }
                    return Poll::Pending;
                }
            }
            if !std::mem::take(this.is_stopping) {
                return Poll::Pending;
            }
            this.connection.as_mut().graceful_shutdown();
        }
    }
}
