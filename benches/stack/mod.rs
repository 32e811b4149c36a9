//! The whole stack of the proxy over a wire that plays an answer: what a bench and a test measure.

use std::{
    future::{self, Future, Ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{
    Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body::{Body, Frame};
use serde_json::json;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, FullBody,
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::web::QwenWebLayer,
    session::{MemoryStore, SessionLayer},
    tool::call::ToolCallLayer,
};

use super::streams::{delta, event};

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Words.
    Prose,
    /// Tags, comparisons and braces, most of them in pieces of their own: what might become a
    /// call and does not.
    Markup,
    /// Prose whose events have another order of keys than upstream writes today.
    OtherKeys,
}

/// The events of an answer of `events` deltas.
pub(crate) fn events(text: Text, events: usize) -> Vec<String> {
    const MARKUP: [&str; 16] = [
        "<b>",
        "bold",
        "</b>",
        " if a",
        " <",
        " b &&",
        " c <= d",
        "\\n<div",
        " class",
        "=\\\"x\\\">",
        "<i",
        ">{",
        "}</i>",
        "</div",
        ">\\n",
        "<tool_kit>",
    ];
    let other = |n: usize| {
        let tokens = n + 1;
        format!(
            "data: {{\"usage\": {{\"output_tokens\": {tokens}, \"input_tokens\": 1033, \"characters\": 0, \
             \"total_tokens\": {}, \"output_tokens_details\": {{\"text_tokens\": {tokens}}}, \
             \"input_tokens_details\": {{\"text_tokens\": 1033}}, \"cached_tokens\": 0}}, \"choices\": \
             [{{\"delta\": {{\"content\": \" quick\", \"role\": \"assistant\", \"status\": \"typing\", \
             \"phase\": \"answer\"}}}}]}}\n\n",
            tokens + 1033,
        )
    };
    let one = |n: usize| match text {
        Text::Prose => event(n),
        Text::Markup => delta(n, MARKUP[n % MARKUP.len()]),
        Text::OtherKeys => other(n),
    };
    (0..events).map(one).collect()
}

/// The bytes of the answer, an event or so many bytes a piece, each in a buffer of its own.
pub(crate) fn pieces(events: &[String], size: Option<usize>) -> Vec<Bytes> {
    let created = "data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \
                   \"response_id\":\"r-1\"}}\n\n";
    let finished = "data: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \"assistant\", \
                    \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n";
    let all = || {
        std::iter::once(created)
            .chain(events.iter().map(String::as_str))
            .chain(std::iter::once(finished))
    };
    let piece = |bytes: &[u8]| BytesMut::from(bytes).split().freeze();
    match size {
        None => all().map(str::as_bytes).map(piece).collect(),
        Some(size) => all().collect::<String>().as_bytes().chunks(size).map(piece).collect(),
    }
}

/// The HTTP service below.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) waits: bool,
}

/// A body that hands out its pieces, all at once or with a wait after each.
pub(crate) struct Played {
    pieces: std::vec::IntoIter<Bytes>,
    waits: bool,
    waiting: bool,
}

impl Body for Played {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.waiting = self.waits && !self.waiting;
        if self.waiting {
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.next().map(Frame::data).map(Ok))
    }
}

impl Service<Request<FullBody>> for Wire {
    type Response = Response<Played>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let new = request.uri().path().ends_with("/new");
        let (kind, pieces, waits) = if new {
            let created = r#"{"success":true,"request_id":"q","data":{"id":"c-1"}}"#;
            ("application/json", vec![Bytes::from(created)], false)
        } else {
            ("text/event-stream", self.pieces.clone(), self.waits)
        };
        let body = Played { pieces: pieces.into_iter(), waits, waiting: false };
        let response = Response::builder().header(CONTENT_TYPE, kind).body(body);
        future::ready(Ok(response.expect("a response")))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    // A wire that waits is ready in every second turn.
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

/// The body that a client gets for a streamed request with a tool on offer, when the upstream
/// plays `pieces`. Needs a runtime to be entered, whose clock nothing waits for.
pub(crate) fn answer(
    pieces: Vec<Bytes>,
    waits: bool,
) -> impl Body<Data = Bytes, Error = std::convert::Infallible> {
    let stack = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new())
        .layer(ToolCallLayer::prompted())
        .layer(QwenWebLayer::new().stop_on_drop(false))
        .service(Wire { pieces, waits });
    let request = json!({
        "model": "qwen3-max",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": true,
        "tools": [{"type": "function", "function": {"name": "get_time", "parameters":
            {"type": "object", "properties": {"zone": {"type": "string"}}}}}],
    });
    // A client without a key has no tenant, and of its answers nothing is recorded.
    let request = Request::post("/v1/chat/completions")
        .header(AUTHORIZATION, "Bearer a-key")
        .body(FullBody::new(request.to_string().into()));
    let response = match now(stack.oneshot(request.expect("a request"))) {
        Ok(response) => response,
        Err(never) => match never {},
    };
    assert!(response.status().is_success());
    response.into_body()
}

/// Reads the next `most` frames, and hands each to `take`; whether there may be more.
pub(crate) fn read<B>(mut body: Pin<&mut B>, most: usize, mut take: impl FnMut(Bytes)) -> bool
where
    B: Body<Data = Bytes, Error = std::convert::Infallible>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut frames = 0;
    while frames < most {
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => {
                take(frame.into_data().expect("there are no trailers"));
                frames += 1;
            }
            Poll::Ready(Some(Err(never))) => match never {},
            Poll::Ready(None) => return false,
            Poll::Pending => {}
        }
    }
    true
}
