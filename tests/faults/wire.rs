//! The wires of the upstreams: how each answers well, and how each tells an error.

use bytes::Bytes;
use tower_qwen::qwen::{
    compatible::{CompatibleLayer, Server},
    responses::QwenResponsesLayer,
    web::QwenWebLayer,
};

use crate::{
    chat::{Chat, chat},
    upstream::{Faulty, Script},
};

/// What every good answer says, in its pieces.
pub(crate) const PIECES: [&str; 3] = ["It rains: ", "{\"rain\":", "true}"];

/// How many bytes of a stream may bring no event here.
pub(crate) const MOST_WITHOUT_EVENT: usize = 64 * 1024;

/// A kind of upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire {
    /// chat.qwen.ai.
    Web,
    /// A server with OpenAI's API.
    Compatible,
    /// DashScope's Responses.
    Responses,
}

impl Wire {
    /// The adapter over an upstream of this wire.
    pub(crate) fn adapter(self, upstream: &Faulty) -> Chat {
        use tower::Layer;

        let upstream = upstream.clone();
        let most = MOST_WITHOUT_EVENT;
        match self {
            Self::Web => chat(QwenWebLayer::new().max_bytes_without_event(most).layer(upstream)),
            Self::Compatible => chat(
                CompatibleLayer::new(Server::Generic).max_bytes_without_event(most).layer(upstream),
            ),
            Self::Responses => {
                chat(QwenResponsesLayer::new().max_bytes_without_event(most).layer(upstream))
            }
        }
    }

    /// An event that says `text`.
    pub(crate) fn text(self, text: &str) -> String {
        let text = serde_json::to_string(text).expect("a string");
        match self {
            Self::Web => format!(
                "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": \
                 {text}, \"phase\": \"answer\", \"status\": \"typing\"}}}}]}}\n\n"
            ),
            Self::Compatible => format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"
            ),
            Self::Responses => format!(
                "event: response.output_text.delta\n\
                 data: {{\"type\":\"response.output_text.delta\",\"delta\":{text}}}\n\n"
            ),
        }
    }

    /// The events of the good answer `count`: what names it, the pieces, and the finish.
    pub(crate) fn events(self, count: usize) -> Vec<String> {
        let id = format!("r-{count:04}");
        let begin = match self {
            Self::Web => format!(
                "data: {{\"response.created\": {{\"chat_id\": \"c-0\", \"response_id\": \
                 \"{id}\"}}}}\n\n"
            ),
            Self::Compatible => format!(
                "data: {{\"id\":\"{id}\",\"choices\":[{{\"index\":0,\"delta\":\
                 {{\"role\":\"assistant\",\"content\":\"\"}}}}]}}\n\n"
            ),
            Self::Responses => format!(
                "event: response.created\n\
                 data: {{\"type\":\"response.created\",\"response\":{{\"id\":\"{id}\"}}}}\n\n"
            ),
        };
        let finish = match self {
            Self::Web => "data: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \
                          \"assistant\", \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n"
                .to_owned(),
            Self::Compatible => "data: {\"choices\":[{\"index\":0,\"delta\":{},\
                                 \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
                .to_owned(),
            Self::Responses => format!(
                "event: response.completed\n\
                 data: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"{id}\",\
                 \"status\":\"completed\"}}}}\n\n"
            ),
        };
        let pieces = PIECES.map(|piece| self.text(piece));
        [begin].into_iter().chain(pieces).chain([finish]).collect()
    }

    /// The good answer `count`, an event a frame.
    pub(crate) fn good(self, count: usize) -> Script {
        Script::events(self.events(count).into_iter().map(Bytes::from))
    }

    /// The body of a response that tells an error in place of an answer.
    pub(crate) fn error(self) -> &'static str {
        match self {
            Self::Web => {
                "{\"success\": false, \"request_id\": \"q-1\", \"data\": {\"code\": \
                 \"InternalError\", \"details\": \"it failed\"}}"
            }
            Self::Compatible => {
                "{\"error\":{\"message\":\"it failed\",\"type\":\"server_error\",\"code\":500}}"
            }
            Self::Responses => {
                "{\"error\":{\"message\":\"it failed\",\"type\":\"server_error\",\"code\":\
                 \"server_error\"}}"
            }
        }
    }

    /// The event that tells an error in an answer.
    pub(crate) fn error_event(self) -> String {
        match self {
            Self::Web => "data: {\"error\": {\"code\": \"internal_error\", \"details\": \
                          \"it failed\"}}\n\n"
                .to_owned(),
            Self::Compatible => format!("data: {}\n\n", self.error()),
            Self::Responses => "event: response.failed\n\
                                data: {\"type\":\"response.failed\",\"response\":{\"id\":\
                                \"r-9999\",\"status\":\"failed\",\"error\":{\"code\":\
                                \"server_error\",\"message\":\"it failed\"}}}\n\n"
                .to_owned(),
        }
    }
}
