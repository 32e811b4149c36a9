//! What these servers say when they refuse a request or fail.

use crate::json::{Value, json};
use http::{HeaderValue, Response, StatusCode, header};

use super::Dialect;
use crate::{
    body::Body,
    envelope::{json_with, with_type},
    kind::Kind,
};

/// How many tokens the emulated models take.
pub(super) const CONTEXT: u64 = 32_768;

/// Why a request is refused, or an answer fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    BadRequest,
    Unauthorized,
    Forbidden,
    ModelNotFound,
    ContextLength,
    ContentFilter,
    /// Too many requests.
    RateLimited,
    /// They came too suddenly (DashScope).
    Burst,
    /// Too many tokens a minute (DashScope).
    Tokens,
    /// The quota is used up.
    Quota,
    /// Nobody paid.
    Billing,
    Overloaded,
    Loading,
    Unsupported,
    Timeout,
    Internal,
}

#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    pub(super) message: Option<String>,
    pub(super) param: Option<&'static str>,
    /// Seconds in `Retry-After`.
    pub(super) retry_after: Option<u64>,
    /// DashScope's native shape, which gateways pass on.
    pub(super) native: bool,
    /// Another status for the same thing.
    pub(super) status: Option<u16>,
}

/// How a dialect names a class.
struct Words {
    status: u16,
    message: String,
    /// `type`.
    kind: &'static str,
    /// `code`, where it is a string.
    code: &'static str,
    /// The same in DashScope's native protocol.
    native: &'static str,
}

impl Fault {
    pub(super) fn new(class: Class) -> Self {
        Self { class, message: None, param: None, retry_after: None, native: false, status: None }
    }

    /// A request that is malformed, or asks for what there is not.
    pub(super) fn bad(param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), param, ..Self::new(Class::BadRequest) }
    }

    pub(super) fn model_not_found(dialect: Dialect, model: &str) -> Self {
        let message = match dialect.kind {
            Kind::Ollama => format!("model '{model}' not found"),
            Kind::Vllm | Kind::SgLang => format!("The model `{model}` does not exist."),
            Kind::Portal => format!("model `{model}` is not supported"),
            _ => format!("The model `{model}` does not exist or you do not have access to it."),
        };
        Self { message: Some(message), param: Some("model"), ..Self::new(Class::ModelNotFound) }
    }

    /// An answer that failed in the making.
    pub(super) fn failed(message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..Self::new(Class::Internal) }
    }

    /// The whole response.
    pub(super) fn response(&self, dialect: Dialect, id: &str) -> Response<Body> {
        let words = self.words(dialect);
        let status = StatusCode::from_u16(self.status.unwrap_or(words.status))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = if self.class == Class::Timeout && dialect.kind == Kind::Portal {
            // What the gateway before the portal says.
            with_type(status, "text/plain", "stream timeout")
        } else if self.class == Class::Unauthorized
            && matches!(dialect.kind, Kind::Vllm | Kind::SgLang)
        {
            // The guard before the API of these two has a word of its own.
            json_with(status, &json!({"error": "Unauthorized"}))
        } else {
            json_with(status, &self.body(dialect, id))
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// The body of a refusal.
    pub(super) fn body(&self, dialect: Dialect, id: &str) -> Value {
        let words = self.words(dialect);
        let status = self.status.unwrap_or(words.status);
        match dialect.kind {
            // Flat; so was vLLM.
            Kind::SgLang => self.flat(&words, status),
            Kind::Vllm if dialect.old => self.flat(&words, status),
            Kind::DashScope if self.native => {
                json!({"code": words.native, "message": words.message, "request_id": id})
            }
            Kind::DashScope => json!({
                "error": self.object(dialect), "id": format!("chatcmpl-{id}"), "request_id": id,
            }),
            Kind::Portal => json!({"error": self.object(dialect), "request_id": id}),
            _ => json!({"error": self.object(dialect)}),
        }
    }

    fn flat(&self, words: &Words, status: u16) -> Value {
        json!({
            "object": "error", "message": words.message, "type": words.kind,
            "param": self.param, "code": status,
        })
    }

    /// What stands under `error`; in a stream that of every dialect does.
    pub(super) fn object(&self, dialect: Dialect) -> Value {
        let Words { status, message, kind, code, .. } = self.words(dialect);
        let status = self.status.unwrap_or(status);
        match dialect.kind {
            // vLLM, SGLang and llama.cpp: a numeric code.
            Kind::Vllm | Kind::SgLang => {
                json!({"message": message, "type": kind, "param": self.param, "code": status})
            }
            Kind::Ollama => json!({"message": message, "type": kind, "param": null, "code": null}),
            Kind::LlamaCpp => {
                let mut object = json!({"code": status, "message": message, "type": kind});
                if self.class == Class::ContextLength {
                    object["n_prompt_tokens"] = (CONTEXT + 120).into();
                    object["n_ctx"] = CONTEXT.into();
                }
                object
            }
            Kind::DashScope => {
                json!({"code": code, "param": self.param, "message": message, "type": kind})
            }
            Kind::Portal | Kind::Web => {
                let code = if code.is_empty() { Value::Null } else { code.into() };
                json!({"message": message, "type": kind, "param": self.param, "code": code})
            }
        }
    }

    fn words(&self, dialect: Dialect) -> Words {
        let mut words = match dialect.kind {
            Kind::Vllm | Kind::SgLang => python(self.class),
            Kind::Ollama => ollama(self.class),
            Kind::LlamaCpp => llama_cpp(self.class),
            Kind::DashScope => dashscope(self.class),
            Kind::Portal | Kind::Web => portal(self.class),
        };
        if let Some(message) = &self.message {
            words.message.clone_from(message);
        }
        words
    }
}

fn words(status: u16, kind: &'static str, message: impl Into<String>) -> Words {
    Words { status, message: message.into(), kind, code: "", native: "" }
}

/// vLLM and SGLang, and the gateways that people put before them.
fn python(class: Class) -> Words {
    let too_long = format!(
        "This model's maximum context length is {CONTEXT} tokens. However, you requested {} tokens \
         in the messages. Please reduce the length of the messages.",
        CONTEXT + 120
    );
    match class {
        Class::BadRequest | Class::ContentFilter => {
            words(400, "BadRequestError", "The request could not be read.")
        }
        Class::Unauthorized => words(401, "AuthenticationError", "Unauthorized"),
        Class::Forbidden => words(403, "PermissionDeniedError", "Forbidden"),
        Class::ModelNotFound => words(404, "NotFoundError", "The model does not exist."),
        Class::ContextLength => words(400, "BadRequestError", too_long),
        Class::RateLimited | Class::Burst | Class::Tokens => {
            words(429, "RateLimitError", "Too many requests.")
        }
        Class::Quota | Class::Billing => words(429, "RateLimitError", "Too many requests today."),
        Class::Overloaded => words(503, "ServiceUnavailableError", "The request queue is full."),
        Class::Loading => words(503, "ServiceUnavailableError", "The model is being loaded."),
        Class::Unsupported => {
            words(400, "BadRequestError", "The model does not support Embeddings API")
        }
        Class::Timeout => words(504, "TimeoutError", "The request took too long."),
        Class::Internal => words(500, "InternalServerError", "EngineCore encountered an issue."),
    }
}

fn ollama(class: Class) -> Words {
    match class {
        Class::BadRequest | Class::ContentFilter => {
            words(400, "invalid_request_error", "invalid request")
        }
        Class::Unauthorized => words(401, "authentication_error", "unauthorized"),
        Class::Forbidden => words(403, "api_error", "forbidden"),
        Class::ModelNotFound => words(404, "not_found_error", "model not found"),
        Class::ContextLength => words(
            400,
            "invalid_request_error",
            "the prompt exceeds the maximum context length of this model",
        ),
        Class::RateLimited | Class::Burst | Class::Tokens => {
            words(429, "rate_limit_error", "too many requests")
        }
        Class::Quota | Class::Billing => {
            words(429, "rate_limit_error", "too many requests for today")
        }
        Class::Overloaded => words(503, "api_error", "server busy, please try again"),
        Class::Loading => words(503, "api_error", "the model is being loaded"),
        Class::Unsupported => words(501, "api_error", "this model does not support embeddings"),
        Class::Timeout => words(504, "api_error", "timed out waiting for the model"),
        Class::Internal => words(500, "api_error", "the model runner stopped unexpectedly"),
    }
}

fn llama_cpp(class: Class) -> Words {
    match class {
        Class::BadRequest | Class::ContentFilter => {
            words(400, "invalid_request_error", "the request could not be read")
        }
        Class::Unauthorized => words(401, "authentication_error", "Invalid API Key"),
        Class::Forbidden => words(403, "permission_error", "not permitted"),
        Class::ModelNotFound => words(404, "not_found_error", "model not found"),
        Class::ContextLength => words(
            400,
            "exceed_context_size_error",
            "the request exceeds the available context size, try increasing it",
        ),
        Class::RateLimited | Class::Burst | Class::Tokens | Class::Quota | Class::Billing => {
            words(429, "rate_limit_error", "too many requests")
        }
        Class::Overloaded => words(503, "unavailable_error", "no slot is free"),
        Class::Loading => words(503, "unavailable_error", "Loading model"),
        Class::Unsupported => words(
            501,
            "not_supported_error",
            "This server does not support embeddings. Start it with `--embeddings`",
        ),
        Class::Timeout => words(504, "server_error", "timed out"),
        Class::Internal => words(500, "server_error", "the slot failed to decode"),
    }
}

/// The statuses and codes of DashScope.
fn dashscope(class: Class) -> Words {
    const REQUEST: &str = "invalid_request_error";
    let (status, native, code, kind, message) = match class {
        Class::BadRequest => {
            (400, "InvalidParameter", "invalid_parameter_error", REQUEST, "The request is invalid.")
        }
        Class::Unauthorized => {
            (401, "InvalidApiKey", "invalid_api_key", REQUEST, "Incorrect API key provided.")
        }
        Class::Forbidden => {
            (403, "Model.AccessDenied", "access_denied", "access_denied", "Model access denied.")
        }
        Class::ModelNotFound => {
            (404, "ModelNotFound", "model_not_found", REQUEST, "The model does not exist.")
        }
        Class::ContextLength => (
            400,
            "InvalidParameter",
            "invalid_parameter_error",
            REQUEST,
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
        ),
        Class::ContentFilter => (
            400,
            "DataInspectionFailed",
            "data_inspection_failed",
            "data_inspection_failed",
            "Input data may contain inappropriate content.",
        ),
        Class::RateLimited => (
            429,
            "Throttling.RateQuota",
            "limit_requests",
            "limit_requests",
            "You exceeded the limit of requests. Requests throttling triggered.",
        ),
        Class::Burst => (
            429,
            "Throttling.BurstRate",
            "limit_burst_rate",
            "limit_burst_rate",
            "Request rate increased too quickly. Please adjust your client.",
        ),
        Class::Tokens => (
            429,
            "Throttling.AllocationQuota",
            "insufficient_quota",
            "insufficient_quota",
            "Allocated quota exceeded, please increase your quota limit.",
        ),
        Class::Quota => (
            429,
            "Throttling.AllocationQuota",
            "insufficient_quota",
            "insufficient_quota",
            "Free allocated quota exceeded.",
        ),
        Class::Billing => {
            (400, "Arrearage", "Arrearage", "Arrearage", "The account is in arrears.")
        }
        Class::Overloaded | Class::Loading => (
            503,
            "ModelServingError",
            "ModelServingError",
            "server_error",
            "Too many requests. Your requests are being throttled due to system capacity limits.",
        ),
        Class::Unsupported => (
            400,
            "InvalidParameter",
            "invalid_parameter_error",
            REQUEST,
            "The model does not support embeddings.",
        ),
        Class::Timeout => {
            (500, "RequestTimeOut", "RequestTimeOut", "server_error", "Request timed out.")
        }
        Class::Internal => (
            500,
            "InternalError",
            "internal_error",
            "internal_error",
            "An internal error occurred.",
        ),
    };
    Words { status, message: message.to_owned(), kind, code, native }
}

/// The statuses and codes of the portal.
fn portal(class: Class) -> Words {
    const REQUEST: &str = "invalid_request_error";
    let (status, kind, code, message) = match class {
        Class::BadRequest | Class::Unsupported => {
            (400, REQUEST, "invalid_parameter_error", "The request is invalid.")
        }
        Class::Unauthorized => {
            (401, REQUEST, "invalid_api_key", "invalid access token or token expired")
        }
        Class::Forbidden => (403, "access_denied", "", "access denied"),
        Class::ModelNotFound => (400, REQUEST, "model_not_supported", "model is not supported"),
        Class::ContextLength => (
            400,
            REQUEST,
            "invalid_parameter_error",
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
        ),
        Class::ContentFilter => (
            400,
            "data_inspection_failed",
            "data_inspection_failed",
            "Input data may contain inappropriate content.",
        ),
        Class::RateLimited | Class::Burst | Class::Tokens => (
            429,
            "rate_limit_error",
            "Throttling",
            "Requests throttling triggered. Please try again later.",
        ),
        Class::Quota | Class::Billing => (
            429,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        Class::Overloaded | Class::Loading => {
            (503, "server_error", "ModelUnavailable", "The model is overloaded.")
        }
        Class::Timeout => (504, "timeout_error", "", "stream timeout"),
        Class::Internal => (500, "server_error", "internal_error", "An internal error occurred."),
    };
    Words { status, message: message.to_owned(), kind, code, native: "" }
}
