//! The ways to an answer, and how one is shown in a table.

use std::{convert::Infallible, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, FullBody,
    chat::{Answer, ChatRequest, ChatStreamExt, FunctionTool, Message, Role, Tool},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
};

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

/// What an upstream answers a request for a chat with.
pub(crate) struct Given {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// The connection stays open behind the body, and brings a comment in each of these spans.
    pub(crate) comments: Option<Duration>,
}

impl Given {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status, headers, body: body.into(), comments: None }
    }

    /// A stream of these events.
    pub(crate) fn events(events: &[&str]) -> Self {
        let body: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
        Self::new(200, "text/event-stream", body)
    }

    fn response(&self) -> Response<StreamBody<Frames>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(*name, value);
        }
        let body = Ok(Frame::data(Bytes::from(self.body.clone())));
        let frames: Frames = match self.comments {
            None => Box::pin(stream::iter([body])),
            Some(span) => {
                let comments = stream::unfold((), move |()| async move {
                    tokio::time::sleep(span).await;
                    Some((Ok(Frame::data(Bytes::from_static(b": ping\n\n"))), ()))
                });
                Box::pin(stream::iter([body]).chain(comments))
            }
        };
        response.body(StreamBody::new(frames)).expect("a response")
    }
}

/// A request that offers functions of the names that are called.
fn request() -> Request<ChatRequest> {
    let mut chat = ChatRequest::new("m", vec![Message::new(Role::User, "x")]);
    let tool = |name| Tool::Function(FunctionTool::without_parameters(name));
    chat.tools = std::sync::Arc::new(["f", "g", "get_weather", "write_file"].map(tool).into());
    Request::new(chat)
}

/// What comes of it over the wire of a compatible server.
pub(crate) async fn compatible(server: Server, given: Given) -> Result<Answer, Error> {
    crate::traced::on();
    let given = std::sync::Arc::new(given);
    let upstream = service_fn(move |_: Request<FullBody>| {
        let given = std::sync::Arc::clone(&given);
        async move { Ok::<_, Infallible>(given.response()) }
    });
    let service = ServiceBuilder::new().layer(CompatibleLayer::new(server)).service(upstream);
    Answer::collect(service.oneshot(request()).await?.into_body().checked()).await
}

/// What comes of it over the wire of chat.qwen.ai.
pub(crate) async fn web(given: Given) -> Result<Answer, Error> {
    crate::traced::on();
    let given = std::sync::Arc::new(given);
    let upstream = service_fn(move |request: Request<FullBody>| {
        let given = std::sync::Arc::clone(&given);
        async move {
            let is_new = request.uri().path() == "/api/v2/chats/new";
            request.into_body().collect().await.expect("infallible");
            Ok::<_, Infallible>(match is_new {
                true => Given::new(200, "application/json", NEW_CHAT).response(),
                false => given.response(),
            })
        }
    });
    let layer = QwenWebLayer::new().delete_orphans(false).stop_on_drop(false);
    let service = ServiceBuilder::new().layer(layer).service(upstream);
    Answer::collect(service.oneshot(request()).await?.into_body().checked()).await
}

const NEW_CHAT: &str = r#"{"success":true,"data":{"id":"c-1"}}"#;

/// An answer in a line: its thinking, text, calls and end, or the kind of its error and what that
/// says.
pub(crate) fn shown(answer: Result<Answer, Error>) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return format!("{:?}: {}", error.kind(), error.message()),
    };
    let mut shown = Vec::new();
    if !answer.reasoning.is_empty() {
        shown.push(format!("({})", answer.reasoning));
    }
    if !answer.text.is_empty() {
        shown.push(answer.text.to_string());
    }
    for call in &answer.tool_calls {
        shown.push(format!("{}{}", call.name, call.arguments));
    }
    shown.push(answer.finish_reason.map_or("?", |reason| reason.as_str()).to_owned());
    shown.join(" ")
}

/// A row of a table of streams: the kind, the events without the last, and the answer.
pub(crate) type Row = (&'static str, &'static [&'static str], &'static str);

/// Goes through a table of streams, over either wire.
pub(crate) async fn streams(rows: &[Row]) {
    for (kind, events, expected) in rows {
        let events: Vec<&str> = events.iter().copied().chain(["[DONE]"]).collect();
        let answer = compatible(Server::Generic, Given::events(&events)).await;
        assert_eq!(shown(answer), *expected, "{kind}, compatible");
        assert_eq!(shown(web(Given::events(&events)).await), *expected, "{kind}, web");
    }
}

/// Goes through a table of whole answers, over either wire, with a byte order mark and without.
pub(crate) async fn wholes(rows: &[(&str, &str, &str)]) {
    for (kind, body, expected) in rows {
        for mark in ["", "\u{feff}"] {
            let given = Given::new(200, "application/json", format!("{mark}{body}"));
            let answer = compatible(Server::Generic, given).await;
            assert_eq!(shown(answer), *expected, "{kind}, compatible {mark:?}");
            let envelope = format!(r#"{mark}{{"success":true,"data":{body}}}"#);
            let answer = web(Given::new(200, "application/json", envelope)).await;
            assert_eq!(shown(answer), *expected, "{kind}, web {mark:?}");
        }
    }
}
