use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use serde_json::value::RawValue;
use tower_service::Service;

use super::{DEADLINE, LIMIT, Model, ask, field, no_catalogue};
use crate::{
    BoxError, CredentialHeaders, Error, ErrorKind, FullBody,
    qwen::{
        compatible::{Server, refusal},
        redact::Secrets,
        transport,
    },
};

/// Fetches the catalogue of an OpenAI-compatible server with `GET /models`.
///
/// `service` is an HTTP service whose base URL includes `/v1`, as for
/// [`CompatibleLayer`](crate::qwen::compatible::CompatibleLayer). The account is that of
/// `credential`, or else the one that `service` puts on. Where an entry does not say whose it is,
/// [`owned_by`](Model::owned_by) is the [`name`](Server::name) of `server`.
///
/// Nothing is cached; [`Catalogue::compatible`](super::Catalogue::compatible) does that.
///
/// # Errors
///
/// The upstream's refusal with its meaning; [`ErrorKind::Unsupported`] where it has no
/// such path, as some gateways; where it is out of reach, too slow, or answers what is no
/// catalogue.
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
///
/// ```
/// use http::{Request, Response};
/// use tower::service_fn;
/// use tower_qwen::{FullBody, qwen::{compatible::Server, models}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_qwen::Error> {
/// // In the place of this one stands `QwenUpstream`.
/// let upstream = service_fn(|_: Request<FullBody>| async {
///     Response::builder().body(FullBody::from(
///         r#"{"object": "list", "data": [{"id": "qwen3-32b", "max_model_len": 40960}]}"#,
///     ))
/// });
/// let models = models::list_compatible(upstream, None, Server::Vllm).await?;
/// assert_eq!((models[0].id.as_str(), models[0].owned_by.as_str()), ("qwen3-32b", "vllm"));
/// assert_eq!(models[0].extra.get("max_model_len").expect("there").as_str(), "40960");
/// # Ok(())
/// # }
/// ```
pub async fn list_compatible<S, B>(
    mut service: S,
    credential: Option<&CredentialHeaders>,
    server: Server,
) -> Result<Vec<Model>, Error>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let request = ask("/models", transport::headers(&HeaderMap::new(), credential));
    let (head, body) = transport::send(&mut service, request).await?.into_parts();
    let read = transport::read(body, LIMIT, DEADLINE).await;
    let secrets = Secrets::new(credential, &head.extensions);
    if matches!(
        head.status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    ) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the upstream does not list its models (status {}); requests can still name them",
                head.status.as_u16()
            ),
        ));
    }
    if !head.status.is_success() {
        return Err(refusal(head.status, &head.headers, &read, server, &secrets));
    }
    if !read.complete {
        return Err(Error::new(
            ErrorKind::Truncated,
            "the upstream's catalogue broke off, or is larger than what is read",
        ));
    }
    let json: &RawValue = serde_json::from_slice(&read.bytes)
        .map_err(|error| no_catalogue().with_source(crate::json::ReadError::from(error)))?;
    let json = json.get();
    // Some gateways send the list alone.
    let entries = if json.starts_with('[') { Some(json) } else { field(json, "data") };
    let entries = match entries {
        Some(list) if list.starts_with('[') => list,
        // No model was pulled yet (Ollama).
        Some("null") if field(json, "object").is_some() => "[]",
        _ if field(json, "error").is_some() || field(json, "code").is_some() => {
            return Err(refusal(head.status, &head.headers, &read, server, &secrets));
        }
        _ => return Err(no_catalogue()),
    };
    Model::list_from_json(entries, server.name())
}
