//! Layers of others between any two layers of the stack.
//!
//! Each of tower's, tower-http's and two hand-written layers stands once in each gap of the full
//! stack, and a conversation of three turns goes through: the stack compiles, answers, and sends
//! chat.qwen.ai what it should be sent.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    layer::layer_fn,
    limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
    util::BoxCloneSyncService,
};
use tower_http::{
    request_id::{MakeRequestUuid, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    set_header::SetRequestHeaderLayer,
};
use tower_qwen::{
    Error, FullBody,
    auth::{AuthRefreshLayer, Credential, StaticCredential},
    chat::{ChatRequest, Destination, Message, Role},
    dedup::DedupLayer,
    openai::OpenAiLayer,
    qwen::web::QwenWebLayer,
    retry::RetryPolicy,
    session::{MemoryStore, SessionLayer},
    sse::reframe::SseReframeLayer,
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::Emulator;

type Edge =
    BoxCloneSyncService<Request<FullBody>, Response<UnsyncBoxBody<Bytes, BoxError>>, Infallible>;

/// The emulator, behind a layer that notes what it is sent.
fn leaf(
    emulator: &Emulator,
) -> impl Service<
    Request<FullBody>,
    Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static>,
    Error: Into<BoxError> + Send + Sync,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    emulator.clone()
}

fn boxed<S, B>(stack: S) -> Edge
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(stack.map_response(|response: Response<B>| {
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }))
}

fn auth() -> AuthRefreshLayer {
    let key = Credential::api_key("sk-demo-upstream").expect("a key");
    AuthRefreshLayer::new(StaticCredential::new(key))
}

/// The limits of time, which have tower's name.
fn limits() -> tower_qwen::timeout::TimeoutLayer {
    tower_qwen::timeout::TimeoutLayer::hosted()
}

/// The full stack with a layer in one of its gaps.
macro_rules! stack {
    (@chat $emulator:expr, [$($above:expr),*], $layer:expr, [$($below:expr),*]) => {
        boxed(
            ServiceBuilder::new()
                $(.layer($above))*
                .layer($layer)
                $(.layer($below))*
                .service(leaf($emulator)),
        )
    };
    (edge_session, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator, [OpenAiLayer::new()], $layer, [
            SessionLayer::new(MemoryStore::default()), DedupLayer::new(), ToolCallLayer::prompted(),
            limits(), auth(), QwenWebLayer::new(), SseReframeLayer::new()
        ])
    };
    (session_dedup, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default())], $layer,
            [DedupLayer::new(), ToolCallLayer::prompted(), limits(), auth(), QwenWebLayer::new(),
             SseReframeLayer::new()])
    };
    (dedup_tool, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default()), DedupLayer::new()],
            $layer,
            [ToolCallLayer::prompted(), limits(), auth(), QwenWebLayer::new(),
             SseReframeLayer::new()])
    };
    (tool_timeout, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default()), DedupLayer::new(),
             ToolCallLayer::prompted()],
            $layer,
            [limits(), auth(), QwenWebLayer::new(), SseReframeLayer::new()])
    };
    (timeout_auth, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default()), DedupLayer::new(),
             ToolCallLayer::prompted(), limits()],
            $layer,
            [auth(), QwenWebLayer::new(), SseReframeLayer::new()])
    };
    (auth_web, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default()), DedupLayer::new(),
             ToolCallLayer::prompted(), limits(), auth()],
            $layer,
            [QwenWebLayer::new(), SseReframeLayer::new()])
    };
    (web_reframe, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default()), DedupLayer::new(),
             ToolCallLayer::prompted(), limits(), auth(), QwenWebLayer::new()],
            $layer,
            [SseReframeLayer::new()])
    };
    (reframe_upstream, $emulator:expr, $layer:expr) => {
        stack!(@chat $emulator,
            [OpenAiLayer::new(), SessionLayer::new(MemoryStore::default()), DedupLayer::new(),
             ToolCallLayer::prompted(), limits(), auth(), QwenWebLayer::new(), SseReframeLayer::new()],
            $layer,
            [])
    };
}

const ASIDE: HeaderName = HeaderName::from_static("x-aside");

/// Sends a request again whose first answer was an error.
#[derive(Clone)]
struct Once(bool);

impl<R: Clone, A, E> Policy<R, A, E> for Once {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut R, result: &mut Result<A, E>) -> Option<Self::Future> {
        (result.is_err() && !std::mem::replace(&mut self.0, true)).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        Some(request.clone())
    }
}

/// Gives each request to somebody who ruins and refuses it, and then sends the clone that it has
/// kept.
#[derive(Clone)]
struct Replay<S>(S);

impl<S> Service<Request<ChatRequest>> for Replay<S>
where
    S: Service<Request<ChatRequest>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> S::Future {
        let kept = request.clone();
        let ruined = request.body_mut();
        for index in 0..ruined.history.len() {
            ruined.history.get_mut(index).expect("it is there").content = None;
        }
        ruined.history.push(Message::new(Role::User, "of nobody"));
        ruined.history.forget_seen();
        Arc::make_mut(&mut ruined.tools).clear();
        ruined.destination = Destination::NEW;
        ruined.extra.insert("ruined", json!(true));
        request.headers_mut().clear();
        request.extensions_mut().clear();
        drop(request);
        self.0.call(kept)
    }
}

/// Puts a system message in front.
#[derive(Clone)]
struct Instruct<S>(S);

impl<S: Service<Request<ChatRequest>>> Service<Request<ChatRequest>> for Instruct<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> S::Future {
        request.body_mut().history.insert_first(Message::new(Role::System, "Be brief."));
        self.0.call(request)
    }
}

/// Asks the stack for the next turn of `history`, and adds the answer.
async fn turn(stack: &Edge, history: &mut Vec<Value>, question: &str) -> String {
    history.push(json!({"role": "user", "content": question}));
    let body = json!({"model": "qwen3-max", "messages": history});
    let request = Request::post("/v1/chat/completions")
        .header(header::AUTHORIZATION, "Bearer sk-demo-client")
        .body(FullBody::from(body.to_string()))
        .expect("a request");
    let response = stack.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    let text = answer["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
    history.push(json!({"role": "assistant", "content": text}));
    text
}

const QUESTIONS: [&str; 3] = ["What is a monad?", "And a functor?", "Thank you."];

/// What upstream was sent in each chat: the texts of the user's messages.
async fn conversation(stack: &Edge, emulator: &Emulator) -> Vec<Vec<String>> {
    let mut history = Vec::new();
    for question in QUESTIONS {
        turn(stack, &mut history, question).await;
    }
    let sent = |chat: &tower_qwen_emulator::ChatRecord| {
        chat.messages.iter().step_by(2).map(|message| message.text.clone()).collect()
    };
    emulator.chats().iter().map(sent).collect()
}

/// One chat, in which each turn sent what was new.
fn assert_one_chat(what: &str, sent: &[Vec<String>]) {
    assert_eq!(sent, [QUESTIONS.map(str::to_owned)], "{what}");
}

/// A layer that changes nothing about the requests stands in every gap, and nothing changes.
macro_rules! changes_nothing {
    ($name:ident, $layer:expr) => {
        mod $name {
            use super::*;

            changes_nothing!(@ $layer, edge_session session_dedup dedup_tool tool_timeout timeout_auth auth_web
                web_reframe reframe_upstream);
        }
    };
    (@ $layer:expr, $($gap:ident)*) => {
        $(
            #[tokio::test]
            async fn $gap() {
                let emulator = Emulator::new();
                let stack = stack!($gap, &emulator, $layer);
                let sent = conversation(&stack, &emulator).await;
                assert_one_chat(stringify!($gap), &sent);
            }
        )*
    };
}

changes_nothing!(timeout, TimeoutLayer::new(Duration::from_secs(60)));
changes_nothing!(buffer, BufferLayer::new(16));
changes_nothing!(load_shed, LoadShedLayer::new());
changes_nothing!(concurrency_limit, ConcurrencyLimitLayer::new(16));
changes_nothing!(retry, RetryLayer::new(Once(false)));
changes_nothing!(
    set_header,
    SetRequestHeaderLayer::overriding(ASIDE, HeaderValue::from_static("read it"))
);
changes_nothing!(
    request_id,
    SetRequestIdLayer::new(HeaderName::from_static("x-request-id"), MakeRequestUuid)
);
changes_nothing!(
    sensitive_headers,
    SetSensitiveRequestHeadersLayer::new([
        header::AUTHORIZATION,
        header::COOKIE,
        header::USER_AGENT
    ])
);

/// What is of this crate and reads nothing of a chat stands anywhere among the layers of chats, also
/// where the stack has it already.
macro_rules! stands_among_chats {
    ($name:ident, $layer:expr) => {
        mod $name {
            use super::*;

            changes_nothing!(@ $layer, edge_session session_dedup dedup_tool tool_timeout
                timeout_auth auth_web);
        }
    };
}

stands_among_chats!(limits_of_time, limits());
stands_among_chats!(retry_policy, RetryLayer::new(RetryPolicy::new()));

/// Two of them around each layer at once, as a service grows them.
#[tokio::test]
async fn several_in_a_row() {
    let emulator = Emulator::new();
    let stack = boxed(
        ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .load_shed()
            .buffer(8)
            .layer(SessionLayer::new(MemoryStore::default()))
            .timeout(Duration::from_secs(60))
            .layer(DedupLayer::new())
            .concurrency_limit(8)
            .layer(ToolCallLayer::prompted())
            .buffer(8)
            .layer(auth())
            .load_shed()
            .timeout(Duration::from_secs(60))
            .layer(QwenWebLayer::new())
            .concurrency_limit(8)
            .layer(SseReframeLayer::new())
            .buffer(8)
            .service(leaf(&emulator)),
    );
    let sent = conversation(&stack, &emulator).await;
    assert_one_chat("several", &sent);
}

mod replayed {
    //! A layer that keeps a clone and sends it again: whatever the first copy has gone through,
    //! the second is what it was.

    use super::*;

    macro_rules! sent_as_it_was {
        ($($gap:ident)*) => {
            $(
                #[tokio::test]
                async fn $gap() {
                    let emulator = Emulator::new();
                    let stack = stack!($gap, &emulator, layer_fn(Replay));
                    let sent = conversation(&stack, &emulator).await;
                    assert_one_chat(stringify!($gap), &sent);
                }
            )*
        };
    }

    sent_as_it_was!(edge_session session_dedup dedup_tool tool_timeout timeout_auth auth_web);
}

mod instructed {
    //! A layer that puts a system message in front. Whether it travels with a later turn of a
    //! chat depends on the place; `chat::History` says how.

    use super::*;

    const FIRST: &str = "[system]\nBe brief.\n\n[user]\nWhat is a monad?";

    /// Outside of the dedup layer the message belongs to what the chat has seen, so it is sent
    /// once.
    macro_rules! sent_once {
        ($($gap:ident)*) => {
            $(
                #[tokio::test]
                async fn $gap() {
                    let emulator = Emulator::new();
                    let stack = stack!($gap, &emulator, layer_fn(Instruct));
                    let sent = conversation(&stack, &emulator).await;
                    assert_eq!(sent, [[FIRST, QUESTIONS[1], QUESTIONS[2]].map(str::to_owned)]);
                }
            )*
        };
    }

    /// Inside of it nothing counts as seen, so it is sent with every turn.
    macro_rules! sent_always {
        ($($gap:ident)*) => {
            $(
                #[tokio::test]
                async fn $gap() {
                    let emulator = Emulator::new();
                    let stack = stack!($gap, &emulator, layer_fn(Instruct));
                    let sent = conversation(&stack, &emulator).await;
                    let expected = QUESTIONS
                        .map(|question| format!("[system]\nBe brief.\n\n[user]\n{question}"));
                    assert_eq!(sent, [expected]);
                }
            )*
        };
    }

    sent_once!(edge_session session_dedup);
    sent_always!(dedup_tool tool_timeout timeout_auth auth_web);
}

/// What is put into the request's extensions outside is there inside, on every call of a turn.
#[tokio::test]
async fn extensions_travel_from_the_edge_to_the_leaf() {
    #[derive(Clone, Debug, PartialEq)]
    struct Trace(u32);

    #[derive(Clone)]
    struct Look<S>(S, Arc<Mutex<Vec<Option<Trace>>>>);

    impl<S, B> Service<Request<B>> for Look<S>
    where
        S: Service<Request<B>>,
    {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: Request<B>) -> S::Future {
            let trace = request.extensions().get::<Trace>().cloned();
            self.1.lock().expect("nothing panics under the lock").push(trace);
            self.0.call(request)
        }
    }

    let seen = Arc::default();
    let emulator = Emulator::new();
    let looking = Arc::clone(&seen);
    let stack = ServiceBuilder::new()
        .map_request(|mut request: Request<FullBody>| {
            request.extensions_mut().insert(Trace(7));
            request
        })
        .service(stack!(
            reframe_upstream,
            &emulator,
            layer_fn(move |inner| Look(inner, Arc::clone(&looking)))
        ));
    let stack = boxed(stack);
    turn(&stack, &mut Vec::new(), "Hello").await;
    let seen = seen.lock().expect("nothing panics under the lock").clone();
    assert!(seen.len() >= 2, "a new chat and a turn: {seen:?}");
    assert!(seen.iter().all(|trace| *trace == Some(Trace(7))), "{seen:?}");
}

/// An error of a layer between ours reaches the client as what it is.
#[tokio::test(start_paused = true)]
async fn errors_of_others_have_their_status() {
    #[derive(Clone)]
    struct Never;

    impl<R> Service<R> for Never {
        type Response =
            Response<futures_util::stream::Empty<Result<tower_qwen::chat::ChatEvent, Error>>>;
        type Error = Error;
        type Future = std::future::Pending<Result<Self::Response, Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: R) -> Self::Future {
            std::future::pending()
        }
    }

    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let request = || Request::post("/").body(FullBody::from(body.clone())).expect("a request");
    let slow = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(DedupLayer::new())
        .service(Never);
    let response = slow.oneshot(request()).await.expect("infallible");
    assert_eq!(response.status(), http::StatusCode::GATEWAY_TIMEOUT);

    let full = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(0))
        .layer(DedupLayer::new())
        .service(Never);
    let response = full.oneshot(request()).await.expect("infallible");
    assert_eq!(response.status(), http::StatusCode::SERVICE_UNAVAILABLE);
}
