//! The pass-through lane: bytes in, bytes out, where no layer is asked to look at them.
//!
//! # Observability
//!
//! `tower_qwen_proxy_passed_total` counts what was sent on, by `path` and `outcome`: `complete`,
//! `refused` (the upstream answered with an error), `failed` (it could not be asked, or its answer
//! broke off, or took too long), `cut` (the proxy was shut down), and `abandoned`, where the client went away first.

mod body;
mod finish;

use std::{
    borrow::Cow,
    convert::Infallible,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    body::{Body as AxumBody, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Body;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_qwen::{
    CredentialHeaders, Error, ErrorKind, Fate, FullBody,
    chat::ANSWER_LIMIT,
    edge::{BodyPace, acceptable, read_body},
    openai::error_response,
    shutdown::ShutdownHandle,
};

use self::{
    body::{Outcome, PassedBody},
    finish::{Finishes, answers_asked},
};
use super::{
    config::ModelNames,
    lanes::{MAX_BODY, Route},
    trace::X_REQUEST_ID,
};

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

/// What of a client's own headers goes along: what goes along through the layers
/// ([`qwen`](tower_qwen::qwen#headers)), and what DashScope is asked for in `x-dashscope-*`. The rest is
/// between the client and the proxy: where he is, who he is, his keys of other services.
const OF_THE_LIST: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    X_REQUEST_ID,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

const OF_DASHSCOPE: &str = "x-dashscope-";

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
    X_REQUEST_ID,
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-dashscope-request-id"),
];
const FOR_CLIENTS: [&str; 2] = ["x-ratelimit-", "openai-"];

/// How much of an error's body is read, and for how long, to mask what must not be shown.
const ERROR_LEN: usize = 64 * 1024;
const ERROR_DEADLINE: Duration = Duration::from_secs(10);

/// A way to an upstream on which requests go as they are, without the client's own credential.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    path: &'static str,
    /// Whether bodies of other types than JSON go along, such as forms with files.
    takes_forms: bool,
    names: ModelNames,
    body_pace: BodyPace,
    max_answer: usize,
    shutdown: ShutdownHandle,
    total: Option<Duration>,
    grace: Option<Duration>,
}

impl Passage {
    /// To this path of the upstream.
    pub(crate) fn to(path: &'static str) -> Self {
        Self {
            path,
            takes_forms: false,
            names: ModelNames::default(),
            body_pace: BodyPace::new(),
            max_answer: ANSWER_LIMIT,
            shutdown: ShutdownHandle::new(),
            total: None,
            grace: None,
        }
    }

    /// How long a whole answer may take, from the request.
    pub(crate) fn total(self, total: Duration) -> Self {
        Self { total: Some(total), ..self }
    }

    /// How long more is awaited when all answers are finished and the connection stays open.
    pub(crate) fn grace(self, grace: Duration) -> Self {
        Self { grace: Some(grace), ..self }
    }

    /// Forms with files go along as well.
    pub(crate) fn takes_forms(self) -> Self {
        Self { takes_forms: true, ..self }
    }

    /// By which other names models are asked for. Whoever asks by one is answered with it.
    pub(crate) fn names(self, names: ModelNames) -> Self {
        Self { names, ..self }
    }

    /// What has streams of events end with an error.
    pub(crate) fn shutdown(self, shutdown: ShutdownHandle) -> Self {
        Self { shutdown, ..self }
    }

    /// How fast the bodies of requests must come.
    pub(crate) fn body_pace(self, body_pace: BodyPace) -> Self {
        Self { body_pace, ..self }
    }

    /// The largest answer in one piece, in bytes: it is read to see that it is one, and to name the
    /// model as the client did.
    pub(crate) fn max_answer(self, max_answer: usize) -> Self {
        Self { max_answer, ..self }
    }

    /// Sends requests to `upstream`.
    pub(crate) fn over<U, B>(self, upstream: U) -> Route
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
        // The route is copied for each request, and the upstream for each that comes so far.
        let both = Arc::new((self, upstream));
        Route::new(service_fn(move |request: Request| {
            let both = Arc::clone(&both);
            async move {
                let (passage, upstream) = &*both;
                Ok::<_, Infallible>(passage.pass(upstream.clone(), request).await)
            }
        }))
    }

    async fn pass<U, B>(&self, upstream: U, request: Request) -> Response
    where
        U: Service<
                axum::http::Request<FullBody>,
                Response = axum::http::Response<B>,
                Error: Into<BoxError>,
            >,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        let is_form = self.takes_forms && is_of_type(&head.headers, b"multipart/form-data");
        let checked = match is_form && head.method == Method::POST {
            true => Ok(()),
            false => acceptable(&head),
        };
        if let Err(error) = checked {
            let response = error_response(&error).into_response();
            return match error.kind() {
                ErrorKind::MethodNotAllowed => {
                    ([(header::ALLOW, "POST")], response).into_response()
                }
                _ => response,
            };
        }
        // Whole, so that it can be sent again with a newer credential.
        let body = match read_body(body, MAX_BODY, Some(self.body_pace)).await {
            Ok(body) => body,
            Err(error) => return error_response(&error).into_response(),
        };
        let (asked, body) = match self.names.renamed(&body) {
            Some((asked, renamed)) => (Some(asked), renamed),
            None => (None, body),
        };
        head.uri = Uri::from_static(self.path);
        head.version = axum::http::Version::HTTP_11;
        keep(&mut head.headers, |name| {
            OF_THE_LIST.contains(name) || name.as_str().starts_with(OF_DASHSCOPE)
        });
        let finishes = self.grace.map(|grace| (Finishes::of(answers_asked(&body)), grace));
        let limit = self.total.map(|total| TotalLimit { total, until: Instant::now() + total });
        // What is dropped from here on is a request that the client has given up.
        let mut outcome = Outcome::new(self.path);
        let answer = async {
            let answer = upstream.oneshot(Request::from_parts(head, FullBody::new(body))).await;
            answer.map_err(|error| known(error.into()))
        };
        let response = match within(limit, answer).await.and_then(|answer| answer) {
            Ok(response) => response,
            Err(error) => {
                outcome.ended("failed");
                return error_response(&error).into_response();
            }
        };
        let (mut head, body) = response.into_parts();
        keep_for_client(&mut head.headers);
        let sent = head.extensions.remove::<CredentialHeaders>();
        if !head.status.is_success() {
            outcome.ended("refused");
            let response = Response::from_parts(head, AxumBody::new(body));
            return match sent {
                Some(sent) => masked(response, &sent).await,
                None => response,
            };
        }
        if is_of_type(&head.headers, b"text/event-stream") {
            if sent.is_some() || asked.is_some() {
                head.headers.remove(header::CONTENT_LENGTH);
            }
            // Nothing fits between the events of what is compressed.
            let is_plain = !head.headers.contains_key(header::CONTENT_ENCODING);
            let cut = is_plain.then(|| self.shutdown.asked());
            let mut body = PassedBody::new(body, outcome, limit).events(sent, asked, cut);
            if let (Some((finishes, grace)), true) = (finishes, is_plain) {
                body = body.finishes(finishes, grace);
            }
            return Response::from_parts(head, AxumBody::new(body));
        }
        let is_text = !head.headers.contains_key(header::CONTENT_TYPE)
            || is_of_type(&head.headers, b"application/json")
            || is_of_type(&head.headers, b"text/");
        if is_text && (sent.is_some() || asked.is_some()) {
            let response = Response::from_parts(head, AxumBody::new(body));
            return self.whole(response, outcome, limit, sent.as_ref(), asked.as_deref()).await;
        }
        Response::from_parts(head, AxumBody::new(PassedBody::new(body, outcome, limit)))
    }

    /// A whole answer in which the model is called `asked`. What has a good status and is no answer
    /// may be an error that repeats the credential.
    async fn whole(
        &self,
        response: Response,
        mut outcome: Outcome,
        limit: Option<TotalLimit>,
        sent: Option<&CredentialHeaders>,
        asked: Option<&str>,
    ) -> Response {
        let (mut head, body) = response.into_parts();
        let read = async {
            to_bytes(body, self.max_answer).await.map_err(|error| {
                let message = format!(
                    "the upstream's answer broke off, or is larger than the {} bytes that are read",
                    self.max_answer
                );
                Error::new(ErrorKind::Upstream, message).with_source(error)
            })
        };
        let mut body = match within(limit, read).await.and_then(|read| read) {
            Ok(body) => body,
            Err(error) => {
                outcome.ended("failed");
                return error_response(&error).into_response();
            }
        };
        if let Some(sent) = sent
            && !body::is_answer(&body)
        {
            body = mask(body, sent);
        }
        if let Some(named) = asked.and_then(|asked| body::named(&body, asked)) {
            body = named;
        }
        outcome.ended("complete");
        head.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(head, body.into())
    }
}

/// How long a whole answer may take.
#[derive(Clone, Copy, Debug)]
struct TotalLimit {
    total: Duration,
    until: Instant,
}

impl TotalLimit {
    /// The error of an answer that has taken so long, which is counted.
    fn passed(self) -> Error {
        metrics::counter!("tower_qwen_timeouts_total", "limit" => "total").increment(1);
        let message = format!(
            "the answer was not complete within {:?} of the request, which is the limit on a whole \
             answer",
            self.total
        );
        Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned)
    }
}

/// What `work` gives, if it gives it in time.
async fn within<T>(limit: Option<TotalLimit>, work: impl Future<Output = T>) -> Result<T, Error> {
    match limit {
        Some(limit) => timeout_at(limit.until, work).await.map_err(|_| limit.passed()),
        None => Ok(work.await),
    }
}

/// Sends what asks for more than a chat of the layers has to `bytes`, and the rest to `typed`.
///
/// With tools a request goes to `typed` whatever it asks for: it is there that calls are mended.
pub(crate) fn or_bytes(typed: Route, bytes: Route, body_pace: BodyPace) -> Route {
    let both = Arc::new((typed, bytes));
    Route::new(service_fn(move |request: Request| {
        let both = Arc::clone(&both);
        async move {
            let (typed, bytes) = &*both;
            // Its edge says itself what it thinks of other methods.
            if request.method() != Method::POST {
                return typed.clone().oneshot(request).await;
            }
            let (head, body) = request.into_parts();
            let body = match read_body(body, MAX_BODY, Some(body_pace)).await {
                Ok(body) => body,
                Err(error) => return Ok(error_response(&error).into_response()),
            };
            let route = if asks_for_more(&body) { bytes } else { typed };
            route.clone().oneshot(Request::from_parts(head, AxumBody::from(body))).await
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
    modalities: Option<Vec<Cow<'a, str>>>,
    tools: Option<&'a RawValue>,
    functions: Option<&'a RawValue>,
    function_call: Option<&'a RawValue>,
}

/// Whether one of these names is in the text, without which it asks for nothing of that kind.
fn may_ask_for_more(body: &[u8]) -> bool {
    static NAMES: LazyLock<[Finder<'static>; 10]> = LazyLock::new(|| {
        [
            "\"n\"",
            "\"best_of\"",
            "logprobs\"",
            "\"n_probs\"",
            "\"return_token_ids\"",
            "\"return_progress\"",
            "\"timings_per_token\"",
            "\"modalities\"",
            "\"functions\"",
            "\"function_call\"",
        ]
        .map(Finder::new)
    });
    NAMES.iter().any(|name| name.find(body).is_some())
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
            || asked.modalities.is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")))
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
    keep(headers, |name| {
        FOR_THE_CLIENT.contains(name)
            || FOR_CLIENTS.iter().any(|start| name.as_str().starts_with(start))
    });
}

/// Removes all others.
fn keep(headers: &mut HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) {
    let others: Vec<_> = headers.keys().filter(|name| !is_kept(name)).cloned().collect();
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
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, mask(body, sent).into())
}

fn mask(body: Bytes, sent: &CredentialHeaders) -> Bytes {
    match std::str::from_utf8(&body) {
        Ok(text) => match sent.mask(text) {
            Cow::Borrowed(_) => body,
            Cow::Owned(masked) => masked.into(),
        },
        Err(_) => sent.mask(&String::from_utf8_lossy(&body)).into_owned().into(),
    }
}

fn is_of_type(headers: &HeaderMap, mime: &[u8]) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.to_ascii_lowercase().starts_with(mime)
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
