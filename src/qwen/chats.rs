//! The chats that chat.qwen.ai keeps: deleting them (A1, A20).
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::service_fn;
//! use tower_qwen::qwen::chats;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In the place of this one stands `QwenUpstream`.
//! let upstream = service_fn(|request: Request<Full<Bytes>>| async move {
//!     assert_eq!((request.method().as_str(), request.uri().path()), ("DELETE", "/api/v2/chats/c-1"));
//!     Response::builder().body(Full::from(r#"{"success":true,"data":{"status":true}}"#))
//! });
//! chats::delete(upstream, None, "c-1").await?;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    transport::{self, BoxError},
    web::{Call, envelope},
};
use crate::{CredentialHeaders, Error, ErrorKind, qwen::redact::Secrets};

/// The largest answer that is read.
const LIMIT: usize = 64 * 1024;

/// How long reading it may take once the response has begun.
const DEADLINE: Duration = Duration::from_secs(30);

/// Deletes one chat of the account.
///
/// The account is that of `credential`, or else the one that `service` puts on.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`] where `chat_id` cannot be one; a conversation that is lost where
/// upstream has none of that id; and whatever else upstream refuses with.
///
/// # Cancel safety
///
/// Dropping the future cancels the call; the chat may be deleted all the same.
pub async fn delete<S, B>(
    service: S,
    credential: Option<&CredentialHeaders>,
    chat_id: &str,
) -> Result<(), Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if chat_id.is_empty() || chat_id.len() > 128 || !chat_id.bytes().all(plain) {
        return Err(Error::invalid("id", "the chat's id holds other than letters, digits and `-`"));
    }
    let uri = format!("/api/v2/chats/{chat_id}");
    call(service, credential, uri.parse().expect("letters, digits and hyphens fit a path")).await
}

/// Deletes every chat of the account, whoever made it. Which account that is, is said as for
/// [`delete`].
///
/// # Errors
///
/// Where upstream refuses, is out of reach or too slow.
///
/// # Cancel safety
///
/// As [`delete`].
pub async fn delete_all<S, B>(
    service: S,
    credential: Option<&CredentialHeaders>,
) -> Result<(), Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    call(service, credential, Uri::from_static("/api/v2/chats/")).await
}

async fn call<S, B>(
    mut service: S,
    credential: Option<&CredentialHeaders>,
    uri: Uri,
) -> Result<(), Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = uri;
    *request.headers_mut() = transport::headers(&HeaderMap::new(), credential);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let (head, body) = transport::send(&mut service, request).await?.into_parts();
    let read = transport::read(body, LIMIT, DEADLINE).await;
    let secrets = Secrets::new(credential, &head.extensions);
    let call = Call::Turn { continued: true };
    let envelope = envelope(call, head.status, &head.headers, &read, &secrets)?;
    match envelope.get("data").and_then(|data| data.get("status")) {
        Some(serde_json::Value::Bool(false)) => {
            Err(Error::new(ErrorKind::Upstream, "the upstream did not delete it"))
        }
        _ => Ok(()),
    }
}
