//! Builds the proxy and runs it, as a user would.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread::{self, JoinHandle},
};

/// The proxy's program, built with the features and the profile of this test.
///
/// `cargo test` has built it already, unless only this test was asked for or sources changed
/// meanwhile; then building it here keeps the test from running an old one.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let own = env::current_exe().expect("the test's own path");
        let profile = own.ancestors().nth(2).expect("TARGET/PROFILE/deps/TEST");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "proxy"]);
        build.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
        build.arg("--target-dir").arg(profile.parent().expect("TARGET"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        if cfg!(feature = "redis") {
            build.arg("--features=redis");
        }
        assert!(build.status().expect("cargo").success(), "the proxy cannot be built");
        profile.join("examples").join("proxy")
    })
}

/// A command to run the proxy, without the configuration that the environment may hold.
pub(crate) fn command() -> Command {
    let mut command = Command::new(path());
    for (name, _) in env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            name.starts_with("QWEN_")
                || ["DASHSCOPE_API_KEY", "HOST", "PORT", "API_KEY", "RUST_LOG", "LOG_LEVEL"]
                    .contains(&name)
        });
        if own {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A proxy that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    /// Reads what it logs, for a full pipe would stop it.
    log: Option<JoinHandle<String>>,
    /// Its origin, such as `http://127.0.0.1:40001`.
    pub(crate) origin: String,
    /// What it said until then.
    pub(crate) banner: String,
}

impl Running {
    /// Starts `command` on a free port and waits until it serves.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .env("QWEN_PROXY_LISTEN", "127.0.0.1:0")
            .spawn()
            .expect("the proxy can be started");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut banner = String::new();
        let mut line = String::new();
        // The command to try is its last line.
        while !line.contains("curl") {
            line.clear();
            let read = stderr.read_line(&mut line).expect("UTF-8");
            assert_ne!(read, 0, "the proxy ended: {banner}");
            banner.push_str(&line);
        }
        let (_, rest) = banner.split_once("http://").expect("the banner has the address");
        let origin = rest.split_whitespace().next().expect("the banner has the address");
        let log = thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).expect("a pipe can be read");
            String::from_utf8_lossy(&log).into_owned()
        });
        Self { child, origin: format!("http://{origin}"), log: Some(log), banner }
    }

    /// Sends the signal, waits for the end, and gives the exit code and what was logged.
    #[cfg(unix)]
    pub(crate) fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let kill = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill").success());
        let code = self.child.wait().expect("it was started").code();
        let log = self.log.take().expect("it is taken once, here");
        (code, log.join().expect("it does not panic"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
