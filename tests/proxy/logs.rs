//! Standard error as it may be on a bad day: requests are answered all the same.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{binary::command, command::exchange};

/// The program, ended with the test.
struct Proxy {
    child: Child,
    origin: String,
}

impl Proxy {
    /// On a port that was free a moment ago, for its banner may be read by nobody.
    fn start(mut command: Command, stderr: impl Into<Stdio>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        command.args(["--listen", &address, "--metrics", "--log", "debug"]).stderr(stderr);
        let child = command.spawn().expect("it can be started");
        let mut proxy = Self { child, origin: format!("http://{address}") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            let ended = proxy.child.try_wait().expect("it was started");
            assert!(ended.is_none() && Instant::now() < deadline, "it does not serve: {ended:?}");
            thread::yield_now();
        }
        proxy
    }

    fn stderr(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child.stderr.take().expect("it is piped"))
    }

    /// Asks for more than any queue of lines holds, each of which is logged with its long path.
    fn ask_a_lot(&self) {
        let path = "x".repeat(16 * 1024);
        for _ in 0..100 {
            let answer = exchange(&self.origin, &format!("GET /{path} HTTP/1.1"), "");
            assert!(answer.starts_with("HTTP/1.1 404"), "{}", &answer[..answer.len().min(200)]);
        }
    }

    fn dropped(&self, reason: &str) -> u64 {
        let counts = exchange(&self.origin, "GET /metrics HTTP/1.1", "");
        let name = format!("tower_qwen_proxy_log_lines_dropped_total{{reason=\"{reason}\"}} ");
        let count = counts.lines().find_map(|line| line.strip_prefix(&name));
        count.map_or(0, |count| count.parse().expect("a count"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn banner(stderr: &mut impl BufRead) {
    let mut line = String::new();
    while !line.contains("curl") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("UTF-8"), 0, "it ended");
    }
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_request() {
    let mut proxy = Proxy::start(command(), Stdio::piped());
    let mut stderr = proxy.stderr();
    banner(&mut stderr);
    proxy.ask_a_lot();
    let dropped = proxy.dropped("full");
    assert!(dropped > 0);
    // Somebody reads again, and learns of the gap. It comes only with the next line.
    let mut told = false;
    exchange(&proxy.origin, "GET /health HTTP/1.1", "");
    let mut line = Vec::new();
    while !told {
        line.clear();
        assert_ne!(stderr.read_until(b'\n', &mut line).expect("a pipe"), 0, "it ended");
        told = String::from_utf8_lossy(&line).contains("lines of the log were dropped");
    }
}

#[test]
fn a_pipe_whose_reader_is_gone_holds_up_no_request() {
    let mut proxy = Proxy::start(command(), Stdio::piped());
    banner(&mut proxy.stderr());
    proxy.ask_a_lot();
    assert!(proxy.dropped("failed") > 0);
}

#[test]
fn a_full_disk_holds_up_neither_the_start_nor_a_request() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    let proxy = Proxy::start(command(), full);
    proxy.ask_a_lot();
    // The banner too.
    assert!(proxy.dropped("failed") > 1);
}

/// Nor does it hold up the end, whichever of the three it is.
#[test]
fn it_ends_in_good_order_where_nobody_reads_the_log() {
    let mut proxy = Proxy::start(command(), Stdio::piped());
    let mut stderr = proxy.stderr();
    banner(&mut stderr);
    proxy.ask_a_lot();
    let id = proxy.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    assert_eq!(proxy.child.wait().expect("it ends").code(), Some(0));
}
