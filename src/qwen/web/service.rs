use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, response};
use http_body::Body;
use serde_json::{Map, Value};
use tower_service::Service;

use super::{
    ChatType,
    config::Config,
    delete::{chat_uri, delete},
    envelope::envelope,
    error::Call,
    fresh::Fresh,
    head::Head,
    kept::{Kept, WebTask, task_id},
    making::Making,
    request::{self, Wanted},
    stop::Stop,
    stopping::Stopping,
    stream::AnswerStream,
    turn::Turn,
};
use crate::{
    BoxError, Error, ErrorKind, Fate, FullBody, Text,
    chat::{
        Attachment, ChatEvent, ChatRequest, Conversation, FinishReason, ResponseFuture, Started,
    },
    clock,
    head::effective_status,
    offload::{is_large, offload},
    qwen::{
        answer::{Names, Reader, Repair, begins_as_events},
        effort::telling,
        redact::Secrets,
        task::Task,
        transport::{self, Cut, Read},
    },
    sse::Decoder,
};

/// How much of a page that is not JSON is read.
const PAGE_LIMIT: usize = 64 * 1024;

/// Chat over the wire of chat.qwen.ai; made by [`QwenWebLayer`](super::QwenWebLayer).
///
/// `S` is an HTTP service whose requests have a path and no host, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream) or the emulator.
#[derive(Clone, Debug)]
pub struct QwenWeb<S> {
    inner: S,
    config: Arc<Config>,
    stopping: Stopping,
}

impl<S> QwenWeb<S> {
    service!();

    pub(super) fn over(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config, stopping: Stopping::default() }
    }
}

impl<S, B> Service<Request<ChatRequest>> for QwenWeb<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
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

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        // The instance that was polled ready makes the first call.
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare);
        let (config, stopping) = (Arc::clone(&self.config), self.stopping.clone());
        let exchange = Exchange::new(ready, config, stopping, &mut request);
        ResponseFuture::new(exchange.run(request.into_body()))
    }
}

/// The calls that one request of the middle takes.
struct Exchange<S> {
    /// Taken by the first call.
    ready: Option<S>,
    /// For the calls after it.
    spare: S,
    config: Arc<Config>,
    stopping: Stopping,
    head: Head,
}

impl<S, B> Exchange<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn new(
        ready: S,
        config: Arc<Config>,
        stopping: Stopping,
        request: &mut Request<ChatRequest>,
    ) -> Self {
        let spare = ready.clone();
        let head = Head {
            credential: request.body().credential.clone(),
            extensions: mem::take(request.extensions_mut()),
            headers: transport::page_headers(request.headers(), request.body().credential.as_ref()),
        };
        Self { ready: Some(ready), spare, config, stopping, head }
    }

    async fn run(mut self, request: ChatRequest) -> Result<Response<AnswerStream<B>>, Error> {
        metrics::counter!("tower_qwen_web_turns_total").increment(1);
        let told = request::effort(&self.config, &request).in_place_of(&request.reasoning);
        let result = self.turn(request).await;
        if let Err(error) = &result {
            let kind = format!("{:?}", error.kind());
            metrics::counter!("tower_qwen_web_errors_total", "kind" => kind).increment(1);
        }
        result.map(|response| telling(response, told))
    }

    async fn turn(&mut self, request: ChatRequest) -> Result<Response<AnswerStream<B>>, Error> {
        if request.response_format.as_ref().is_some_and(|format| !format.is_text()) {
            let message = "`response_format`: this upstream (chat.qwen.ai) has no such thing; leave \
                           it out, or put a FormatLayer over the adapter";
            let error = Error::invalid("response_format", message);
            return Err(error.with_code("unsupported_parameter"));
        }
        let large = is_large(&request);
        // Checked before a chat is opened for it.
        let (turn, Wanted { chat_type, making }) = match large {
            true => {
                let (config, request) = (Arc::clone(&self.config), request.clone());
                let check = move || request::Turn::new(&config, &request).map(|turn| turn.wanted());
                (None, offload("encode", check).await??)
            }
            false => {
                let turn = request::Turn::new(&self.config, &request)?;
                let wanted = turn.wanted();
                (Some(turn), wanted)
            }
        };
        let mut fresh = None;
        let (conversation, call) = match request.destination.upstream()? {
            Some(given) => {
                check_id("conversation.chat_id", &given.chat_id)?;
                self.stopping.wait(&given.chat_id).await;
                (given.clone(), Call::Turn { continued: true })
            }
            None => {
                // The account whose credential the request has is the one that the chat will
                // belong to.
                let account = request.account.as_ref().or(request.destination.account()).cloned();
                let chat = fresh.insert(self.new_chat(&request.model, chat_type));
                let mut conversation = Conversation::new(chat.open().await?);
                conversation.account = account;
                (conversation, Call::Turn { continued: false })
            }
        };
        let chat_id = &conversation.chat_id;
        let body = match turn {
            Some(turn) => turn.body(&self.config, chat_id, conversation.parent_id.as_deref()),
            None => {
                let (config, place) = (Arc::clone(&self.config), conversation.clone());
                let request = request.clone();
                let written = move || {
                    let turn = request::Turn::new(&config, &request)?;
                    Ok::<_, Error>(turn.body(&config, &place.chat_id, place.parent_id.as_deref()))
                };
                offload("encode", written).await??
            }
        };
        // A long history is kept no longer than it is needed.
        let names = Names::of(&request.tools);
        let limits = transport::limits(self.config.progress, &request);
        drop(request);
        let path = format!("/api/v2/chat/completions?chat_id={chat_id}");
        tracing::debug!(%chat_id, bytes = body.len(), "sending a turn");
        let (head, body) = self.post(&path, body).await?.into_parts();
        if let Some(making) = making.filter(Making::is_task) {
            return self.film(making, (conversation, call, fresh), head, body).await;
        }

        let secrets = Secrets::new(self.head.credential.as_ref(), &head.extensions);
        let status = effective_status(&head.headers, head.status);
        let mut answer = self.config.answer().offering(names);
        let (mut body, mut decoder) = (Box::pin(body), Decoder::lenient());
        if !(status.is_success() && is_event_stream(&head.headers)) {
            let limit = if is_json(&head.headers) { self.config.answer_limit } else { PAGE_LIMIT };
            let deadline = self.config.page_deadline;
            // What stands before chat.qwen.ai may call a stream plain text.
            let is_stream = |bytes: &[u8]| status.is_success() && begins_as_events(bytes);
            let (bytes, cut) =
                transport::read_until(body.as_mut(), limit, deadline, is_stream).await;
            if !matches!(cut, Some(Cut::Enough)) {
                let read = Read { bytes, complete: cut.is_none() };
                // What it says besides is the answer, which is read where it lies.
                drop(envelope(call, head.status, &head.headers, &read, &secrets)?);
                let json = Text::from_utf8(read.bytes).map_err(transport::error)?;
                let mut turn = Turn::new(conversation, call);
                turn.whole(&json, &mut answer)?;
                if let Some(fresh) = fresh {
                    fresh.keep();
                }
                return Ok(Response::new(AnswerStream::new(Reader::whole(answer, turn))));
            }
            answer.repaired(Repair::MediaType);
            decoder.push(bytes);
        }

        let stop = self.stop(chat_id, fresh);
        let turn = Turn::new(conversation.clone(), call)
            .secrets(secrets)
            .commit_bytes(self.config.commit_bytes)
            .stop(stop);
        let grace = self.config.grace;
        let mut reader = Reader::new(decoder, body, answer, turn, limits, grace);
        let committed = reader.commit().await;
        let Some(making) = making else {
            committed?;
            reader.wire_mut().keep_chat();
            return Ok(Response::new(AnswerStream::new(reader)));
        };
        // A picture is paid for, so what has become of it is looked up before it is given up.
        let found = match is_lost(&committed, &reader) {
            true => self.found(conversation, reader.wire().response_id().cloned(), making).await,
            false => None,
        };
        if found.is_none() {
            committed?;
        }
        reader.wire_mut().keep_chat();
        let reader = found.unwrap_or(reader);
        let mut response = Response::new(AnswerStream::new(reader));
        making.tell(response.headers_mut());
        Ok(response)
    }

    /// The answer that a film is, whose task was begun in this chat if upstream says so.
    async fn film(
        &mut self,
        making: Making,
        (mut place, call, fresh): (Conversation, Call, Option<Fresh>),
        head: response::Parts,
        body: B,
    ) -> Result<Response<AnswerStream<B>>, Error> {
        let (limit, deadline) = (self.config.answer_limit, self.config.page_deadline);
        let read = transport::read(body, limit, deadline).await;
        let secrets = Secrets::new(self.head.credential.as_ref(), &head.extensions);
        let envelope = envelope(call, head.status, &head.headers, &read, &secrets)?;
        let id = task_id(&envelope).filter(|id| !id.starts_with('.'));
        let id = id.filter(|id| check_id("task_id", id).is_ok()).ok_or_else(|| {
            let message = "the upstream took the request for a film and named no task";
            Error::new(ErrorKind::Upstream, message)
        })?;
        if !clock::is_there() {
            let message = "a film is waited for by the clock of tokio, and there is no runtime";
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let data = envelope.get("data").and_then(Value::as_object);
        let answer = data.and_then(|data| data.get("message_id")).and_then(Value::as_str);
        place.parent_id = answer.filter(|id| !id.is_empty()).map(Text::from);
        if let Some(fresh) = fresh {
            fresh.keep();
        }
        tracing::debug!(chat_id = %place.chat_id, task_id = id, "a task was begun");
        let started = Started::from(place.clone());
        let asks = WebTask { kept: self.kept(), id: id.into(), place, making };
        let pace = self.config.pace(&making);
        let task = Task::new("web", making.kind(), started, asks, pace);
        let mut response = Response::new(AnswerStream::task(Box::pin(task)));
        making.tell(response.headers_mut());
        Ok(response)
    }

    /// An answer of the pictures that the record of the chat `place` holds, if there are any.
    async fn found(
        &mut self,
        mut place: Conversation,
        response_id: Option<Text>,
        making: Making,
    ) -> Option<Reader<B, Turn>> {
        let id = response_id.as_deref();
        let found = match self.kept().made(&place.chat_id, id, &making).await {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => return None,
            Err(error) => {
                tracing::debug!(%error, "the chat of a lost picture cannot be read");
                return None;
            }
        };
        let mut answer = self.config.answer();
        answer.repaired(Repair::FromChat);
        place.parent_id = response_id;
        answer.started(place.clone().into());
        for url in found {
            answer.other(ChatEvent::Attachment(Attachment::new(making.attachment(), url)));
        }
        answer.finished(FinishReason::Stop);
        answer.conclude().ok()?;
        let call = Call::Turn { continued: true };
        Some(Reader::whole(answer, Turn::new(place, call)))
    }

    /// What looks up what upstream keeps.
    fn kept(&self) -> Kept<S> {
        let config = &self.config;
        let (service, head) = (self.spare.clone(), self.head.clone());
        Kept::new(service, head, config.page_deadline, config.answer_limit)
    }

    /// A chat to open.
    fn new_chat(&mut self, model: &str, chat_type: ChatType) -> Fresh {
        let body = request::new_chat(&self.config, model, chat_type);
        let request = post("/api/v2/chats/new", &self.head, body);
        // The instance that was polled ready.
        let ready = self.ready.take();
        let mut spare = self.spare.clone();
        let deadline = self.config.page_deadline;
        let credential = self.head.credential.clone();
        let opening = async move {
            let response = match ready {
                Some(mut ready) => ready.call(request?).await.map_err(transport::error)?,
                None => transport::send(&mut spare, request?).await?,
            };
            let (head, body) = response.into_parts();
            let read = transport::read(body, PAGE_LIMIT, deadline).await;
            let secrets = Secrets::new(credential.as_ref(), &head.extensions);
            let envelope = envelope(Call::NewChat, head.status, &head.headers, &read, &secrets)?;
            let id = chat_id(&envelope).ok_or_else(|| {
                Error::new(ErrorKind::Upstream, "the upstream opened a chat and did not name it")
            })?;
            check_id("chat_id", id)
                .map_err(|error| Error::new(ErrorKind::Upstream, error.message().to_owned()))?;
            Ok(id.into())
        };
        let delete = self.config.delete_orphans.then(|| {
            let (service, head) = (self.spare.clone(), self.head.clone());
            move |chat_id: Text| async move {
                let uri = chat_uri(&chat_id).ok_or_else(|| {
                    Error::new(ErrorKind::Upstream, "the chat's id cannot stand in a path")
                })?;
                // A clone: what waits for the end of a request waits for its extensions to be dropped.
                let extensions = head.extensions.clone();
                delete(service, uri, head.headers, head.credential.as_ref(), extensions).await?;
                tracing::debug!(%chat_id, "deleted a chat that nobody knows of");
                Ok(())
            }
        });
        Fresh::new(opening, delete)
    }

    async fn post(&mut self, path: &str, body: Bytes) -> Result<Response<B>, Error> {
        let request = post(path, &self.head, body)?;
        match self.ready.take() {
            Some(mut ready) => ready.call(request).await.map_err(transport::error),
            None => transport::send(&mut self.spare, request).await,
        }
    }

    /// What tells upstream to stop writing an answer.
    fn stop(&self, chat_id: &Text, fresh: Option<Fresh>) -> Stop {
        let call = self.config.stop_on_drop.then(|| {
            let mut service = self.spare.clone();
            let head = self.head.clone();
            let chat_id = chat_id.clone();
            move |response_id: Text| async move {
                let path = format!("/api/v2/chat/completions/stop?chat_id={chat_id}");
                let request = post(&path, &head, request::stop(&chat_id, &response_id))?;
                let response = transport::send(&mut service, request).await?;
                let status = effective_status(response.headers(), response.status());
                tracing::debug!(%chat_id, %status, "told upstream to stop");
                Ok(())
            }
        });
        Stop::new(call, fresh, &self.stopping, chat_id)
    }
}

/// Whether a picture was made, maybe, and did not come: nobody has said that it came to nothing.
fn is_lost<B>(committed: &Result<(), Error>, reader: &Reader<B, Turn>) -> bool {
    match committed {
        Ok(()) => reader.is_blank(),
        Err(error) => match error.kind() {
            ErrorKind::Truncated | ErrorKind::Timeout => true,
            ErrorKind::Upstream => error.fate() != Fate::Refused,
            _ => false,
        },
    }
}

fn post(path: &str, head: &Head, body: Bytes) -> Result<Request<FullBody>, Error> {
    let mut request = Request::new(FullBody::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|error| {
        Error::new(ErrorKind::Internal, "a chat's id does not fit into a URL")
            .with_source(error as http::uri::InvalidUri)
    })?;
    *request.extensions_mut() = head.extensions.clone();
    *request.headers_mut() = head.headers.clone();
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    Ok(request)
}

/// The id of a new chat, in the first of the places where it has been seen.
fn chat_id(envelope: &Map<String, Value>) -> Option<&str> {
    let data = envelope.get("data").and_then(Value::as_object);
    let in_data = |key: &str| data.and_then(|data| data.get(key)).and_then(Value::as_str);
    let at_top = |key: &str| envelope.get(key).and_then(Value::as_str);
    let in_chat =
        || data.and_then(|data| data.get("chat")).and_then(|chat| chat.get("id")?.as_str());
    in_data("id")
        .or_else(|| in_data("chat_id"))
        .or_else(|| at_top("chat_id"))
        .or_else(|| at_top("id"))
        .or_else(in_chat)
        .filter(|id| !id.is_empty())
}

/// Ids go into a query as they are, so that only what needs no escape there is let through.
fn check_id(param: &'static str, id: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':');
    if id.len() <= 256 && id.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid(param, "a chat's id is letters, digits and -_.~: and at most 256 of them"))
}

fn content_type(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    value.split(|&b| b == b';').next().unwrap_or(value).trim_ascii()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    content_type(headers).eq_ignore_ascii_case(b"text/event-stream")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = content_type(headers).to_ascii_lowercase();
    kind.ends_with(b"json")
}
