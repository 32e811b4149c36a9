#[cfg(feature = "compatible")]
use crate::qwen::compatible::Server;
use crate::{
    chat::{AnswerKind, Json},
    family::always_thinks,
    qwen::models::Model,
};

/// What the end of a virtual model's name says of how the model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suffix {
    /// `-thinking`.
    Thinking,
    /// `-no-thinking`.
    NoThinking,
    /// `-search`.
    Search,
    /// `-deep-research`.
    DeepResearch,
    /// `-image`.
    Image,
    /// `-video`.
    Video,
}

impl Suffix {
    /// Those that mean something over chat.qwen.ai.
    pub const WEB: [Self; 6] = [
        Self::Thinking,
        // Before the one that it ends with too, here and everywhere: the first that fits counts.
        Self::NoThinking,
        Self::Search,
        Self::DeepResearch,
        Self::Image,
        Self::Video,
    ];

    /// Those that mean something over an OpenAI-compatible `server`.
    #[cfg(feature = "compatible")]
    #[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
    #[must_use]
    pub const fn of_server(server: Server) -> &'static [Self] {
        match server {
            Server::DashScope => &[Self::Thinking, Self::NoThinking, Self::Search],
            _ => &[Self::Thinking, Self::NoThinking],
        }
    }

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thinking => "-thinking",
            Self::NoThinking => "-no-thinking",
            Self::Search => "-search",
            Self::DeepResearch => "-deep-research",
            Self::Image => "-image",
            Self::Video => "-video",
        }
    }

    /// What stands in front of those of `suffixes` that `name` ends with, the longest first; of a
    /// name that has none, nothing. Whether it is a model is not looked at.
    ///
    /// ```
    /// use tower_qwen::variant::Suffix;
    ///
    /// let fronts = Suffix::fronts("qwen3-max-thinking-search", &Suffix::WEB);
    /// assert_eq!(fronts.collect::<Vec<_>>(), ["qwen3-max-thinking", "qwen3-max"]);
    /// ```
    pub fn fronts<'a>(name: &'a str, suffixes: &[Self]) -> impl Iterator<Item = &'a str> + use<'a> {
        let split = |name| Self::split(name, suffixes).map(|(front, _)| front);
        let first = split(name);
        [first, first.and_then(split)].into_iter().flatten()
    }

    /// Whether the model thinks, where it is that which is said.
    pub(super) const fn thinking(self) -> Option<bool> {
        match self {
            Self::Thinking => Some(true),
            Self::NoThinking => Some(false),
            _ => None,
        }
    }

    /// The kind of answer, where it is that which is said.
    pub(super) const fn kind(self) -> Option<AnswerKind> {
        Some(match self {
            Self::Thinking | Self::NoThinking => return None,
            Self::Search => AnswerKind::Search,
            Self::DeepResearch => AnswerKind::DeepResearch,
            Self::Image => AnswerKind::Image,
            Self::Video => AnswerKind::Video,
        })
    }

    /// Takes the suffix off `name`, if it is one of `known` and something is in front of it.
    pub(super) fn split<'a>(name: &'a str, known: &[Self]) -> Option<(&'a str, Self)> {
        let fits = known.iter().filter_map(|&suffix| {
            let front = name.strip_suffix(suffix.as_str())?;
            (!front.is_empty()).then_some((front, suffix))
        });
        // `-no-thinking` is longer than the `-thinking` that it ends with.
        fits.min_by_key(|(front, _)| front.len())
    }

    /// Whether the catalogue says that `model` has not what it is for; of what the catalogue does
    /// not speak everything is assumed.
    pub(super) fn is_denied_by(self, model: &Model) -> bool {
        let meta = model.extra.get("info").and_then(|info| info.get("meta"));
        let can_think = || {
            let capabilities = meta.as_ref()?.get("capabilities")?;
            Some(capabilities.get("thinking").is_some_and(|can| can.as_str() == "true"))
        };
        let must_think = || {
            let skip = meta.as_ref().and_then(|meta| meta.get("think_skip"))?;
            Some(skip.get("enable")?.as_str() == "false")
        };
        let chat_type = match self {
            Self::Thinking => return can_think() == Some(false),
            Self::NoThinking => {
                return can_think() == Some(false)
                    || must_think().unwrap_or_else(|| always_thinks(&model.id));
            }
            Self::Search => "search",
            Self::DeepResearch => "deep_research",
            Self::Image => "t2i",
            Self::Video => "t2v",
        };
        let types = meta.as_ref().and_then(|meta| meta.get("chat_type"));
        types.is_some_and(|types| {
            let list: Option<Vec<String>> = serde_json::from_str(Json::as_str(&types)).ok();
            list.is_some_and(|list| !list.iter().any(|has| has == chat_type))
        })
    }

    /// What is missing where it is denied.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Thinking => "does not think",
            Self::NoThinking => "always thinks, or never does",
            Self::Search => "does not search the web",
            Self::DeepResearch => "does no deep research",
            Self::Image => "makes no images",
            Self::Video => "makes no videos",
        }
    }
}
