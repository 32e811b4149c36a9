use std::{
    env::consts::{ARCH, OS},
    sync::LazyLock,
};

use http::{HeaderMap, HeaderValue, header};

use super::modes::ContentMode;
use crate::chat::{ReasoningEffort, ReasoningOptions};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// Any other: the request goes out as the client wrote it.
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
    pub(super) fn thinking(self, options: &ReasoningOptions) -> Thinking {
        let Some(wanted) = options.wanted() else { return Thinking::default() };
        let effort = options.effort.as_ref();
        match self {
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
                effort: effort.cloned(),
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

/// The budget that stands for an effort; none for the highest.
fn budget(effort: &ReasoningEffort) -> Option<i64> {
    match effort {
        ReasoningEffort::Low => Some(1024),
        ReasoningEffort::Medium => Some(8192),
        _ => None,
    }
}
