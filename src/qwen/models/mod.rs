//! The catalogues of models: what an upstream has, and a cache that asks it seldom.
//!
//! [`list_web`] reads the catalogue of chat.qwen.ai, [`list_compatible`] that of an
//! OpenAI-compatible server; both give [`Model`]s, with everything that the upstream says
//! kept. A [`Catalogue`] keeps such a list for an hour and asks once, however many want it.
//!
//! ```
//! use http::{Request, Response};
//! use tower::service_fn;
//! use tower_qwen::{FullBody, qwen::models::Catalogue};
//!
//! # #[cfg(feature = "web")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_qwen::Error> {
//! // In the place of this one stands `QwenUpstream`.
//! let upstream = service_fn(|_: Request<FullBody>| async {
//!     Response::builder().body(FullBody::from(
//!         r#"{"data": [{"id": "qwen3-max", "info": {"created_at": 1732000000}}]}"#,
//!     ))
//! });
//! // `QwenUpstream::anonymous` is the second: the same upstream, asked without a credential.
//! let catalogue = Catalogue::web(upstream, upstream);
//! let listing = catalogue.list().await?;
//! assert_eq!(listing.models[0].created, 1_732_000_000);
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

use http::{HeaderMap, HeaderValue, Request, Uri, header};
use serde_json::Value;

use crate::{
    FullBody, Text,
    chat::{Extra, Fields, Json},
    json,
};

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

/// How many models of a catalogue are read at most. The real ones have some hundred.
const MODELS: usize = 10_000;

/// The fields of OpenAI's model object.
const OWN_FIELDS: [&str; 4] = ["id", "object", "created", "owned_by"];

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
    /// Everything else that the catalogue says, as it says it, such as `name`,
    /// `info.meta.capabilities` or `max_model_len`.
    pub extra: Extra,
}

impl Model {
    /// A model of which nothing else is known: for names that a configuration adds to a
    /// catalogue.
    #[must_use]
    pub fn new(id: impl Into<Text>, owned_by: impl Into<Text>) -> Self {
        Self { id: id.into(), created: 0, owned_by: owned_by.into(), extra: Extra::new() }
    }

    /// OpenAI's model object: `id`, `object`, `created` and `owned_by`, which strict clients
    /// demand, and beside them everything that OpenAI has no field for.
    ///
    /// ```
    /// use tower_qwen::qwen::models::Model;
    ///
    /// assert_eq!(
    ///     Model::new("qwen3-max", "qwen").object().as_str(),
    ///     r#"{"id":"qwen3-max","object":"model","created":0,"owned_by":"qwen"}"#
    /// );
    /// ```
    #[must_use]
    pub fn object(&self) -> Json {
        let mut object = Fields::default();
        let text = |text: &str| Json::from(Value::from(text));
        object.push("id", text(&self.id).as_str());
        object.push("object", "\"model\"");
        object.push("created", &self.created.to_string());
        object.push("owned_by", text(&self.owned_by).as_str());
        for (name, value) in self.extra.raw_fields() {
            // The extra fields are for the caller to fill, but they are not for changing these.
            if !OWN_FIELDS.contains(&&*name) {
                object.push(&name, value);
            }
        }
        Json::from(&object.finish())
    }

    /// The longest prompt that it takes, in tokens; `None` where the catalogue does not say.
    ///
    /// It is read from the names that it has with chat.qwen.ai, vLLM, SGLang, llama.cpp, LM Studio
    /// and the gateways in front of them.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        self.limit(&[
            &["info", "meta", "max_context_length"],
            &["max_model_len"],
            &["context_length"],
            &["max_context_length"],
            &["context_window"],
            &["meta", "n_ctx"],
            &["meta", "n_ctx_train"],
        ])
    }

    /// The longest answer that it gives, in tokens and without its thinking; `None` where the
    /// catalogue does not say.
    #[must_use]
    pub fn max_output(&self) -> Option<u64> {
        self.limit(&[
            &["info", "meta", "max_generation_length"],
            &["info", "meta", "max_summary_generation_length"],
            &["max_output_tokens"],
            &["max_completion_tokens"],
            &["top_provider", "max_completion_tokens"],
        ])
    }

    /// What people call it: the `name` in the catalogue, else its id.
    #[must_use]
    pub fn display_name(&self) -> Text {
        let named = self.extra.get("name");
        let name = named.as_ref().and_then(Json::as_string).filter(|name| !name.is_empty());
        name.map_or_else(|| self.id.clone(), |name| Text::from(&*name))
    }

    /// The first of these fields, each named by its path, that is a number of tokens.
    fn limit(&self, paths: &[&[&str]]) -> Option<u64> {
        paths.iter().find_map(|path| {
            let (first, rest) = path.split_first()?;
            let found =
                rest.iter().try_fold(self.extra.get(first)?, |json, name| json.get(name))?;
            serde_json::from_str(found.as_str()).ok().filter(|&tokens| tokens > 0)
        })
    }

    /// Reads an entry, which is JSON; `None` where it has no id.
    fn from_json(entry: &str, owner: &'static str) -> Option<Self> {
        let mut extra = Fields::default();
        let (mut id, mut owned_by, mut created) = (None, None, None);
        for (name, value) in json::members(entry) {
            match &*name {
                "id" => id = text(value),
                "owned_by" => owned_by = text(value),
                "created" => created = seconds(value),
                // It is what every entry is.
                "object" => {}
                _ => extra.push(&name, value),
            }
        }
        let extra = extra.finish();
        let created_at = extra.get("info").and_then(|info| info.get("created_at"));
        Some(Self {
            id: id?,
            created: created_at.and_then(|at| seconds(at.as_str())).or(created).unwrap_or(0),
            owned_by: owned_by.unwrap_or(Text::from_static(owner)),
            extra,
        })
    }

    /// Reads a list of entries, which is JSON; what has no id is no model, and where nothing has
    /// one there is no catalogue: an empty list would take the place of the last good one.
    fn list_from_json(list: &str, owner: &'static str) -> Result<Vec<Self>, crate::Error> {
        let models: Vec<_> = json::items(list)
            .filter_map(|entry| Self::from_json(entry, owner))
            .take(MODELS)
            .collect();
        if models.is_empty() && json::items(list).next().is_some() {
            return Err(no_catalogue());
        }
        Ok(models)
    }
}

/// The text that `json` is, unless that is empty or no text.
fn text(json: &str) -> Option<Text> {
    let text = json.starts_with('"').then(|| json::unquoted(json))?;
    (!text.is_empty()).then(|| Text::from(&*text))
}

/// The field `name` of the object that `json` is; of several the last.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    json::members(json).filter(|(own, _)| own == name).last().map(|(_, value)| value)
}

/// A time in seconds; some servers write it with a fraction.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a fraction of a second is to be dropped"
)]
fn seconds(json: &str) -> Option<u64> {
    let exact = serde_json::from_str::<u64>(json).ok();
    exact.or_else(|| serde_json::from_str::<f64>(json).ok().map(|seconds| seconds as u64))
}

/// The request for a catalogue.
fn ask(path: &'static str, headers: HeaderMap) -> Request<FullBody> {
    let mut request = Request::new(FullBody::default());
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
        let entry = r#"{"permission": [ ], "id": "m", "object": "odd", "created": 17.9,
            "max_model_len": 8.0}"#;
        let model = Model::from_json(entry, "vllm").expect("it has an id");
        assert_eq!(
            model.object().as_str(),
            concat!(
                r#"{"id":"m","object":"model","created":17,"owned_by":"vllm","#,
                r#""permission":[ ],"max_model_len":8.0}"#
            )
        );
    }

    #[test]
    fn limits_are_read_from_every_catalogue() {
        for (entry, context, output) in [
            (json!({"id": "m"}), None, None),
            (
                json!({"id": "m", "info": {"meta": {"max_context_length": 262_144,
                    "max_generation_length": 32_768}}}),
                Some(262_144),
                Some(32_768),
            ),
            (
                json!({"id": "m", "info": {"meta": {"max_context_length": null,
                    "max_thinking_generation_length": 81_920,
                    "max_summary_generation_length": 65_536}}, "context_length": 7}),
                Some(7),
                Some(65_536),
            ),
            (json!({"id": "m", "max_model_len": 40_960}), Some(40_960), None),
            (json!({"id": "m", "meta": {"n_ctx_train": 32_768}}), Some(32_768), None),
            (
                json!({"id": "m", "context_length": 1_000_000,
                    "top_provider": {"max_completion_tokens": 65_536}}),
                Some(1_000_000),
                Some(65_536),
            ),
            (json!({"id": "m", "max_model_len": 0, "info": 7, "meta": []}), None, None),
            (json!({"id": "m", "max_model_len": "many", "max_output_tokens": -1}), None, None),
        ] {
            let model = Model::from_json(&entry.to_string(), "qwen").expect("it has an id");
            assert_eq!((model.context_length(), model.max_output()), (context, output), "{entry}");
        }
    }

    #[test]
    fn a_model_is_called_by_its_name_or_its_id() {
        for (entry, name) in [
            (json!({"id": "qwen3-max", "name": "Qwen3-Max"}), "Qwen3-Max"),
            (json!({"id": "qwen3-max", "name": ""}), "qwen3-max"),
            (json!({"id": "qwen3-max", "name": 3}), "qwen3-max"),
            (json!({"id": "qwen3-max"}), "qwen3-max"),
        ] {
            let model = Model::from_json(&entry.to_string(), "qwen").expect("it has an id");
            assert_eq!(model.display_name(), Text::from(name), "{entry}");
        }
    }

    #[test]
    fn extra_fields_do_not_change_the_four() {
        let mut model = Model::new("m", "qwen");
        model.extra.insert("id", json!("other"));
        let id = model.object().get("id");
        assert_eq!(id.as_ref().and_then(Json::as_string).as_deref(), Some("m"));
    }

    #[test]
    fn what_has_no_id_is_no_model() {
        for entry in [json!({}), json!({"id": ""}), json!({"id": 7}), json!("m"), json!(null)] {
            assert_eq!(Model::from_json(&entry.to_string(), "qwen"), None);
        }
    }
}
