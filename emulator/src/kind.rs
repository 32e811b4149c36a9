//! What the emulator passes itself off as.

use std::{error::Error as StdError, fmt, str::FromStr};

/// Which server an [`Emulator`](super::Emulator) passes itself off as; see
/// [`Builder::kind`](super::Builder::kind), and the [module](super#openai-compatible-servers) for
/// what each of them gets wrong.
///
/// ```
/// use tower_qwen_emulator::Kind;
///
/// assert_eq!("vllm".parse(), Ok(Kind::Vllm));
/// assert_eq!(Kind::LlamaCpp.to_string(), "llamacpp");
/// let error = "lmdeploy".parse::<Kind>().unwrap_err();
/// assert!(error.to_string().contains("ollama"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The web API of chat.qwen.ai, the only one that keeps chats.
    #[default]
    Web,
    /// vLLM's OpenAI-compatible server.
    Vllm,
    /// SGLang's.
    SgLang,
    /// Ollama's, below `/v1`.
    Ollama,
    /// The server of llama.cpp.
    LlamaCpp,
    /// DashScope's compatible mode.
    DashScope,
    /// The portal that OAuth logins of qwen-code lead to, with its OAuth server.
    Portal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Web,
        Self::Vllm,
        Self::SgLang,
        Self::Ollama,
        Self::LlamaCpp,
        Self::DashScope,
        Self::Portal,
    ];

    /// The name on a command line: `web`, `vllm`, `sglang`, `ollama`, `llamacpp`, `dashscope`,
    /// `portal`. [`FromStr`] reads it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Vllm => "vllm",
            Self::SgLang => "sglang",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llamacpp",
            Self::DashScope => "dashscope",
            Self::Portal => "portal",
        }
    }

    /// How people call it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Web => "chat.qwen.ai",
            Self::Vllm => "vLLM",
            Self::SgLang => "SGLang",
            Self::Ollama => "Ollama",
            Self::LlamaCpp => "llama.cpp",
            Self::DashScope => "DashScope",
            Self::Portal => "portal.qwen.ai",
        }
    }

    /// The models that it has where [`Builder::models`](super::Builder::models) names none: one or
    /// more for chat, and then one for embeddings where the kind has those.
    #[must_use]
    pub fn models(self) -> Vec<String> {
        let models: &[&str] = match self {
            Self::Web => &[
                "qwen3-max",
                "qwen3-coder-plus",
                "qwen3-vl-plus",
                "qwen3.5-plus",
                "qwen3.6-plus",
                "qwen3.7-plus",
                "qwen3.7-max",
                "qwen3.8-max",
            ],
            Self::Vllm | Self::SgLang => &[
                "Qwen/Qwen3-Coder-30B-A3B-Instruct",
                "Qwen/Qwen3-32B",
                "Qwen/Qwen3-Embedding-0.6B",
            ],
            Self::Ollama => &["qwen3-coder:30b", "qwen3:32b", "qwen3-embedding:0.6b"],
            Self::LlamaCpp => {
                &["qwen3-coder-30b-a3b-instruct-q4_k_m", "qwen3-32b-q4_k_m", "qwen3-embedding-0.6b"]
            }
            Self::DashScope => &[
                "qwen-plus",
                "qwen3-coder-plus",
                "qwen3-max",
                "qwen3-32b",
                "qwq-plus",
                "qwen-coder-turbo",
                "text-embedding-v4",
                "text-embedding-v2",
            ],
            Self::Portal => {
                &["coder-model", "vision-model", "qwen3-coder-plus", "qwen3-coder-flash"]
            }
        };
        models.iter().map(|model| (*model).to_owned()).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownKind(()))
    }
}

/// A name that is no [`Kind`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(());

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such server; there are ")?;
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            let before = if n == 0 { "" } else { ", " };
            write!(f, "{before}{kind}")?;
        }
        Ok(())
    }
}

impl StdError for UnknownKind {}
