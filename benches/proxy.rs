//! The proxy in front of an OpenAI-compatible upstream, beside a plain hyper pass-through in the
//! same run: CPU an event, added latency, memory.
//!
//! The upstream, the plain pass-through and the proxy are processes of their own on loopback; the
//! load is this one. CPU is what the kernel counts for the process (`/proc`, so Linux only), over
//! rounds that alternate between the rivals. Every number is bounded in time and count:
//!
//! ```sh
//! cargo bench --bench proxy            # some three minutes
//! cargo bench --bench proxy -- quick   # to see that it works
//! ```

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    convert::Infallible,
    env, fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    process::{Child, Command, Stdio},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::{Request, Response, Uri, body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Interval, MissedTickBehavior, interval_at},
};

/// A delta with usage on it, as DashScope writes it: 309 bytes.
const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"word \"},\"finish_reason\":null,\
    \"index\":0,\"logprobs\":null}],\"object\":\"chat.completion.chunk\",\"usage\":{\
    \"prompt_tokens\":36,\"completion_tokens\":12,\"total_tokens\":48,\"prompt_tokens_details\":\
    {\"cached_tokens\":0}},\"created\":1790000000,\"system_fingerprint\":null,\
    \"model\":\"qwen-plus\",\"id\":\"chatcmpl-demo\"}\n\n";
const END: &str = "data: {\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{\"content\":\"\"},\
    \"index\":0,\"logprobs\":null}],\"object\":\"chat.completion.chunk\",\"usage\":null,\
    \"created\":1790000000,\"model\":\"qwen-plus\",\"id\":\"chatcmpl-demo\"}\n\ndata: [DONE]\n\n";

/// How the load asks: `EVENTS` events, one each `GAP` microseconds (0: as fast as they are read).
#[derive(Clone, Copy)]
struct Load {
    streams: usize,
    events: u32,
    gap: u32,
}

#[tokio::main]
async fn main() {
    match env::var("PROXY_BENCH_ROLE").as_deref() {
        Ok("upstream") => serve(|request| async { upstream(request) }).await,
        Ok("plain") => {
            let to: Uri =
                env::var("PROXY_BENCH_TO").expect("set by the bench").parse().expect("a URL");
            let client = Client::builder(TokioExecutor::new()).build_http();
            serve(move |request| pass(client.clone(), to.clone(), request)).await;
        }
        // Compiled and listed by `cargo test --benches`, which passes no `--bench`.
        _ if !env::args().any(|arg| arg == "--bench") => {}
        _ if !cfg!(target_os = "linux") => {
            println!("skipped: the CPU of a process is read in /proc")
        }
        _ => bench(env::args().any(|arg| arg == "quick")).await,
    }
}

/// Serves on a free port, whose number is the first line of standard output.
async fn serve<F, R, B>(answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound").port());
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP");
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // Clients go away.
            let _ = served.await;
        });
    }
}

/// The plain pass-through: what hyper costs, and nothing else.
async fn pass(
    client: Client<HttpConnector, Incoming>,
    to: Uri,
    request: Request<Incoming>,
) -> Response<Incoming> {
    let (mut head, body) = request.into_parts();
    let mut uri = to.into_parts();
    uri.path_and_query = Some("/chat/completions".parse().expect("a path"));
    head.uri = Uri::from_parts(uri).expect("a URL");
    head.headers.remove("host");
    // The client's, for this hop only: upstream it would cost a new connection for each stream.
    head.headers.remove("connection");
    client.request(Request::from_parts(head, body)).await.expect("the upstream answers")
}

/// What is asked for stands in the header `x-load`.
fn upstream(request: Request<Incoming>) -> Response<Events> {
    let asked = request.headers()["user-agent"].to_str().expect("ASCII").to_owned();
    let (events, gap) = asked.split_once('/').expect("EVENTS/GAP");
    let gap: u64 = gap.parse().expect("a number");
    let gap = (gap > 0).then(|| {
        let gap = Duration::from_micros(gap);
        let mut interval = interval_at(tokio::time::Instant::now() + gap, gap);
        interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
        interval
    });
    let body = Events { left: events.parse().expect("a number"), gap, ended: false };
    Response::builder().header("content-type", "text/event-stream").body(body).expect("valid")
}

struct Events {
    left: u32,
    gap: Option<Interval>,
    ended: bool,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            let end = (!self.ended).then(|| Ok(Frame::data(Bytes::from_static(END.as_bytes()))));
            self.ended = true;
            return Poll::Ready(end);
        }
        if let Some(gap) = &mut self.gap {
            std::task::ready!(gap.poll_tick(cx));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(EVENT.as_bytes())))))
    }
}

/// A process that is ended with the bench.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn role(role: &str, to: Option<u16>) -> Self {
        let mut command = Command::new(env::current_exe().expect("the bench's own path"));
        command.env("PROXY_BENCH_ROLE", role).stdout(Stdio::piped());
        if let Some(to) = to {
            command.env("PROXY_BENCH_TO", format!("http://127.0.0.1:{to}"));
        }
        let mut child = command.spawn().expect("the bench can be started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Self { port: line.trim().parse().expect("a port"), child }
    }

    fn proxy(to: u16, tools: &str) -> Self {
        let mut command = Command::new(proxy());
        command.args(["--listen", "127.0.0.1:0", "--log", "off", "--tools", tools]);
        command.args(["--upstream", "compatible", "--upstream-key", "sk-not-a-key"]);
        command.arg("--base-url").arg(format!("http://127.0.0.1:{to}"));
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the proxy can be started");
        let mut line = String::new();
        let stderr = child.stderr.as_mut().expect("it is piped");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("no port in {line}")), child }
    }

    /// Nanoseconds that its threads have run.
    fn cpu(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let run = |task: io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        };
        tasks.filter_map(run).sum()
    }

    /// Resident bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        1024 * line.trim_end_matches("kB").trim().parse::<u64>().expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built if need be.
fn proxy() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--example", "proxy", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status();
    assert!(built.expect("cargo").success(), "the proxy cannot be built");
    let own = env::current_exe().expect("the bench's own path");
    own.ancestors().nth(2).expect("TARGET/release/deps/BENCH").join("examples/proxy")
}

/// One request; gives the stream after its head was sent.
async fn ask(port: u16, load: Load) -> TcpStream {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("TCP");
    let body = r#"{"model":"qwen-plus","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nuser-agent: {}/{}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        load.events,
        load.gap,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

/// Reads to the end; gives how many events came.
async fn drain(mut stream: TcpStream) -> u32 {
    let finder = memchr::memmem::Finder::new("\"content\":\"word ");
    let mut chunks = Chunks::default();
    let (mut read, mut body, mut events) = (vec![0; 64 * 1024], Vec::new(), 0);
    loop {
        let len = stream.read(&mut read).await.expect("an answer");
        if len == 0 {
            return events;
        }
        chunks.decode(&read[..len], &mut body);
        let mut behind = 0;
        for at in finder.find_iter(&body) {
            events += 1;
            behind = at + finder.needle().len();
        }
        // A match that is cut here is found with the next piece.
        body.drain(..behind.max(body.len().saturating_sub(finder.needle().len() - 1)));
    }
}

/// Takes the head and the chunks' sizes out (RFC 9112 7.1): they may stand within an event.
#[derive(Default)]
struct Chunks {
    line: Vec<u8>,
    in_body: bool,
    left: usize,
}

impl Chunks {
    fn decode(&mut self, mut piece: &[u8], body: &mut Vec<u8>) {
        while !piece.is_empty() {
            if self.left > 0 {
                let (data, rest) = piece.split_at(self.left.min(piece.len()));
                body.extend_from_slice(data);
                self.left -= data.len();
                piece = rest;
                continue;
            }
            self.line.push(piece[0]);
            piece = &piece[1..];
            if !self.line.ends_with(b"\r\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.trim_ascii();
            if self.in_body && !line.is_empty() {
                let size = std::str::from_utf8(line).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                self.left = size.expect("a chunk's size");
            }
            self.in_body |= line.is_empty();
        }
    }
}

/// CPU of `process` in ns an event.
async fn cpu_per_event(process: &Process, load: Load) -> f64 {
    let before = process.cpu();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..load.streams {
        let port = process.port;
        tasks.spawn(async move { drain(ask(port, load).await).await });
    }
    let events: u32 = tasks.join_all().await.into_iter().sum();
    assert_eq!(events as usize, load.streams * load.events as usize, "events were lost");
    (process.cpu() - before) as f64 / f64::from(events)
}

/// From the request to the first event, in µs.
async fn latency(process: &Process) -> f64 {
    let load = Load { streams: 1, events: 1, gap: 0 };
    let begun = Instant::now();
    let mut stream = ask(process.port, load).await;
    let mut buffer = vec![0; 4096];
    let mut filled = 0;
    while memchr::memmem::find(&buffer[..filled], b"word").is_none() {
        filled += stream.read(&mut buffer[filled..]).await.expect("an answer");
    }
    begun.elapsed().as_secs_f64() * 1e6
}

fn median(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at) as usize]
}

async fn bench(quick: bool) {
    let upstream = Process::role("upstream", None);
    let rivals = [
        ("plain hyper pass-through", Process::role("plain", Some(upstream.port))),
        ("proxy, pass-through lane", Process::proxy(upstream.port, "off")),
        ("proxy, all layers", Process::proxy(upstream.port, "openai")),
    ];
    for (name, process) in &rivals {
        println!("{name}: {:.1} MB at start", process.memory() as f64 / 1e6);
    }

    let (rounds, paced, full) = if quick { (1, 25, 2_000) } else { (15, 150, 50_000) };
    let loads = [
        ("64 streams of 50 events/s", Load { streams: 64, events: paced, gap: 20_000 }),
        ("4 streams at full speed", Load { streams: 4, events: full, gap: 0 }),
    ];
    for (what, load) in loads {
        let mut costs = rivals.each_ref().map(|_| Vec::new());
        let warm = Load { events: load.events.min(500), ..load };
        for (_, process) in &rivals {
            cpu_per_event(process, warm).await;
        }
        for _ in 0..rounds {
            for (at, (_, process)) in rivals.iter().enumerate() {
                costs[at].push(cpu_per_event(process, load).await);
            }
        }
        // Ratios within a round, so that what else the machine does counts for both.
        let plain = costs[0].clone();
        for ((name, _), costs) in rivals.iter().zip(&costs) {
            let ratios = costs.iter().zip(&plain).map(|(cost, plain)| cost / plain).collect();
            println!(
                "{what}: {name}: {:.0} ns of CPU an event, {:.2} x plain",
                median(costs.clone(), 0.5),
                median(ratios, 0.5),
            );
        }
    }

    let asked = if quick { 20 } else { 1_000 };
    let mut latencies = rivals.each_ref().map(|_| Vec::new());
    for _ in 0..asked {
        for (at, (_, process)) in rivals.iter().enumerate() {
            latencies[at].push(latency(process).await);
        }
    }
    let plain = [0.5, 0.99].map(|at| median(latencies[0].clone(), at));
    for ((name, _), latencies) in rivals.iter().zip(&latencies) {
        let [p50, p99] = [0.5, 0.99].map(|at| median(latencies.clone(), at));
        println!(
            "request to first event: {name}: p50 {p50:.0} us ({:+.0}), p99 {p99:.0} us ({:+.0})",
            p50 - plain[0],
            p99 - plain[1],
        );
    }

    let idle = if quick { 20 } else { 400 };
    let load = Load { streams: idle, events: 1, gap: 3_000_000 };
    for (name, process) in &rivals {
        let before = process.memory();
        let mut streams = Vec::new();
        for _ in 0..idle {
            streams.push(ask(process.port, load).await);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let each = (process.memory().saturating_sub(before)) as f64 / idle as f64 / 1024.0;
        println!("{idle} idle streams: {name}: {each:.1} KiB each");
        for stream in streams {
            drain(stream).await;
        }
    }
}
