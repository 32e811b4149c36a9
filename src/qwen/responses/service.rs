use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header, response::Parts};
use http_body::Body;
use serde::de::IgnoredAny;
use tower_service::Service;

use super::{METRIC, config::Config, request, stream::AnswerStream, translate::Translator};
use crate::{
    AccountName, BoxError, CredentialHeaders, Error, FullBody, Text,
    chat::{ChatRequest, Conversation, ResponseFuture},
    json::lenient::{self, Object, lenient},
    offload::{is_large, offload},
    qwen::{
        answer::{Answer, Names, Pieces, Repairs, Reply, ThinkSplitter, reply},
        compatible::{Server, refusal},
        effort::telling,
        redact::Secrets,
        transport::{self, Read},
    },
};

/// Chat over DashScope's Responses API; made by
/// [`QwenResponsesLayer`](super::QwenResponsesLayer).
///
/// `S` is an HTTP service whose requests have a path and no host, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream) with the base URL of the API.
#[derive(Clone, Debug)]
pub struct QwenResponses<S> {
    inner: S,
    config: Config,
}

impl<S> QwenResponses<S> {
    service!();

    pub(super) const fn with(inner: S, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<S, B> Service<Request<ChatRequest>> for QwenResponses<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerStream<B>>;
    type Error = Error;
    type Future = ResponseFuture<AnswerStream<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(transport::error)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        let spare = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, spare);
        let config = self.config.clone();
        ResponseFuture::new(async move {
            let result = turn(&mut ready, request, config).await;
            if let Err(error) = &result {
                let kind = format!("{:?}", error.kind());
                metrics::counter!("tower_qwen_responses_errors_total", "kind" => kind).increment(1);
            }
            result
        })
    }
}

async fn turn<S, B>(
    inner: &mut S,
    request: Request<ChatRequest>,
    mut config: Config,
) -> Result<Response<AnswerStream<B>>, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (envelope, chat) = request.into_parts();
    config.progress = transport::limits(config.progress, &chat);
    if !chat.kind.is_chat() {
        return Err(chat.kind.unsupported("DashScope's Responses API"));
    }
    let place = chat.destination.upstream()?.cloned().map(whole_place);
    let account = account(&chat, place.as_ref());
    let credential = chat.credential.clone();
    let names = Names::of(&chat.tools);
    let told = request::effort(&chat, &config.overrides).in_place_of(&chat.reasoning);
    let label = if place.is_some() { "continued" } else { "new" };
    metrics::counter!("tower_qwen_responses_turns_total", "chat" => label).increment(1);

    let written = if is_large(&chat) {
        let (chat, config, place) = (chat.clone(), config.clone(), place.clone());
        offload("encode", move || body(&chat, &config, place.as_ref())).await?
    } else {
        body(&chat, &config, place.as_ref())
    };
    tracing::debug!(bytes = written.len(), chat = label, "sending a turn");
    let mut wire = Request::new(FullBody::new(written));
    *wire.extensions_mut() = envelope.extensions;
    *wire.method_mut() = Method::POST;
    *wire.uri_mut() = http::Uri::from_static("/responses");
    let headers = wire.headers_mut();
    *headers = transport::headers(&envelope.headers, chat.credential.as_ref());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
    if config.session_cache {
        headers.insert("x-dashscope-session-cache", HeaderValue::from_static("enable"));
    }
    // A long history is kept no longer than it is needed.
    drop(chat);
    let response = inner.call(wire).await.map_err(transport::error)?;
    let response = answer(response, &config, place, account, credential, names).await?;
    Ok(telling(response, told))
}

/// The place with the answer that it is: the first answer of a chat has its id.
fn whole_place(mut place: Conversation) -> Conversation {
    place.parent_id.get_or_insert_with(|| place.chat_id.clone());
    place
}

/// Whose the chat is, or will be.
fn account(chat: &ChatRequest, place: Option<&Conversation>) -> Option<AccountName> {
    let known = place.and_then(|place| place.account.as_ref());
    chat.account.as_ref().or(known).or(chat.destination.account()).cloned()
}

fn body(chat: &ChatRequest, config: &Config, place: Option<&Conversation>) -> Bytes {
    request::body(chat, &config.overrides, place.and_then(|place| place.parent_id.as_deref()))
}

async fn answer<B>(
    response: Response<B>,
    config: &Config,
    place: Option<Conversation>,
    account: Option<AccountName>,
    credential: Option<CredentialHeaders>,
    names: Names,
) -> Result<Response<AnswerStream<B>>, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let secrets = Secrets::new(credential.as_ref(), response.extensions());
    let translator = Translator::new(place, account, secrets);
    let answer = Answer::new(Pieces::incremental, ThinkSplitter::off(), Repairs::new(METRIC));
    let (answer, limits) = (answer.offering(names), config.progress);
    let reader = reply::open(response, translator, answer, limits, config.grace).await?;
    Ok(Response::new(AnswerStream::new(reader)))
}

lenient! {
    /// What tells an answer from something else.
    struct Shape {
        output: Option<IgnoredAny> = "output",
    }
}

impl Reply for Translator {
    fn holds_answer(json: &Text) -> Option<bool> {
        let read = |text: &Text| serde_json::from_str::<Object<Shape>>(text);
        Some(lenient::read(json, read).ok()?.0?.output.is_some())
    }

    fn whole(&mut self, json: &Text, answer: &mut Answer) -> Result<(), Error> {
        self.take_whole(json, answer)
    }

    fn refusal(&self, head: &Parts, read: &Read) -> Error {
        self.meant(refusal(head.status, &head.headers, read, Server::DashScope, &self.secrets))
    }
}
