//! By which other names models are asked for.

use axum::http::Request;
use bytes::Bytes;
use tower_qwen::{
    FullBody, Text,
    alias::Aliases,
    chat::{Extra, Json},
    edge::model,
    qwen::models::{Catalogue, Model},
    variant::{Suffix, Variants},
};

use super::{
    ConfigError,
    options::{AliasSettings, VirtualModels},
};

/// What the names of models begin with that are for Claude Code.
const CLAUDE: &str = "claude-";

/// The names of this server's own models behind that, so that `claude-opus` is none of them.
const OF_QWEN: [(&str, &str); 2] = [("claude-*qwen*", "*qwen*"), ("claude-*Qwen*", "*Qwen*")];

/// By which other names models are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelNames {
    /// What each stands for.
    pub(crate) aliases: Aliases,
    /// Those that are listed.
    listed: Vec<Text>,
    /// Whether models are listed to clients of the Anthropic API with a `claude-` before them.
    claude: bool,
    /// What becomes of names that end in what a model is to do.
    virtual_models: VirtualModels,
}

impl ModelNames {
    /// # Errors
    ///
    /// For what can only be a slip.
    pub(super) fn new(
        settings: Option<Vec<AliasSettings>>,
        claude: bool,
    ) -> Result<Self, ConfigError> {
        let mut names = Self { claude, ..Self::default() };
        // First: `claude-*` is what people write for all that Claude Code asks for.
        for (name, model) in OF_QWEN.into_iter().filter(|_| claude) {
            names.aliases = names
                .aliases
                .alias(name, model)
                .map_err(|slip| ConfigError(format!("--claude-models: {slip}")))?;
        }
        for (at, AliasSettings { name, model, list }) in settings.into_iter().flatten().enumerate()
        {
            let place =
                |reason: String| ConfigError(format!("--alias: number {}: {reason}", at + 1));
            if list && name.contains('*') {
                return Err(place(format!("`{name}` is listed, and a name with a `*` cannot be")));
            }
            if list {
                names.listed.push(name.as_str().into());
            }
            names.aliases =
                names.aliases.alias(name, model).map_err(|slip| place(slip.to_string()))?;
        }
        Ok(names)
    }

    /// The same, with this for names that end in what a model is to do.
    pub(super) fn virtual_models(self, virtual_models: VirtualModels) -> Self {
        Self { virtual_models, ..self }
    }

    /// The virtual models of an upstream with this `catalogue`, which knows these `suffixes`.
    pub(crate) fn variants(&self, catalogue: &Catalogue, suffixes: &[Suffix]) -> Variants {
        let is_off = self.virtual_models == VirtualModels::Off;
        let suffixes = if is_off { &[] } else { suffixes };
        Variants::new(catalogue.clone(), suffixes.iter().copied())
    }

    /// Whether virtual models are listed to whoever does not ask for them.
    pub(crate) fn lists_virtual_models(&self) -> bool {
        self.virtual_models == VirtualModels::List
    }

    /// The model that `name` stands for, if it stands for another.
    pub(crate) fn resolve(&self, name: &str) -> Option<Text> {
        self.aliases.resolve(name)
    }

    /// The aliases that are listed, with what is known of the models that they stand for.
    pub(crate) fn listed(&self, models: &[Model]) -> Vec<Model> {
        let listed = self.listed.iter().filter_map(|name| {
            let target = self.resolve(name)?;
            models.iter().find(|model| model.id == target).map(|model| named(model, name))
        });
        listed.collect()
    }

    /// The models as clients of the Anthropic API shall find them.
    pub(crate) fn for_claude(&self, models: Vec<Model>) -> Vec<Model> {
        let prefixed = |model: Model| {
            let name = format!("{CLAUDE}{}", model.id);
            // Under a name that leads elsewhere it would be another model.
            let is_its = self.claude && self.resolve(&name).is_some_and(|found| found == model.id);
            if is_its { named(&model, &name) } else { model }
        };
        models.into_iter().map(prefixed).collect()
    }

    /// `request` for the model that its body's name stands for: for what goes to an upstream
    /// without a layer that looks at it.
    pub(crate) fn rename(&self, mut request: Request<FullBody>) -> Request<FullBody> {
        if !self.aliases.is_empty()
            && let Some((_, body)) = self.renamed(&request.body().clone().into_bytes())
        {
            *request.body_mut() = body.into();
        }
        request
    }

    /// The name in `body`, and a body for the model that it stands for; `None` where it stands for
    /// itself.
    pub(crate) fn renamed(&self, body: &Bytes) -> Option<(Text, Bytes)> {
        if self.aliases.is_empty() {
            return None;
        }
        // What cannot be read is for the upstream to refuse.
        let asked = model(body).ok()??;
        let found = self.resolve(&asked)?;
        let mut fields = fields(body)?;
        fields.insert("model", serde_json::Value::from(found.as_str()));
        Some((asked.into(), Json::from(&fields).to_string().into()))
    }
}

/// The fields of a body that is an object.
pub(crate) fn fields(body: &Bytes) -> Option<Extra> {
    let mark = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    Json::parse(Text::from_utf8(body.slice(mark..)).ok()?).ok()?.as_fields()
}

/// Which the edges read over.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// `model` under another name.
pub(crate) fn named(model: &Model, name: &str) -> Model {
    let mut model = model.clone();
    model.id = name.into();
    model
}
