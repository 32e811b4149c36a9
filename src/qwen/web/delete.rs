//! Deleting chats: the call, for whoever has a reason.

use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use tower_service::Service;

use super::{envelope::envelope, error::Call};
use crate::{
    BoxError, CredentialHeaders, Error, ErrorKind, FullBody,
    qwen::{redact::Secrets, transport},
};

/// The largest answer that is read.
const LIMIT: usize = 64 * 1024;

/// How long reading it may take once the response has begun.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the chat `id` is deleted; `None` where that can be no id. A dot, or nothing at all, would
/// name all chats of the account.
pub(in crate::qwen) fn chat_uri(id: &str) -> Option<Uri> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) {
        return None;
    }
    format!("/api/v2/chats/{id}").parse().ok()
}

/// Deletes what `uri` names. The `headers` hold `credential` already; it is masked in what upstream
/// says.
///
/// # Errors
///
/// Where upstream refuses, is out of reach or too slow.
pub(in crate::qwen) async fn delete<S, B>(
    mut service: S,
    uri: Uri,
    headers: HeaderMap,
    credential: Option<&CredentialHeaders>,
    extensions: Extensions,
) -> Result<(), Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut request = Request::new(FullBody::default());
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.extensions_mut() = extensions;
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
