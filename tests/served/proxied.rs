//! The proxy's program in front of an emulator, each behind a socket of its own.

use std::process::Command;

use tokio::net::TcpListener;
use tower_qwen_emulator::{Builder, Emulator};

use super::binary::{self, Running};

/// An invented login: upstream answers nobody who does not bring it.
pub(crate) const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6ImRlbW8iLCJleHAiOjQxMDI0NDQ4MDB9.aW52ZW50ZWQ";

/// An emulator that knows the proxy's login and no other.
pub(crate) fn upstream() -> Builder {
    Emulator::builder().require_credentials(true).token(TOKEN, "demo")
}

/// Serves `emulator` for as long as the runtime is there; its origin.
pub(crate) async fn serve(emulator: Emulator) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(emulator.serve(listener));
    format!("http://{address}")
}

/// The program with the upstream at `origin`, for the clients that bring `key`.
pub(crate) fn command(origin: &str, key: &str) -> Command {
    let mut proxy = binary::command();
    proxy.args(["--upstream", "web", "--base-url", origin, "--token", TOKEN]);
    proxy.env("QWEN_PROXY_API_KEY", key).env("RUST_LOG", "warn").env("NO_PROXY", "127.0.0.1");
    proxy
}

/// Starts it, without holding the runtime up.
pub(crate) async fn start(command: Command) -> Running {
    tokio::task::spawn_blocking(|| Running::start(command)).await.expect("it starts")
}
