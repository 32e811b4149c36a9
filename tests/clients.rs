//! The official OpenAI SDKs against the proxy on the emulator; the tests themselves are the
//! scripts in tests/clients.
//!
//! They need the packages of `tests/clients/requirements.txt` and `tests/clients/package.json`:
//!
//! ```sh
//! cd tests/clients && python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && npm ci
//! ```
//!
//! Without them the tests say so and pass, except where `CI` is set.
#![cfg(all(
    feature = "auth",
    feature = "client",
    feature = "dedup",
    feature = "emulator",
    feature = "openai",
    feature = "session",
    feature = "tool-call",
    feature = "tool-wrap",
    feature = "web"
))]
#![expect(
    clippy::print_stdout,
    reason = "cargo test shows it where a test fails, or when asked to"
)]

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use binary::Running;

const KEY: &str = "sk-demo-key";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("clients")
}

/// Whether `probe` succeeds, which shows that an SDK is there.
fn is_installed(name: &str, probe: &mut Command) -> bool {
    let status = probe
        .current_dir(folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let installed = status.is_ok_and(|status| status.success());
    let required = env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(installed || !required, "the OpenAI SDK for {name} must be installed here");
    if !installed {
        println!("skipped: the OpenAI SDK for {name} is not installed; see tests/clients.rs");
    }
    installed
}

/// Runs `suite` against a proxy of its own.
fn run(suite: &mut Command) {
    let mut proxy = binary::command();
    proxy.args(["--upstream", "emulator", "--log", "warn"]);
    proxy.env("QWEN_PROXY_API_KEY", format!("sk-other,{KEY}"));
    let proxy = Running::start(proxy);
    let output = suite
        .current_dir(folder())
        .env("PROXY_BASE_URL", format!("{}/v1", proxy.origin))
        .env("PROXY_API_KEY", KEY)
        // Nothing on the way to loopback.
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL")
        .stdin(Stdio::null())
        .output()
        .expect("the suite can be started");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the suite failed; its output is above");
}

#[test]
fn the_sdk_for_python() {
    let own = folder().join(".venv").join("bin").join("python");
    let python = if own.exists() { own.into_os_string() } else { OsString::from("python3") };
    if is_installed("Python", Command::new(&python).args(["-c", "import openai"])) {
        run(Command::new(&python).args(["-m", "unittest", "-v", "test_openai"]));
    }
}

#[test]
fn the_sdk_for_node() {
    let probe = "await import('openai')";
    if is_installed("Node", Command::new("node").args(["--input-type=module", "-e", probe])) {
        run(Command::new("node").args(["--test", "openai.test.mjs"]));
    }
}
