//! The upstream's catalogue, as OpenAI clients list it.

use std::{fmt, sync::Arc, time::Duration};

use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};
use tower_qwen::{Error, ErrorKind};

/// The largest catalogue to read, in bytes; real ones have a few 100 KiB.
const MAX_BODY: usize = 8 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks the upstream which models it has.
#[derive(Clone)]
pub(crate) struct Models {
    upstream: BoxCloneSyncService<Request<Full<Bytes>>, Response<Bytes>, Error>,
    credentials: Arc<HeaderMap>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").finish_non_exhaustive()
    }
}

impl Models {
    /// Models from `GET /api/models` of `upstream`, asked with `credentials`.
    pub(crate) fn new<U, B>(upstream: U, credentials: HeaderMap) -> Self
    where
        U: Service<
                Request<Full<Bytes>>,
                Response = Response<B>,
                Error: Into<BoxError>,
                Future: Send,
            > + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let upstream = upstream.map_err(|error| unavailable(error.into())).and_then(
            async |response: Response<B>| {
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, MAX_BODY).collect().await.map_err(unavailable)?;
                Ok(Response::from_parts(parts, body.to_bytes()))
            },
        );
        Self { upstream: BoxCloneSyncService::new(upstream), credentials: Arc::new(credentials) }
    }

    /// The catalogue as OpenAI's model objects, in the upstream's order (A5, D7).
    ///
    /// # Errors
    ///
    /// If the upstream cannot be asked, refuses, or answers something else.
    pub(crate) async fn list(&self) -> Result<Vec<Value>, Error> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = "/api/models".parse().expect("it is a path");
        request.headers_mut().extend((*self.credentials).clone());
        let asked = tokio::time::timeout(DEADLINE, self.upstream.clone().oneshot(request));
        let response = asked.await.map_err(|_| {
            Error::new(ErrorKind::Timeout, "the upstream did not list its models in time")
        })??;
        read(&response)
    }
}

/// An error of the crate on the way keeps its class.
fn unavailable(error: BoxError) -> Error {
    error.downcast::<Error>().map_or_else(
        |error| {
            Error::new(ErrorKind::Upstream, "the upstream could not be asked for its models")
                .with_source(error)
        },
        |error| *error,
    )
}

#[derive(Deserialize)]
struct Catalogue {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    info: Info,
}

#[derive(Default, Deserialize)]
struct Info {
    /// Seconds.
    #[serde(default)]
    created_at: u64,
}

fn read(response: &Response<Bytes>) -> Result<Vec<Value>, Error> {
    let refused = |kind| {
        let message = format!("the upstream did not list its models ({})", response.status());
        Err(Error::new(kind, message))
    };
    match response.status().as_u16() {
        401 => return refused(ErrorKind::Auth),
        403 => return refused(ErrorKind::Permission),
        429 => return refused(ErrorKind::RateLimited),
        200 => {}
        _ => return refused(ErrorKind::Upstream),
    }
    let catalogue: Catalogue = serde_json::from_slice(response.body()).map_err(|error| {
        // Its Display says where and what was expected, and quotes nothing of a page.
        Error::new(ErrorKind::Upstream, "the upstream answered with something else than models")
            .with_source(error)
    })?;
    let model = |Entry { id, info }| json!({"id": id, "object": "model", "created": info.created_at, "owned_by": "qwen"});
    Ok(catalogue.data.into_iter().map(model).collect())
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;

    async fn list(status: u16, body: &'static str) -> Result<Vec<Value>, Error> {
        let upstream = service_fn(move |request: Request<Full<Bytes>>| async move {
            assert_eq!(request.uri(), "/api/models");
            assert_eq!(request.headers()["cookie"], "a=b");
            let response = Response::builder().status(status);
            Ok::<_, BoxError>(response.body(Full::from(body)).expect("valid"))
        });
        let credentials = HeaderMap::from_iter([(
            "cookie".parse().expect("a name"),
            "a=b".parse().expect("a value"),
        )]);
        Models::new(upstream, credentials).list().await
    }

    #[tokio::test]
    async fn the_catalogue_becomes_model_objects() {
        let body = r#"{"data":[
            {"id":"qwen3-max","object":"model","info":{"created_at":1732000000,"is_active":true}},
            {"id":"bare"}]}"#;
        let models = list(200, body).await.expect("a catalogue");
        assert_eq!(
            models,
            [
                json!({"id":"qwen3-max","object":"model","created":1_732_000_000,"owned_by":"qwen"}),
                json!({"id":"bare","object":"model","created":0,"owned_by":"qwen"}),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_no_catalogue_is_an_error() {
        for (status, body, kind) in [
            (401, "", ErrorKind::Auth),
            (403, "", ErrorKind::Permission),
            (429, "", ErrorKind::RateLimited),
            (503, "", ErrorKind::Upstream),
            (200, "<!doctypehtml>", ErrorKind::Upstream),
            (200, r#"{"success":false,"data":{"code":"Bad_Request"}}"#, ErrorKind::Upstream),
        ] {
            assert_eq!(list(status, body).await.expect_err("none").kind(), kind, "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_upstream_is_a_timeout() {
        let upstream = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>()
        });
        let error = Models::new(upstream, HeaderMap::new()).list().await.expect_err("silent");
        assert!(error.is_timeout());
    }

    #[tokio::test]
    async fn an_error_of_the_crate_keeps_its_class() {
        let upstream = service_fn(async |_: Request<Full<Bytes>>| {
            Err::<Response<Full<Bytes>>, _>(Error::new(ErrorKind::Overloaded, "cooling down"))
        });
        let error = Models::new(upstream, HeaderMap::new()).list().await.expect_err("none");
        assert_eq!(error.kind(), ErrorKind::Overloaded);
    }
}
