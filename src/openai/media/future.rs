use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body;
use tower_service::Service;

use super::{
    body::{Events, MediaBody},
    config::Options,
    making::{Made, Making},
    request::Fields,
    write::{now, whole},
};
use crate::{
    BoxError, Error, ErrorKind, FullBody,
    chat::{ChatRequest, ChatStream},
    edge::{
        Config, Decided, Outcome, ReadBody, X_ACCEL_BUFFERING, X_QWEN_LEFT_OUT, describe, of_edge,
        openai_error_into, refuse, strip_credentials,
    },
    sse::{KEEP_ALIVE, KeepAlive},
};

type Answered = Result<Response<MediaBody>, Infallible>;

/// The future of [`Media`](super::Media): reads the request, asks for each of its pictures, and, for
/// a client that wants no stream, waits for all.
///
/// # Cancel safety
///
/// Dropping it drops the calls under way, which cancels the upstream's work as far as that can be
/// cancelled.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Answered> + Send>>,
}

impl ResponseFuture {
    pub(super) fn new<S, C, F, R, B>(
        service: S,
        fetch: F,
        config: Config<Options>,
        request: Request<B>,
    ) -> Self
    where
        S: Service<Request<ChatRequest>, Response = Response<C>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Error>,
        C: ChatStream + Send + 'static,
        F: Service<Request<FullBody>, Response = Response<R>> + Clone + Send + 'static,
        F::Future: Send,
        F::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let answer = answer(service, fetch, config, request);
        let inner = Box::pin(async move {
            Ok(match answer.await {
                Ok(response) => response,
                Err(error) => of_edge(refuse(&error, openai_error_into)).map(MediaBody::whole),
            })
        });
        Self { inner }
    }
}

impl Future for ResponseFuture {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

async fn answer<S, C, F, R, B>(
    service: S,
    fetch: F,
    config: Config<Options>,
    request: Request<B>,
) -> Result<Response<MediaBody>, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Error>,
    C: ChatStream + Send + 'static,
    F: Service<Request<FullBody>, Response = Response<R>> + Clone + Send + 'static,
    F::Future: Send,
    F::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    let form = Fields::form(&parts)?;
    let tenant = config.tenant(&parts);
    strip_credentials(&mut parts.headers);
    let body = ReadBody::new(body, config.max_body, config.body_pace).await?;
    let Options { task, default_model, concurrency } = &config.options;
    let fields = Fields::read(body, form).await?;
    let mut request = fields.request(*task, default_model.as_ref())?;
    let Decided { left_out, .. } = config.offer.decide(&mut request.chat, &[])?;
    request.chat.tenant = tenant;
    // Each call has clones of them.
    parts.headers.remove(header::CONTENT_TYPE);
    let limit = config.max_answer;
    let mut outcome = Outcome::new(task.edge(), request.stream);
    let mut making = Making::new(service, fetch, &parts, &request, *task, *concurrency, limit);
    if request.stream {
        let events = Events {
            making: Some(making),
            task: *task,
            told: 0,
            created: now(),
            timer: None,
            buffer: BytesMut::new(),
            outcome,
            left: limit,
        };
        return streamed(events, config.keep_alive, left_out).await;
    }
    match all(&mut making, limit).await {
        Ok(made) => {
            outcome.ended();
            let mut response = Response::new(MediaBody::whole(whole(now(), &made)));
            if let Some(first) = made.into_iter().next() {
                *response.headers_mut() = first.headers;
            }
            described(&mut response, "application/json", left_out);
            Ok(response)
        }
        Err(error) => {
            outcome.failed(&error);
            Err(error)
        }
    }
}

/// All that is made, in the order in which it was asked for; up to `limit` bytes.
async fn all(making: &mut Making, limit: usize) -> Result<Vec<Made>, Error> {
    let mut all: Vec<Made> = Vec::new();
    let mut left = limit;
    while let Some(made) = poll_fn(|cx| making.poll_next(cx)).await {
        let made = made?;
        left = left.checked_sub(made.len()).ok_or_else(|| {
            let message = format!(
                "the pictures are larger together than the {limit} bytes of a whole answer; ask for \
                 fewer, for a stream, or with `response_format: url`"
            );
            Error::new(ErrorKind::Upstream, message).with_code("answer_too_large")
        })?;
        all.push(made);
    }
    all.sort_by_key(|made| made.place);
    Ok(all)
}

/// The response of a stream. It begins when there is a picture, or when the client has heard nothing for
/// a while; until then a failure has a status of its own.
async fn streamed(
    mut events: Events,
    keep_alive: Option<KeepAlive>,
    left_out: Option<HeaderValue>,
) -> Result<Response<MediaBody>, Error> {
    events.timer = keep_alive.map(KeepAlive::timer);
    let first = poll_fn(|cx| {
        if let Some(making) = &mut events.making
            && let Poll::Ready(next) = making.poll_next(cx)
        {
            return Poll::Ready(Some(next));
        }
        match &mut events.timer {
            Some(timer) => Pin::new(timer).poll_quiet(cx).map(|()| None),
            None => Poll::Pending,
        }
    });
    let mut headers = HeaderMap::new();
    match first.await {
        Some(Some(Err(error))) => {
            events.outcome.failed(&error);
            return Err(error);
        }
        Some(next) => {
            if let Some(Ok(made)) = &next {
                headers.clone_from(&made.headers);
            }
            events.take(next);
        }
        None => events.buffer.extend_from_slice(KEEP_ALIVE),
    }
    let mut response = Response::new(MediaBody::events(events));
    *response.headers_mut() = headers;
    described(&mut response, "text/event-stream; charset=utf-8", left_out);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

fn described<B>(
    response: &mut Response<B>,
    content_type: &'static str,
    left_out: Option<HeaderValue>,
) {
    describe(response, HeaderValue::from_static(content_type));
    if let Some(names) = left_out {
        response.headers_mut().insert(X_QWEN_LEFT_OUT, names);
    }
}
