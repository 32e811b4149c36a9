//! The protocols of the edges: how each is asked, and which of its frames are terminal.

use std::{convert::Infallible, pin::Pin};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tower_qwen::{
    BoxError, FullBody,
    anthropic::AnthropicLayer,
    ollama::{GenerateLayer, OllamaLayer},
    openai::{OpenAiLayer, completions::CompletionsLayer},
    responses::ResponsesLayer,
};

use crate::chat::Chat;

/// A protocol of clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Edge {
    Chat,
    Completions,
    Messages,
    Responses,
    Ollama,
    Generate,
}

pub(crate) const EDGES: [Edge; 6] =
    [Edge::Chat, Edge::Completions, Edge::Messages, Edge::Responses, Edge::Ollama, Edge::Generate];

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Asks {
    Words,
    /// One JSON value.
    Json,
    /// An answer in one call of XML.
    Xml,
}

/// What ends a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Terminal {
    /// The answer is complete, or says why it is not.
    Finish,
    /// It failed.
    Error,
    /// `[DONE]`, which OpenAI's streams have behind either.
    Done,
}

use Terminal::{Done, Error, Finish};

/// The body of a response, which has no errors.
pub(crate) type EdgeBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A whole stack.
pub(crate) type Route = BoxCloneSyncService<Request<FullBody>, Response<EdgeBody>, Infallible>;

fn route<S, B>(stack: S) -> Route
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Route::new(stack.map_response(|response: Response<B>| {
        response.map(|body| -> EdgeBody { Box::pin(body.map_err(Into::into)) })
    }))
}

impl Edge {
    /// The edge over `chat`.
    pub(crate) fn over(self, chat: Chat) -> Route {
        match self {
            Self::Chat => route(OpenAiLayer::new().layer(chat)),
            Self::Completions => route(CompletionsLayer::new().layer(chat)),
            Self::Messages => route(AnthropicLayer::new().layer(chat)),
            Self::Responses => route(ResponsesLayer::new().layer(chat)),
            Self::Ollama => route(OllamaLayer::new().layer(chat)),
            Self::Generate => route(GenerateLayer::new().layer(chat)),
        }
    }

    /// Whether a request of the protocol can ask for JSON.
    pub(crate) fn has_forms(self) -> bool {
        self != Self::Completions
    }

    /// A question, with a tool where the protocol has tools.
    pub(crate) fn question(self, asks: Asks, is_stream: bool) -> Request<FullBody> {
        let schema = json!({"type": "object", "properties": {}});
        let function = json!({"name": "look_out", "description": "", "parameters": schema});
        let messages = json!([{"role": "user", "content": "Does it rain?"}]);
        let mut body = match self {
            Self::Chat | Self::Ollama => json!({
                "messages": messages, "tools": [{"type": "function", "function": function}],
            }),
            Self::Messages => json!({
                "messages": messages, "max_tokens": 900,
                "tools": [{"name": "look_out", "input_schema": schema}],
            }),
            Self::Responses => json!({
                "input": messages,
                "tools": [{"type": "function", "name": "look_out", "parameters": schema}],
            }),
            Self::Completions | Self::Generate => json!({"prompt": "Does it rain?"}),
        };
        let object = json!({"type": "json_object"});
        match (asks, self) {
            (Asks::Json, Self::Chat) => body["response_format"] = object,
            (Asks::Json, Self::Messages) => body["output_config"] = json!({"format": object}),
            (Asks::Json, Self::Responses) => body["text"] = json!({"format": object}),
            (Asks::Json, Self::Ollama | Self::Generate) => body["format"] = json!("json"),
            (Asks::Json, Self::Completions) => panic!("it has no forms"),
            (Asks::Words, _) => {}
            // Whoever has his calls wrapped says in his prompt what tools there are.
            (Asks::Xml, _) => drop(body.as_object_mut().expect("an object").remove("tools")),
        }
        body["model"] = json!("qwen3-max");
        body["stream"] = json!(is_stream);
        Request::post("/")
            .header(header::AUTHORIZATION, "Bearer sk-demo-client")
            .body(FullBody::from(body.to_string()))
            .expect("a request")
    }

    /// What a stream of this protocol ends with.
    pub(crate) fn terminals(self, is_well: bool) -> Vec<Terminal> {
        let end = if is_well { Finish } else { Error };
        match self {
            Self::Chat | Self::Completions => vec![end, Done],
            _ => vec![end],
        }
    }

    /// The text of a stream, all its terminal frames, and whether nothing is behind them.
    pub(crate) fn read(self, body: &str) -> (String, Vec<Terminal>, bool) {
        let (mut text, mut terminals, mut is_last) = (String::new(), Vec::new(), false);
        let is_lines = matches!(self, Self::Ollama | Self::Generate);
        for frame in body.split_terminator(if is_lines { "\n" } else { "\n\n" }) {
            let mut lines = frame.lines().filter(|line| !line.starts_with(':')).peekable();
            if lines.peek().is_none() {
                assert!(terminals.is_empty(), "a comment behind the end: {body}");
                continue;
            }
            let data = match is_lines {
                true => frame,
                false => lines
                    .find_map(|line| line.strip_prefix("data: "))
                    .unwrap_or_else(|| panic!("no data in {frame:?}")),
            };
            let terminal = if data == "[DONE]" {
                Some(Done)
            } else {
                let event: Value = serde_json::from_str(data).expect("JSON");
                text.push_str(self.text(&event));
                self.terminal(&event)
            };
            is_last = terminal.is_some();
            terminals.extend(terminal);
        }
        let is_closed = body.ends_with(if is_lines { "\n" } else { "\n\n" });
        (text, terminals, is_last && is_closed)
    }

    /// What a frame adds to the text of the answer.
    fn text(self, event: &Value) -> &str {
        let delta = || event["type"] == "response.output_text.delta";
        let piece = match self {
            Self::Chat => &event["choices"][0]["delta"]["content"],
            Self::Completions => &event["choices"][0]["text"],
            Self::Messages => &event["delta"]["text"],
            Self::Responses if delta() => &event["delta"],
            Self::Responses => &Value::Null,
            Self::Ollama => &event["message"]["content"],
            Self::Generate => &event["response"],
        };
        piece.as_str().unwrap_or_default()
    }

    fn terminal(self, event: &Value) -> Option<Terminal> {
        let is_error = match self {
            Self::Responses => event["type"] == "response.failed" || event["type"] == "error",
            Self::Messages => event["type"] == "error",
            _ => event.get("error").is_some(),
        };
        let is_finish = match self {
            Self::Chat | Self::Completions => event["choices"][0]["finish_reason"].is_string(),
            Self::Messages => event["type"] == "message_stop",
            Self::Responses => {
                event["type"] == "response.completed" || event["type"] == "response.incomplete"
            }
            Self::Ollama | Self::Generate => event["done"] == true,
        };
        assert!(!(is_error && is_finish), "an end of two kinds: {event}");
        if is_error { Some(Error) } else { is_finish.then_some(Finish) }
    }

    /// The text of a whole answer.
    pub(crate) fn whole(self, answer: &Value) -> &str {
        let text = match self {
            Self::Chat => &answer["choices"][0]["message"]["content"],
            Self::Completions => &answer["choices"][0]["text"],
            Self::Messages => &answer["content"][0]["text"],
            Self::Responses => &answer["output"][0]["content"][0]["text"],
            Self::Ollama => &answer["message"]["content"],
            Self::Generate => &answer["response"],
        };
        text.as_str().unwrap_or_default()
    }

    /// Whether this is an error of the protocol.
    pub(crate) fn is_error(self, answer: &Value) -> bool {
        match self {
            Self::Messages => answer["type"] == "error" && answer["error"]["message"].is_string(),
            Self::Ollama | Self::Generate => answer["error"].is_string(),
            _ => answer["error"]["message"].is_string(),
        }
    }
}
