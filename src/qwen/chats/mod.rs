//! The chats that chat.qwen.ai keeps: listing, reading and deleting them.
//!
//! ```
//! use http::{Request, Response};
//! use tower::service_fn;
//! use tower_qwen::{FullBody, qwen::chats};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In the place of this one stands `QwenUpstream`.
//! let upstream = service_fn(|request: Request<FullBody>| async move {
//!     assert_eq!((request.method().as_str(), request.uri().path()), ("DELETE", "/api/v2/chats/c-1"));
//!     Response::builder().body(FullBody::from(r#"{"success":true,"data":{"status":true}}"#))
//! });
//! chats::delete(upstream, None, "c-1").await?;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use tower_service::Service;

use super::{redact::Secrets, transport, web};
use crate::{BoxError, CredentialHeaders, Error, ErrorKind, FullBody};

mod record;

pub use self::record::{ChatMessage, ChatRecord, ChatSummary};

/// The largest answer that is read: a chat with its whole tree of messages.
const LIMIT: usize = 32 * 1024 * 1024;

/// How long reading it may take once the response has begun.
const DEADLINE: Duration = Duration::from_secs(30);

/// A page of the account's chats, the last used first; `page` counts from 1. Upstream does not say how
/// many pages there are: behind the last one is an empty one. Chats of projects are not among them.
///
/// Which account that is, is said as for [`delete`].
///
/// # Errors
///
/// Where upstream refuses, is out of reach or too slow, or answers what is no list.
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
pub async fn list<S, B>(
    service: S,
    credential: Option<&CredentialHeaders>,
    page: u32,
) -> Result<Vec<ChatSummary>, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let uri = format!("/api/v2/chats/?page={page}&exclude_project=true");
    let uri = uri.parse().map_err(|error| {
        Error::new(ErrorKind::Internal, "a page's number does not fit into a URL")
            .with_source(error as http::uri::InvalidUri)
    })?;
    record::summaries(fetch(service, uri, credential).await?)
}

/// One chat of the account, with the branch of its messages that the page shows. Which account that
/// is, is said as for [`delete`].
///
/// # Errors
///
/// Those of [`delete`], and where upstream answers what is no record of a chat.
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
pub async fn get<S, B>(
    service: S,
    credential: Option<&CredentialHeaders>,
    chat_id: &str,
) -> Result<ChatRecord, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let uri = web::chat_uri(chat_id).ok_or_else(no_id)?;
    record::record(fetch(service, uri, credential).await?, chat_id)
}

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
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let uri = web::chat_uri(chat_id).ok_or_else(no_id)?;
    web::delete(service, uri, headers(credential), credential, Extensions::new()).await
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
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let uri = Uri::from_static("/api/v2/chats/");
    web::delete(service, uri, headers(credential), credential, Extensions::new()).await
}

/// What `uri` answers: the `data` of the envelope.
async fn fetch<S, B>(
    mut service: S,
    uri: Uri,
    credential: Option<&CredentialHeaders>,
) -> Result<serde_json::Value, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut request = Request::new(FullBody::default());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers(credential);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let (head, body) = transport::send(&mut service, request).await?.into_parts();
    let read = transport::read(body, LIMIT, DEADLINE).await;
    let secrets = Secrets::new(credential, &head.extensions);
    let call = web::Call::Turn { continued: true };
    let mut envelope = web::envelope(call, head.status, &head.headers, &read, &secrets)?;
    envelope
        .remove("data")
        .ok_or_else(|| Error::new(ErrorKind::Upstream, "the upstream's answer has no `data`"))
}

fn no_id() -> Error {
    Error::invalid("id", "the chat's id holds other than letters, digits and `-`")
}

fn headers(credential: Option<&CredentialHeaders>) -> HeaderMap {
    transport::headers(&HeaderMap::new(), credential)
}
