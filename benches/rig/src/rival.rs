//! Who is measured: each a process of its own, which ends with this one.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{ROLE, TO};

/// How a rival is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// hyper as a plain pass-through, on one thread or as many as there are cores.
    Hyper { threads: bool },
    /// nginx without buffering, one process.
    Nginx(PathBuf),
    /// The proxy, at this path.
    Proxy { program: PathBuf, stack: Stack },
}

/// Which layers of the proxy a request goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// `--tools off`: chats of a compatible upstream pass as bytes.
    Lane,
    /// All layers over a compatible upstream.
    Compatible,
    /// All layers over chat.qwen.ai, which takes two calls for a chat.
    Web,
}

impl Stack {
    pub(crate) const ALL: [Self; 3] = [Self::Lane, Self::Compatible, Self::Web];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Compatible => "compatible",
            Self::Web => "web",
        }
    }
}

/// A process that is ended with this.
pub(crate) struct Process {
    child: Child,
    port: u16,
    /// What it reads its settings from.
    _files: Option<TempDir>,
}

impl Process {
    /// Starts `kind` in front of the upstream at the port `to`.
    pub(crate) fn start(kind: &Kind, to: u16) -> Self {
        match kind {
            Kind::Hyper { threads } => {
                Self::role(if *threads { "hyper-threads" } else { "hyper" }, Some(to))
            }
            Kind::Nginx(program) => Self::nginx(program, to),
            Kind::Proxy { program, stack } => Self::proxy(program, *stack, to),
        }
    }

    /// The upstream.
    pub(crate) fn upstream() -> Self {
        Self::role("upstream", None)
    }

    fn role(role: &str, to: Option<u16>) -> Self {
        let mut command = Command::new(env::current_exe().expect("its own path"));
        command.env(ROLE, role).stdout(Stdio::piped());
        if let Some(to) = to {
            command.env(TO, format!("http://127.0.0.1:{to}"));
        }
        let mut child = command.spawn().expect("it can be started again");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Self { port: line.trim().parse().expect("a port"), child, _files: None }
    }

    fn proxy(program: &Path, stack: Stack, to: u16) -> Self {
        let mut command = Command::new(program);
        // No file and no variable of the machine's says what is measured.
        command.env_clear();
        if let Some(threads) = env::var_os("TOKIO_WORKER_THREADS") {
            command.env("TOKIO_WORKER_THREADS", threads);
        }
        command.args(["--listen", "127.0.0.1:0", "--log", "off"]);
        let url = format!("http://127.0.0.1:{to}");
        match stack {
            Stack::Lane | Stack::Compatible => {
                command.args(["--upstream", "compatible", "--upstream-key", "sk-not-a-key"]);
                command.args(["--base-url", &format!("{url}/v1")]);
            }
            Stack::Web => {
                command.args(["--upstream", "web", "--token", "not-a-token", "--base-url", &url]);
            }
        }
        if stack == Stack::Lane {
            command.args(["--tools", "off"]);
        }
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        let mut line = String::new();
        let stderr = child.stderr.as_mut().expect("it is piped");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("no port in {line}")), child, _files: None }
    }

    fn nginx(program: &Path, to: u16) -> Self {
        let files = TempDir::new().expect("a folder");
        let root = files.path().display();
        // nginx cannot say which port it was given.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let settings = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
            events {{ worker_connections 8192; }}
            http {{
                access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
                fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi;
                scgi_temp_path {root}/scgi; keepalive_requests 1000000; tcp_nodelay on;
                upstream it {{ server 127.0.0.1:{to}; keepalive 1024; keepalive_requests 1000000; }}
                server {{
                    listen 127.0.0.1:{port} backlog=4096;
                    location / {{
                        proxy_pass http://it; proxy_http_version 1.1; proxy_buffering off;
                        proxy_set_header Connection \"\"; proxy_read_timeout 1h;
                    }}
                }}
            }}"
        );
        let path = files.path().join("nginx.conf");
        let written =
            fs::File::create(&path).and_then(|mut file| file.write_all(settings.as_bytes()));
        written.expect("a file of settings");
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).arg("-e").arg(files.path().join("error.log"));
        let child = command.spawn().expect("nginx can be started");
        let mut process = Self { port, child, _files: Some(files) };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.child.try_wait().expect("a child");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "nginx does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        process
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Nanoseconds that its threads have run.
    pub(crate) fn cpu(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let run = |task: io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        };
        tasks.filter_map(run).sum()
    }

    /// Resident bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        1024 * line.trim_end_matches("kB").trim().parse::<u64>().expect("a number")
    }
}

/// For how long nginx may begin.
const PATIENCE: Duration = Duration::from_secs(10);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
