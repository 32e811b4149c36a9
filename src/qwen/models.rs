//! The model catalogue of chat.qwen.ai (A5).
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Request, Response};
//! use http_body_util::Full;
//! use tower::service_fn;
//! use tower_qwen::qwen::models;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In the place of this one stands `QwenUpstream`.
//! let upstream = service_fn(|_: Request<Full<Bytes>>| async {
//!     Response::builder().body(Full::from(
//!         r#"{"data": [{"id": "qwen3-max", "info": {"created_at": 1732000000}}]}"#,
//!     ))
//! });
//! let models = models::list(upstream, &HeaderMap::new()).await?;
//! assert_eq!((models[0].id.as_str(), models[0].created), ("qwen3-max", 1_732_000_000));
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::Full;
use serde_json::Value;
use tower_service::Service;

use super::{
    Anonymous,
    transport::{self, BoxError},
    web::{Call, envelope},
};
use crate::{
    Error, ErrorKind,
    chat::{Extra, Text},
};

/// The largest catalogue that is read. The real one has some 100 KB.
const LIMIT: usize = 8 * 1024 * 1024;

/// How long reading the catalogue may take once the response has begun.
const DEADLINE: Duration = Duration::from_secs(30);

/// One model of the catalogue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Model {
    /// The id that requests name.
    pub id: Text,
    /// When it was added, in seconds since 1970; 0 where the catalogue does not say.
    pub created: u64,
    /// Whose it is; `qwen` where the catalogue does not say.
    pub owned_by: Text,
    /// Everything else that the catalogue says, such as `name` and `info.meta.capabilities`.
    pub extra: Extra,
}

impl Model {
    fn from_json(value: Value) -> Option<Self> {
        let Value::Object(mut extra) = value else { return None };
        let id = match extra.shift_remove("id")? {
            Value::String(id) if !id.is_empty() => id.into(),
            _ => return None,
        };
        let owned_by = match extra.shift_remove("owned_by") {
            Some(Value::String(owner)) => owner.into(),
            _ => Text::from_static("qwen"),
        };
        // It is what every entry is.
        extra.shift_remove("object");
        let created = extra
            .get("info")
            .and_then(|info| info.get("created_at"))
            .or_else(|| extra.get("created"))
            .and_then(Value::as_u64)
            .unwrap_or(0);
        Some(Self { id, created, owned_by, extra })
    }
}

/// Fetches the catalogue with `GET /api/models`.
///
/// Of `headers` those travel that identify an account: `authorization`, `cookie`, `bx-*` and
/// `user-agent`. Whether upstream wants them changes (E41), so where it refuses with them it is
/// asked once more without, and with [`Anonymous`] so that `QwenUpstream` leaves its own out too.
///
/// Nothing is cached; the catalogue changes rarely, an hour is a good time to keep it (E18).
///
/// # Errors
///
/// Where upstream refuses both times, the first refusal; where it is out of reach, too slow, or
/// answers what is no catalogue.
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
pub async fn list<S, B>(mut service: S, headers: &HeaderMap) -> Result<Vec<Model>, Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let credentials = transport::credentials(headers);
    match fetch(&mut service, credentials, false).await {
        // Slowness and challenges are not about the account: asking again makes them worse (G6).
        Err(error) if !error.is_timeout() && !error.is_challenge() => {
            tracing::debug!(%error, "no catalogue with the credential; asking without");
            fetch(&mut service, HeaderMap::new(), true).await.map_err(|_| error)
        }
        result => result,
    }
}

async fn fetch<S, B>(
    service: &mut S,
    headers: HeaderMap,
    anonymous: bool,
) -> Result<Vec<Model>, Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static("/api/models");
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if anonymous {
        request.extensions_mut().insert(Anonymous);
    }
    let (head, body) = transport::send(service, request).await?.into_parts();
    let read = transport::read(body, LIMIT, DEADLINE).await;
    let mut envelope = envelope(Call::Models, head.status, &head.headers, &read)?;
    // The older path answers a bare list under `data`, the v2 envelope may hold another `data`.
    let list = match envelope.shift_remove("data") {
        Some(Value::Array(list)) => list,
        Some(Value::Object(mut inner)) => match inner.shift_remove("data") {
            Some(Value::Array(list)) => list,
            _ => return Err(no_catalogue()),
        },
        _ => return Err(no_catalogue()),
    };
    Ok(list.into_iter().filter_map(Model::from_json).collect())
}

fn no_catalogue() -> Error {
    Error::new(ErrorKind::Upstream, "the upstream answered with JSON that holds no catalogue")
}
