//! The shapes of answers that are not streams.

use crate::json::{Value, json};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use uuid::Uuid;

use super::body::Body;

/// `value` as JSON with this HTTP status.
pub(super) fn json_with(status: StatusCode, value: &Value) -> Response<Body> {
    with_type(status, "application/json", value.to_string())
}

/// A body of any type.
pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Names the status that is meant by an answer whose HTTP status is 200.
pub(super) fn mean(mut response: Response<Body>, status: u16) -> Response<Body> {
    response.headers_mut().insert("x-actual-status-code", HeaderValue::from(status));
    response
}

/// A success in the envelope.
pub(super) fn success(data: Value) -> Response<Body> {
    let body = json!({"success": true, "request_id": Uuid::new_v4().to_string(), "data": data});
    mean(json_with(StatusCode::OK, &body), 200)
}

/// Why a request is refused within a 200.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    data: Value,
    /// Puts `code` and `details` beside `success`, as some refusals do.
    pub(super) flat: bool,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, details: impl Into<String>) -> Self {
        let details: String = details.into();
        Self { status, data: json!({"code": code, "details": details}), flat: false }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "401 Unauthorized")
    }

    pub(super) fn rate_limited(hours: u64) -> Self {
        let mut refusal =
            Self::new(429, "RateLimited", "You've reached the upper limit for today's usage.");
        refusal.data["template"] =
            "You've reached the upper limit. Please wait {{num}} hours before trying again.".into();
        refusal.data["num"] = hours.into();
        refusal
    }

    pub(super) fn in_progress() -> Self {
        Self::new(400, "Bad_Request", "The chat is in progress!")
    }

    pub(super) fn model_not_found() -> Self {
        Self::new(404, "Not_Found", "Model not found")
    }

    pub(super) fn chat_not_found(id: &str) -> Self {
        Self::new(404, "Not_Found", format!("Invalid input the chat {id} is not exist."))
    }

    /// A missing or malformed field; the details are a list in a string.
    pub(super) fn validation(message: &str) -> Self {
        Self::new(400, "RequestValidationError", json!([message]).to_string())
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({"success": false, "request_id": Uuid::new_v4().to_string()});
        if self.flat {
            for field in ["code", "details", "num", "template"] {
                if let Some(value) = self.data.get(field) {
                    body[field] = value.clone();
                }
            }
        } else {
            body["data"] = self.data.clone();
        }
        body
    }

    pub(super) fn response(&self) -> Response<Body> {
        mean(json_with(StatusCode::OK, &self.body()), self.status)
    }
}

/// The three forms of the anti-bot layer.
pub(super) const CHALLENGE_HTML: &str = "<!doctypehtml><html lang=\"en\"><head><meta \
     charset=\"utf-8\"><meta name=\"aliyun_waf_aa\" content=\"demo\"><meta name=\"aliyun_waf_bb\" \
     content=\"demo\"><title>Verification</title></head><body><div id=\"aliyunCaptcha\">Please \
     slide to verify</div></body></html>";
pub(super) const CHALLENGE_REDIRECT: &str = "<!DOCTYPE html><html><script>window.location.replace(\
     \"https://chat.qwen.ai//api/v2/chat/completions/_____tmd_____/punish?x5secdata=DEMO&x5step=1\
     \");</script></html>";

pub(super) fn challenge_json() -> Value {
    json!({
        "ret": ["FAIL_SYS_USER_VALIDATE", "RGV587_ERROR::SM::busy, try again later"],
        "data": {
            "url": "https://chat.qwen.ai:443//api/v2/chat/completions/_____tmd_____/punish\
                    ?x5secdata=DEMO&x5step=2",
            "dialogSize": {"width": "300px", "height": "500px"},
        },
    })
}
