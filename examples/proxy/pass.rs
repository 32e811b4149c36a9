//! The pass-through lane: bytes in, bytes out, where no layer is asked to look at them.

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body as AxumBody, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_qwen::{
    CredentialHeaders, Error, ErrorKind, FullBody,
    edge::{BodyPace, read_body},
    openai::error_response,
};

use super::lanes::{MAX_BODY, Route};

/// What is between two hosts only (RFC 9110 7.6.1), beside what `connection` names.
const OF_THE_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a client proves itself with to the proxy, and what the proxy and its client below say
/// themselves.
const OF_THE_PROXY: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::REFERER,
    // What is compressed cannot be reframed.
    header::ACCEPT_ENCODING,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// What of an upstream's response is for the client; every header whose name begins with one of
/// [`FOR_CLIENTS`] is too. The rest is between the upstream and its own client: its cookies, what
/// pages may read of it, what it says of its machines.
const FOR_THE_CLIENT: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-dashscope-request-id"),
];
const FOR_CLIENTS: [&str; 2] = ["x-ratelimit-", "openai-"];

/// How much of an error's body is read, and for how long, to mask what must not be shown.
const ERROR_LEN: usize = 64 * 1024;
const ERROR_DEADLINE: Duration = Duration::from_secs(10);

/// Sends requests to `path` of `upstream` as they are, without the client's own credential.
pub(crate) fn route<U, B>(upstream: U, path: &'static str, body_pace: BodyPace) -> Route
where
    U: Service<
            axum::http::Request<FullBody>,
            Response = axum::http::Response<B>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Route::new(service_fn(move |request: Request| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(pass(upstream, request, path, body_pace).await) }
    }))
}

/// Sends what asks for more than a chat of the layers has to `bytes`, and the rest to `typed`.
///
/// With tools a request goes to `typed` whatever it asks for: it is there that calls are mended.
pub(crate) fn or_bytes(typed: Route, bytes: Route, body_pace: BodyPace) -> Route {
    Route::new(service_fn(move |request: Request| {
        let (typed, bytes) = (typed.clone(), bytes.clone());
        async move {
            // Its edge says itself what it thinks of other methods.
            if request.method() != Method::POST {
                return typed.oneshot(request).await;
            }
            let (head, body) = request.into_parts();
            let body = match read_body(body, MAX_BODY, Some(body_pace)).await {
                Ok(body) => body,
                Err(error) => return Ok(error_response(&error).into_response()),
            };
            let route = if asks_for_more(&body) { bytes } else { typed };
            route.oneshot(Request::from_parts(head, AxumBody::from(body))).await
        }
    }))
}

/// What the layers refuse, since their answer is one text.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked<'a> {
    n: Option<f64>,
    best_of: Option<f64>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    top_logprobs: Option<f64>,
    prompt_logprobs: Option<&'a RawValue>,
    n_probs: Option<f64>,
    return_token_ids: Option<bool>,
    return_progress: Option<bool>,
    timings_per_token: Option<bool>,
    suffix: Option<&'a RawValue>,
    prompt: Option<&'a RawValue>,
    modalities: Option<Vec<Cow<'a, str>>>,
    tools: Option<&'a RawValue>,
    functions: Option<&'a RawValue>,
    function_call: Option<&'a RawValue>,
}

/// Whether one of these names is in the text, without which it asks for nothing of that kind.
fn may_ask_for_more(body: &[u8]) -> bool {
    const NAMES: [&[u8]; 12] = [
        b"\"n\"",
        b"\"best_of\"",
        b"logprobs\"",
        b"\"n_probs\"",
        b"\"return_token_ids\"",
        b"\"return_progress\"",
        b"\"timings_per_token\"",
        b"\"suffix\"",
        b"\"prompt\"",
        b"\"modalities\"",
        b"\"functions\"",
        b"\"function_call\"",
    ];
    NAMES.iter().any(|name| memchr::memmem::find(body, name).is_some())
}

/// Whether a request without tools asks for what only the upstream itself can answer. What cannot
/// be read asks for nothing: the edge says what is wrong with it.
fn asks_for_more(body: &[u8]) -> bool {
    if !may_ask_for_more(body) {
        return false;
    }
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(body) else { return false };
    let is_there = |value: Option<&RawValue>, nothing: &[&str]| {
        value.is_some_and(|value| !nothing.contains(&value.get()))
    };
    let more_than = |number: Option<f64>, most: f64| number.is_some_and(|number| number > most);
    !is_there(asked.tools, &["null", "[]"])
        && (more_than(asked.n, 1.0)
            || more_than(asked.best_of, 1.0)
            || is_there(asked.logprobs, &["null", "false"])
            || more_than(asked.top_logprobs, 0.0)
            || is_there(asked.prompt_logprobs, &["null", "false"])
            || more_than(asked.n_probs, 0.0)
            || asked.return_token_ids == Some(true)
            // Every piece has something beside it then.
            || asked.return_progress == Some(true)
            || asked.timings_per_token == Some(true)
            // The form before tools: the layers know those alone.
            || is_there(asked.functions, &["null"])
            || is_there(asked.function_call, &["null"])
            || is_there(asked.suffix, &["null", "\"\""])
            || asked.prompt.is_some_and(is_list_of_more)
            || asked.modalities.is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")))
}

/// Whether a prompt is a list, other than of one text.
fn is_list_of_more(prompt: &RawValue) -> bool {
    let texts = serde_json::from_str::<Vec<&RawValue>>(prompt.get());
    texts.is_ok_and(|texts| match &*texts {
        [] => false,
        [only] => !only.get().starts_with('"'),
        _ => true,
    })
}

async fn pass<U, B>(
    upstream: U,
    request: Request,
    path: &'static str,
    body_pace: BodyPace,
) -> Response
where
    U: Service<
            axum::http::Request<FullBody>,
            Response = axum::http::Response<B>,
            Error: Into<BoxError>,
        >,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    if request.method() != Method::POST {
        let message = format!("{} is not served here; use POST", request.method());
        let error = Error::new(ErrorKind::MethodNotAllowed, message);
        return ([(header::ALLOW, "POST")], error_response(&error)).into_response();
    }
    let (mut head, body) = request.into_parts();
    // Whole, so that it can be sent again with a newer credential.
    let body = match read_body(body, MAX_BODY, Some(body_pace)).await {
        Ok(body) => body,
        Err(error) => return error_response(&error).into_response(),
    };
    head.uri = Uri::from_static(path);
    head.version = axum::http::Version::HTTP_11;
    end_hop(&mut head.headers);
    remove(&mut head.headers, &OF_THE_PROXY);
    let answer = upstream.oneshot(Request::from_parts(head, FullBody::new(body))).await;
    match answer.map_err(|error| known(error.into())) {
        Ok(response) => {
            let (mut head, body) = response.into_parts();
            keep_for_client(&mut head.headers);
            match head.extensions.remove::<CredentialHeaders>() {
                Some(sent) if !head.status.is_success() => {
                    masked(Response::from_parts(head, AxumBody::new(body)), &sent).await
                }
                Some(sent) if is_event_stream(&head.headers) => {
                    head.headers.remove(header::CONTENT_LENGTH);
                    Response::from_parts(head, AxumBody::new(MaskedEvents { inner: body, sent }))
                }
                _ => Response::from_parts(head, AxumBody::new(body)),
            }
        }
        Err(error) => error_response(&error).into_response(),
    }
}

/// Removes what is not for the next host.
fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    remove(headers, &named);
    remove(headers, &OF_THE_HOP);
}

/// Removes what is not for the client.
fn keep_for_client(headers: &mut HeaderMap) {
    end_hop(headers);
    let is_for_client = |name: &HeaderName| {
        FOR_THE_CLIENT.contains(name)
            || FOR_CLIENTS.iter().any(|start| name.as_str().starts_with(start))
    };
    let others: Vec<_> = headers.keys().filter(|name| !is_for_client(name)).cloned().collect();
    remove(headers, &others);
}

/// An upstream's error without the credential that it may repeat.
async fn masked(response: Response, sent: &CredentialHeaders) -> Response {
    let (mut head, body) = response.into_parts();
    let read = timeout(ERROR_DEADLINE, to_bytes(body, ERROR_LEN)).await;
    let Ok(Ok(body)) = read else {
        let message = format!(
            "the upstream's error broke off, or is larger than the {ERROR_LEN} bytes that are read"
        );
        let error = Error::new(ErrorKind::Upstream, message).with_status(head.status);
        return error_response(&error).into_response();
    };
    let body = match std::str::from_utf8(&body) {
        Ok(text) => match sent.mask(text) {
            Cow::Borrowed(_) => body,
            Cow::Owned(masked) => masked.into(),
        },
        Err(_) => sent.mask(&String::from_utf8_lossy(&body)).into_owned().into(),
    };
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, body.into())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.to_ascii_lowercase().starts_with(b"text/event-stream")
}

pin_project! {
    /// A stream of whole events, in whose errors the credential is masked.
    struct MaskedEvents<B> {
        #[pin]
        inner: B,
        sent: CredentialHeaders,
    }
}

impl<B: Body<Data = Bytes>> Body for MaskedEvents<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx)?);
        Poll::Ready(frame.map(|frame| Ok(frame.map_data(|event| mask_event(event, this.sent)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

/// A chunk of an answer has neither of these words but in what the model says, so that most events
/// cost two short searches.
fn mask_event(event: Bytes, sent: &CredentialHeaders) -> Bytes {
    let says = |word: &[u8]| memchr::memmem::find(&event, word).is_some();
    if !says(b"error") && !says(b"message") {
        return event;
    }
    match std::str::from_utf8(&event).map(|text| sent.mask(text)) {
        Ok(Cow::Owned(masked)) => masked.into(),
        _ => event,
    }
}

fn remove(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

/// Errors of the layers and the client below keep their class.
pub(crate) fn known(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => {
            Error::new(ErrorKind::Upstream, "the upstream could not be asked").with_source(error)
        }
    }
}

#[cfg(test)]
mod tests;
