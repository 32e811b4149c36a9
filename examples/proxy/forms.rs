//! Errors in the form of the protocol that the client speaks.
//!
//! What stands around the edges (keys, hosts, codings, the budget of bodies, unknown paths) tells
//! its errors as OpenAI's clients read them. For a client of the Messages API or of Ollama's they are
//! written anew here, with the same status, headers and message.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{
        HeaderName, HeaderValue,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    middleware::Next,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::trace::X_REQUEST_ID;

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// The name under which clients of the Messages API look for a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The longest error that is read to be written anew, in bytes.
const ERROR_LEN: usize = 256 * 1024;

/// What is read of an error in OpenAI's form.
#[derive(Deserialize)]
struct OpenAiError {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

/// In which form a client that does not speak OpenAI's reads errors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Messages,
    Ollama,
}

impl Form {
    /// That of the client of `request`; `None` where it is OpenAI's.
    fn of(request: &Request) -> Option<Self> {
        let path = request.uri().path();
        // A client of another API that was given `/api` for its base URL has a version behind it.
        if path.starts_with("/api/") && !path.starts_with("/api/v1/") {
            return Some(Self::Ollama);
        }
        let is_messages = path == "/v1/messages" || path.starts_with("/v1/messages/");
        let is_claude = is_messages || request.headers().contains_key(ANTHROPIC_VERSION);
        is_claude.then_some(Self::Messages)
    }
}

/// Whether it is a client of the Messages API.
pub(crate) fn is_messages(request: &Request) -> bool {
    Form::of(request) == Some(Form::Messages)
}

/// Answers a client of the Messages API or of Ollama's in its own form.
pub(crate) async fn speak(request: Request, next: Next) -> Response {
    let Some(form) = Form::of(&request) else { return next.run(request).await };
    let mut response = next.run(request).await;
    if form == Form::Messages
        && let Some(id) = response.headers().get(X_REQUEST_ID).cloned()
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error())
        || !response.headers().get(CONTENT_TYPE).is_some_and(is_json)
    {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ERROR_LEN).await else {
        return Response::from_parts(head, Body::empty());
    };
    let body = match serde_json::from_slice::<OpenAiError>(&body) {
        // The edge's own form has a `type` beside its `error`.
        Ok(said) if form == Form::Ollama => json!({"error": said.error.message}).to_string().into(),
        Ok(said) if !is_in_form(&body) => {
            let id = head.headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok());
            let error = json!({"type": type_of(status.as_u16()), "message": said.error.message});
            json!({"type": "error", "error": error, "request_id": id}).to_string().into()
        }
        _ => body,
    };
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(body))
}

fn is_in_form(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        r#type: Option<String>,
    }
    serde_json::from_slice::<Typed>(body).is_ok_and(|typed| typed.r#type.is_some())
}

/// The protocol's word for an error of this status.
const fn type_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        408 | 504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware, response::IntoResponse, routing::get};
    use serde_json::Value;
    use tower::ServiceExt;
    use tower_qwen::{Error, ErrorKind, anthropic, ollama, openai};

    use super::*;

    async fn told(path: &str, version: bool, answer: fn() -> Response) -> (Response, Value) {
        let app = Router::new()
            .route("/v1/messages", get(async move || answer()))
            .route("/v1/models", get(async move || answer()))
            .route("/api/{*path}", get(async move || answer()))
            .layer(middleware::from_fn(speak));
        let mut request = Request::get(path);
        if version {
            request = request.header("anthropic-version", "2023-06-01");
        }
        let response = app.oneshot(request.body(Body::empty()).expect("a request")).await;
        let Ok(response) = response;
        let (head, body) = response.into_parts();
        let body = to_bytes(body, ERROR_LEN).await.expect("a body");
        let json = serde_json::from_slice(&body).expect("JSON");
        (Response::from_parts(head, Body::empty()), json)
    }

    fn refused() -> Response {
        let error = Error::new(ErrorKind::Auth, "no API key was presented");
        let mut response = openai::error_response(&error).into_response();
        response.headers_mut().insert("x-request-id", HeaderValue::from_static("r-1"));
        response
    }

    #[tokio::test]
    async fn a_client_reads_errors_in_its_own_form() {
        for (path, version) in [("/v1/messages", false), ("/v1/models", true)] {
            let (response, body) = told(path, version, refused).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers()["x-should-retry"], "false");
            assert_eq!(response.headers()["request-id"], "r-1");
            let error =
                json!({"type": "authentication_error", "message": "no API key was presented"});
            assert_eq!(body, json!({"type": "error", "error": error, "request_id": "r-1"}));
        }
        let (response, body) = told("/v1/models", false, refused).await;
        assert_eq!(body["error"]["code"], "invalid_api_key");
        assert!(!response.headers().contains_key("request-id"));
    }

    #[tokio::test]
    async fn a_client_of_ollama_reads_a_text() {
        for path in ["/api/chat", "/api/none/of/these"] {
            let (response, body) = told(path, false, refused).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers()["x-should-retry"], "false");
            assert_eq!(body, json!({"error": "no API key was presented"}));
        }
        let own = || {
            let error = Error::new(ErrorKind::Timeout, "too slow");
            ollama::error_response(&error).into_response()
        };
        let (response, body) = told("/api/chat", false, own).await;
        assert_eq!((response.status().as_u16(), body), (504, json!({"error": "too slow"})));
        // Another API, whose client was given a base URL with `/api` in it.
        let (_, body) = told("/api/v1/models", false, refused).await;
        assert_eq!(body["error"]["code"], "invalid_api_key");
    }

    #[tokio::test]
    async fn what_is_in_form_stays() {
        let own = || {
            let error = Error::new(ErrorKind::Timeout, "too slow");
            anthropic::error_response(&error).into_response()
        };
        let (response, body) = told("/v1/messages", true, own).await;
        assert_eq!(
            (response.status().as_u16(), &body["error"]["type"]),
            (504, &json!("timeout_error"))
        );
        let good = || axum::Json(json!({"error": {"message": "not one"}})).into_response();
        let (_, body) = told("/v1/messages", true, good).await;
        assert_eq!(body, json!({"error": {"message": "not one"}}));
    }
}
