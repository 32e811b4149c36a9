//! The chats that chat.qwen.ai keeps: deleting them.
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

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use super::{transport, web};
use crate::{BoxError, CredentialHeaders, Error, FullBody};

/// Deletes one chat of the account.
///
/// The account is that of `credential`, or else the one that `service` puts on.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) where `chat_id` cannot be one; a conversation that is lost where
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
    let uri = web::chat_uri(chat_id).ok_or_else(|| {
        Error::invalid("id", "the chat's id holds other than letters, digits and `-`")
    })?;
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

fn headers(credential: Option<&CredentialHeaders>) -> HeaderMap {
    transport::headers(&HeaderMap::new(), credential)
}
