use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use http_body::Body;
use serde_json::Value;
use tower_service::Service;

use super::{
    config::Config,
    request::Asked,
    stream::AnswerStream,
    wire::{made, said},
};
use crate::{
    BoxError, CredentialHeaders, Error, ErrorKind, Fate, FullBody, Text,
    chat::{
        AnswerKind, Attachment, AttachmentKind, ChatEvent, ChatRequest, FinishReason,
        ResponseFuture, Started,
    },
    clock,
    json::lenient::tree,
    qwen::{
        compatible::{Server, refusal},
        redact::Secrets,
        task::{Ask, Pace, Task, TaskState},
        transport::{self, Read},
    },
};

/// Has DashScope make a task of a request, and not wait for it.
const ASYNC: HeaderName = HeaderName::from_static("x-dashscope-async");

/// Names the fields of a request that were not sent, as the edges do.
const X_QWEN_LEFT_OUT: HeaderName = HeaderName::from_static("x-qwen-left-out");

/// The largest answer that is read.
const LIMIT: usize = 1024 * 1024;

/// How long an answer about a task may take once it has begun.
const DEADLINE: Duration = Duration::from_secs(30);

/// Images and videos over DashScope's own API; made by [`SynthesisLayer`](super::SynthesisLayer).
///
/// `S` is an HTTP service whose requests have a path and no host, such as
/// [`QwenUpstream`](crate::qwen::client::QwenUpstream) with the base URL of the API, `/api/v1`
/// included.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] for a request of another kind, and what the upstream refuses with, as
/// [`Compatible`](crate::qwen::compatible::Compatible) tells it.
#[derive(Clone, Debug)]
pub struct Synthesis<S> {
    inner: S,
    config: Config,
}

impl<S> Synthesis<S> {
    service!();

    pub(super) const fn with(inner: S, config: Config) -> Self {
        Self { inner, config }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Synthesis<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerStream>;
    type Error = Error;
    type Future = ResponseFuture<AnswerStream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(transport::error)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare.clone());
        let head = Head {
            credential: request.body().credential.clone(),
            headers: transport::headers(request.headers(), request.body().credential.as_ref()),
            extensions: mem::take(request.extensions_mut()),
        };
        ResponseFuture::new(answer(ready, spare, head, request.into_body(), self.config))
    }
}

/// What every call has of the request of the middle.
#[derive(Clone)]
struct Head {
    credential: Option<CredentialHeaders>,
    headers: HeaderMap,
    extensions: Extensions,
}

impl Head {
    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<FullBody>, Error> {
        let mut request = Request::new(FullBody::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| {
            Error::new(ErrorKind::Upstream, "the upstream's id does not fit into a URL")
                .with_source(error as http::uri::InvalidUri)
        })?;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(header::ACCEPT, json);
        Ok(request)
    }
}

/// The JSON of a good response.
async fn read<B>(response: Response<B>, head: &Head, deadline: Duration) -> Result<Value, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let read: Read = transport::read(body, LIMIT, deadline).await;
    let secrets = Secrets::new(head.credential.as_ref(), &parts.extensions);
    let refused = || refusal(parts.status, &parts.headers, &read, Server::DashScope, &secrets);
    if !parts.status.is_success() {
        return Err(refused());
    }
    let json = str::from_utf8(&read.bytes).ok().and_then(|json| tree(json, 4 * LIMIT));
    // Without an output it is an error with a good status, or something else altogether.
    json.filter(|json| json["output"].is_object()).ok_or_else(refused)
}

async fn answer<S, B>(
    mut ready: S,
    spare: S,
    head: Head,
    request: ChatRequest,
    config: Config,
) -> Result<Response<AnswerStream>, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let kind = request.kind;
    if !kind.is_media() {
        return Err(kind.unsupported("DashScope's API for images and videos"));
    }
    let Asked { path, is_task, body, left_out } = Asked::new(&request)?;
    let mut wire = head.request(Method::POST, path, body)?;
    if is_task {
        wire.headers_mut().insert(ASYNC, HeaderValue::from_static("enable"));
        if !clock::is_there() {
            let message = "a task is waited for by the clock of tokio, and there is no runtime";
            return Err(Error::new(ErrorKind::Internal, message));
        }
    }
    tracing::debug!(path, %kind, "asking for synthesis");
    let response = ready.call(wire).await.map_err(transport::error)?;
    let answer = read(response, &head, config.deadline).await?;
    let output = &answer["output"];
    let started = answer["request_id"].as_str().filter(|id| !id.is_empty());
    let started = started.map_or(Started::new(), |id| Started::new().with_response_id(id));
    let stream = if is_task {
        let id = output["task_id"].as_str().filter(|id| is_id(id)).ok_or_else(|| {
            Error::new(ErrorKind::Upstream, "the upstream took the request and named no task")
        })?;
        let usual = Duration::from_secs(if kind == AnswerKind::Video { 10 } else { 3 });
        let interval = config.task_interval.unwrap_or(usual);
        let pace = Pace { interval, limit: config.task_limit };
        let asks = Asks { service: spare, head, path: format!("/tasks/{id}"), kind };
        AnswerStream::new(Box::pin(Task::new("dashscope", kind, started, asks, pace)))
    } else {
        let made = made(output, kind);
        if made.is_empty() && said(output).is_none() {
            let message = "the upstream finished and made nothing";
            return Err(Error::new(ErrorKind::Upstream, message).with_fate(Fate::Refused));
        }
        let mut events = VecDeque::from([ChatEvent::Started(Box::new(started))]);
        events.extend(said(output).map(|text| ChatEvent::Text(text.into())));
        let attachment = |url: Text| Attachment::new(AttachmentKind::Image, url);
        events.extend(made.into_iter().map(|url| ChatEvent::Attachment(attachment(url))));
        events.push_back(ChatEvent::Finished(FinishReason::Stop));
        AnswerStream::new(Box::pin(Ready(events)))
    };
    let mut response = Response::new(stream);
    let names = left_out.join(", ");
    if !names.is_empty()
        && let Ok(names) = HeaderValue::try_from(names)
    {
        response.headers_mut().insert(X_QWEN_LEFT_OUT, names);
    }
    Ok(response)
}

/// Whether it can be an id in a path.
fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.len() <= 128 && id.bytes().all(plain)
}

/// Events that are there.
struct Ready(VecDeque<ChatEvent>);

impl futures_core::Stream for Ready {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Asks about one task.
struct Asks<S> {
    service: S,
    head: Head,
    path: String,
    kind: AnswerKind,
}

impl<S, B> Ask for Asks<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn ask(&mut self) -> Result<TaskState, Error> {
        let request = self.head.request(Method::GET, &self.path, Bytes::new())?;
        let response = transport::send(&mut self.service, request).await?;
        let answer = read(response, &self.head, DEADLINE).await?;
        let output = &answer["output"];
        Ok(match output["task_status"].as_str().unwrap_or_default() {
            "PENDING" | "RUNNING" | "SUSPENDED" => TaskState::Running { left: None },
            "SUCCEEDED" => TaskState::Made(made(output, self.kind)),
            "UNKNOWN" => {
                let message = "the upstream does not know the task";
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            _ => {
                let secrets = Secrets::new(self.head.credential.as_ref(), &self.head.extensions);
                let said = Read { bytes: output.to_string().into(), complete: true };
                let status = StatusCode::BAD_REQUEST;
                let headers = HeaderMap::new();
                let error = refusal(status, &headers, &said, Server::DashScope, &secrets);
                TaskState::Failed(match error.kind() {
                    // A task that failed is not the client's fault, unless it is said to be.
                    ErrorKind::InvalidRequest if output["code"].as_str().is_none_or(is_fault) => {
                        Error::new(ErrorKind::Upstream, error.message().to_owned())
                            .with_fate(Fate::Refused)
                    }
                    _ => error,
                })
            }
        })
    }
}

/// Whether a code says that the upstream itself failed.
fn is_fault(code: &str) -> bool {
    !code.contains("InvalidParameter") && !code.contains("InvalidURL")
}
