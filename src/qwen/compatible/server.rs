use std::{
    env::consts::{ARCH, OS},
    sync::LazyLock,
};

use http::{HeaderMap, HeaderValue, header};

use super::modes::ContentMode;
use crate::{
    Text,
    chat::{ReasoningEffort, ReasoningOptions},
};

/// What qwen-code calls itself, and the platform in the words of its runtime.
static QWEN_CODE: LazyLock<HeaderValue> = LazyLock::new(|| {
    let os = match OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let arch = match ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "x86" => "ia32",
        other => other,
    };
    HeaderValue::try_from(format!("QwenCode/0.14.1 ({os}; {arch})"))
        .expect("the names of platforms are words")
});

/// What kind of server an OpenAI-compatible upstream is.
///
/// They all speak almost the same; the kind decides the few things in which they differ and
/// which cannot be seen from the answer. What can be seen is repaired
/// for every kind.
///
/// A history goes out in the form that this server reads; the arguments of calls are one JSON object
/// for all of them.
///
/// | kind | old thinking | one system message, and first | `max_completion_tokens` |
/// |---|---|---|---|
/// | Generic | `reasoning_content` and `reasoning` | Qwen3.5 and later | as written |
/// | DashScope | `reasoning_content` | Qwen3.5 and later | `max_tokens` |
/// | Portal | `reasoning_content` | always | `max_tokens` |
/// | vLLM | `reasoning_content` and `reasoning` | always | as written |
/// | SGLang | `reasoning_content` | always | as written |
/// | Ollama | `reasoning` | always | `max_tokens` |
/// | llama.cpp | `reasoning_content` | always | `max_tokens` |
/// | LM Studio | `reasoning_content` and `reasoning` | always | `max_tokens` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// Any other: the request goes out as the client wrote it, but for what the model's template
    /// is known to refuse.
    #[default]
    Generic,
    /// DashScope's compatible mode, a coding plan, or a gateway in front of it.
    DashScope,
    /// The portal that OAuth logins of qwen-code lead to.
    Portal,
    /// vLLM.
    Vllm,
    /// SGLang.
    SgLang,
    /// Ollama's `/v1`.
    Ollama,
    /// llama.cpp's server.
    LlamaCpp,
    /// LM Studio.
    LmStudio,
}

impl Server {
    /// The kind that `name` means on a command line: `generic`, `dashscope`, `portal`, `vllm`,
    /// `sglang`, `ollama`, `llamacpp`, `lmstudio`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "generic" => Self::Generic,
            "dashscope" => Self::DashScope,
            "portal" => Self::Portal,
            "vllm" => Self::Vllm,
            "sglang" => Self::SgLang,
            "ollama" => Self::Ollama,
            "llamacpp" => Self::LlamaCpp,
            "lmstudio" => Self::LmStudio,
            _ => return None,
        })
    }

    /// The name of the kind, as [`from_name`](Server::from_name) reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::DashScope => "dashscope",
            Self::Portal => "portal",
            Self::Vllm => "vllm",
            Self::SgLang => "sglang",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llamacpp",
            Self::LmStudio => "lmstudio",
        }
    }

    /// The kind that the host of a base URL gives away, or [`Generic`](Server::Generic).
    #[must_use]
    pub fn from_host(host: &str) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host == "portal.qwen.ai" {
            Self::Portal
        } else if host == "aliyuncs.com" || host.ends_with(".aliyuncs.com") {
            Self::DashScope
        } else {
            Self::Generic
        }
    }

    /// The kind that a base URL gives away by its host, or [`Generic`](Server::Generic).
    ///
    /// ```
    /// use tower_qwen::qwen::compatible::Server;
    ///
    /// let url = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1";
    /// assert_eq!(Server::from_base_url(url), Server::DashScope);
    /// assert_eq!(Server::from_base_url("http://127.0.0.1:8000/v1"), Server::Generic);
    /// ```
    #[must_use]
    pub fn from_base_url(url: &str) -> Self {
        let uri = url.trim().parse::<http::Uri>();
        uri.ok().and_then(|uri| uri.host().map(Self::from_host)).unwrap_or_default()
    }

    /// What the server itself calls the model that a client may know by another name: the
    /// portal's models have two names, and it knows one.
    pub(super) fn model_name(self, model: &str) -> &str {
        match (self, model) {
            (Self::Portal, "qwen3.5-plus" | "qwen3.6-plus") => "coder-model",
            (_, model) => model,
        }
    }

    /// The most tokens that may be asked of its `model`: the portal refuses more.
    pub(super) fn max_tokens(self, model: &str) -> Option<u64> {
        match (self, model) {
            (Self::Portal, "vision-model") => Some(32_768),
            (Self::Portal, "coder-model" | "qwen3-coder-plus" | "qwen3-coder-flash") => {
                Some(65_536)
            }
            _ => None,
        }
    }

    /// Under which names it reads the thinking of earlier turns. Where that depends on its version,
    /// or nothing is known, it gets both: the other one is ignored.
    pub(super) const fn reasoning_names(self) -> &'static [&'static str] {
        match self {
            Self::Generic | Self::Vllm | Self::LmStudio => &["reasoning_content", "reasoning"],
            Self::DashScope | Self::Portal | Self::SgLang | Self::LlamaCpp => {
                &["reasoning_content"]
            }
            Self::Ollama => &["reasoning"],
        }
    }

    /// Whether a system message that is not the first may be refused. Servers of one's own may call
    /// a model anything, so there the name does not count.
    pub(super) fn wants_one_instruction(self, model: &str) -> bool {
        match self {
            Self::Generic | Self::DashScope => Family::of(model) >= Family::Qwen35,
            _ => true,
        }
    }

    /// Whether it knows the newer name of `max_tokens`, and the older one beside it.
    pub(super) const fn takes_max_completion_tokens(self) -> bool {
        matches!(self, Self::Generic | Self::Vllm | Self::SgLang)
    }

    /// Adds the headers that it wants to see beside the token.
    ///
    /// The portal serves qwen-code, so that is what it is told; a `user-agent` that goes with the
    /// credential is used in its place. The one in `headers` is the credential's, for no client's
    /// [travels](crate::qwen#headers).
    pub(super) fn headers_into(self, headers: &mut HeaderMap) {
        if self != Self::Portal {
            return;
        }
        let user_agent = headers.get(header::USER_AGENT).unwrap_or(&QWEN_CODE).clone();
        headers.insert("x-dashscope-useragent", user_agent.clone());
        headers.insert(header::USER_AGENT, user_agent);
        headers.insert("x-dashscope-cachecontrol", HeaderValue::from_static("enable"));
        headers.insert("x-dashscope-authtype", HeaderValue::from_static("qwen-oauth"));
    }

    /// How the pieces of content in its streams relate.
    pub(super) const fn content(self) -> ContentMode {
        match self {
            Self::Portal => ContentMode::Auto,
            _ => ContentMode::Incremental,
        }
    }

    /// How many inputs one request for embeddings may hold; `None` where nothing is known of
    /// a limit.
    #[cfg(feature = "openai")]
    pub(crate) fn embedding_batch(self, model: &str) -> Option<usize> {
        match self {
            Self::DashScope | Self::Portal if model.ends_with("-v1") || model.ends_with("-v2") => {
                Some(25)
            }
            Self::DashScope | Self::Portal => Some(10),
            _ => None,
        }
    }

    /// Whether inputs may be lists of token ids.
    #[cfg(feature = "openai")]
    pub(crate) const fn embeds_tokens(self) -> bool {
        !matches!(self, Self::DashScope | Self::Portal | Self::Ollama)
    }

    /// Whether embeddings are given in base64 to those who ask. DashScope knows only floats
    ///, and of others nothing is known.
    #[cfg(feature = "openai")]
    pub(crate) const fn embeds_base64(self) -> bool {
        matches!(self, Self::Vllm | Self::SgLang | Self::LlamaCpp)
    }

    /// How this kind is told to think or not.
    pub(super) fn thinking(self, options: &ReasoningOptions, model: &str) -> Thinking {
        let Some(wanted) = options.wanted() else { return Thinking::default() };
        let effort = options.effort.as_ref();
        let family = Family::of(model);
        // The least that it can think is still some.
        let is_least = effort == Some(&ReasoningEffort::Minimal) && options.enabled.is_none();
        let wanted = wanted || family == Family::Qwen38 && is_least;
        // These answer 400 to whoever does not want them to think.
        if !wanted && family.always_thinks(model) && self == Self::DashScope {
            return Thinking::default();
        }
        match self {
            // The effort stands alone here: with anything beside it the request is refused.
            Self::DashScope if family == Family::Qwen38 && (effort.is_some() || !wanted) => {
                Thinking {
                    effort: if wanted {
                        effort.and_then(tier)
                    } else {
                        Some(ReasoningEffort::None)
                    },
                    ..Thinking::default()
                }
            }
            // The top tier is what it does unless it is told, under a name that builds differ in.
            Self::Ollama if family == Family::Qwen38 && wanted => Thinking {
                effort: effort.and_then(tier).filter(|tier| tier.as_str() != TOP_TIER),
                ..Thinking::default()
            },
            Self::Vllm | Self::SgLang | Self::LlamaCpp if family == Family::Qwen38 => Thinking {
                template: Some(wanted),
                effort: effort.filter(|_| wanted).and_then(tier),
                ..Thinking::default()
            },
            // `enable_thinking`, `thinking_budget` and `reasoning_effort` exclude each other,
            // so the effort becomes a budget.
            Self::DashScope | Self::Portal => Thinking {
                enable_thinking: Some(wanted),
                budget: wanted
                    .then(|| options.budget.or_else(|| effort.and_then(budget)))
                    .flatten(),
                ..Thinking::default()
            },
            Self::Vllm | Self::SgLang | Self::LlamaCpp => Thinking {
                template: Some(wanted),
                // Newer chat templates know efforts; those that do not ignore them.
                effort: effort.filter(|_| wanted).cloned(),
                ..Thinking::default()
            },
            Self::Ollama => Thinking {
                effort: match (wanted, effort) {
                    (false, _) => Some(ReasoningEffort::None),
                    (true, effort) => effort.cloned().or(Some(ReasoningEffort::Medium)),
                },
                ..Thinking::default()
            },
            Self::Generic | Self::LmStudio => Thinking {
                enable_thinking: options.enabled,
                budget: options.budget,
                effort: match effort {
                    Some(effort) if family == Family::Qwen38 && wanted => tier(effort),
                    effort => effort.cloned(),
                },
                template: None,
            },
        }
    }
}

/// The fields of a request that say how much to think.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Thinking {
    pub(super) enable_thinking: Option<bool>,
    pub(super) budget: Option<i64>,
    pub(super) effort: Option<ReasoningEffort>,
    /// `chat_template_kwargs.enable_thinking`.
    pub(super) template: Option<bool>,
}

/// What a model's name says of how its template reads a request, in the order of their coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// Nothing is known.
    Other,
    /// Qwen3.5 to 3.7: one system message, and first.
    Qwen35,
    /// Qwen3.8: the same, and efforts of its own.
    Qwen38,
}

impl Family {
    /// The family of a model by its name, such as `Qwen/Qwen3.6-27B` or `qwen3.8-max`.
    fn of(model: &str) -> Self {
        let name = model.to_ascii_lowercase();
        let Some((_, version)) = name.split_once("qwen3") else { return Self::Other };
        let minor = version.strip_prefix(['.', '_', '-', 'p']).unwrap_or(version);
        let digits = minor.bytes().take_while(u8::is_ascii_digit).count();
        // `qwen3-30b` has a size there, and `qwen3-8b` too.
        let is_size = version.starts_with('-') || minor[digits..].starts_with('b');
        match minor[..digits].parse() {
            Ok(8_u8..=9) if !is_size => Self::Qwen38,
            Ok(5..=7) if !is_size => Self::Qwen35,
            _ => Self::Other,
        }
    }

    /// Whether the hosted model refuses not to think.
    fn always_thinks(self, model: &str) -> bool {
        let name = model.to_ascii_lowercase();
        self == Self::Qwen38 && name.ends_with("-preview")
            || ["kimi-k2.7-code", "kimi-k3"].iter().any(|start| name.starts_with(start))
    }
}

/// Qwen3.8's word for as much thinking as it can.
const TOP_TIER: &str = "xhigh";

/// Qwen3.8's own word for an effort: its template raises on every other one.
fn tier(effort: &ReasoningEffort) -> Option<ReasoningEffort> {
    Some(match effort {
        ReasoningEffort::Minimal | ReasoningEffort::Low => ReasoningEffort::Low,
        ReasoningEffort::Medium => ReasoningEffort::Medium,
        ReasoningEffort::High => ReasoningEffort::Other(Text::from_static(TOP_TIER)),
        ReasoningEffort::Other(word) if ["xhigh", "max"].contains(&word.as_str()) => {
            ReasoningEffort::Other(Text::from_static(TOP_TIER))
        }
        _ => return None,
    })
}

/// The budget that stands for an effort; none for the highest.
fn budget(effort: &ReasoningEffort) -> Option<i64> {
    match effort {
        ReasoningEffort::Low => Some(1024),
        ReasoningEffort::Medium => Some(8192),
        _ => None,
    }
}
