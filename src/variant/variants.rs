use std::sync::Arc;

use super::Suffix;
use crate::{
    Error, ErrorKind, Text,
    chat::{AnswerKind, ChatRequest, ReasoningEffort, ResponseFormat},
    qwen::models::{Catalogue, Model},
};

/// The virtual models of an upstream: its own models, and the suffixes that their names may have.
///
/// A clone shares the catalogue.
#[derive(Clone, Debug)]
pub struct Variants {
    catalogue: Catalogue,
    suffixes: Arc<[Suffix]>,
}

/// What a virtual model stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// The model that is there.
    pub model: Text,
    /// Whether it thinks; `None` where the name does not say.
    pub thinking: Option<bool>,
    /// The kind of answer that it is asked for.
    pub kind: AnswerKind,
}

impl Variants {
    /// The models of `catalogue` with these suffixes. With none there are no virtual models.
    #[must_use]
    pub fn new(catalogue: Catalogue, suffixes: impl IntoIterator<Item = Suffix>) -> Self {
        Self { catalogue, suffixes: suffixes.into_iter().collect() }
    }

    /// Whether `name` ends as that of a virtual model. Nobody is asked.
    #[must_use]
    pub fn may_be(&self, name: &str) -> bool {
        Suffix::split(name, &self.suffixes).is_some()
    }

    /// The names that stand in front of the suffixes of `name`, the longest first.
    pub fn fronts<'a>(&self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        Suffix::fronts(name, &self.suffixes)
    }

    /// What `name` stands for; `None` where it is the name of a model, or of nothing that is known.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ModelNotFound`] where the model in front of the suffix has not what the suffix
    /// is for. A catalogue that cannot be had is no error: nothing is known then.
    ///
    /// # Cancel safety
    ///
    /// As [`Catalogue::list`].
    pub async fn resolve(&self, name: &str) -> Result<Option<Variant>, Error> {
        if !self.may_be(name) {
            return Ok(None);
        }
        match self.catalogue.list().await {
            Ok(listing) => self.resolve_among(&listing.models, name),
            Err(error) => {
                tracing::debug!(%error, "there is no catalogue to find a virtual model in");
                Ok(None)
            }
        }
    }

    /// The same among these `models`.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub fn resolve_among(&self, models: &[Model], name: &str) -> Result<Option<Variant>, Error> {
        let find = |id: &str| models.iter().find(|model| *model.id == *id);
        if find(name).is_some() {
            return Ok(None);
        }
        let (mut thinking, mut kind, mut rest) = (None, None, name);
        let mut said = Vec::with_capacity(2);
        while let Some((front, suffix)) = Suffix::split(rest, &self.suffixes) {
            // The same thing is said once.
            let is_new = match (suffix.thinking(), suffix.kind()) {
                (Some(_), _) => thinking.is_none(),
                (_, Some(_)) => kind.is_none(),
                _ => false,
            };
            if !is_new {
                return Ok(None);
            }
            thinking = thinking.or(suffix.thinking());
            kind = kind.or(suffix.kind());
            said.push(suffix);
            rest = front;
            let Some(model) = find(front) else { continue };
            return match said.iter().find(|suffix| suffix.is_denied_by(model)) {
                Some(denied) => Err(no_such(name, front, *denied)),
                None => Ok(Some(Variant {
                    model: model.id.clone(),
                    thinking,
                    kind: kind.unwrap_or_default(),
                })),
            };
        }
        Ok(None)
    }

    /// The virtual models over `models`, each with one suffix. A field `base_model` says of which.
    #[must_use]
    pub fn list(&self, models: &[Model]) -> Vec<Model> {
        let taken = |id: &str| models.iter().any(|model| *model.id == *id);
        let of_one = |model: &Model| {
            let able = self.suffixes.iter().filter(|suffix| !suffix.is_denied_by(model));
            let named = able.map(|suffix| format!("{}{}", model.id, suffix.as_str()));
            let variants = named.filter(|id| !taken(id)).map(|id| {
                let mut variant = model.clone();
                variant.extra.insert("base_model", serde_json::Value::from(model.id.as_str()));
                variant.id = id.into();
                variant
            });
            variants.collect::<Vec<_>>()
        };
        models.iter().flat_map(of_one).collect()
    }
}

impl Variant {
    /// Makes `request` one for the model that is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] where the request wants functions, or a form for its text, of a
    /// kind of answer that has no place for them.
    pub fn apply(&self, request: &mut ChatRequest) -> Result<(), Error> {
        let kind = self.kind;
        if !kind.is_chat() {
            self.check(request)?;
            // What is left of them is the upstream's own search, which is of no use for a picture.
            if !request.tools.is_empty() {
                Arc::make_mut(&mut request.tools).clear();
            }
            request.tool_choice = None;
        }
        let thinking = self.thinking.map_or("unsaid", |thinks| if thinks { "on" } else { "off" });
        metrics::counter!(
            "tower_qwen_variant_requests_total",
            "kind" => kind.as_str(),
            "thinking" => thinking
        )
        .increment(1);
        request.model = self.model.clone();
        // A route of its own may want a picture, of a model that the name says no more of.
        if kind != AnswerKind::Text {
            request.kind = kind;
        }
        let reasoning = &mut request.reasoning;
        reasoning.enabled = self.thinking.or(reasoning.enabled);
        match self.thinking {
            Some(true) => {
                reasoning.effort.take_if(|effort| *effort == ReasoningEffort::None);
                reasoning.budget.take_if(|budget| *budget == 0);
            }
            Some(false) => (reasoning.effort, reasoning.budget) = (None, None),
            None => {}
        }
        Ok(())
    }

    fn check(&self, request: &ChatRequest) -> Result<(), Error> {
        let refuse = |field: &'static str, what: &str| {
            let name = &request.model;
            let message = format!(
                "`{field}`: the answer of `{name}` is no chat, and has {what}; leave it out, or ask \
                 for `{}`",
                self.model
            );
            Err(Error::invalid(field, message).with_code("unsupported_parameter"))
        };
        if request.tools.iter().any(|tool| tool.as_function().is_some()) {
            return refuse("tools", "no calls of functions");
        }
        if !request.response_format.as_ref().is_none_or(ResponseFormat::is_text) {
            return refuse("response_format", "no other form");
        }
        Ok(())
    }
}

fn no_such(name: &str, model: &str, suffix: Suffix) -> Error {
    let message = format!("the model `{name}` does not exist: `{model}` {}", suffix.what());
    Error::new(ErrorKind::ModelNotFound, message).with_param("model")
}

#[cfg(test)]
mod tests;
