//! Builds the proxy and runs it, as a user would.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::traced;

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
        if cfg!(feature = "otlp") {
            build.arg("--features=otlp");
        }
        if cfg!(feature = "redis") {
            build.arg("--features=redis");
        }
        if cfg!(feature = "usage-db") {
            build.arg("--features=usage-db");
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
    // Nobody has signed in there.
    command.env("HOME", "/nonexistent").env("USERPROFILE", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A proxy that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    /// Reads what it logs, for a full pipe would stop it.
    reader: Option<JoinHandle<()>>,
    log: Arc<Mutex<String>>,
    /// Its origin, such as `http://127.0.0.1:40001`.
    pub(crate) origin: String,
    /// What it said until then.
    pub(crate) banner: String,
}

impl Running {
    /// Starts `command` on a free port and waits until it serves.
    pub(crate) fn start(mut command: Command) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let mut kept = traced::file(&format!("proxy-{}-{number}.log", process::id()));
        if kept.is_some() {
            command.env("RUST_LOG", "trace");
        }
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
        // In JSON a line break is written as `\n`.
        let is_end = |c: char| c.is_whitespace() || c == '\\';
        let origin = rest.split(is_end).next().expect("the banner has the address");
        if let Some(kept) = &mut kept {
            kept.write_all(banner.as_bytes()).expect("a file takes it");
        }
        let log = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.split(b'\n') {
                    let line = line.expect("a pipe can be read");
                    if let Some(kept) = &mut kept {
                        kept.write_all(&line)
                            .and_then(|()| kept.write_all(b"\n"))
                            .expect("a file takes it");
                    }
                    let mut log = log.lock().expect("no one panics with it");
                    log.push_str(&String::from_utf8_lossy(&line));
                    log.push('\n');
                }
            }
        });
        Self { child, origin: format!("http://{origin}"), reader: Some(reader), log, banner }
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged, which it goes on with.
    pub(crate) fn log(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.log)
    }

    /// Waits until it has logged `text`.
    #[cfg(unix)]
    pub(crate) fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let log = self.log.lock().expect("no one panics with it").clone();
            if log.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{text:?} is not in {log}");
            thread::yield_now();
        }
    }

    /// Sends the signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let kill = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill").success());
    }

    /// Kills it, so that it has no moment to put anything in order.
    #[cfg(unix)]
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started");
    }

    /// Sends the signal, waits for the end, and gives the exit code and what was logged.
    #[cfg(unix)]
    pub(crate) fn stop(self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        self.ended()
    }

    /// Waits for the end, and gives the exit code and what was logged.
    #[cfg(unix)]
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("it was started").code();
        let reader = self.reader.take().expect("it is taken once, here");
        reader.join().expect("it does not panic");
        let log = self.log.lock().expect("no one panics with it").clone();
        (code, log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
