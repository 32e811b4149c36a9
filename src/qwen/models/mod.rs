//! The catalogues of models: what an upstream has, and a cache that asks it seldom.
//!
//! [`list_web`] reads the catalogue of chat.qwen.ai (A5), [`list_compatible`] that of an
//! OpenAI-compatible server (D7); both give [`Model`]s, with everything that the upstream says
//! kept. A [`Catalogue`] keeps such a list for an hour and asks once, however many want it.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::service_fn;
//! use tower_qwen::qwen::models::Catalogue;
//!
//! # #[cfg(feature = "web")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In the place of this one stands `QwenUpstream`.
//! let upstream = service_fn(|_: Request<Full<Bytes>>| async {
//!     Response::builder().body(Full::from(
//!         r#"{"data": [{"id": "qwen3-max", "info": {"created_at": 1732000000}}]}"#,
//!     ))
//! });
//! // `QwenUpstream::anonymous` is the second: the same upstream, asked without a credential.
//! let catalogue = Catalogue::web(upstream, upstream);
//! let listing = catalogue.list().await?;
//! assert_eq!(listing.models[0].object()["object"], "model");
//! assert!(catalogue.get("qwen-unheard-of").await.is_err());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "web"))]
//! # fn main() {}
//! ```
//!
//! # Metrics
//!
//! | name | labels | counts |
//! | --- | --- | --- |
//! | `tower_qwen_models_hits_total` | | lists served from the cache while fresh |
//! | `tower_qwen_models_refreshes_total` | `result`: `ok`, `failed` | calls of the upstream |
//! | `tower_qwen_models_stale_total` | | lists served although they are outdated |
//! | `tower_qwen_models_unavailable_total` | | requests for a list where there is none |

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::Full;
use serde_json::Value;

use crate::chat::{Extra, Text};

mod catalogue;
#[cfg(feature = "compatible")]
mod compatible;
#[cfg(feature = "web")]
mod web;

pub use self::catalogue::{Catalogue, Listing};
#[cfg(feature = "compatible")]
#[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
pub use self::compatible::list_compatible;
#[cfg(feature = "web")]
#[cfg_attr(docsrs, doc(cfg(feature = "web")))]
pub use self::web::list_web;

/// The largest catalogue that is read, in bytes. The real ones have some 100 KB.
const LIMIT: usize = 8 * 1024 * 1024;

/// How long reading the catalogue may take once the response has begun.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// One model of a catalogue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Model {
    /// The id that requests name.
    pub id: Text,
    /// When it was added, in seconds since 1970; 0 where the catalogue does not say.
    pub created: u64,
    /// Whose it is; where the catalogue does not say, `qwen`, or the kind of the server.
    pub owned_by: Text,
    /// Everything else that the catalogue says, such as `name`, `info.meta.capabilities` or
    /// `max_model_len`.
    pub extra: Extra,
}

impl Model {
    /// A model of which nothing else is known: for names that a configuration adds to a
    /// catalogue.
    #[must_use]
    pub fn new(id: impl Into<Text>, owned_by: impl Into<Text>) -> Self {
        Self { id: id.into(), created: 0, owned_by: owned_by.into(), extra: Extra::new() }
    }

    /// OpenAI's model object (D7): `id`, `object`, `created` and `owned_by`, which strict clients
    /// demand, and beside them everything that OpenAI has no field for.
    ///
    /// ```
    /// use tower_qwen::qwen::models::Model;
    ///
    /// assert_eq!(
    ///     Model::new("qwen3-max", "qwen").object(),
    ///     serde_json::json!({
    ///         "id": "qwen3-max", "object": "model", "created": 0, "owned_by": "qwen",
    ///     })
    /// );
    /// ```
    #[must_use]
    pub fn object(&self) -> Value {
        let mut object = Extra::new();
        object.insert("id".into(), self.id.as_str().into());
        object.insert("object".into(), "model".into());
        object.insert("created".into(), self.created.into());
        object.insert("owned_by".into(), self.owned_by.as_str().into());
        for (name, value) in &self.extra {
            // The extra fields are for the caller to fill, but they are not for changing these.
            if !object.contains_key(name) {
                object.insert(name.clone(), value.clone());
            }
        }
        Value::Object(object)
    }

    /// Reads an entry; `None` where it has no id.
    fn from_json(value: Value, owner: &'static str) -> Option<Self> {
        let Value::Object(mut extra) = value else { return None };
        let id = match extra.shift_remove("id")? {
            Value::String(id) if !id.is_empty() => id.into(),
            _ => return None,
        };
        let owned_by = match extra.shift_remove("owned_by") {
            Some(Value::String(owner)) if !owner.is_empty() => owner.into(),
            _ => Text::from_static(owner),
        };
        // It is what every entry is.
        extra.shift_remove("object");
        let created = extra.shift_remove("created");
        let created = extra
            .get("info")
            .and_then(|info| info.get("created_at"))
            .or(created.as_ref())
            .and_then(seconds)
            .unwrap_or(0);
        Some(Self { id, created, owned_by, extra })
    }

    /// Reads a list of entries; what has no id is no model, and where nothing has one there is
    /// no catalogue: an empty list would take the place of the last good one.
    fn list_from_json(entries: Vec<Value>, owner: &'static str) -> Result<Vec<Self>, crate::Error> {
        let count = entries.len();
        let models: Vec<_> =
            entries.into_iter().filter_map(|entry| Self::from_json(entry, owner)).collect();
        if models.is_empty() && count > 0 {
            return Err(no_catalogue());
        }
        Ok(models)
    }
}

/// A time in seconds; some servers write it with a fraction.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a fraction of a second is to be dropped"
)]
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))
}

/// The request for a catalogue.
fn ask(path: &'static str, headers: HeaderMap) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = Uri::from_static(path);
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request
}

fn no_catalogue() -> crate::Error {
    crate::Error::new(
        crate::ErrorKind::Upstream,
        "the upstream answered with JSON that holds no catalogue",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_object_has_the_four_fields_and_all_others() {
        let entry = json!({"id": "m", "object": "odd", "created": 17.9, "max_model_len": 8,
            "permission": []});
        let model = Model::from_json(entry, "vllm").expect("it has an id");
        assert_eq!(
            model.object(),
            json!({"id": "m", "object": "model", "created": 17, "owned_by": "vllm",
                "max_model_len": 8, "permission": []})
        );
    }

    #[test]
    fn extra_fields_do_not_change_the_four() {
        let mut model = Model::new("m", "qwen");
        model.extra.insert("id".into(), "other".into());
        assert_eq!(model.object()["id"], "m");
    }

    #[test]
    fn what_has_no_id_is_no_model() {
        for entry in [json!({}), json!({"id": ""}), json!({"id": 7}), json!("m"), json!(null)] {
            assert_eq!(Model::from_json(entry, "qwen"), None);
        }
    }
}
