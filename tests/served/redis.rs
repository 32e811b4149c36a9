//! A real Redis server, which can be killed and started again.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tower_qwen::session::{RedisStore, RedisStoreBuilder};

/// A time limit that a busy machine does not reach.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a port of its own, with nothing on disk.
pub(crate) struct Server {
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// `None`, said aloud, where there is no `redis-server`.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests shall know")]
    pub(crate) async fn start() -> Option<Self> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if there.is_err() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "redis-server must be installed where CI=true"
            );
            eprintln!("skipped: there is no redis-server on the path");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let mut server = Self { port, child: None };
        server.run().await;
        Some(server)
    }

    pub(crate) async fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        self.child = Some(child);
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "redis-server does not listen");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Stops the process without closing its sockets.
    pub(crate) fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(status.expect("kill is there").success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// With the time limit that it has by default.
    pub(crate) fn hasty_store(&self) -> RedisStore {
        RedisStore::new(&self.url()).expect("a URL")
    }

    /// With a time limit that a busy machine does not reach.
    pub(crate) fn store(&self) -> RedisStore {
        self.builder().timeout(PATIENCE).build()
    }

    pub(crate) fn builder(&self) -> RedisStoreBuilder {
        RedisStore::builder(&self.url()).expect("a URL")
    }

    pub(crate) async fn query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let client = redis::Client::open(self.url());
        let mut connection = client
            .expect("a URL")
            .get_multiplexed_async_connection()
            .await
            .expect("redis-server answers");
        command.query_async(&mut connection).await.expect("redis-server answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
