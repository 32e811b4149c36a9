//! What the errors of these servers mean.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{METRIC, server::Server};
use crate::{
    Error, ErrorKind, Fate,
    head::is_sent_to_sign_in,
    json::lenient::tree,
    qwen::{
        answer::Repair,
        redact::Secrets,
        refused::{is_about_the_request, is_account_fault, is_context_overflow, is_of_one_model},
        transport::Read,
    },
    retry_after::retry_after,
};

/// The longest code of an upstream that is passed on, in bytes.
const CODE_LEN: usize = 64;

/// What a response means that holds no answer: one with an error's status, or a gateway's that
/// reports an error with a good one.
pub(crate) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    read: &Read,
    server: Server,
    secrets: &Secrets,
) -> Error {
    let json = str::from_utf8(&read.bytes).ok().and_then(Fault::tree);
    let fault = match json {
        Some(json) => Fault::from_json(&json).unwrap_or_default(),
        // A body with a good status that is no JSON may well be an answer, of a kind that cannot
        // be read; nobody's words belong into an error.
        None if status.is_success() => Fault::default(),
        None => Fault::from_text(&String::from_utf8_lossy(&read.bytes)),
    };
    let status = match fault.status() {
        _ if !status.is_success() => status,
        Some(said) => said,
        None if fault.message.is_empty() && fault.code.is_none() => {
            return Error::new(
                ErrorKind::Upstream,
                "the upstream answered with something else than was asked for",
            );
        }
        None => StatusCode::BAD_GATEWAY,
    };
    if is_sent_to_sign_in(status, headers) {
        let message = "the upstream sends its clients to a page to sign in";
        return Error::new(ErrorKind::Auth, message);
    }
    fault.into_error(status, retry_after(headers, SystemTime::now()), server, secrets)
}

/// Whether an upstream's code is one for clients: a word, and neither a status, which they do not
/// take for one, nor what looks like a credential.
fn is_code(code: &str, secrets: &Secrets) -> bool {
    code.len() <= CODE_LEN
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && code.parse::<u16>().is_err()
        && secrets.redact(code) == code
}

/// What the portal says, with several statuses, where it does not take a credential.
const PORTAL_AUTH: [&str; 7] = [
    "unauthorized",
    "forbidden",
    "invalid api key",
    "invalid access token",
    "token expired",
    "authentication",
    "access denied",
];

/// Where the message of an error stands, of one vendor or another.
const MESSAGES: [&str; 13] = [
    "message",
    "detail",
    "msg",
    "text",
    "error_msg",
    "err_msg",
    "errmsg",
    "error_message",
    "errorMessage",
    "status_msg",
    "faultstring",
    "Message",
    "reason",
];

/// Where its code stands.
const CODES: [&str; 6] = ["code", "error_code", "errorCode", "status_code", "err_no", "Code"];

/// What it may stand in, beside `error`.
const WRAPPERS: [&str; 5] = ["errors", "detail", "base_resp", "fault", "Error"];

/// What an error body says, in whichever of the shapes: `{"error":{…}}`, flat (SGLang, native
/// DashScope), or a bare string.
#[derive(Debug, Default)]
pub(in crate::qwen) struct Fault {
    message: String,
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
    /// It was no object under `error`.
    flat: bool,
}

impl Fault {
    /// What an error's JSON is, unless that would take more than 1 MiB: errors are short.
    pub(in crate::qwen) fn tree(json: &str) -> Option<Value> {
        tree(json, 1024 * 1024)
    }

    /// Reads an error body, or an event that holds one; `None` where it holds none.
    ///
    /// It stands under `error`, or flat, or in `errors` or `detail` once more.
    pub(in crate::qwen) fn from_json(value: &Value) -> Option<Self> {
        // Google's compatible endpoint writes a list of one.
        if let Value::Array(list) = value {
            return list.first().and_then(Self::from_json);
        }
        let inside = |key: &str| {
            let inside = value.get(key)?;
            match inside.get(0).unwrap_or(inside) {
                Value::String(message) if !message.trim_ascii().is_empty() => {
                    Some(Self { message: message.clone(), ..Self::default() }.lifted())
                }
                // What is wrong with a field of the request, as FastAPI has it, is read below.
                inside @ Value::Object(fields) if !fields.contains_key("loc") => {
                    Self::from_json(inside)
                }
                _ => None,
            }
        };
        if let Some(error) = value.get("error") {
            let is_said = error.as_object().is_some_and(|fields| !fields.is_empty());
            if let fault @ Some(_) = inside("error") {
                return fault.map(|fault| Self { flat: !is_said, ..fault });
            }
            if is_said {
                return None;
            }
        }
        let word = |key: &str| match value.get(key) {
            Some(Value::String(word)) if !word.is_empty() => Some(word.clone()),
            // vLLM, SGLang and llama.cpp write the status here.
            Some(Value::Number(number)) => Some(number.to_string()),
            // One of several, or with something beside it.
            Some(Value::Array(words)) if key != "detail" => {
                words.iter().find_map(Value::as_str).map(str::to_owned)
            }
            Some(Value::Object(_)) if key == "message" => {
                value.get(key).and_then(Self::from_json).map(|fault| fault.message)
            }
            _ => None,
        };
        let one_of = |keys: &[&str]| keys.iter().find_map(|key| word(key));
        // FastAPI's own errors are lists (vLLM, SGLang).
        let listed = || value.get("detail")?.get(0)?.get("msg")?.as_str().map(str::to_owned);
        let message = one_of(&MESSAGES).or_else(listed);
        let code = one_of(&CODES);
        if message.is_none()
            && let Some(fault) = WRAPPERS.iter().find_map(|key| inside(key))
        {
            return Some(Self { flat: true, ..fault });
        }
        if message.is_none() && code.is_none() {
            return None;
        }
        let (kind, param) = (word("type"), word("param"));
        let fault = Self { message: message.unwrap_or_default(), code, kind, param, flat: true };
        Some(fault.lifted())
    }

    /// What a gateway wrote into the message as JSON, in the place of the message; the same fault
    /// where it did not. The JSON may stand behind words of the gateway's.
    fn lifted(self) -> Self {
        let Some(at) = self.message.find('{') else { return self };
        let (words, json) = self.message.split_at(at);
        let Some(json) = Self::tree(json.trim_end()) else { return self };
        // What a server quotes of the request is JSON as well.
        if !words.trim_ascii().is_empty() && json.get("error").is_none() {
            return self;
        }
        match Self::from_json(&json) {
            Some(inner) if !inner.message.is_empty() => Self {
                message: inner.message,
                code: inner.code.or(self.code),
                kind: inner.kind.or(self.kind),
                param: inner.param.or(self.param),
                flat: self.flat,
            },
            _ => self,
        }
    }

    /// A body that is no JSON: a gateway's page or a line of text.
    pub(super) fn from_text(text: &str) -> Self {
        let text = text.trim();
        // A page is for people with a browser.
        let message = if text.starts_with('<') { "" } else { text };
        Self { message: message.to_owned(), ..Self::default() }
    }

    /// Whether the code says that all is well, as some gateways write it beside every chunk.
    pub(super) fn is_success(&self) -> bool {
        self.code.as_deref().is_some_and(|code| matches!(code, "0" | "200"))
    }

    /// Its code.
    #[cfg(feature = "responses-upstream")]
    pub(in crate::qwen) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The status that the code gives where it is one, as with errors inside a stream.
    pub(in crate::qwen) fn status(&self) -> Option<StatusCode> {
        self.code.as_deref()?.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok())
    }

    /// The error for a client.
    pub(in crate::qwen) fn into_error(
        self,
        status: StatusCode,
        retry_after: Option<Duration>,
        server: Server,
        secrets: &Secrets,
    ) -> Error {
        if self.flat {
            Repair::FlatError.count(METRIC);
        }
        if self.code.as_deref().is_some_and(|code| code.parse::<u16>().is_ok()) {
            Repair::ErrorCode.count(METRIC);
        }
        let (kind, wait) = self.classify(status, server);
        let message = if self.message.is_empty() {
            format!("the upstream answered with status {}", status.as_u16())
        } else {
            secrets.redact(&self.message)
        };
        let mut error = Error::new(kind, message);
        // A redirect that is not followed is none of its failures.
        if !status.is_redirection() {
            error = error.with_fate(Fate::Refused);
        }
        // A server that took the fault upon itself named the wrong class.
        let is_wrong = status.is_server_error() && kind == ErrorKind::InvalidRequest;
        let mut words = [self.code, self.kind.filter(|_| !is_wrong)].into_iter().flatten();
        // For this agents know one code only.
        if kind != ErrorKind::ContextLength
            && let Some(code) = words.find(|code| is_code(code, secrets))
        {
            error = error.with_code(code);
        }
        if let Some(param) = self.param {
            error = error.with_param(secrets.redact(&param));
        }
        match retry_after.or(wait) {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    fn classify(&self, status: StatusCode, server: Server) -> (ErrorKind, Option<Duration>) {
        let code = self.code.as_deref().unwrap_or_default().to_ascii_lowercase();
        let kind = self.kind.as_deref().unwrap_or_default().to_ascii_lowercase();
        let text = self.message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let is = |words: &[&str]| words.iter().any(|word| code == *word || kind == *word);

        // What the text or the code says outranks the status, which gateways change.
        if code.contains("datainspectionfailed")
            || is(&["data_inspection_failed", "content_filter"])
            || says(&["datainspectionfailed", "content exists risk", "敏感内容", "违规内容"])
        {
            return (ErrorKind::ContentFilter, None);
        }
        let words = format!("{code} {kind}");
        if is_context_overflow(Some(status), &words, &text) {
            return (ErrorKind::ContextLength, None);
        }
        // Quota before auth: some of these come as 401 or 403.
        // What the portal gives for free is one quota for all its models.
        let quota = match server != Server::Portal && is_of_one_model(&words, &text) {
            true => ErrorKind::ModelQuota,
            false => ErrorKind::Quota,
        };
        if is_account_fault(Some(status), &words, &text) {
            return (quota, None);
        }
        if is(&["insufficient_quota", "quota_exceeded", "throttling.allocationquota"])
            || says(&["exceeded your current quota", "allocated quota exceeded"])
        {
            // On DashScope this is tokens per minute and passes by itself; elsewhere it is used
            // up.
            return match server {
                Server::DashScope => (ErrorKind::RateLimited, Some(Duration::from_secs(60))),
                _ => (quota, Some(Duration::from_secs(65))),
            };
        }
        if code.starts_with("throttling")
            || is(&["limit_requests", "limitrequests", "limit_burst_rate", "rate_limit_exceeded"])
        {
            return (ErrorKind::RateLimited, None);
        }
        if is(&["model_not_found", "modelnotfound", "model_not_supported"]) {
            return (ErrorKind::ModelNotFound, None);
        }
        if says(&[
            "model not exist",
            "model does not exist",
            "model not found",
            "invalid model id",
            "invalid model name",
            "unknown model",
            "no such model",
        ]) {
            return (ErrorKind::ModelNotFound, None);
        }
        if is(&["requesttimeout"]) || says(&["stream timeout", "gateway timeout"]) {
            return (ErrorKind::Timeout, None);
        }
        // The portal says so with several statuses.
        if is(&["invalidapikey", "invalid_api_key"])
            || says(&["api key expired", "api key has expired", "api key not valid", "login fail"])
            || server == Server::Portal && says(&PORTAL_AUTH)
        {
            return (ErrorKind::Auth, None);
        }
        if code.starts_with("accessdenied") || is(&["access_denied", "model.accessdenied"]) {
            let kind = match server {
                Server::Portal => ErrorKind::Auth,
                _ => ErrorKind::Permission,
            };
            return (kind, None);
        }
        if is(&["modelservingerror", "modelunavailable", "unavailable_error"]) {
            return (ErrorKind::Overloaded, None);
        }
        if status.is_server_error() && is_about_the_request(&text) {
            return (ErrorKind::InvalidRequest, None);
        }
        let kind = match status.as_u16() {
            401 => ErrorKind::Auth,
            403 if server == Server::Portal => ErrorKind::Auth,
            403 => ErrorKind::Permission,
            404 if says(&["model"]) => ErrorKind::ModelNotFound,
            404 => ErrorKind::NotFound,
            // The last is Cloudflare's.
            408 | 504 | 524 => ErrorKind::Timeout,
            413 => ErrorKind::TooLarge,
            429 => ErrorKind::RateLimited,
            501 => ErrorKind::Unsupported,
            503 | 529 => ErrorKind::Overloaded,
            _ if says(&["throttling", "rate limit", "too many requests"]) => ErrorKind::RateLimited,
            400..=499 => ErrorKind::InvalidRequest,
            // Within a stream, or from a gateway with a good status, the code is all there is.
            _ if code.starts_with("invalidparameter")
                || matches!(&*code, "invalid_parameter_error" | "invalid_request_error") =>
            {
                ErrorKind::InvalidRequest
            }
            _ => ErrorKind::Upstream,
        };
        (kind, None)
    }
}
