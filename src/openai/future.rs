use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    request, response,
};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Limits, Offer, OpenAiBody, completions,
    config::{Api, Config},
    decode::{Decoded, decode_within},
    encode::{ChunkEncoder, Envelope, Form, whole_answer},
    error,
    head::{acceptable, strip_credentials},
    metrics::Outcome,
    offer::{Decided, X_QWEN_LEFT_OUT},
    read::ReadBody,
    shaped::Shaped,
};
use crate::{
    BoxError, Error,
    chat::{self, Answer, ChatRequest, ChatStream, Tenant},
    offload::{LARGE, offload},
    sse::KeepAlive,
};

/// What is made of a body, when it is there.
type Decoding = Pin<Box<dyn Future<Output = Result<(Decoded, Form), Error>> + Send>>;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pin_project! {
    /// The future of [`OpenAi`](super::OpenAi) and [`Completions`](super::completions::Completions):
    /// reads the body, calls the inner service when that is ready, and, for a client that wants
    /// no stream, collects the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops whatever it waits for, which cancels the upstream's work.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, C>
    where
        S: Service<Request<ChatRequest>>,
    {
        #[pin]
        state: State<S, B, C, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, C, F>
    {
        Refuse { error: Option<Error> },
        Read {
            #[pin]
            body: ReadBody<B>,
            // A large body that was read is decoded off the runtime's threads.
            decoding: Option<Decoding>,
            // Both are taken when the body was read.
            call: Option<(S, request::Parts)>,
            tenant: Option<Tenant>,
            reading: Reading,
        },
        Ready { service: S, request: Option<Request<ChatRequest>>, answer: Option<Reply> },
        Call { #[pin] future: F, answer: Option<Reply> },
        Collect {
            #[pin]
            collect: chat::Collect<Shaped<C>>,
            parts: Option<response::Parts>,
            envelope: Envelope,
            outcome: Outcome,
        },
    }
}

/// What a request is read with, and its reply made.
#[derive(Clone, Copy)]
struct Reading {
    api: Api,
    limits: Limits,
    offer: Offer,
    max_answer: usize,
    keep_alive: Option<KeepAlive>,
}

/// What is known of the reply before the inner service was called.
struct Reply {
    envelope: Envelope,
    stream: bool,
    include_usage: bool,
    decided: Decided,
    max_answer: usize,
    keep_alive: Option<KeepAlive>,
}

impl<S, B, C> ResponseFuture<S, B, C>
where
    S: Service<Request<ChatRequest>>,
    B: Body,
{
    /// What an edge does with a request: what can be checked before the body is read is checked at
    /// once.
    pub(super) fn new(inner: &S, config: &Config, request: Request<B>) -> Self
    where
        S: Clone,
    {
        let (mut parts, body) = request.into_parts();
        if let Err(error) = acceptable(&parts) {
            return Self { state: State::Refuse { error: Some(error) } };
        }
        let tenant = config.tenant(&parts);
        strip_credentials(&mut parts.headers);
        let Config { api, max_body, body_pace, limits, offer, max_answer, keep_alive, .. } =
            *config;
        let state = State::Read {
            body: ReadBody::new(body, max_body, body_pace),
            decoding: None,
            call: Some((inner.clone(), parts)),
            tenant,
            reading: Reading { api, limits, offer, max_answer, keep_alive },
        };
        Self { state }
    }
}

impl<S, B, C> fmt::Debug for ResponseFuture<S, B, C>
where
    S: Service<Request<ChatRequest>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, B, C> Future for ResponseFuture<S, B, C>
where
    S: Service<Request<ChatRequest>, Response = Response<C>>,
    S::Error: Into<Error>,
    C: ChatStream,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<OpenAiBody<C>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Refuse { error } => {
                    let error = error.take().expect("polled after it was ready");
                    return Poll::Ready(Ok(refusal(&error)));
                }
                StateProjection::Read { body, decoding, call, tenant, reading } => {
                    let Reading { api, limits, offer, max_answer, keep_alive } = *reading;
                    let decoded = match decoding {
                        Some(decoding) => ready!(decoding.as_mut().poll(cx)),
                        None => match ready!(body.poll(cx)) {
                            Ok(body) if body.len() >= LARGE => {
                                *decoding = Some(api.decode_large(body, limits));
                                continue;
                            }
                            body => body.and_then(|body| api.decode(&body, &limits)),
                        },
                    };
                    let decided = decoded.and_then(|(mut decoded, form)| {
                        let decided = offer.decide(&mut decoded.chat)?;
                        Ok((decoded, form, decided))
                    });
                    match decided {
                        Err(error) => State::Refuse { error: Some(error) },
                        Ok((Decoded { mut chat, stream, include_usage }, form, decided)) => {
                            chat.tenant = *tenant;
                            let (service, parts) = call.take().expect("taken once, here");
                            let reply = Reply {
                                envelope: Envelope::new(form, &chat.model),
                                stream,
                                include_usage,
                                decided,
                                max_answer,
                                keep_alive,
                            };
                            State::Ready {
                                service,
                                request: Some(Request::from_parts(parts, chat)),
                                answer: Some(reply),
                            }
                        }
                    }
                }
                StateProjection::Ready { service, request, answer } => {
                    match ready!(service.poll_ready(cx)) {
                        Err(error) => State::Refuse { error: Some(error.into()) },
                        Ok(()) => State::Call {
                            future: service.call(request.take().expect("taken once, here")),
                            answer: answer.take(),
                        },
                    }
                }
                StateProjection::Call { future, answer } => match ready!(future.poll(cx)) {
                    Err(error) => {
                        let error = error.into();
                        let reply = answer.take().expect("taken once, in this arm or the next");
                        Outcome::new(reply.stream).failed(&error);
                        State::Refuse { error: Some(error) }
                    }
                    Ok(response) => {
                        let (mut parts, events) = response.into_parts();
                        let mut reply = answer.take().expect("taken once, in this arm or the last");
                        let Decided { wishes, left_out } = std::mem::take(&mut reply.decided);
                        let events = Shaped::new(events, wishes);
                        if let Some(names) = left_out {
                            parts.headers.insert(X_QWEN_LEFT_OUT, names);
                        }
                        if reply.stream {
                            return Poll::Ready(Ok(streamed(parts, events, &reply)));
                        }
                        State::Collect {
                            collect: Answer::collect(events).limit(reply.max_answer),
                            parts: Some(parts),
                            envelope: reply.envelope,
                            outcome: Outcome::new(false),
                        }
                    }
                },
                StateProjection::Collect { collect, parts, envelope, outcome } => {
                    match ready!(collect.poll(cx)) {
                        Err(error) => {
                            outcome.failed(&error);
                            State::Refuse { error: Some(error) }
                        }
                        Ok(answer) => {
                            outcome.ended();
                            let parts = parts.take().expect("taken once, here");
                            let json = whole_answer(envelope, &answer);
                            return Poll::Ready(Ok(whole(parts, json)));
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}

impl Api {
    /// Reads a request, and in which form it wants its answer.
    fn decode(self, body: &Bytes, limits: &Limits) -> Result<(Decoded, Form), Error> {
        match self {
            Self::Chat => Ok((decode_within(body, limits)?, Form::Chat)),
            Self::Completions => {
                let (decoded, echo) = completions::decode(body, limits)?;
                Ok((decoded, Form::Text { echo }))
            }
        }
    }

    fn decode_large(self, body: Bytes, limits: Limits) -> Decoding {
        Box::pin(async move { offload("decode", move || self.decode(&body, &limits)).await? })
    }
}

fn refusal<C>(error: &Error) -> Response<OpenAiBody<C>> {
    tracing::debug!(
        kind = ?error.kind(),
        status = error.status().as_u16(),
        param = error.param(),
        "answered with an error"
    );
    error::of_edge(error).map(OpenAiBody::whole)
}

fn streamed<C: ChatStream>(
    parts: response::Parts,
    events: Shaped<C>,
    reply: &Reply,
) -> Response<OpenAiBody<C>> {
    let body = OpenAiBody::chunks(
        events,
        ChunkEncoder::new(&reply.envelope, reply.include_usage),
        reply.keep_alive,
        Outcome::new(true),
    );
    let mut response = Response::from_parts(parts, body);
    describe(&mut response, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn whole<C>(parts: response::Parts, json: Bytes) -> Response<OpenAiBody<C>> {
    let mut response = Response::from_parts(parts, OpenAiBody::whole(json));
    describe(&mut response, HeaderValue::from_static("application/json"));
    response
}

/// The inner response's headers stay, except what they say of a body that is not sent.
fn describe<C>(response: &mut Response<OpenAiBody<C>>, content_type: HeaderValue) {
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.insert(CONTENT_TYPE, content_type);
}
