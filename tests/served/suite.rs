//! The suites of tests/clients, which are written for the SDKs of other languages.

#![expect(clippy::print_stdout, reason = "the output of a test is its report")]

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) const KEY: &str = "sk-demo-key";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("clients")
}

/// Python, if it has the `modules`.
pub(crate) fn python(modules: &str) -> Option<Command> {
    let own = folder().join(".venv").join("bin").join("python");
    let python = || if own.exists() { Command::new(&own) } else { Command::new("python3") };
    is_installed(modules, python().args(["-c", &format!("import {modules}")])).then(python)
}

/// Node, if it has the packages.
pub(crate) fn node(packages: &[&str]) -> Option<Command> {
    let probe: String = packages.iter().map(|name| format!("await import('{name}');")).collect();
    let mut node = Command::new("node");
    let installed =
        is_installed(&packages.join(", "), node.args(["--input-type=module", "-e", &probe]));
    installed.then(|| Command::new("node"))
}

/// Whether `probe` succeeds, which shows that `packages` are there.
fn is_installed(packages: &str, probe: &mut Command) -> bool {
    let status = probe
        .current_dir(folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let installed = status.is_ok_and(|status| status.success());
    let required = env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    let program = probe.get_program().display();
    assert!(installed || !required, "{packages} must be installed here, for {program}");
    if !installed {
        println!("skipped: {packages} not installed for {program}; see tests/clients.rs");
    }
    installed
}

/// Runs `suite` against the API at `base`.
pub(crate) fn run(suite: &mut Command, base: &str) {
    let output = suite
        .current_dir(folder())
        .env("PROXY_BASE_URL", base)
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
