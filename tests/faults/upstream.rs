//! `Faulty`: an upstream that does as its script says, and counts what of it is alive.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tower::Service;
use tower_qwen::{BoxError, FullBody};

use crate::wire::Wire;

/// What the upstream does with one question.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// How long the head takes; `None` is for ever.
    pub(crate) head: Option<Duration>,
    /// Whether the connection breaks in place of the head.
    pub(crate) is_unreachable: bool,
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// What the head says of the length, true or not.
    pub(crate) length: Option<u64>,
    /// The pieces of the body, each with what is waited before it.
    pub(crate) pieces: VecDeque<(Duration, Bytes)>,
    pub(crate) then: Then,
}

/// What comes behind the last piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// The body ends.
    End,
    /// The connection is reset.
    Reset,
    /// Nothing, for ever.
    Silence,
    /// The same piece, for ever, each after a wait.
    Repeat(Duration, Bytes),
}

impl Script {
    /// A stream of events in these pieces.
    pub(crate) fn events(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            head: Some(Duration::ZERO),
            is_unreachable: false,
            status: 200,
            content_type: "text/event-stream",
            length: None,
            pieces: pieces.into_iter().map(|piece| (Duration::ZERO, piece)).collect(),
            then: Then::End,
        }
    }

    pub(crate) fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }
}

/// The upstream. Its clones are one.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<State>);

struct State {
    wire: Wire,
    /// What is done with each question; without it the answer is good.
    script: Mutex<Option<Script>>,
    /// Whether that is done with one question alone.
    is_once: AtomicBool,
    /// Requests without a response and bodies that somebody holds.
    alive: Arc<AtomicUsize>,
    /// How many questions it was asked.
    asked: AtomicUsize,
    /// The chats that were opened and not deleted.
    chats: Mutex<HashSet<String>>,
}

impl Faulty {
    pub(crate) fn new(wire: Wire) -> Self {
        Self(Arc::new(State {
            wire,
            script: Mutex::default(),
            is_once: AtomicBool::new(false),
            alive: Arc::default(),
            asked: AtomicUsize::new(0),
            chats: Mutex::default(),
        }))
    }

    /// From now on it does this with each question, or answers well.
    pub(crate) fn follow(&self, script: Option<Script>) {
        *lock(&self.0.script) = script;
        self.0.is_once.store(false, Ordering::SeqCst);
    }

    /// It does this with the next question, and answers well from then on.
    pub(crate) fn follow_once(&self, script: Option<Script>) {
        self.follow(script);
        self.0.is_once.store(true, Ordering::SeqCst);
    }

    pub(crate) fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn chats(&self) -> usize {
        lock(&self.0.chats).len()
    }

    /// What is done with a request.
    fn script(&self, method: &Method, path: &str, query: &str) -> Script {
        let json = |text: String| Script {
            content_type: "application/json",
            ..Script::events([Bytes::from(text)])
        };
        if path == "/api/v2/chats/new" {
            let mut chats = lock(&self.0.chats);
            let id = format!("c-{}", self.asked());
            assert!(chats.insert(id.clone()), "one chat a question");
            return json(format!(r#"{{"success":true,"data":{{"id":"{id}"}}}}"#));
        }
        if *method == Method::DELETE {
            let id = path.strip_prefix("/api/v2/chats/").expect("a chat is deleted");
            assert!(lock(&self.0.chats).remove(id), "{id} is deleted once");
            return json(r#"{"success":true,"data":{"status":true}}"#.to_owned());
        }
        if path.ends_with("/stop") {
            return json(r#"{"success":true}"#.to_owned());
        }
        let count = self.0.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(chat) = query.strip_prefix("chat_id=") {
            assert!(lock(&self.0.chats).contains(chat), "asked in {chat}, which is not open");
        }
        let script = match self.0.is_once.load(Ordering::SeqCst) {
            true => lock(&self.0.script).take(),
            false => lock(&self.0.script).clone(),
        };
        script.unwrap_or_else(|| self.0.wire.good(count))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// One more is alive until this is dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<Request<FullBody>> for Faulty {
    type Response = Response<FaultyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let script = self.script(request.method(), uri.path(), query);
        let alive = Alive::new(&self.0.alive);
        Box::pin(async move {
            match script.head {
                Some(Duration::ZERO) => {}
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
            if script.is_unreachable {
                return Err("connection refused".into());
            }
            let mut response = Response::builder()
                .status(script.status)
                .header(header::CONTENT_TYPE, script.content_type);
            if let Some(length) = script.length {
                response = response.header(header::CONTENT_LENGTH, length);
            }
            let body = FaultyBody {
                pieces: script.pieces,
                then: script.then,
                length: script.length,
                wait: None,
                is_over: false,
                _alive: alive,
            };
            Ok(response.body(body).expect("a response"))
        })
    }
}

/// The body of an answer.
pub(crate) struct FaultyBody {
    pieces: VecDeque<(Duration, Bytes)>,
    then: Then,
    length: Option<u64>,
    wait: Option<Pin<Box<Sleep>>>,
    is_over: bool,
    _alive: Alive,
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert!(!self.is_over, "a body is not asked behind its end");
        let wait = match (self.pieces.front(), &self.then) {
            (Some((wait, _)), _) | (None, Then::Repeat(wait, _)) => *wait,
            (None, Then::Silence) => return Poll::Pending,
            (None, _) => Duration::ZERO,
        };
        if !wait.is_zero() {
            ready!(self.wait.get_or_insert_with(|| Box::pin(sleep(wait))).as_mut().poll(cx));
            self.wait = None;
        }
        if let Some((_, piece)) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.then.clone() {
            Then::Repeat(_, piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Then::Reset => {
                self.is_over = true;
                Poll::Ready(Some(Err("connection reset by peer".into())))
            }
            _ => {
                self.is_over = true;
                Poll::Ready(None)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}
