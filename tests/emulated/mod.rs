//! What the adapter calls an emulated server.

use tower_qwen::qwen::compatible::Server;
use tower_qwen_emulator::Kind;

/// `None` for the web API, which has an adapter of its own.
pub(crate) fn server(kind: Kind) -> Option<Server> {
    Some(match kind {
        Kind::Web => return None,
        Kind::Vllm => Server::Vllm,
        Kind::SgLang => Server::SgLang,
        Kind::Ollama => Server::Ollama,
        Kind::LlamaCpp => Server::LlamaCpp,
        Kind::DashScope => Server::DashScope,
        Kind::Portal => Server::Portal,
        other => panic!("no adapter is chosen for {other} yet"),
    })
}
