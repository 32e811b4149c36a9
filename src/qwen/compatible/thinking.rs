//! How much to think, in the words of each kind of server and each family of models.

use super::server::Server;
use crate::{
    chat::{ReasoningEffort, ReasoningOptions},
    family::{Family, always_thinks},
    qwen::effort::{Effort, LARGEST_BUDGET},
};

/// The budget of who wants as little thinking as there can be: a few sentences.
const SMALLEST_BUDGET: i64 = 128;

/// The fields of a request that say how much to think.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Thinking {
    pub(super) enable_thinking: Option<bool>,
    pub(super) budget: Option<i64>,
    pub(super) effort: Option<ReasoningEffort>,
    /// `chat_template_kwargs.enable_thinking`.
    pub(super) template: Option<bool>,
}

impl Thinking {
    /// How `server` is told what `options` ask of its `model`.
    ///
    /// The head of the adapter has the table of it.
    pub(super) fn new(server: Server, options: &ReasoningOptions, model: &str) -> Self {
        let Some(wanted) = options.wanted() else { return Self::default() };
        let effort = options.effort.as_ref();
        let family = Family::of(model);
        let tier = effort.filter(|_| family == Family::Qwen38).and_then(tier);
        let is_hosted = matches!(server, Server::DashScope | Server::Portal);
        // These answer 400 to whoever does not want them to think; who runs them knows.
        if !wanted && always_thinks(model) && (is_hosted || server == Server::Generic) {
            return Self::default();
        }
        match server {
            Server::DashScope if never_thinks(model) => Self::default(),
            // The effort stands alone here: with anything beside it the request is refused.
            Server::DashScope | Server::Portal if family == Family::Qwen38 && !wanted => {
                Self { effort: Some(ReasoningEffort::None), ..Self::default() }
            }
            Server::DashScope | Server::Portal if tier.is_some() => {
                Self { effort: tier, ..Self::default() }
            }
            // A word that nobody knows would be an error, and says nothing.
            Server::DashScope | Server::Portal
                if family == Family::Qwen38
                    && effort.is_some()
                    && (options.enabled, options.budget) == (None, None) =>
            {
                Self::default()
            }
            // Here `enable_thinking` and `thinking_budget` exclude the effort, so it becomes a
            // budget.
            Server::DashScope | Server::Portal => Self {
                enable_thinking: Some(wanted),
                budget: wanted
                    .then(|| options.budget.or_else(|| effort.and_then(budget)))
                    .flatten()
                    .filter(|&budget| budget > 0)
                    .map(|budget| budget.min(LARGEST_BUDGET)),
                ..Self::default()
            },
            // The top tier is what it does unless it is told, under a name that builds differ in.
            Server::Ollama if family == Family::Qwen38 && wanted => Self {
                effort: tier.filter(|tier| *tier != ReasoningEffort::XHigh),
                ..Self::default()
            },
            // Older builds know only these words, and refuse the request for any other.
            Server::Ollama => Self {
                effort: Some(match effort {
                    _ if !wanted => ReasoningEffort::None,
                    Some(ReasoningEffort::Minimal | ReasoningEffort::Low) => ReasoningEffort::Low,
                    Some(ReasoningEffort::High | ReasoningEffort::XHigh | ReasoningEffort::Max) => {
                        ReasoningEffort::High
                    }
                    _ => ReasoningEffort::Medium,
                }),
                ..Self::default()
            },
            Server::Vllm | Server::SgLang | Server::LlamaCpp => Self {
                template: Some(wanted),
                effort: match family {
                    // A model of others may know efforts; its template ignores them if not.
                    Family::Unknown => effort.filter(|_| wanted).cloned(),
                    _ => tier.filter(|_| wanted),
                },
                ..Self::default()
            },
            Server::Generic | Server::LmStudio => Self {
                enable_thinking: options.enabled,
                budget: options.budget,
                effort: match effort {
                    Some(_) if family == Family::Qwen38 && wanted => tier,
                    effort => effort.cloned(),
                },
                template: None,
            },
        }
    }

    /// What they say together.
    pub(super) fn effort(&self) -> Effort<'_> {
        match (self.enable_thinking.or(self.template), &self.effort, self.budget) {
            (Some(false), ..) => Effort::Off,
            (_, Some(effort), _) if effort.is_off() => Effort::Off,
            (_, Some(effort), _) => Effort::Word(effort.as_str()),
            (_, None, Some(budget)) => Effort::of_budget(budget),
            (Some(true), ..) => Effort::On,
            (None, None, None) => Effort::Default,
        }
    }
}

/// Whether the hosted `model` refuses to think, and even to be told not to.
pub(in crate::qwen) fn never_thinks(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    name.contains("qwen") && (name.contains("coder") || name.contains("-instruct"))
}

/// The word for `effort` that the template of `model` knows, where that has words of its own.
pub(super) fn told(model: &str, effort: &ReasoningEffort) -> Option<ReasoningEffort> {
    (Family::of(model) == Family::Qwen38).then(|| tier(effort)).flatten()
}

/// Qwen3.8's own word for an effort: its template raises on every other one.
fn tier(effort: &ReasoningEffort) -> Option<ReasoningEffort> {
    match effort {
        ReasoningEffort::Minimal | ReasoningEffort::Low => Some(ReasoningEffort::Low),
        ReasoningEffort::Medium => Some(ReasoningEffort::Medium),
        ReasoningEffort::High | ReasoningEffort::XHigh | ReasoningEffort::Max => {
            Some(ReasoningEffort::XHigh)
        }
        ReasoningEffort::None | ReasoningEffort::Other(_) => None,
    }
}

/// The budget that stands for an effort; none for the highest.
fn budget(effort: &ReasoningEffort) -> Option<i64> {
    match effort {
        ReasoningEffort::Minimal => Some(SMALLEST_BUDGET),
        ReasoningEffort::Low => Some(1024),
        ReasoningEffort::Medium => Some(8192),
        _ => None,
    }
}
