//! `QwenWebLayer` over an upstream of this file's own.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

mod traced;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt};
use tower_qwen::{
    CredentialHeaders, Error, ErrorKind, FullBody,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Content, Conversation, Destination,
        FinishReason, Message, Part, PartKind, Role,
    },
    qwen::web::QwenWebLayer,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type UpstreamBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

const CREATED: &str = "data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \"response_id\":\"r-1\"}} \n\n";
const FINISHED: &str = "data: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \"assistant\", \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n";

fn delta(content: &str) -> String {
    let content = Value::from(content);
    format!(
        "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": {content}, \
         \"phase\": \"answer\", \"status\": \"typing\"}}}}]}}\n\n"
    )
}

fn transcript() -> String {
    [CREATED, &delta("Hel"), &delta("lo ünd 🌌"), FINISHED].concat()
}

/// What somebody outside puts into the extensions of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TraceContext(u64);

/// What upstream got.
#[derive(Clone, Debug)]
struct Got {
    trace: Option<TraceContext>,
    method: http::Method,
    target: String,
    headers: http::HeaderMap,
    body: Value,
}

/// An upstream that notes what it gets, opens chats, and answers turns with `answer`.
#[derive(Clone)]
struct Upstream {
    got: Arc<Mutex<Vec<Got>>>,
    new_chat: Arc<dyn Fn() -> Response<UpstreamBody> + Send + Sync>,
    answer: Arc<dyn Fn() -> Response<UpstreamBody> + Send + Sync>,
}

impl Upstream {
    fn new(answer: impl Fn() -> Response<UpstreamBody> + Send + Sync + 'static) -> Self {
        Self {
            got: Arc::default(),
            new_chat: Arc::new(|| json_response(r#"{"success":true,"data":{"id":"c-1"}}"#)),
            answer: Arc::new(answer),
        }
    }

    fn streaming(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self::new(move || event_stream(whole(text.clone())))
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    async fn ask(self, request: ChatRequest) -> Result<Answer, Error> {
        let response = QwenWebLayer::new().layer(self).oneshot(Request::new(request)).await?;
        Answer::collect(response.into_body().checked()).await
    }
}

impl Service<Request<FullBody>> for Upstream {
    type Response = Response<UpstreamBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let (head, body) = request.into_parts();
        let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        let path = head.uri.path().to_owned();
        self.got.lock().unwrap().push(Got {
            trace: head.extensions.get().copied(),
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        let response = match path.as_str() {
            "/api/v2/chats/new" => (self.new_chat)(),
            "/api/v2/chat/completions" => (self.answer)(),
            "/api/v2/chat/completions/stop" | "/api/v2/chats/c-1" => {
                json_response("{\"success\":true}")
            }
            other => panic!("{other} was asked for"),
        };
        Box::pin(async { Ok(response) })
    }
}

fn whole(bytes: Bytes) -> UpstreamBody {
    Box::pin(FullBody::new(bytes).map_err(|never| match never {}))
}

fn frames(frames: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> UpstreamBody {
    Box::pin(StreamBody::new(frames.map(|frame| frame.map(Frame::data))))
}

fn event_stream(body: UpstreamBody) -> Response<UpstreamBody> {
    Response::builder()
        .header("content-type", "text/event-stream; charset=utf-8")
        .body(body)
        .unwrap()
}

fn json_response(body: &'static str) -> Response<UpstreamBody> {
    Response::builder()
        .header("content-type", "application/json")
        .body(whole(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

fn hello() -> ChatRequest {
    ChatRequest::new("qwen3.7-plus", vec![Message::new(Role::User, "Hello")])
}

fn continued() -> ChatRequest {
    let mut request = hello();
    request.destination = Conversation::new("c-9").with_parent("r-0").with_account("ann").into();
    request
}

/// Every item of the answer, errors before the commit point included.
async fn items(upstream: Upstream, layer: QwenWebLayer) -> Vec<Result<ChatEvent, Error>> {
    traced::on();
    match layer.layer(upstream).oneshot(Request::new(hello())).await {
        Ok(response) => response.into_body().collect().await,
        Err(error) => vec![Err(error)],
    }
}

/// Items in a form that compares.
fn shown(items: &[Result<ChatEvent, Error>]) -> Vec<String> {
    items.iter().map(|item| format!("{item:?}")).collect()
}

#[tokio::test]
async fn a_first_turn_opens_a_chat() {
    let upstream = Upstream::streaming(transcript());
    let answer = upstream.clone().ask(hello()).await.unwrap();
    assert_eq!(answer.text, "Hello ünd 🌌");
    assert_eq!(answer.conversation, Some(Conversation::new("c-1").with_parent("r-1")));
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));

    let got = upstream.got();
    let targets: Vec<_> = got.iter().map(|got| got.target.as_str()).collect();
    assert_eq!(targets, ["/api/v2/chats/new", "/api/v2/chat/completions?chat_id=c-1"]);
    assert!(got.iter().all(|got| got.method == "POST"));
    assert!(got.iter().all(|got| got.headers["content-type"] == "application/json"));
    assert_eq!(got[0].body["models"], json!(["qwen3.7-plus"]));
    assert_eq!(got[1].body["chat_id"], "c-1");
    assert_eq!(got[1].body["parent_id"], Value::Null);
    assert_eq!(got[1].body["messages"][0]["content"], "Hello");
}

#[tokio::test]
async fn a_later_turn_goes_on_from_its_parent() {
    let upstream = Upstream::streaming(transcript());
    let answer = upstream.clone().ask(continued()).await.unwrap();
    let conversation = answer.conversation.unwrap();
    assert_eq!(
        conversation,
        Conversation::new("c-9").with_parent("r-1").with_account("ann"),
        "the account is the request's"
    );
    let got = upstream.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].target, "/api/v2/chat/completions?chat_id=c-9");
    assert_eq!(got[0].body["parent_id"], "r-0");
    assert_eq!(got[0].body["messages"][0]["parentId"], "r-0");
}

#[tokio::test]
async fn a_given_chat_without_a_parent_goes_on_from_the_root() {
    let upstream = Upstream::streaming(transcript());
    let mut request = hello();
    request.destination = Conversation::new("c-9").into();
    upstream.clone().ask(request).await.unwrap();
    let got = upstream.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].body["parent_id"], Value::Null);
    assert_eq!(got[0].body["parentId"], "");
}

#[tokio::test]
async fn a_new_chat_belongs_to_the_account_that_is_wished_for() {
    let upstream = Upstream::streaming(transcript());
    let mut request = hello();
    request.destination = Destination::NewChat { account: Some("ann".into()) };
    let answer = upstream.clone().ask(request).await.unwrap();
    assert_eq!(upstream.got().len(), 2);
    let want = Conversation::new("c-1").with_parent("r-1").with_account("ann");
    assert_eq!(answer.conversation, Some(want));
}

#[tokio::test]
async fn a_chat_id_cannot_add_to_the_query() {
    for id in ["c&chat_id=x", "c d", "é", "c#", &"c".repeat(300)] {
        let upstream = Upstream::streaming(transcript());
        let mut request = hello();
        request.destination = Conversation::new(id).into();
        let error = upstream.clone().ask(request).await.expect_err("refused");
        assert_eq!(error.param(), Some("conversation.chat_id"));
        assert!(upstream.got().is_empty());
    }
}

#[tokio::test]
async fn the_id_of_a_new_chat_is_found_in_every_place() {
    for body in [
        r#"{"success":true,"data":{"id":"c-1","chat_id":"x"}}"#,
        r#"{"success":true,"data":{"chat_id":"c-1"}}"#,
        r#"{"success":true,"chat_id":"c-1","id":"x"}"#,
        r#"{"success":true,"id":"c-1"}"#,
        r#"{"success":true,"data":{"chat":{"id":"c-1"}}}"#,
    ] {
        let mut upstream = Upstream::streaming(transcript());
        upstream.new_chat = Arc::new(move || json_response(body));
        upstream.clone().ask(hello()).await.unwrap();
        assert_eq!(upstream.got()[1].body["chat_id"], "c-1", "{body}");
    }
    for body in ["{\"success\":true,\"data\":{}}", "{\"success\":true,\"data\":{\"id\":\"a b\"}}"] {
        let mut upstream = Upstream::streaming(transcript());
        upstream.new_chat = Arc::new(move || json_response(body));
        let error = upstream.ask(hello()).await.expect_err("no id");
        assert_eq!(error.kind(), ErrorKind::Upstream);
    }
}

#[tokio::test]
async fn a_refused_chat_is_the_error_of_the_turn() {
    let mut upstream = Upstream::streaming(transcript());
    upstream.new_chat = Arc::new(|| {
        json_response(r#"{"success":false,"data":{"code":"Unauthorized","details":"x"}}"#)
    });
    assert!(upstream.clone().ask(hello()).await.expect_err("refused").is_auth());
    assert_eq!(upstream.got().len(), 1);
}

#[tokio::test]
async fn only_what_is_listed_goes_upstream() {
    let upstream = Upstream::streaming(transcript());
    let request = Request::builder()
        .header("authorization", "Bearer demo")
        .header("cookie", "token=demo")
        .header("bx-umidtoken", "demo")
        .header("user-agent", "demo/1")
        .header("x-request-id", "id-1")
        .header("traceparent", "00-1-2-01")
        .header("tracestate", "a=b")
        .header("x-api-key", "secret")
        .header("accept-encoding", "br")
        .body(hello())
        .unwrap();
    let service = QwenWebLayer::new().layer(upstream.clone());
    let _ = service.oneshot(request).await.unwrap().into_body().checked().collect::<Vec<_>>().await;
    for got in upstream.got() {
        let mut names: Vec<_> = got.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization", "bx-umidtoken", "content-type", "cookie",]);
        assert!(got.headers["cookie"].is_sensitive());
    }
}

#[tokio::test]
async fn the_credential_and_the_extensions_go_with_every_call() {
    let first = [CREATED, &delta("Hel")].concat();
    let upstream = Upstream::new(move || {
        let begun = stream::iter([Ok(Bytes::from(first.clone()))]);
        event_stream(frames(begun.chain(stream::pending())))
    });
    let header = |value| http::HeaderValue::from_static(value);
    let mut chat = hello();
    chat.credential = Some(CredentialHeaders::new([
        (http::header::COOKIE, header("token=own")),
        (http::header::USER_AGENT, header("browser/1")),
    ]));
    let mut request = Request::builder()
        .header("authorization", "Bearer envelope")
        .header("cookie", "token=envelope")
        .header("user-agent", "client/1")
        .extension(TraceContext(7))
        .body(chat)
        .unwrap();
    request.extensions_mut().insert("another");
    let service = QwenWebLayer::new().layer(upstream.clone());
    // Dropped before its end, so that upstream is told to stop.
    let mut answer = service.oneshot(request).await.unwrap().into_body();
    assert!(answer.next().await.is_some());
    drop(answer);
    tokio::task::yield_now().await;
    let got = upstream.got();
    let targets: Vec<_> =
        got.iter().map(|got| got.target.split('?').next().unwrap().to_owned()).collect();
    assert_eq!(
        targets,
        ["/api/v2/chats/new", "/api/v2/chat/completions", "/api/v2/chat/completions/stop"]
    );
    for got in got {
        assert_eq!(got.headers["cookie"], "token=own", "{}", got.target);
        assert_eq!(got.headers["user-agent"], "browser/1", "{}", got.target);
        assert_eq!(got.headers["authorization"], "Bearer envelope", "what it does not name stays");
        assert_eq!(got.trace, Some(TraceContext(7)), "{}", got.target);
    }
}

#[tokio::test]
async fn what_cannot_be_carried_is_refused_before_any_call() {
    let upstream = Upstream::streaming(transcript());
    let mut message = Message::empty(Role::User);
    message.content = Some(Content::Parts(vec![Part::new(PartKind::Image {
        url: "data:image/png;base64,AAAA".into(),
        detail: None,
    })]));
    let request = ChatRequest::new("m", vec![message]);
    let error = upstream.clone().ask(request).await.expect_err("refused");
    assert_eq!(error.param(), Some("messages[0].content[0]"));
    assert!(upstream.got().is_empty());
}

#[tokio::test]
async fn a_non_streamed_answer_is_read() {
    let upstream = Upstream::new(|| {
        json_response(
            r#"{"success": true, "request_id": "x", "data": {"chat_id": "", "parent_id": "u-1",
                "message_id": "r-1", "messages": null,
                "choices": [{"message": {"role": "assistant", "content": "Hello"}}]}}"#,
        )
    });
    let answer = upstream.ask(hello()).await.unwrap();
    assert_eq!(answer.text, "Hello");
    assert_eq!(answer.conversation, Some(Conversation::new("c-1").with_parent("r-1")));
}

#[tokio::test]
async fn json_that_is_no_answer_is_an_error() {
    let upstream = Upstream::new(|| json_response(r#"{"success": true, "data": {}}"#));
    assert_eq!(upstream.ask(hello()).await.expect_err("none").kind(), ErrorKind::Upstream);
}

#[tokio::test]
async fn refusals_come_before_the_commit_point() {
    for (status, kind, header, body, want) in [
        (
            200,
            "application/json",
            None,
            r#"{"success":false,"data":{"code":"RateLimited","num":2}}"#,
            ErrorKind::Quota,
        ),
        (200, "application/json", Some("401"), "{}", ErrorKind::Auth),
        (200, "text/html", None, "<!doctypehtml><html></html>", ErrorKind::Challenge),
        (504, "text/plain", None, "stream timeout", ErrorKind::Timeout),
        (200, "", None, "", ErrorKind::Upstream),
        (200, "text/event-stream", Some("429"), "data: {}\n\n", ErrorKind::RateLimited),
        (
            200,
            "text/event-stream",
            None,
            "data: {\"error\":\"Internal error!\"}\n\n",
            ErrorKind::Upstream,
        ),
        (200, "text/event-stream", None, "", ErrorKind::Truncated),
        (200, "text/event-stream", None, CREATED, ErrorKind::Truncated),
        (200, "text/event-stream", None, "data: {nonsense\n\n", ErrorKind::Upstream),
    ] {
        let upstream = Upstream::new(move || {
            let mut response = Response::builder().status(status).header("content-type", kind);
            if let Some(header) = header {
                response = response.header("x-actual-status-code", header);
            }
            response.body(whole(Bytes::from_static(body.as_bytes()))).unwrap()
        });
        let result = QwenWebLayer::new().layer(upstream).oneshot(Request::new(hello())).await;
        let error = result.err().unwrap_or_else(|| panic!("{body} was taken for an answer"));
        assert_eq!(error.kind(), want, "{status} {kind} {body}");
    }
}

#[tokio::test]
async fn an_error_after_the_commit_point_ends_the_stream() {
    let text = [
        CREATED,
        &delta("Hel"),
        "data: {\"error\":{\"code\":\"internal_error\"}}\n\n",
        &delta("lo"),
    ];
    let items = items(Upstream::streaming(text.concat()), QwenWebLayer::new()).await;
    assert_eq!(items.len(), 3);
    assert!(matches!(&items[1], Ok(ChatEvent::Text(text)) if *text == "Hel"));
    assert_eq!(items[2].as_ref().expect_err("failed").kind(), ErrorKind::Upstream);
}

#[tokio::test]
async fn an_end_without_the_terminal_event_is_an_error() {
    for end in ["", "data: {\"choices\": [{\"del", &FINISHED.replace("answer", "think")] {
        let text = [CREATED, &delta("Hel"), end].concat();
        let items = items(Upstream::streaming(text), QwenWebLayer::new()).await;
        let last = items.last().unwrap().as_ref().expect_err("cut");
        assert_eq!(last.kind(), ErrorKind::Truncated, "{end}");
        assert_eq!(items.len(), 3);
    }
}

/// A gateway's `[DONE]` in the place of that event: the answer is not lost, and not told as whole.
#[tokio::test]
async fn an_end_mark_in_its_place_is_told_as_cut() {
    let text = [CREATED, &delta("Hel"), "data: [DONE]\n\n", &delta("lo")].concat();
    let items = items(Upstream::streaming(text), QwenWebLayer::new()).await;
    assert_eq!(items.len(), 3);
    let last = items.last().unwrap().as_ref().expect("it is not lost");
    assert_eq!(*last, ChatEvent::Finished(FinishReason::Length));
}

#[tokio::test]
async fn a_broken_connection_is_an_error_that_keeps_its_kind() {
    let upstream = Upstream::new(|| {
        event_stream(frames(stream::iter([
            Ok(Bytes::from([CREATED, &delta("Hel")].concat())),
            Err(Error::new(ErrorKind::Timeout, "idle").into()),
        ])))
    });
    let items = items(upstream, QwenWebLayer::new()).await;
    assert!(items.last().unwrap().as_ref().expect_err("broken").is_timeout());
}

#[tokio::test]
async fn blank_lines_a_line_end_and_done_may_be_missing_or_there() {
    let full = transcript();
    let bare = full.trim_end().replace("\n\n", "\n");
    let crlf = full.replace('\n', "\r\n");
    let done = full.clone() + "data: [DONE]\n\n";
    let want = shown(&items(Upstream::streaming(full), QwenWebLayer::new()).await);
    assert_eq!(want.len(), 4);
    for text in [bare, crlf, done] {
        let got = items(Upstream::streaming(text.clone()), QwenWebLayer::new()).await;
        assert_eq!(shown(&got), want, "{text}");
    }
}

/// The stream ends at the terminal event, though upstream holds the connection open and sends on.
#[tokio::test(start_paused = true)]
async fn an_open_connection_is_not_waited_for() {
    let upstream = Upstream::new(|| {
        let text = transcript() + &delta("of another turn");
        event_stream(frames(stream::iter([Ok(Bytes::from(text))]).chain(stream::pending())))
    });
    let items = tokio::time::timeout(
        Duration::from_millis(1),
        items(upstream.clone(), QwenWebLayer::new()),
    );
    let items = items.await.expect("does not wait");
    assert!(matches!(items.last(), Some(Ok(ChatEvent::Finished(FinishReason::Stop)))));
    tokio::task::yield_now().await;
    assert_eq!(upstream.got().len(), 2, "nothing to stop");
}

/// A body that is fed by the test, and tells when it is dropped.
fn fed() -> (mpsc::UnboundedSender<String>, Arc<AtomicBool>, Upstream) {
    let (sender, receiver) = mpsc::unbounded_channel::<String>();
    let dropped = Arc::new(AtomicBool::new(false));
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let feed = Mutex::new(Some((receiver, Flag(Arc::clone(&dropped)))));
    let upstream = Upstream::new(move || {
        let (receiver, flag) = feed.lock().unwrap().take().expect("one turn");
        event_stream(frames(stream::unfold((receiver, flag), |(mut receiver, flag)| async {
            receiver.recv().await.map(|text| (Ok(Bytes::from(text)), (receiver, flag)))
        })))
    });
    (sender, dropped, upstream)
}

/// The first content leaves when upstream's first delta does: without a further byte, and
/// without time passing.
#[tokio::test(start_paused = true)]
async fn content_leaves_when_upstreams_does() {
    let (sender, _, upstream) = fed();
    let response = QwenWebLayer::new().layer(upstream).oneshot(Request::new(hello()));
    let mut response = std::pin::pin!(response);
    let begun = tokio::time::Instant::now();
    assert!(response.as_mut().now_or_never().is_none());
    sender.send(CREATED.to_owned()).unwrap();
    assert!(response.as_mut().now_or_never().is_none(), "an id alone commits nothing");
    sender.send(delta("Hel")).unwrap();
    let response = response.as_mut().now_or_never().expect("committed by content").unwrap();
    let mut stream = response.into_body().checked();
    let started = stream.next().now_or_never().expect("replayed").unwrap().unwrap();
    assert!(matches!(started, ChatEvent::Started(_)));
    assert_eq!(
        stream.next().now_or_never().expect("replayed").unwrap().unwrap(),
        ChatEvent::Text("Hel".into())
    );
    assert!(stream.next().now_or_never().is_none());
    sender.send(delta("lo")).unwrap();
    assert_eq!(
        stream.next().now_or_never().expect("at once").unwrap().unwrap(),
        ChatEvent::Text("lo".into())
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_answer_is_stopped_upstream() {
    let (sender, dropped, upstream) = fed();
    sender.send([CREATED, &delta("Hel")].concat()).unwrap();
    let request = Request::builder().header("cookie", "token=demo").body(hello()).unwrap();
    let response = QwenWebLayer::new().layer(upstream.clone()).oneshot(request).await.unwrap();
    drop(response);
    assert!(dropped.load(Ordering::SeqCst), "the connection is closed at once");
    settle().await;
    let got = upstream.got();
    assert_eq!(got.len(), 3);
    assert_eq!(got[2].target, "/api/v2/chat/completions/stop?chat_id=c-1");
    assert_eq!(got[2].body, json!({"chat_id": "c-1", "response_id": "r-1"}));
    assert_eq!(got[2].headers["cookie"], "token=demo");
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_before_the_commit_point_stops_as_well() {
    let (sender, dropped, upstream) = fed();
    sender.send(CREATED.to_owned()).unwrap();
    let mut response =
        Box::pin(QwenWebLayer::new().layer(upstream.clone()).oneshot(Request::new(hello())));
    assert!(response.as_mut().now_or_never().is_none());
    drop(response);
    assert!(dropped.load(Ordering::SeqCst));
    settle().await;
    let got = upstream.got();
    assert_eq!(got.len(), 4);
    assert_eq!(got[2].target, "/api/v2/chat/completions/stop?chat_id=c-1");
    // Behind it, for a busy chat may not be deleted.
    assert_eq!((got[3].method.as_str(), &*got[3].target), ("DELETE", "/api/v2/chats/c-1"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stopped_without_an_id_or_after_the_end_or_if_turned_off() {
    // No id yet.
    let (sender, _, upstream) = fed();
    sender.send(delta("Hel")).unwrap();
    let service = QwenWebLayer::new().layer(upstream.clone());
    drop(service.oneshot(Request::new(hello())).await.unwrap());
    settle().await;
    assert_eq!(upstream.got().len(), 2);
    // The end was read, though not taken.
    let upstream = Upstream::streaming(transcript());
    let service = QwenWebLayer::new().layer(upstream.clone());
    let mut stream = service.oneshot(Request::new(hello())).await.unwrap().into_body().checked();
    while let Some(item) = stream.next().await {
        if matches!(item, Ok(ChatEvent::Finished(_))) {
            break;
        }
    }
    drop(stream);
    settle().await;
    assert_eq!(upstream.got().len(), 2);
    // Upstream itself gave up.
    let failed = [CREATED, &delta("Hel"), "data: {\"error\":\"Internal error!\"}\n\n"].concat();
    let upstream = Upstream::streaming(failed);
    items(upstream.clone(), QwenWebLayer::new()).await;
    settle().await;
    assert_eq!(upstream.got().len(), 2);
    // Turned off.
    let (sender, _, upstream) = fed();
    sender.send([CREATED, &delta("Hel")].concat()).unwrap();
    let service = QwenWebLayer::new().stop_on_drop(false).layer(upstream.clone());
    drop(service.oneshot(Request::new(hello())).await.unwrap());
    settle().await;
    assert_eq!(upstream.got().len(), 2);
}

#[tokio::test]
async fn the_wait_for_content_is_bounded() {
    let quiet = "data: {\"choices\": [{\"delta\": {\"content\": \"\", \"phase\": \"thinking_summary\", \"status\": \"typing\"}}]}\n\n";
    let many = quiet.repeat(50);
    // An answer that has begun is handed on,
    for layer in [QwenWebLayer::new().commit_limit(4000), QwenWebLayer::new().commit_limit(1000)] {
        let text = [CREATED, &many, &delta("Hel"), FINISHED].concat();
        let upstream = Upstream::new(move || {
            let pieces: Vec<_> =
                text.as_bytes().chunks(64).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            event_stream(frames(stream::iter(pieces)))
        });
        let items = items(upstream, layer.clone()).await;
        assert_eq!(items.len(), 3, "{items:?}");
        // and noise that is none is refused.
        let noise = ": noise\n".repeat(50_000) + &quiet.repeat(500);
        let service = layer.layer(Upstream::streaming(noise));
        let error = service.oneshot(Request::new(hello())).await.map(drop).expect_err("noise");
        assert_eq!(error.kind(), ErrorKind::Upstream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_punish_page_that_never_ends_is_left_at_the_deadline() {
    for body in ["<html><div id=\"nocaptcha\">", "<html>"] {
        let upstream = Upstream::new(move || {
            let page = stream::iter([Ok(Bytes::from_static(body.as_bytes()))]);
            Response::builder()
                .header("content-type", "text/html")
                .body(frames(page.chain(stream::pending())))
                .unwrap()
        });
        let begun = tokio::time::Instant::now();
        let error = upstream.ask(hello()).await.expect_err("a page");
        assert_eq!(error.is_challenge(), body.len() > 10);
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}

#[tokio::test]
async fn a_page_is_read_to_its_limit() {
    let upstream = Upstream::new(|| {
        let endless = stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 10_000])));
        Response::builder().header("content-type", "text/html").body(frames(endless)).unwrap()
    });
    assert_eq!(upstream.ask(hello()).await.expect_err("a page").kind(), ErrorKind::Upstream);
}

#[tokio::test]
async fn a_cumulative_stream_is_an_option() {
    let text = [CREATED, &delta("ha"), &delta("haha"), FINISHED].concat();
    let upstream = Upstream::streaming(text);
    let items = items(upstream.clone(), QwenWebLayer::new().incremental_output(false)).await;
    let joined: String = items
        .iter()
        .filter_map(|item| match item {
            Ok(ChatEvent::Text(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(joined, "haha");
    assert_eq!(upstream.got()[1].body["incremental_output"], false);
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let (service, mut handle) =
        tower_test::mock::pair::<Request<FullBody>, Response<UpstreamBody>>();
    let mut service = QwenWebLayer::new().layer(service);
    handle.allow(1);
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let mut response = tokio_test::task::spawn(service.call(Request::new(hello())));
    assert!(response.poll().is_pending());
    let (request, reply) = handle.next_request().await.unwrap();
    assert_eq!(request.uri().path(), "/api/v2/chats/new");
    reply.send_response(json_response(r#"{"success":true,"data":{"id":"c-1"}}"#));
    // The second call waits until there is room for it.
    assert!(response.poll().is_pending());
    assert!(handle.next_request().now_or_never().is_none());
    handle.allow(1);
    assert!(response.poll().is_pending());
    let (request, reply) = handle.next_request().await.unwrap();
    assert_eq!(request.uri().path(), "/api/v2/chat/completions");
    reply.send_response(event_stream(whole(Bytes::from(transcript()))));
    assert!(response.await.is_ok());
}

#[tokio::test]
async fn a_service_that_fails_is_an_upstream_error() {
    let service = tower::service_fn(|_: Request<FullBody>| async {
        Err::<Response<UpstreamBody>, _>(Error::new(ErrorKind::Timeout, "slow"))
    });
    let error = QwenWebLayer::new().layer(service).oneshot(Request::new(hello())).await.map(drop);
    assert!(error.expect_err("failed").is_timeout());
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let upstream = Upstream::streaming(transcript());
    let request = Request::builder().header("cookie", "token=s3cr3t").body(hello()).unwrap();
    let mut service = QwenWebLayer::new().layer(upstream);
    let future = service.call(request);
    assert!(!format!("{future:?}").contains("s3cr3t"));
    let response = future.await.unwrap();
    assert!(!format!("{:?}", response.body()).contains("s3cr3t"));
    assert_eq!(response.status(), StatusCode::OK);
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

fn in_pieces(pieces: Vec<Bytes>) -> Upstream {
    Upstream::new(move || event_stream(frames(stream::iter(pieces.clone().into_iter().map(Ok)))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However the stream is cut, the events are the same.
    #[test]
    fn any_chunking_gives_the_same_events(
        texts in proptest::collection::vec("[a-z\"\\\\\n é🌌]{0,12}", 0..8),
        sizes in proptest::collection::vec(1..40_usize, 1..20),
    ) {
        let mut text = CREATED.to_owned();
        for piece in &texts {
            text.push_str(&delta(piece));
        }
        text.push_str(FINISHED);
        let whole = block_on(items(Upstream::streaming(text.clone()), QwenWebLayer::new()));
        let pieces = cut(text.as_bytes(), &sizes);
        let got = block_on(items(in_pieces(pieces), QwenWebLayer::new()));
        prop_assert_eq!(shown(&got), shown(&whole));
        let joined: String = got.iter().filter_map(|item| match item {
            Ok(ChatEvent::Text(text)) => Some(text.as_str()),
            _ => None,
        }).collect();
        prop_assert_eq!(joined, texts.concat());
    }

    /// Whatever upstream sends, there is exactly one end and nothing panics.
    #[test]
    fn random_bytes_end_once(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                Just(CREATED.as_bytes().to_vec()),
                Just(FINISHED.as_bytes().to_vec()),
                Just(delta("x").into_bytes()),
                Just(b"data: ".to_vec()),
                Just(b"\n\n".to_vec()),
            ],
            0..12,
        ),
        sizes in proptest::collection::vec(1..40_usize, 1..5),
        kind in prop_oneof![
            4 => Just("text/event-stream"), 1 => Just("application/json"), 1 => Just("text/html"),
        ],
        status in prop_oneof![Just(200_u16), Just(404), Just(500)],
    ) {
        let pieces = cut(&parts.concat(), &sizes);
        let upstream = Upstream::new(move || {
            let mut response =
                event_stream(frames(stream::iter(pieces.clone().into_iter().map(Ok))));
            response.headers_mut().insert("content-type", kind.parse().unwrap());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        });
        let items = block_on(items(upstream, QwenWebLayer::new()));
        let ends = items
            .iter()
            .filter(|item| matches!(item, Err(_) | Ok(ChatEvent::Finished(_))))
            .count();
        prop_assert_eq!(ends, 1, "{:?}", items);
        prop_assert!(matches!(items.last(), Some(Err(_) | Ok(ChatEvent::Finished(_)))));
    }
}
