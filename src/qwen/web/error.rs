//! What chat.qwen.ai says when it refuses, as errors of ours.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    Error, ErrorKind, Fate,
    json::lenient::tree,
    qwen::{
        redact::Secrets,
        refused::{is_account_fault, is_context_overflow},
    },
};

/// How much memory what a failure says may take while it is read, in bytes; of what would take
/// more nothing is known but that it failed.
const MEMORY: usize = 1024 * 1024;

/// How much of a body that is not an event stream is looked at for the marks of an anti-bot
/// layer.
const SCANNED: usize = 4096;

/// How long to wait where another turn of the chat is still running.
const BUSY: Duration = Duration::from_secs(3);

/// How long to wait where too much was asked at once.
const PARALLEL: Duration = Duration::from_secs(5);

/// How long to wait where the tokens of this minute are used up.
const TOKENS_PER_MINUTE: Duration = Duration::from_secs(60);

/// The longest wait that is believed: quotas are a day's, so a larger number is not in hours.
const LONGEST_WAIT_HOURS: u64 = 24 * 31;

/// What was asked of upstream. The same words mean different things in different calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::qwen) enum Call {
    /// `chats/new`.
    NewChat,
    /// `chat/completions`; `continued` where the chat is an older one.
    Turn { continued: bool },
    /// `models`.
    Models,
    /// `files`: a place to put one to, and how far it has been read.
    #[cfg_attr(not(feature = "upload"), allow(dead_code, reason = "its layer uploads"))]
    File,
    /// The state of a task.
    Task,
}

/// What an error event or envelope says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Failure {
    code: String,
    text: String,
    /// `num`: the hours to wait.
    hours: Option<u64>,
    challenge: bool,
}

impl Failure {
    /// An anti-bot verdict.
    pub(super) fn challenge() -> Self {
        Self { challenge: true, ..Self::default() }
    }

    /// A redirect to the page where people sign in.
    pub(super) fn signed_out() -> Self {
        Self { code: "unauthorized".to_owned(), ..Self::default() }
    }

    /// A failure of which there are only words.
    pub(super) fn from_text(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// What the JSON of `error` or `data` says: a string, or an object with `code` and `details`.
    pub(super) fn from_value(json: &str) -> Self {
        match tree(json, MEMORY) {
            Some(Value::String(text)) => Self { text, ..Self::default() },
            Some(Value::Object(object)) => Self::from_object(&object),
            // `true`, a number: it failed, and that is all that is known.
            _ => Self::default(),
        }
    }

    /// What the JSON of single fields says.
    pub(super) fn from_fields(code: Option<&str>, text: Option<&str>, num: Option<&str>) -> Self {
        let value = |json: Option<&str>| json.and_then(|json| tree(json, MEMORY));
        Self {
            code: value(code).as_ref().map_or_else(String::new, word),
            text: value(text).as_ref().map_or_else(String::new, word),
            hours: value(num).as_ref().and_then(whole),
            challenge: false,
        }
    }

    pub(super) fn from_object(object: &Map<String, Value>) -> Self {
        let text = ["details", "detail", "message", "msg"]
            .into_iter()
            .find_map(|key| object.get(key).filter(|value| !value.is_null()));
        Self {
            code: object.get("code").map_or_else(String::new, word),
            text: text.map_or_else(String::new, word),
            hours: object.get("num").and_then(whole),
            challenge: false,
        }
    }

    /// What an envelope says: under `error`, under `data`, or at its top.
    pub(super) fn from_envelope(envelope: &Map<String, Value>) -> Self {
        match envelope.get("error") {
            Some(Value::Object(error)) => return Self::from_object(error),
            Some(Value::String(text)) => return Self::from_text(text),
            _ => {}
        }
        let inner = match envelope.get("data") {
            Some(Value::Object(data)) => Self::from_object(data),
            Some(Value::String(text)) => Self::from_text(text),
            _ => Self::default(),
        };
        if inner.is_empty() { Self::from_object(envelope) } else { inner }
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.code.is_empty() && self.text.is_empty()
    }

    /// Whether the JSON of `ret` is a verdict of the anti-bot layer.
    pub(super) fn is_challenge(ret: &str) -> bool {
        has_challenge_mark(ret.as_bytes())
    }

    /// The error that this failure is, by what it says: by the code, then by the words,
    /// then by the status.
    pub(super) fn into_error(
        self,
        call: Call,
        status: Option<StatusCode>,
        retry_after: Option<Duration>,
        secrets: &Secrets,
    ) -> Error {
        if self.challenge {
            return challenge();
        }
        let text = self.text.to_lowercase();
        let code = self.code.to_ascii_lowercase();
        let verdict = by_code(&code, &text, self.hours, call)
            .or_else(|| is_context_overflow(status, &code, &text).then(too_long))
            .or_else(|| is_account_fault(status, &code, &text).then(|| quota(self.hours)))
            .or_else(|| by_text(&text, call))
            .or_else(|| status.and_then(|status| by_status(status, call)))
            .unwrap_or_else(|| {
                if self.code.eq_ignore_ascii_case("bad_request") {
                    // The shape of the request, or a missing `version` header.
                    Verdict::defect("upstream does not take the request's shape")
                } else {
                    Verdict::new(ErrorKind::Upstream, "the upstream failed")
                }
            });
        let mut error = Error::new(verdict.kind, verdict.message(&self.text, secrets));
        // A redirect that is not followed is none of its failures.
        if !status.is_some_and(|status| status.is_redirection()) {
            error = error.with_fate(Fate::Refused);
        }
        if let Some(status) = verdict.status {
            error = error.with_status(status);
        }
        if let Some(code) = verdict.code {
            error = error.with_code(code);
        }
        if let Some(wait) = retry_after.or(verdict.wait) {
            error = error.with_retry_after(wait);
        }
        // The words are the upstream's and may name what the client wrote: only the code is
        // logged.
        let code = secrets.redact(&self.code);
        if verdict.is_defect {
            tracing::error!(code, ?call, kind = ?verdict.kind, "upstream does not take our request");
        } else {
            tracing::debug!(code, ?call, kind = ?verdict.kind, "upstream refused");
        }
        error
    }
}

/// What a failure means.
struct Verdict {
    kind: ErrorKind,
    what: &'static str,
    status: Option<StatusCode>,
    code: Option<&'static str>,
    wait: Option<Duration>,
    is_defect: bool,
}

impl Verdict {
    const fn new(kind: ErrorKind, what: &'static str) -> Self {
        Self { kind, what, status: None, code: None, wait: None, is_defect: false }
    }

    /// A request of this crate's making that upstream does not take: the client cannot help it,
    /// and trying again does not.
    const fn defect(what: &'static str) -> Self {
        let mut verdict = Self::new(ErrorKind::Internal, what);
        verdict.status = Some(StatusCode::BAD_GATEWAY);
        verdict.code = Some("upstream_error");
        verdict.is_defect = true;
        verdict
    }

    const fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    const fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    const fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    fn message(&self, text: &str, secrets: &Secrets) -> String {
        let text = secrets.redact(text);
        if text.is_empty() { self.what.to_owned() } else { format!("{}: {text}", self.what) }
    }
}

fn busy() -> Verdict {
    Verdict::new(ErrorKind::ConversationBusy, "another turn of the chat is still running")
        .wait(BUSY)
}

fn chat_lost() -> Verdict {
    Verdict::new(ErrorKind::ConversationLost, "upstream does not know the chat")
}

fn parent_lost() -> Verdict {
    // The client named the message, if it named one at all; the chat itself may be there.
    Verdict::new(ErrorKind::ConversationLost, "upstream does not know the message to go on from")
        .status(StatusCode::BAD_REQUEST)
}

fn auth() -> Verdict {
    Verdict::new(ErrorKind::Auth, "upstream does not accept the credential")
}

fn model_unknown() -> Verdict {
    Verdict::new(ErrorKind::ModelNotFound, "upstream does not know the model")
}

fn rate_limited() -> Verdict {
    Verdict::new(ErrorKind::RateLimited, "too many requests at once").wait(PARALLEL)
}

fn quota(hours: Option<u64>) -> Verdict {
    let verdict = Verdict::new(ErrorKind::Quota, "the account's quota is used up");
    match hours {
        Some(hours) => {
            let hours = hours.min(LONGEST_WAIT_HOURS);
            verdict.wait(Duration::from_secs(hours * 3600))
        }
        None => verdict,
    }
}

fn overloaded() -> Verdict {
    Verdict::new(ErrorKind::Overloaded, "the model is overloaded")
}

fn upstream_fault() -> Verdict {
    Verdict::new(ErrorKind::Upstream, "the upstream failed")
}

fn timeout() -> Verdict {
    Verdict::new(ErrorKind::Timeout, "the upstream was too slow")
}

fn content_filter() -> Verdict {
    Verdict::new(ErrorKind::ContentFilter, "upstream's content filter refused")
}

fn too_long() -> Verdict {
    Verdict::new(ErrorKind::ContextLength, "the prompt is too long for the model")
}

fn by_code(code: &str, text: &str, hours: Option<u64>, call: Call) -> Option<Verdict> {
    Some(match code {
        "ratelimited" if text.contains("in progress") => busy(),
        "ratelimited" => quota(hours),
        "parallellimited" | "too_many_requests" | "toomanyrequests" => rate_limited(),
        "quotalimited" | "exceedlimit" | "quota_exhausted" => quota(hours),
        "quota_limit" => overloaded(),
        // Compressed tokens and the like are sent to the write endpoint as they are: no refresh
        // of the same makes them one.
        "unauthorized" if text.contains("invalid token") => not_a_token(),
        "unauthorized" => auth(),
        "forbidden" => Verdict::new(ErrorKind::Permission, "the account is not allowed to do this"),
        "chat_not_found" => chat_lost(),
        "parent_not_found" => parent_lost(),
        "not_found" => return Some(not_found(text, call)),
        "model_not_found" => model_unknown(),
        "requestvalidationerror" => Verdict::defect("upstream misses a field of the request"),
        "internal_server_error" | "internal_error" | "internalerror" => upstream_fault(),
        "invalid_input" => {
            Verdict::new(ErrorKind::InvalidRequest, "upstream does not take the input")
                .code("invalid_input")
        }
        "data_inspection_failed" | "datainspectionfailed" => content_filter(),
        _ if code.starts_with("internalerror.algo.invalidparameter") => {
            if is_context_overflow(None, code, text) {
                too_long()
            } else {
                Verdict::new(ErrorKind::InvalidRequest, "upstream does not take a parameter")
                    .code("invalid_parameter")
            }
        }
        _ => return None,
    })
}

fn not_a_token() -> Verdict {
    Verdict::new(
        ErrorKind::Auth,
        "upstream does not read the credential as a token; a JWT is wanted",
    )
    .code("invalid_token")
}

fn not_found(text: &str, call: Call) -> Verdict {
    if call == Call::Task {
        Verdict::new(ErrorKind::NotFound, "upstream does not know the task")
    } else if text.contains("parent") {
        parent_lost()
    } else if text.contains("model") {
        model_unknown()
    } else if text.contains("chat") {
        chat_lost()
    } else {
        // The words are in the account's language. What was asked tells what is not there: in a
        // chat that upstream itself has just made, only the model can be.
        match call {
            Call::Turn { continued: true } => chat_lost(),
            Call::Turn { continued: false } => model_unknown(),
            Call::NewChat | Call::Models | Call::File | Call::Task => {
                Verdict::new(ErrorKind::NotFound, "upstream does not know what was asked for")
            }
        }
    }
}

fn by_text(text: &str, call: Call) -> Option<Verdict> {
    let has = |words: &str| text.contains(words);
    Some(if has("in progress") {
        busy()
    } else if has("invalid token") {
        not_a_token()
    } else if has("unauthorized") {
        auth()
    } else if has("parent_id") && has("not exist") || has("must not be assistant") {
        parent_lost()
    } else if has("not exist") && has("chat") {
        chat_lost()
    } else if has("model not found") {
        not_found(text, call)
    } else if has("too many messages") {
        Verdict::defect("upstream takes one message and got several")
    } else if has("allocated quota exceeded") || has("#token-limit") {
        Verdict::new(ErrorKind::RateLimited, "the tokens of this minute are used up")
            .wait(TOKENS_PER_MINUTE)
    } else if has("upper limit for today") {
        quota(None)
    } else if has("high demand") {
        overloaded()
    } else if has("too many requests") || has("rate limit") {
        rate_limited()
    } else if has("timeout") || has("timed out") {
        timeout()
    } else if has("internal error") || has("internal server error") {
        upstream_fault()
    } else if has("inappropriate content") || has("data inspection") {
        content_filter()
    } else {
        return None;
    })
}

fn by_status(status: StatusCode, call: Call) -> Option<Verdict> {
    Some(match status.as_u16() {
        200..=299 => return None,
        300..=399 => Verdict::new(ErrorKind::Upstream, "upstream redirects to another place"),
        400 | 422 => Verdict::defect("upstream does not take the request's shape"),
        401 => auth(),
        402 => quota(None),
        403 => Verdict::new(ErrorKind::Permission, "upstream forbids the request"),
        404 => not_found("", call),
        // The method is right: this is how a blocked address is told.
        405 => Verdict::new(ErrorKind::Challenge, CHALLENGE),
        408 | 504 => timeout(),
        413 => Verdict::new(ErrorKind::TooLarge, "the request is too large for upstream"),
        429 => rate_limited(),
        503 | 529 => overloaded(),
        _ => upstream_fault(),
    })
}

const CHALLENGE: &str = "upstream's anti-bot layer answered instead of the model; \
     wait a while, and check the browser headers and cookies";

fn challenge() -> Error {
    tracing::warn!("upstream's anti-bot layer answered");
    Error::new(ErrorKind::Challenge, CHALLENGE)
}

/// A string, or other JSON as it is written.
fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A count that may be written as a string or with a fraction, rounded up.
fn whole(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // The cast saturates, and what is too much is cut by the reader.
    (number >= 0.0).then_some(number.ceil() as u64)
}

/// Whether the head of a body bears the marks of the anti-bot layer.
pub(super) fn has_challenge_mark(body: &[u8]) -> bool {
    let head = &body[..body.len().min(SCANNED)];
    let head = String::from_utf8_lossy(head);
    let lower = head.to_ascii_lowercase();
    const MARKS: [&str; 14] = [
        "aliyun_waf_",
        "aliyuncaptcha",
        "captcha",
        "punish",
        "baxia",
        "fail_sys_user_validate",
        "rgv587",
        "_____tmd_____",
        "x5secdata",
        "x5referer",
        "denyfromx5",
        "punishtextfetch",
        "gridconnectget",
        "x5step",
    ];
    lower.trim_ascii_start().starts_with("<!doctypehtml>")
        || head.contains("AWSC")
        || MARKS.iter().any(|mark| lower.contains(mark))
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
