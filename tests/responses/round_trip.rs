//! Through the edge and back through the adapter: what one writes the other reads.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, FullBody,
    chat::{Answer, ChatRequest, ChatStreamExt, Message, Role},
    qwen::responses::QwenResponsesLayer,
    responses::ResponsesLayer,
};

use super::events::Item;

/// What the adapter makes of a body of this type, in pieces of `cut` bytes.
pub(crate) async fn read(body: Bytes, kind: &'static str, cut: usize) -> Result<Answer, Error> {
    let upstream = service_fn(move |_: Request<FullBody>| {
        let body = body.clone();
        let frames = (0..body.len()).step_by(cut).map(move |at| {
            Ok::<_, Infallible>(Frame::data(body.slice(at..body.len().min(at.saturating_add(cut)))))
        });
        let body = StreamBody::new(stream::iter(frames));
        let response = Response::builder().header("content-type", kind).body(body);
        async { Ok::<_, Infallible>(response.expect("a response")) }
    });
    let chat = ChatRequest::new("m", vec![Message::new(Role::User, "x")]);
    let response = QwenResponsesLayer::new().layer(upstream).oneshot(Request::new(chat)).await?;
    Answer::collect(response.into_body().checked()).await
}

/// What is left of these items behind both.
pub(crate) async fn round(items: Vec<Item>, cut: usize) -> Result<Answer, Error> {
    const BODY: &str = r#"{"model":"m","stream":true,"input":"x","reasoning":{"summary":"auto"}}"#;
    let items = Arc::new(Mutex::new(Some(items)));
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let items = items.lock().expect("not poisoned").take().expect("called once");
        async { Ok::<_, Error>(Response::new(stream::iter(items))) }
    });
    let request = Request::post("/v1/responses").body(FullBody::new(Bytes::from(BODY)));
    let edge = ResponsesLayer::new().layer(inner);
    let Ok(response) = edge.oneshot(request.expect("a request")).await;
    let Ok(body) = response.into_body().collect().await;
    read(body.to_bytes(), "text/event-stream", cut).await
}

/// What must be left of a text. Beside calls the adapter takes a closing tag at its end for what a
/// server's parser has left there, with the white space around it.
pub(crate) fn kept(text: &str, calls: usize) -> String {
    match calls {
        0 => text.to_owned(),
        _ => text.replace("</tool_call>", "").split_whitespace().collect(),
    }
}
