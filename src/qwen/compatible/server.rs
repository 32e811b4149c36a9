use std::{
    env::consts::{ARCH, OS},
    sync::LazyLock,
};

use http::{HeaderMap, HeaderValue, header};

use super::modes::ContentMode;
use crate::{chat::AnswerKind, family::Family};

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
///
/// How much to think is said [to each in its own words](super#thinking).
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

    /// Whether a chat with it can be an answer of this kind.
    pub(super) const fn makes(self, kind: AnswerKind) -> bool {
        match kind {
            AnswerKind::Text => true,
            AnswerKind::Search => matches!(self, Self::DashScope),
            AnswerKind::DeepResearch | AnswerKind::Image | AnswerKind::Video => false,
        }
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

    /// Whether its chat template takes arguments from the request.
    pub(super) const fn has_template(self) -> bool {
        matches!(self, Self::Vllm | Self::SgLang | Self::LlamaCpp)
    }

    /// Whether its `model` can be asked to read what it thought in earlier turns.
    pub(super) fn preserves_thinking(self, model: &str) -> bool {
        match self {
            Self::DashScope | Self::Portal => true,
            _ => self.has_template() && Family::of(model) >= Family::Qwen36,
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
}
