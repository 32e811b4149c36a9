//! The upstream's catalogue, as OpenAI clients list it.

use std::{fmt, time::Duration};

use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_qwen::{
    Error, ErrorKind,
    qwen::models::{self, Model},
};

/// How long the upstream may take to list its models.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks the upstream which models it has.
#[derive(Clone)]
pub(crate) struct Models {
    list: BoxCloneSyncService<(), Vec<Model>, Error>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").finish_non_exhaustive()
    }
}

impl Models {
    /// The catalogue of `upstream`.
    pub(crate) fn new<U, B>(upstream: U) -> Self
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
        let list = service_fn(move |()| {
            let upstream = upstream.clone();
            async move { models::list(upstream, &HeaderMap::new()).await }
        });
        Self { list: BoxCloneSyncService::new(list) }
    }

    /// The catalogue as OpenAI's model objects, in the upstream's order (D7).
    ///
    /// # Errors
    ///
    /// If the upstream cannot be asked, refuses, is too slow, or answers something else.
    pub(crate) async fn list(&self) -> Result<Vec<Value>, Error> {
        let list = tokio::time::timeout(DEADLINE, self.list.clone().oneshot(())).await;
        let list = list.map_err(|_| {
            Error::new(ErrorKind::Timeout, "the upstream did not list its models in time")
        })??;
        Ok(list.into_iter().map(object).collect())
    }
}

/// What OpenAI's object has no field for, such as the name and what the model can do, stands
/// beside its fields: clients leave out what they do not know.
fn object(model: Model) -> Value {
    let Model { id, created, owned_by, extra, .. } = model;
    let mut object = json!({
        "id": id.as_str(), "object": "model", "created": created, "owned_by": owned_by.as_str(),
    });
    for (name, value) in extra {
        object[name] = value;
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_catalogue_becomes_model_objects() {
        let upstream = service_fn(async |_: Request<Full<Bytes>>| {
            let body = r#"{"data":[
                {"id":"qwen3-max","name":"Qwen3-Max","object":"model","info":{"created_at":7}},
                {"id":"bare"}]}"#;
            Ok::<_, BoxError>(Response::new(Full::from(body)))
        });
        let list = Models::new(upstream).list().await.expect("a catalogue");
        assert_eq!(
            list,
            [
                json!({"id":"qwen3-max","object":"model","created":7,"owned_by":"qwen",
                    "name":"Qwen3-Max","info":{"created_at":7}}),
                json!({"id":"bare","object":"model","created":0,"owned_by":"qwen"}),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_upstream_is_a_timeout() {
        let upstream = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>()
        });
        assert!(Models::new(upstream).list().await.expect_err("silent").is_timeout());
    }

    #[tokio::test]
    async fn an_error_keeps_its_class() {
        let upstream = service_fn(async |_: Request<Full<Bytes>>| {
            Err::<Response<Full<Bytes>>, _>(Error::new(ErrorKind::Overloaded, "cooling down"))
        });
        let error = Models::new(upstream).list().await.expect_err("none");
        assert_eq!(error.kind(), ErrorKind::Overloaded);
    }
}
