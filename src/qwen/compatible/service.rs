use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::Body;
use serde::de::IgnoredAny;
use tower_service::Service;

use super::{config::Config, error::refusal, request, stream::AnswerStream, translate::Translator};
use crate::{
    BoxError, CredentialHeaders, Error, ErrorKind, FullBody, Text,
    chat::ChatRequest,
    json::lenient::{self, Object, lenient},
    offload::{is_large, offload},
    qwen::{
        ResponseFuture,
        answer::{Answer, Names, Reader, Repair},
        effort::telling,
        redact::Secrets,
        transport::{self, Cut, Read},
    },
    sse::{BOM, Decoder, progress::Limits},
};

/// How much of an error body is read.
const ERROR_LEN: usize = 64 * 1024;

/// How much of an answer is read that came whole although a stream was asked for.
const WHOLE_LEN: usize = 16 * 1024 * 1024;

/// Within how many bytes a body shows that it is an event stream.
const BEGINNING_LEN: usize = 256;

/// How long the end of such an answer may take: servers write it when it is complete, and those
/// that cut it do so at 300 s. A little more, so that what they then send still counts.
const WHOLE_DEADLINE: Duration = Duration::from_secs(310);

/// How long the end of an error body may take.
const ERROR_DEADLINE: Duration = Duration::from_secs(10);

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
        let config = self.config.clone();
        let credential = request.body().credential.clone();
        let (envelope, chat) = request.into_parts();
        if let Err(error) = chat.destination.upstream() {
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
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
    config.server.headers_into(headers);
    wire
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
    let (head, body) = response.into_parts();
    let secrets = Secrets::new(credential.as_ref(), &head.extensions);
    let mut translator = Translator::new(config.server, secrets.clone());
    let mut answer = config.answer().offering(names);
    let mut body = Box::pin(body);
    let media_type = media_type(&head.headers);
    if head.status.is_success() && media_type == "text/event-stream" {
        return stream(Bytes::new(), body, answer, translator, config.progress).await;
    }
    // A page holds no answer, and may not end.
    let (limit, deadline) = if head.status.is_success() && media_type != "text/html" {
        (WHOLE_LEN, WHOLE_DEADLINE)
    } else {
        (ERROR_LEN, ERROR_DEADLINE)
    };
    // Some gateways call every body JSON or plain text, or nothing.
    let is_stream = |bytes: &[u8]| head.status.is_success() && begins_as_events(bytes);
    let (bytes, cut) = transport::read_until(body.as_mut(), limit, deadline, is_stream).await;
    if let Some(Cut::Enough) = cut {
        answer.repaired(Repair::MediaType);
        return stream(bytes, body, answer, translator, config.progress).await;
    }
    let read = Read { bytes, complete: cut.is_none() };
    if head.status.is_success() {
        match Text::from_utf8(read.bytes.clone()) {
            Ok(text) if Shape::has_choices(&text) => {
                translator.whole(&text, &mut answer)?;
                return Ok(Response::new(AnswerStream::new(Reader::whole(answer, translator))));
            }
            Err(error) if cut.is_none() && media_type != "text/html" => {
                return Err(not_a_chat(error));
            }
            Ok(text) if Shape::is_whole(&text) => {}
            _ => {
                if let Some(cut) = cut {
                    return Err(cut.into_error());
                }
            }
        }
    }
    Err(refusal(head.status, &head.headers, &read, config.server, &secrets))
}

async fn stream<B>(
    start: Bytes,
    body: Pin<Box<B>>,
    answer: Answer,
    translator: Translator,
    limits: Limits,
) -> Result<Response<AnswerStream<B>>, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut decoder = Decoder::new().error_field();
    decoder.push(start);
    let mut reader = Reader::new(decoder, body, answer, translator, limits);
    reader.commit().await?;
    Ok(Response::new(AnswerStream::new(reader)))
}

/// Whether a body is an event stream by its beginning, whatever its media type: no JSON and no
/// page begins with a field or a comment.
fn begins_as_events(bytes: &[u8]) -> bool {
    // It is asked with every frame, so blank lines without end are not looked at to their end.
    let start = &bytes[..bytes.len().min(BEGINNING_LEN)];
    let start = start.strip_prefix(BOM).unwrap_or(start).trim_ascii_start();
    [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|field| start.starts_with(field))
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

    fn has_choices(text: &Text) -> bool {
        Self::of(text).is_some_and(|shape| shape.choices.is_some())
    }

    fn is_whole(text: &Text) -> bool {
        Self::of(text).is_some()
    }
}

fn not_a_chat(error: std::str::Utf8Error) -> Error {
    Error::new(ErrorKind::Upstream, "the upstream's answer is not UTF-8").with_source(error)
}

fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default()
}
