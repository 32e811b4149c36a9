use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header, response::Parts};
use http_body::Body;
use serde::de::IgnoredAny;
use tower_service::Service;

use super::{config::Config, error::refusal, request, stream::AnswerStream, translate::Translator};
use crate::{
    BoxError, CredentialHeaders, Error, FullBody, Text,
    chat::{ChatRequest, ResponseFuture},
    json::lenient::{self, Object, lenient},
    offload::{is_large, offload},
    qwen::{
        answer::{Answer, Names, Reply, reply},
        effort::telling,
        redact::Secrets,
        transport::{self, Read},
    },
};

/// Chat over an OpenAI-compatible wire; made by [`CompatibleLayer`](super::CompatibleLayer).
///
/// `S` is an HTTP service whose requests have a path and no host, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream) with the base URL of the API, `/v1`
/// included.
#[derive(Clone, Debug)]
pub struct Compatible<S> {
    inner: S,
    config: Config,
}

impl<S> Compatible<S> {
    service!();

    pub(super) const fn with(inner: S, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Compatible<S>
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
        let mut config = self.config.clone();
        config.progress = transport::limits(config.progress, request.body());
        let credential = request.body().credential.clone();
        let (envelope, chat) = request.into_parts();
        if let Err(error) = chat.destination.upstream() {
            return ResponseFuture::new(std::future::ready(Err(error)));
        }
        if !config.server.makes(chat.kind) {
            let error = chat.kind.unsupported(config.server.name());
            return ResponseFuture::new(std::future::ready(Err(error)));
        }
        let names = Names::of(&chat.tools);
        let thinking = super::request::thinking(&chat, &config.overrides, config.server);
        let told = thinking.effort().in_place_of(&chat.reasoning);
        if !is_large(&chat) {
            let exchange = ready.call(wire_request(envelope, &chat, body(&chat, &config), &config));
            return ResponseFuture::new(async move {
                let response = exchange.await.map_err(transport::error)?;
                Ok(telling(answer(response, config, credential, names).await?, told))
            });
        }
        ResponseFuture::new(async move {
            let written = {
                let (chat, config) = (chat.clone(), config.clone());
                offload("encode", move || body(&chat, &config)).await?
            };
            let exchange = ready.call(wire_request(envelope, &chat, written, &config));
            // A long history is kept no longer than it is needed.
            drop(chat);
            let response = exchange.await.map_err(transport::error)?;
            Ok(telling(answer(response, config, credential, names).await?, told))
        })
    }
}

fn body(chat: &ChatRequest, config: &Config) -> Bytes {
    request::body(chat, &config.overrides, config.server)
}

fn wire_request(
    envelope: http::request::Parts,
    chat: &ChatRequest,
    body: Bytes,
    config: &Config,
) -> Request<FullBody> {
    let mut wire = Request::new(FullBody::new(body));
    *wire.extensions_mut() = envelope.extensions;
    *wire.method_mut() = Method::POST;
    *wire.uri_mut() = http::Uri::from_static("/chat/completions");
    let headers = wire.headers_mut();
    *headers = transport::headers(&envelope.headers, chat.credential.as_ref());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = if chat.is_whole { "application/json" } else { "text/event-stream" };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accepted));
    config.server.headers_into(headers);
    wire
}

impl Reply for Translator {
    fn holds_answer(json: &Text) -> Option<bool> {
        Some(Shape::of(json)?.choices.is_some())
    }

    fn whole(&mut self, json: &Text, answer: &mut Answer) -> Result<(), Error> {
        Translator::whole(self, json, answer)
    }

    fn refusal(&self, head: &Parts, read: &Read) -> Error {
        refusal(head.status, &head.headers, read, self.server(), self.secrets())
    }
}

async fn answer<B>(
    response: Response<B>,
    config: Config,
    credential: Option<CredentialHeaders>,
    names: Names,
) -> Result<Response<AnswerStream<B>>, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let secrets = Secrets::new(credential.as_ref(), response.extensions());
    let translator = Translator::new(config.server, secrets);
    let answer = config.answer().offering(names);
    let (limits, grace) = (config.progress, config.grace);
    let reader = reply::open(response, translator, answer, limits, grace).await?;
    Ok(Response::new(AnswerStream::new(reader)))
}

lenient! {
    /// What tells an answer from something else. What stands in it is not looked at: what is odd
    /// there must not cost the answer.
    struct Shape {
        choices: Option<IgnoredAny> = "choices",
    }
}

impl Shape {
    fn of(text: &Text) -> Option<Self> {
        let read = |text: &Text| serde_json::from_str::<Object<Self>>(text);
        lenient::read(text, read).ok()?.0
    }
}
