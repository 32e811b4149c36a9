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

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;

#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::process::Command;

use binary::Running;
use suite::KEY;

/// Runs `suite` against a proxy of its own.
fn run(mut suite: Command) {
    let mut proxy = binary::command();
    proxy.args(["--upstream", "emulator"]).env("RUST_LOG", "warn");
    proxy.env("QWEN_PROXY_API_KEY", format!("sk-other,{KEY}"));
    let proxy = Running::start(proxy);
    suite::run(&mut suite, &format!("{}/v1", proxy.origin));
}

#[test]
fn the_sdk_for_python() {
    let Some(mut suite) = suite::python("openai") else { return };
    suite.args(["-m", "unittest", "-v", "test_openai"]);
    run(suite);
}

#[test]
fn the_sdk_for_node() {
    let Some(mut suite) = suite::node(&["openai"]) else { return };
    suite.args(["--test", "openai.test.mjs"]);
    run(suite);
}

#[test]
fn images_and_videos_by_the_sdk_for_python() {
    let Some(mut suite) = suite::python("openai") else { return };
    suite.args(["-m", "unittest", "-v", "test_media"]);
    run(suite);
}

#[test]
fn images_and_videos_by_the_sdk_for_node() {
    let Some(mut suite) = suite::node(&["openai"]) else { return };
    suite.args(["--test", "media.test.mjs"]);
    run(suite);
}
