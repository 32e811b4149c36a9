//! The upstream of these tests: one canned answer, and what it was asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, FullBody,
    chat::{Answer, ChatRequest, ChatStreamExt, Checked, Message, Role},
    qwen::compatible::{AnswerStream, CompatibleLayer, Server},
};

/// What the upstream got: its path, headers and body.
pub(crate) type Seen = Arc<Mutex<Option<(String, HeaderMap, Value)>>>;

/// The body of its answers.
pub(crate) type Pieces =
    StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

pub(crate) struct Upstream {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) seen: Seen,
}

impl Upstream {
    pub(crate) fn stream(text: &str) -> Self {
        Self {
            status: 200,
            content_type: "text/event-stream",
            pieces: vec![Bytes::from(text.to_owned())],
            seen: Seen::default(),
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            pieces: vec![Bytes::from(body.to_string())],
            seen: Seen::default(),
        }
    }

    /// The upstream as a service.
    pub(crate) fn service(
        self,
    ) -> impl Service<
        Request<FullBody>,
        Response = Response<Pieces>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Pieces>, Infallible>> + Send,
    > + Clone
    + Send
    + 'static {
        let Self { status, content_type, pieces, seen } = self;
        service_fn(move |request: Request<FullBody>| {
            let (pieces, seen) = (pieces.clone(), Arc::clone(&seen));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("infallible").to_bytes();
                let body = serde_json::from_slice(&body).expect("JSON");
                *seen.lock().expect("not poisoned") =
                    Some((head.uri.to_string(), head.headers, body));
                let frames: Vec<_> =
                    pieces.into_iter().map(|piece| Ok(Frame::data(piece))).collect();
                let response = Response::builder()
                    .status(status)
                    .header("content-type", content_type)
                    .body(StreamBody::new(stream::iter(frames)));
                Ok(response.expect("a response"))
            }
        })
    }

    /// The answer from its commit point on.
    pub(crate) async fn open(
        self,
        layer: CompatibleLayer,
        request: ChatRequest,
    ) -> Result<Checked<AnswerStream<Pieces>>, Error> {
        crate::traced::on();
        let service = ServiceBuilder::new().layer(layer).service(self.service());
        Ok(service.oneshot(Request::new(request)).await?.into_body().checked())
    }

    /// The whole answer.
    pub(crate) async fn answer(
        self,
        layer: CompatibleLayer,
        request: ChatRequest,
    ) -> Result<Answer, Error> {
        Answer::collect(self.open(layer, request).await?).await
    }
}

pub(crate) fn request() -> ChatRequest {
    ChatRequest::new("m", vec![Message::new(Role::User, "x")])
}

pub(crate) async fn generic(text: &str) -> Result<Answer, Error> {
    Upstream::stream(text).answer(CompatibleLayer::new(Server::Generic), request()).await
}

pub(crate) fn events(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

pub(crate) fn delta(delta: Value) -> Value {
    json!({"id": "i", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

pub(crate) fn finish(reason: &str) -> Value {
    json!({"id": "i", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

pub(crate) const DONE: &str = "data: [DONE]\n\n";
