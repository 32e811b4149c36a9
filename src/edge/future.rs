use std::{
    convert::Infallible,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, header::CACHE_CONTROL, request, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Limits, Offer,
    body::{EdgeBody, Source},
    config::Config,
    head::{acceptable, strip_credentials},
    metrics::Outcome,
    offer::{Decided, X_QWEN_LEFT_OUT},
    protocol::{Asked, Protocol, Writer},
    read::ReadBody,
    refusal::{describe, of_edge, refuse},
    shaped::{Shaped, Wishes},
};
use crate::{
    BoxError, Error,
    chat::{self, Answer, ChatEvent, ChatRequest, ChatStream, FinishReason, Tenant},
    offload::{LARGE, offload},
    sse::{KeepAlive, KeepAliveTimer},
};

/// What is made of a body, when it is there.
type Decoding<E> = Pin<Box<dyn Future<Output = Result<Asked<E>, Error>> + Send>>;

/// The response of an edge.
type Answered<F, C, P> = Response<EdgeBody<F, C, <P as Protocol>::Writer>>;

pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pin_project! {
    /// Reads the body, calls the inner service when that is ready, and, for a client that wants
    /// no stream, collects the answer.
    ///
    /// Dropping it drops whatever it waits for, which cancels the upstream's work.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct EdgeFuture<S, B, C, P>
    where
        S: Service<Request<ChatRequest>>,
        P: Protocol,
    {
        #[pin]
        state: State<S, B, C, S::Future, P>,
        protocol: PhantomData<P>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, C, F, P>
    where
        P: Protocol,
    {
        Refuse { error: Option<Error> },
        Read {
            #[pin]
            body: ReadBody<B>,
            // A large body that was read is decoded off the runtime's threads.
            decoding: Option<Decoding<P::Envelope>>,
            // Both are taken when the body was read.
            call: Option<(S, request::Parts)>,
            tenant: Option<Tenant>,
            reading: Reading<P::Options>,
        },
        Ready { service: S, request: Option<Request<ChatRequest>>, reply: Option<Reply<P::Envelope>> },
        // Boxed, as it goes on in the body of a response that has to begin before it is ready.
        Stream { call: Option<Pin<Box<F>>>, #[pin] timer: Option<KeepAliveTimer>, reply: Option<Reply<P::Envelope>> },
        Call { #[pin] call: F, reply: Option<Reply<P::Envelope>> },
        Collect {
            #[pin]
            collect: chat::Collect<Shaped<C>>,
            parts: Option<response::Parts>,
            envelope: P::Envelope,
            outcome: Outcome,
        },
    }
}

/// What a request is read with, and its reply made.
struct Reading<O> {
    options: O,
    limits: Limits,
    offer: Offer,
    max_answer: usize,
    keep_alive: Option<KeepAlive>,
}

/// What is known of the reply before the inner service was called.
struct Reply<E> {
    envelope: E,
    stream: bool,
    wishes: Wishes,
    left_out: Option<HeaderValue>,
    max_answer: usize,
    keep_alive: Option<KeepAlive>,
    outcome: Outcome,
}

impl<S, B, C, P> EdgeFuture<S, B, C, P>
where
    S: Service<Request<ChatRequest>>,
    B: Body,
    P: Protocol,
{
    /// What an edge does with a request: what can be checked before the body is read is checked at
    /// once.
    pub(crate) fn new(inner: &S, config: &Config<P::Options>, request: Request<B>) -> Self
    where
        S: Clone,
    {
        let (mut parts, body) = request.into_parts();
        if let Err(error) = acceptable(&parts) {
            return Self { state: State::Refuse { error: Some(error) }, protocol: PhantomData };
        }
        let tenant = config.tenant(&parts);
        strip_credentials(&mut parts.headers);
        let Config {
            ref options, max_body, body_pace, limits, offer, max_answer, keep_alive, ..
        } = *config;
        let options = options.clone();
        let state = State::Read {
            body: ReadBody::new(body, max_body, body_pace),
            decoding: None,
            call: Some((inner.clone(), parts)),
            tenant,
            reading: Reading { options, limits, offer, max_answer, keep_alive },
        };
        Self { state, protocol: PhantomData }
    }
}

impl<S, B, C, P> fmt::Debug for EdgeFuture<S, B, C, P>
where
    S: Service<Request<ChatRequest>>,
    P: Protocol,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeFuture").finish_non_exhaustive()
    }
}

impl<S, B, C, P> Future for EdgeFuture<S, B, C, P>
where
    S: Service<Request<ChatRequest>, Response = Response<C>>,
    S::Error: Into<Error>,
    C: ChatStream,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    P: Protocol,
    P::Envelope: Send + 'static,
{
    type Output = Result<Answered<S::Future, C, P>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Refuse { error } => {
                    let error = error.take().expect("polled after it was ready");
                    return Poll::Ready(Ok(refused::<_, _, P>(&error)));
                }
                StateProjection::Read { body, decoding, call, tenant, reading } => {
                    let Reading { options, limits, offer, max_answer, keep_alive } = reading;
                    let asked = match decoding {
                        Some(decoding) => ready!(decoding.as_mut().poll(cx)),
                        None => match ready!(body.poll(cx)) {
                            Ok(body) if body.len() >= LARGE => {
                                *decoding = Some(decode_large::<P>(options.clone(), body, *limits));
                                continue;
                            }
                            body => body.and_then(|body| P::decode(options, &body, limits)),
                        },
                    };
                    let decided = asked.and_then(|mut asked| {
                        let decided = offer.decide(&mut asked.chat, &asked.left_out)?;
                        Ok((asked, decided))
                    });
                    match decided {
                        Err(error) => State::Refuse { error: Some(error) },
                        Ok((asked, Decided { wishes, left_out })) => {
                            let Asked { mut chat, stream, mut envelope, at_once, .. } = asked;
                            if let Some(reason) = at_once {
                                return Poll::Ready(Ok(empty::<_, _, P>(envelope, stream, reason)));
                            }
                            chat.tenant = *tenant;
                            let (service, parts) = call.take().expect("taken once, here");
                            P::client(&mut envelope, &parts.headers);
                            let reply = Reply {
                                envelope,
                                stream,
                                wishes,
                                left_out,
                                max_answer: *max_answer,
                                keep_alive: *keep_alive,
                                outcome: Outcome::new(P::name(options), stream),
                            };
                            State::Ready {
                                service,
                                request: Some(Request::from_parts(parts, chat)),
                                reply: Some(reply),
                            }
                        }
                    }
                }
                StateProjection::Ready { service, request, reply } => {
                    match ready!(service.poll_ready(cx)) {
                        Err(error) => State::Refuse { error: Some(error.into()) },
                        Ok(()) => {
                            let call = service.call(request.take().expect("taken once, here"));
                            match reply.take().expect("taken once, here") {
                                reply if reply.stream => State::Stream {
                                    call: Some(Box::pin(call)),
                                    timer: reply.keep_alive.map(KeepAlive::timer),
                                    reply: Some(reply),
                                },
                                reply => State::Call { call, reply: Some(reply) },
                            }
                        }
                    }
                }
                StateProjection::Stream { call, timer, reply } => {
                    const TAKEN: &str = "taken once, before the state is another";
                    match call.as_mut().expect(TAKEN).as_mut().poll(cx) {
                        Poll::Pending => {
                            let Some(timer) = timer.as_pin_mut() else { return Poll::Pending };
                            ready!(timer.poll_quiet(cx));
                            let (call, reply) = (call.take().expect(TAKEN), reply.take());
                            return Poll::Ready(Ok(early::<_, _, P>(call, reply.expect(TAKEN))));
                        }
                        Poll::Ready(Err(error)) => {
                            let mut reply = reply.take().expect(TAKEN);
                            let error = P::known(&reply.envelope, error.into());
                            reply.outcome.failed(&error);
                            State::Refuse { error: Some(error) }
                        }
                        Poll::Ready(Ok(response)) => {
                            let (parts, events) = response.into_parts();
                            let mut reply = reply.take().expect(TAKEN);
                            let wishes = std::mem::take(&mut reply.wishes);
                            let source = Source::Answer { stream: Shaped::new(events, wishes) };
                            let timer = reply.keep_alive.map(KeepAlive::timer);
                            if let Some(times) = P::times(&mut reply.envelope) {
                                times.begin();
                            }
                            let writer = P::writer(reply.envelope);
                            let body = EdgeBody::events(source, writer, timer, reply.outcome);
                            return Poll::Ready(Ok(streamed::<P, _>(parts, reply.left_out, body)));
                        }
                    }
                }
                StateProjection::Call { call, reply } => match ready!(call.poll(cx)) {
                    Err(error) => {
                        let mut reply = reply.take().expect("taken once, in this arm or the next");
                        let error = P::known(&reply.envelope, error.into());
                        reply.outcome.failed(&error);
                        State::Refuse { error: Some(error) }
                    }
                    Ok(response) => {
                        let (mut parts, events) = response.into_parts();
                        let mut reply = reply.take().expect("taken once, in this arm or the last");
                        if let Some(times) = P::times(&mut reply.envelope) {
                            times.begin();
                        }
                        let events = Shaped::new(events, reply.wishes);
                        if let Some(names) = reply.left_out {
                            parts.headers.insert(X_QWEN_LEFT_OUT, names);
                        }
                        State::Collect {
                            collect: Answer::collect(events).limit(reply.max_answer),
                            parts: Some(parts),
                            envelope: reply.envelope,
                            outcome: reply.outcome,
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
                            if let Some(times) = P::times(envelope) {
                                times.end();
                            }
                            match P::whole(envelope, &answer) {
                                Ok(json) => {
                                    outcome.ended();
                                    let parts = parts.take().expect("taken once, here");
                                    return Poll::Ready(Ok(whole(parts, json)));
                                }
                                Err(error) => {
                                    outcome.failed(&error);
                                    State::Refuse { error: Some(error) }
                                }
                            }
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}

fn decode_large<P: Protocol>(
    options: P::Options,
    body: Bytes,
    limits: Limits,
) -> Decoding<P::Envelope>
where
    P::Envelope: Send + 'static,
{
    Box::pin(async move { offload("decode", move || P::decode(&options, &body, &limits)).await? })
}

fn refused<F, C, P: Protocol>(error: &Error) -> Answered<F, C, P> {
    tracing::debug!(
        kind = ?error.kind(),
        status = error.status().as_u16(),
        param = error.param(),
        "answered with an error"
    );
    of_edge(refuse(error, P::error_into)).map(EdgeBody::whole)
}

/// The response of an upstream that has not said anything yet.
fn early<F, C, P: Protocol>(call: Pin<Box<F>>, reply: Reply<P::Envelope>) -> Answered<F, C, P> {
    metrics::counter!("tower_qwen_early_responses_total", "edge" => reply.outcome.edge())
        .increment(1);
    let source = Source::Called { call, wishes: Some(reply.wishes) };
    // The silence is over: what is due now is the sign of life.
    let timer = reply.keep_alive.map(KeepAlive::timer);
    let writer = P::writer(reply.envelope);
    let body = EdgeBody::alive(source, writer, timer, reply.outcome);
    let (parts, ()) = Response::new(()).into_parts();
    streamed::<P, _>(parts, reply.left_out, body)
}

fn streamed<P: Protocol, B>(
    mut parts: response::Parts,
    left_out: Option<HeaderValue>,
    body: B,
) -> Response<B> {
    if let Some(names) = left_out {
        parts.headers.insert(X_QWEN_LEFT_OUT, names);
    }
    let mut response = Response::from_parts(parts, body);
    describe(&mut response, HeaderValue::from_static(P::STREAM));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn whole<F, C, W>(parts: response::Parts, json: Bytes) -> Response<EdgeBody<F, C, W>> {
    let mut response = Response::from_parts(parts, EdgeBody::whole(json));
    describe(&mut response, HeaderValue::from_static("application/json"));
    response
}

/// An answer without anything in it.
fn empty<F, C, P: Protocol>(
    envelope: P::Envelope,
    stream: bool,
    reason: FinishReason,
) -> Answered<F, C, P> {
    let (parts, ()) = Response::new(()).into_parts();
    if !stream {
        let answer = Answer { finish_reason: Some(reason), ..Answer::default() };
        return match P::whole(&envelope, &answer) {
            Ok(json) => whole(parts, json),
            Err(error) => refused::<_, _, P>(&error),
        };
    }
    let (mut writer, mut out) = (P::writer(envelope), BytesMut::new());
    writer.event(&mut out, ChatEvent::Finished(reason));
    writer.end(&mut out);
    streamed::<P, _>(parts, None, EdgeBody::whole(out.freeze()))
}
