use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use serde_json::value::RawValue;
use tower_service::Service;

use super::{DEADLINE, LIMIT, Model, ask, field, no_catalogue};
use crate::{
    BoxError, CredentialHeaders, Error, FullBody,
    qwen::{
        redact::Secrets,
        transport,
        web::{Call, envelope},
    },
};

/// Fetches the catalogue of chat.qwen.ai with `GET /api/models`.
///
/// The account is that of `credential`, or else the one that `service` puts on. Whether upstream
/// wants one changes, so where it refuses, `anonymous` is asked once: a service of the same
/// upstream that puts none on, such as `QwenUpstream::anonymous` gives it.
///
/// Nothing is cached; [`Catalogue::web`](super::Catalogue::web) does that.
///
/// # Errors
///
/// Where upstream refuses both times, the first refusal; where it is out of reach, too slow, or
/// answers what is no catalogue.
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
///
/// ```
/// use http::{Request, Response};
/// use tower::service_fn;
/// use tower_qwen::{FullBody, qwen::models};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_qwen::Error> {
/// // In the place of this one stands `QwenUpstream`.
/// let upstream = service_fn(|_: Request<FullBody>| async {
///     Response::builder().body(FullBody::from(
///         r#"{"data": [{"id": "qwen3-max", "info": {"created_at": 1732000000}}]}"#,
///     ))
/// });
/// let models = models::list_web(upstream, upstream, None).await?;
/// assert_eq!((models[0].id.as_str(), models[0].created), ("qwen3-max", 1_732_000_000));
/// # Ok(())
/// # }
/// ```
pub async fn list_web<S, A, B, C>(
    service: S,
    anonymous: A,
    credential: Option<&CredentialHeaders>,
) -> Result<Vec<Model>, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    A: Service<Request<FullBody>, Response = Response<C>>,
    A::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    C: Body<Data = Bytes>,
    C::Error: Into<BoxError>,
{
    match fetch(service, credential).await {
        // Slowness and challenges are not about the account: asking again makes them worse.
        Err(error) if !error.is_timeout() && !error.is_challenge() => {
            tracing::debug!(%error, "no catalogue with the credential; asking without");
            fetch(anonymous, None).await.map_err(|_| error)
        }
        result => result,
    }
}

async fn fetch<S, B>(
    mut service: S,
    credential: Option<&CredentialHeaders>,
) -> Result<Vec<Model>, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let request = ask("/api/models", transport::headers(&HeaderMap::new(), credential));
    let (head, body) = transport::send(&mut service, request).await?.into_parts();
    let read = transport::read(body, LIMIT, DEADLINE).await;
    let secrets = Secrets::new(credential, &head.extensions);
    envelope(Call::Models, head.status, &head.headers, &read, &secrets)?;
    // It was JSON a moment ago.
    let json: &RawValue = serde_json::from_slice(&read.bytes).map_err(|_| no_catalogue())?;
    // The older path answers a bare list under `data`, the v2 envelope may hold another `data`.
    let data = field(json.get(), "data");
    let list = match data {
        Some(inner) if inner.starts_with('{') => field(inner, "data"),
        other => other,
    };
    let list = list.filter(|list| list.starts_with('[')).ok_or_else(no_catalogue)?;
    Model::list_from_json(list, "qwen")
}
