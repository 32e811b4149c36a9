//! Faults that only a socket has, on real time: half-open and reset connections, and lies about lengths.
//!
//! Only ways of ending are stated here, and no durations.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use http::Request;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_qwen::{
    ErrorKind::{Timeout, Truncated, Upstream},
    chat::{ChatEvent, ChatRequest, FinishReason::Stop, Message, Role, Tenant},
    dedup::DedupLayer,
    join::JoinLayer,
    qwen::{
        client::QwenUpstream,
        compatible::{CompatibleLayer, Server},
        responses::QwenResponsesLayer,
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    timeout::TimeoutLayer,
    tool::call::ToolCallLayer,
};

use crate::{
    chat::{Chat, chat},
    fault::End::{self, Broken, Finished, Refused},
    wire::{PIECES, Wire},
};

/// What a server does with a connection that brings a question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It says nothing, and keeps the connection open.
    HalfOpen,
    /// The same behind the first piece of text.
    HalfOpenInside,
    /// It closes the connection.
    Closed,
    /// It resets the connection.
    Reset,
    /// The same when the first piece of text has been read.
    ResetInside,
    /// It speaks no HTTP.
    NotHttp,
    /// The head of its response never ends.
    EndlessHead,
    /// The body is shorter than its length, and is cut behind the first piece of text.
    TooLong,
    /// The body is shorter than its length, and whole.
    TooLongAndWhole,
    /// The body is whole, and longer than its length, which ends in the second piece of text.
    TooShort,
    /// The size of the second chunk is no number.
    BadChunk,
    /// There is no last chunk, and the answer is cut behind the first piece of text.
    NoLastChunk,
    /// There is no last chunk, and the answer is whole.
    NoLastChunkAndWhole,
}

const TABLE: [(Fault, End); 13] = [
    (Fault::HalfOpen, Refused(Timeout)),
    (Fault::HalfOpenInside, Broken(Timeout)),
    (Fault::Closed, Refused(Upstream)),
    (Fault::Reset, Refused(Upstream)),
    (Fault::ResetInside, Broken(Upstream)),
    (Fault::NotHttp, Refused(Upstream)),
    (Fault::EndlessHead, Refused(Upstream)),
    (Fault::TooLong, Broken(Upstream)),
    (Fault::TooLongAndWhole, Finished(Stop)),
    (Fault::TooShort, Broken(Truncated)),
    (Fault::BadChunk, Broken(Upstream)),
    (Fault::NoLastChunk, Broken(Upstream)),
    (Fault::NoLastChunkAndWhole, Finished(Stop)),
];

/// How long a test waits at most for what happens at once on an idle machine.
const AT_MOST: Duration = Duration::from_secs(60);

/// A server on the loopback.
struct Listening {
    state: Arc<State>,
    task: JoinHandle<()>,
    address: String,
}

struct State {
    wire: Wire,
    fault: Fault,
    /// Whether the next question meets the fault.
    is_faulty: AtomicBool,
    asked: AtomicUsize,
    /// The connections that are open.
    open: AtomicUsize,
    chats: Mutex<HashSet<String>>,
    /// The client has read the first piece of text.
    has_read: Notify,
}

impl Listening {
    async fn new(wire: Wire, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State {
            wire,
            fault,
            is_faulty: AtomicBool::new(true),
            asked: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            chats: Mutex::default(),
            has_read: Notify::new(),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let state = Arc::clone(&shared);
                state.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // A client may let go at any moment.
                    let _ = state.serve(stream).await;
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { state, task, address }
    }
}

impl State {
    /// One request a connection.
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).await?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim_end().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a field");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a number");
            }
        }
        stream.read_exact(&mut vec![0; length]).await?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
        let count = self.asked.load(Ordering::SeqCst);
        if path == "/api/v2/chats/new" {
            lock(&self.chats).insert(format!("c-{count}"));
            let body = format!(r#"{{"success":true,"data":{{"id":"c-{count}"}}}}"#);
            return whole(&mut stream, "application/json", &body).await;
        }
        if let Some(chat) = path.strip_prefix("/api/v2/chats/").filter(|_| method == "DELETE") {
            lock(&self.chats).remove(chat);
            return whole(&mut stream, "application/json", r#"{"success":true}"#).await;
        }
        if path.ends_with("/stop") {
            return whole(&mut stream, "application/json", r#"{"success":true}"#).await;
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_faulty.swap(false, Ordering::SeqCst) {
            return self.fail(stream).await;
        }
        whole(&mut stream, "text/event-stream", &self.wire.events(count).concat()).await
    }

    async fn fail(&self, mut stream: BufReader<TcpStream>) -> std::io::Result<()> {
        let events = self.wire.events(9_000);
        let (begun, all) = (events[..2].concat(), events.concat());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
        let sized = |length: usize, body: &str| {
            format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes()
        };
        let chunked = |body: &str, then: &str| {
            let size = body.len();
            format!("{head}transfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n{then}")
                .into_bytes()
        };
        let said = match self.fault {
            Fault::HalfOpen | Fault::Closed | Fault::Reset => Vec::new(),
            Fault::NotHttp => b"SSH-2.0-OpenSSH_9.7\r\n".to_vec(),
            Fault::EndlessHead => head.into(),
            Fault::TooLong => sized(all.len(), &begun),
            Fault::TooLongAndWhole => sized(all.len() + 1_000, &all),
            Fault::TooShort => sized(begun.len() + events[2].len() / 2, &all),
            Fault::BadChunk => chunked(&begun, "no number\r\n"),
            Fault::NoLastChunkAndWhole => chunked(&all, ""),
            Fault::HalfOpenInside | Fault::ResetInside | Fault::NoLastChunk => chunked(&begun, ""),
        };
        stream.write_all(&said).await?;
        match self.fault {
            Fault::HalfOpen | Fault::HalfOpenInside => {
                // Until the client lets go.
                stream.read_to_end(&mut Vec::new()).await.map(drop)
            }
            Fault::EndlessHead => loop {
                stream.write_all(format!("x-more: {}\r\n", "x".repeat(4096)).as_bytes()).await?;
            },
            Fault::Reset => stream.into_inner().set_zero_linger(),
            Fault::ResetInside => {
                // What was sent is lost with a reset, unless it was read.
                self.has_read.notified().await;
                stream.into_inner().set_zero_linger()
            }
            _ => stream.shutdown().await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

async fn whole(
    stream: &mut BufReader<TcpStream>,
    content_type: &str,
    body: &str,
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await?;
    stream.shutdown().await
}

/// The full stack over a client of the server.
fn stack(wire: Wire, address: &str, limit: Duration) -> Chat {
    let url = format!("http://{address}");
    let client = match wire {
        Wire::Web => QwenUpstream::web().base_url(url),
        Wire::Compatible | Wire::Responses => QwenUpstream::builder(url),
    };
    let client = client.env_proxy(false).first_byte_timeout(limit).build().expect("a client");
    let adapter = match wire {
        Wire::Web => chat(QwenWebLayer::new().layer(client)),
        Wire::Compatible => chat(CompatibleLayer::new(Server::Generic).layer(client)),
        Wire::Responses => chat(QwenResponsesLayer::new().layer(client)),
    };
    chat(
        ServiceBuilder::new()
            .layer(JoinLayer::new())
            .layer(SessionLayer::new(MemoryStore::default()))
            .layer(DedupLayer::new())
            .layer(ToolCallLayer::prompted())
            .layer(TimeoutLayer::hosted().idle(Some(limit)))
            .service(adapter),
    )
}

/// How an answer ends, and what it said.
async fn asked(chat: &Chat, has_begun: &Notify) -> (End, String) {
    let mut request = ChatRequest::new("qwen3-max", [Message::new(Role::User, "Does it rain?")]);
    request.tenant = Some(Tenant::from_digest([7; 32]));
    let mut events = match chat.clone().oneshot(Request::new(request)).await {
        Ok(response) => response.into_body(),
        Err(error) => return (Refused(error.kind()), String::new()),
    };
    has_begun.notify_one();
    let (mut end, mut text) = (None, String::new());
    while let Some(item) = events.next().await {
        match item {
            Ok(ChatEvent::Text(piece)) => text.push_str(&piece),
            Ok(ChatEvent::Finished(reason)) => end = Some(Finished(reason)),
            Ok(_) => {}
            Err(error) => end = Some(Broken(error.kind())),
        }
    }
    (end.expect("the checker sees to an end"), text)
}

/// Waits until something is as it should be in the end.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(AT_MOST, wait).await.is_ok(), "{what}");
}

async fn all(wire: Wire) {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let begun_with = tasks();
    for (fault, end) in TABLE {
        let what = format!("{fault:?}, {wire:?}");
        let server = Listening::new(wire, fault).await;
        // Only where a limit is the end of it is it short, as a machine may be slow.
        let limit = match end {
            Refused(Timeout) | Broken(Timeout) => Duration::from_millis(800),
            _ => AT_MOST,
        };
        let chat = stack(wire, &server.address, limit);
        let state = &server.state;
        let (got, text) = timeout(2 * AT_MOST, asked(&chat, &state.has_read)).await.expect(&what);
        assert_eq!(got, end, "{what}: {text}");
        assert_eq!(state.asked.load(Ordering::SeqCst), 1, "{what}: it is asked once");
        match end {
            Refused(_) => {}
            Finished(_) => assert_eq!(text, PIECES.concat(), "{what}"),
            _ => assert!(PIECES.concat().starts_with(&text), "{what}: {text}"),
        }
        let (again, text) = timeout(2 * AT_MOST, asked(&chat, &state.has_read)).await.expect(&what);
        assert_eq!((again, &*text), (Finished(Stop), &*PIECES.concat()), "{what}: the next turn");
        // The connections are let go, also those that the server keeps open.
        let is_closed = || state.open.load(Ordering::SeqCst) == 0;
        until(&format!("{what}: open connections"), is_closed).await;
        if wire == Wire::Web {
            let chats = if matches!(end, Refused(_)) { 1 } else { 2 };
            let are_left = || lock(&state.chats).len() == chats;
            until(&format!("{what}: {chats} chats"), are_left).await;
        }
        drop(chat);
        server.task.abort();
        until(&format!("{what}: tasks"), || tasks() == begun_with).await;
    }
}

#[tokio::test]
async fn every_fault_of_a_socket_to_the_web_ends_as_the_table_says() {
    all(Wire::Web).await;
}

#[tokio::test]
async fn every_fault_of_a_socket_to_a_compatible_server_ends_as_the_table_says() {
    all(Wire::Compatible).await;
}

#[tokio::test]
async fn every_fault_of_a_socket_to_dashscopes_responses_ends_as_the_table_says() {
    all(Wire::Responses).await;
}

#[tokio::test]
async fn where_nobody_listens_the_answer_is_refused() {
    for wire in [Wire::Web, Wire::Compatible, Wire::Responses] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let chat = stack(wire, &address, AT_MOST);
        let (end, _) = asked(&chat, &Notify::new()).await;
        assert_eq!(end, Refused(Upstream), "{wire:?}");
    }
}
