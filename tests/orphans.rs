//! A client that leaves before it is answered leaves no chat behind, wherever it leaves; nor does
//! a turn that is refused.

mod traced;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::poll_fn};
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};
use tower_qwen::{
    Error, FullBody,
    chat::{ChatRequest, Message, Role},
    qwen::web::QwenWebLayer,
};
use tower_qwen_emulator::Emulator;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type UpstreamBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// The emulator at the end of a slow line: each call is not there for some polls, its answer not
/// for some more, nor is any frame of it.
#[derive(Clone)]
struct SlowLine {
    emulator: Emulator,
    calls: Arc<Mutex<Vec<(Method, String)>>>,
}

impl SlowLine {
    fn new() -> Self {
        traced::on();
        Self { emulator: Emulator::new(), calls: Arc::default() }
    }

    fn asked(&self, what: &str) -> usize {
        let calls = self.calls.lock().expect("nobody panics with it");
        calls.iter().filter(|(method, path)| format!("{method} {path}").contains(what)).count()
    }
}

/// Not ready, twice.
async fn hesitate() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

impl Service<Request<FullBody>> for SlowLine {
    type Response = Response<UpstreamBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let Self { emulator, calls } = self.clone();
        Box::pin(async move {
            hesitate().await;
            let call = (request.method().clone(), request.uri().path().to_owned());
            calls.lock().expect("nobody panics with it").push(call);
            let response = emulator.oneshot(request).await.expect("it is infallible");
            hesitate().await;
            Ok(response.map(|body| -> UpstreamBody {
                Box::pin(SlowBody { inner: Box::pin(body.map_err(Into::into)), hesitations: 2 })
            }))
        })
    }
}

struct SlowBody {
    inner: UpstreamBody,
    hesitations: u8,
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.hesitations > 0 {
            self.hesitations -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = std::task::ready!(self.inner.as_mut().poll_frame(cx));
        self.hesitations = 2;
        Poll::Ready(frame)
    }
}

fn ask<S>(service: S, text: &str) -> impl Future<Output = Result<S::Response, Error>>
where
    S: Service<Request<ChatRequest>, Error = Error>,
{
    let chat = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, text)]);
    service.oneshot(Request::new(chat))
}

/// Until what goes on in the background has ended, whatever its limits are.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(300)).await;
}

/// Drops the future of a turn after each number of polls; how often it was not ready.
async fn drop_everywhere(layer: &QwenWebLayer, text: &str, left: usize) -> usize {
    for polls in 0.. {
        let line = SlowLine::new();
        let mut turn = Box::pin(ask(layer.layer(line.clone()), text));
        let mut answered = None;
        for _ in 0..polls {
            // Each poll is of a turn of the runtime's.
            answered = poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).now_or_never();
            if let Some(Poll::Ready(_)) = answered {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(turn);
        if let Some(Poll::Ready(answer)) = answered {
            settle().await;
            match answer {
                Ok(_) => assert_eq!(line.emulator.chats().len(), 1, "somebody knows of it"),
                Err(_) => assert_eq!(line.emulator.chats().len(), left, "{text}"),
            }
            return polls;
        }
        settle().await;
        let chats = line.emulator.chats();
        assert!(chats.len() <= left, "dropped after {polls} polls, {text}: {chats:?}");
        assert!(line.asked("POST /api/v2/chats/new") <= 1);
        assert_eq!(
            line.asked("DELETE"),
            line.emulator.counters().chats_created as usize * usize::from(left == 0),
            "each chat is deleted, and none twice"
        );
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_any_moment_leaves_no_chat() {
    let polls = drop_everywhere(&QwenWebLayer::new(), "Hello", 0).await;
    // Before and behind each call, and between the frames: each moment was there.
    assert!(polls >= 12, "only {polls} moments");
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_that_leaves_while_the_answer_has_begun() {
    // Upstream has named the answer, and thinks: it is stopped, then the chat is deleted.
    let line = SlowLine::new();
    let text = "emulate:think_empty emulate:stall=0 Hello";
    let mut turn = Box::pin(ask(QwenWebLayer::new().layer(line.clone()), text));
    for _ in 0..60 {
        assert!(poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await.is_pending());
        tokio::task::yield_now().await;
    }
    drop(turn);
    settle().await;
    assert_eq!(line.emulator.chats().len(), 0);
    let calls = line.calls.lock().expect("nobody panics with it").clone();
    let paths: Vec<_> = calls.iter().map(|(method, path)| (method.as_str(), &**path)).collect();
    assert_eq!(paths[2].1, "/api/v2/chat/completions/stop", "{paths:?}");
    assert_eq!(paths[3].0, "DELETE", "{paths:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_refused_leaves_no_chat() {
    for refusal in [
        "rate_limited",
        "quota",
        "unauthorized",
        "forbidden",
        "model_not_found",
        "in_progress",
        "internal",
        "challenge_html",
        "challenge_endless",
        "timeout",
        "status=502",
        "overloaded",
        "content_filter",
        "error_string",
        "error_bare",
        "cut=0",
        "reset=0",
        "stall=0",
    ] {
        let text = format!("emulate:{refusal} Hello");
        let line = SlowLine::new();
        let answer = ask(QwenWebLayer::new().layer(line.clone()), &text).await;
        assert!(answer.is_err(), "{refusal}");
        drop(answer);
        settle().await;
        assert_eq!(line.emulator.counters().chats_created, 1, "{refusal}");
        assert_eq!(line.emulator.chats().len(), 0, "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_is_known_stays() {
    // Answered: whoever got the answer may go on in it, also if it is not read to its end.
    let line = SlowLine::new();
    let service = QwenWebLayer::new().layer(line.clone());
    for text in ["Hello", "emulate:json Hello", "emulate:stall=3 Hello"] {
        drop(ask(service.clone(), text).await.expect("it is answered"));
        settle().await;
    }
    assert_eq!(line.emulator.chats().len(), 3);
    // Gone on in: the turn fails, and the chat is the client's.
    let chat = line.emulator.chats()[0].id.clone();
    let mut request =
        ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "emulate:rate_limited Hello")]);
    request.destination = tower_qwen::chat::Conversation::new(chat).into();
    assert!(service.oneshot(Request::new(request)).await.is_err());
    settle().await;
    assert_eq!((line.emulator.chats().len(), line.asked("DELETE")), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn it_can_be_turned_off() {
    let layer = QwenWebLayer::new().delete_orphans(false);
    let line = SlowLine::new();
    let answer = ask(layer.layer(line.clone()), "emulate:rate_limited Hello").await;
    assert!(answer.is_err());
    settle().await;
    assert_eq!((line.emulator.chats().len(), line.asked("DELETE")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_id_that_would_name_all_chats_deletes_none() {
    for id in ["..", ".", "a~b", "a:b"] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let calls = Arc::clone(&asked);
        let upstream = tower::service_fn(move |request: Request<FullBody>| {
            calls.lock().expect("nobody panics with it").push(request.method().clone());
            let body = match request.uri().path() {
                "/api/v2/chats/new" => format!(r#"{{"success":true,"data":{{"id":"{id}"}}}}"#),
                _ => r#"{"success":false,"data":{"code":"RateLimited"}}"#.to_owned(),
            };
            let response = Response::builder().header("content-type", "application/json");
            std::future::ready(response.body(FullBody::from(body)))
        });
        assert!(ask(QwenWebLayer::new().layer(upstream), "Hello").await.is_err());
        settle().await;
        let asked = asked.lock().expect("nobody panics with it").clone();
        assert_eq!(asked, [Method::POST, Method::POST], "{id}");
    }
}
