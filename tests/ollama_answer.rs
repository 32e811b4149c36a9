//! What the edge for Ollama's clients writes: the exact lines, the whole answer, and errors before and
//! after the commit point.

#[path = "messages/events.rs"]
mod events;
#[path = "ollama/reader.rs"]
mod reader;
mod traced;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use events::Item;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{ChatEvent, ChatRequest, ChatStreamExt, FinishReason, Role, Tenant, Usage},
    ollama::{GenerateLayer, OllamaLayer, decode, error_response},
    session::internals::KeyChain,
};

type Events = stream::BoxStream<'static, Item>;

fn body(more: &Value) -> Value {
    let mut body = json!({"model": "alias:latest", "messages": [{"role": "user", "content": "x"}]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn ask(more: Value) -> Request<FullBody> {
    Request::post("/api/chat")
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body(&more).to_string())))
        .expect("a request")
}

fn streamed() -> Request<FullBody> {
    ask(json!({}))
}

fn prompted(more: Value) -> Request<FullBody> {
    let mut body = json!({"model": "alias", "prompt": "x"});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    Request::post("/api/generate").body(FullBody::new(body.to_string().into())).expect("a request")
}

/// A service that gives these events, once.
fn giving(
    events: impl Stream<Item = Item> + Send + 'static,
) -> impl tower::Service<Request<ChatRequest>, Response = Response<Events>, Error = Error, Future: Send>
+ Clone {
    traced::on();
    let events = Arc::new(Mutex::new(Some(events.boxed())));
    service_fn(move |_: Request<ChatRequest>| {
        let events = events.lock().expect("not poisoned").take().expect("called once");
        async { Ok::<_, Error>(Response::new(events)) }
    })
}

/// The edge over a service that gives these events, once; which of the two the path says.
async fn answered(
    request: Request<FullBody>,
    events: impl Stream<Item = Item> + Send + 'static,
) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
    let inner = giving(events);
    match request.uri().path() {
        "/api/chat" => OllamaLayer::new().layer(inner).oneshot(request).await,
        _ => GenerateLayer::new().layer(inner).oneshot(request).await,
    }
    .expect("infallible")
}

async fn text(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> String {
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

async fn json_of(response: Response<impl Body<Data = Bytes, Error = Infallible>>) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

/// What a strict reader makes of the stream of these events.
async fn read(request: Request<FullBody>, items: impl IntoIterator<Item = Item>) -> reader::Read {
    let generate = request.uri().path() == "/api/generate";
    let items: Vec<_> = items.into_iter().collect();
    let text = text(answered(request, stream::iter(items)).await).await;
    reader::read(&text, generate).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

fn piece(text: &str) -> Item {
    Ok(ChatEvent::Text(text.into()))
}

fn thought(text: &str) -> Item {
    Ok(ChatEvent::Reasoning(text.into()))
}

fn call(index: u32, id: &str, name: &str) -> Item {
    Ok(ChatEvent::ToolCall { index, id: id.into(), name: name.into() })
}

fn arguments(index: u32, json: &str) -> Item {
    Ok(ChatEvent::ToolArguments { index, json: json.into() })
}

fn finished(reason: FinishReason) -> Item {
    Ok(ChatEvent::Finished(reason))
}

const STOP: Item = Ok(ChatEvent::Finished(FinishReason::Stop));

fn usage() -> Item {
    Ok(ChatEvent::Usage(Usage::new(33, 838)))
}

/// The events, each after this time of a clock that is paused.
fn slow(items: Vec<Item>, each: Duration) -> impl Stream<Item = Item> + Send {
    stream::iter(items).then(move |item| async move {
        tokio::time::sleep(each).await;
        item
    })
}

/// The lines of a stream without what is different each time.
fn lines(stream: &str) -> Vec<String> {
    let time = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        format!(",\"created_at\":{}", value["created_at"])
    };
    stream.lines().map(|line| line.replace(&time(line), "")).collect()
}

/// The answer takes four seconds: one until its first event, and three from there.
#[tokio::test(start_paused = true)]
async fn a_stream_has_the_exact_lines() {
    let second = Duration::from_secs(1);
    let inner = service_fn(move |_: Request<ChatRequest>| {
        let rest = slow(vec![piece("lo \"you\"\n"), usage(), STOP], second);
        async move {
            tokio::time::sleep(second).await;
            let begun = stream::iter([thought("hm"), piece("Hel")]);
            Ok::<_, Error>(Response::new(begun.chain(rest).boxed()))
        }
    });
    let response = OllamaLayer::new().layer(inner).oneshot(streamed()).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    assert!(!response.headers().contains_key("content-length"));
    let text = text(response).await;
    reader::read(&text, false).expect("a right stream");
    assert_eq!(
        lines(&text),
        [
            r#"{"model":"alias:latest","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
            r#"{"model":"alias:latest","message":{"role":"assistant","content":"Hel"},"done":false}"#,
            r#"{"model":"alias:latest","message":{"role":"assistant","content":"lo \"you\"\n"},"done":false}"#,
            concat!(
                r#"{"model":"alias:latest","message":{"role":"assistant","content":""},"done":true,"#,
                r#""done_reason":"stop","total_duration":4000000000,"load_duration":0,"#,
                r#""prompt_eval_count":33,"prompt_eval_duration":1000000000,"#,
                r#""eval_count":838,"eval_duration":3000000000}"#
            ),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_prompt_is_answered_in_lines_of_its_own() {
    let items = [thought("hm"), piece("Hi"), usage(), finished(FinishReason::Length)];
    let response = answered(prompted(json!({})), stream::iter(items)).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = text(response).await;
    reader::read(&text, true).expect("a right stream");
    assert_eq!(
        lines(&text),
        [
            r#"{"model":"alias","response":"","thinking":"hm","done":false}"#,
            r#"{"model":"alias","response":"Hi","done":false}"#,
            concat!(
                r#"{"model":"alias","response":"","done":true,"done_reason":"length","#,
                r#""total_duration":0,"load_duration":0,"prompt_eval_count":33,"#,
                r#""prompt_eval_duration":0,"eval_count":838,"eval_duration":0}"#
            ),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_one_object() {
    let items = || {
        vec![
            thought("hm"),
            piece("I "),
            piece("look."),
            call(0, "call_a", "read"),
            arguments(0, "{\"a\":\n [1, \"x y\"]}"),
            call(1, "call_b", "list"),
            usage(),
            finished(FinishReason::ToolCalls),
        ]
    };
    let second = Duration::from_secs(1);
    let response = answered(ask(json!({"stream": false})), slow(items(), second)).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let mut answer = json_of(response).await;
    assert!(answer.as_object_mut().expect("an object").remove("created_at").is_some());
    assert_eq!(
        answer,
        json!({
            "model": "alias:latest",
            "message": {
                "role": "assistant", "content": "I look.", "thinking": "hm",
                "tool_calls": [
                    {"id": "call_a", "function": {"name": "read", "arguments": {"a": [1, "x y"]}}},
                    {"id": "call_b", "function": {"name": "list", "arguments": {}}},
                ],
            },
            "done": true, "done_reason": "stop",
            "total_duration": 8_000_000_000_u64, "load_duration": 0,
            "prompt_eval_count": 33, "prompt_eval_duration": 0,
            "eval_count": 838, "eval_duration": 8_000_000_000_u64,
        })
    );
    let response = answered(prompted(json!({"stream": false})), stream::iter(items())).await;
    let answer = json_of(response).await;
    assert_eq!(
        (&answer["response"], &answer["thinking"], answer.get("tool_calls")),
        (&json!("I look."), &json!("hm"), None)
    );
}

/// Without counts there are none: 0 would be a wrong one.
#[tokio::test]
async fn counts_that_nobody_gives_are_not_there() {
    let read = read(streamed(), [piece("x"), STOP]).await;
    assert!(read.last.get("eval_count").is_none());
}

#[tokio::test]
async fn thinking_is_not_shown_to_who_wants_none() {
    let items = || vec![thought("hm"), piece("x"), thought("and"), STOP];
    for path in ["chat", "generate"] {
        for (think, shown) in [
            (json!(null), "hmand"),
            (json!(true), "hmand"),
            (json!("low"), "hmand"),
            (json!(false), ""),
        ] {
            let request = |stream: bool| {
                let more = json!({"think": think, "stream": stream});
                if path == "chat" { ask(more) } else { prompted(more) }
            };
            let read = read(request(true), items()).await;
            assert_eq!((read.thinking.as_str(), read.text.as_str()), (shown, "x"));
            let whole = json_of(answered(request(false), stream::iter(items())).await).await;
            let message = if path == "chat" { &whole["message"] } else { &whole };
            assert_eq!(message["thinking"].as_str().unwrap_or_default(), shown);
        }
    }
}

/// Calls: they are told whole, in order, and the last one when nothing can be missing of it.
#[tokio::test]
async fn mixed_calls_are_told_one_after_the_other() {
    let read = read(
        streamed(),
        [
            call(0, "a", "f"),
            call(1, "b", "g"),
            arguments(1, "{\"y\":"),
            arguments(0, "{\"x\":"),
            arguments(1, "2}"),
            piece("between"),
            arguments(0, "1}"),
            call(2, "c", "h"),
            piece("behind"),
            finished(FinishReason::ToolCalls),
        ],
    )
    .await;
    let told = |id: &str, name: &str, json: Value| json!({"calls": [{"id": id, "function": {"name": name, "arguments": json}}]});
    assert_eq!(
        read.pieces,
        [
            json!({"text": "between"}),
            told("a", "f", json!({"x": 1})),
            told("b", "g", json!({"y": 2})),
            json!({"text": "behind"}),
            told("c", "h", json!({})),
        ]
    );
    assert_eq!(read.reason(), Some("stop"));
}

/// A layer below closes what the limit has left open, so that arguments always parse. Half a file
/// must not be written.
#[tokio::test]
async fn a_call_that_may_be_cut_is_not_told() {
    for reason in [FinishReason::Length, FinishReason::ContentFilter] {
        for last in ["{\"text\":\"half a file\"}", "{\"text\":\"half", ""] {
            let items = || {
                vec![
                    call(0, "a", "f"),
                    arguments(0, "{}"),
                    call(1, "b", "write"),
                    arguments(1, last),
                    finished(reason),
                ]
            };
            let read = read(streamed(), items()).await;
            assert_eq!(
                read.calls,
                [json!({"id": "a", "function": {"name": "f", "arguments": {}}})]
            );
            assert_eq!(read.reason(), Some(reason.as_str()));
            let whole = answered(ask(json!({"stream": false})), stream::iter(items())).await;
            let whole = json_of(whole).await;
            assert_eq!(whole["message"]["tool_calls"], json!(read.calls));
            assert_eq!(whole["done_reason"], reason.as_str());
        }
    }
}

/// Each letter of the arguments is an event; pretty JSON has line feeds, which would end the line.
#[tokio::test]
async fn a_call_is_one_line_however_it_is_written() {
    let json = "{\n  \"a\" : {\"b\\n\": [ 1,\r\n\t2 ]},\n  \"c\": \" { \"\n}\n";
    let pieces = json.char_indices().map(|(at, c)| arguments(0, &json[at..at + c.len_utf8()]));
    let items: Vec<_> = [call(0, "a", "f")].into_iter().chain(pieces).chain([STOP]).collect();
    let text = text(answered(streamed(), stream::iter(items)).await).await;
    assert!(text.contains(r#""arguments":{"a":{"b\n":[1,2]},"c":" { "}}"#), "{text}");
    assert_eq!(reader::read(&text, false).expect("a right stream").pieces.len(), 1);
}

/// ollama-python cuts lines wherever Unicode has a line end.
#[tokio::test]
async fn no_other_line_end_stands_in_a_line() {
    let ends = "\u{85}a\u{2028}\u{2029}\u{2027}\u{202a}\u{c5}â\u{b}\u{c}\u{1c}b\u{2028}";
    let json = format!("{{\"{ends}\":\"\u{85}\"}}").replace(['\u{b}', '\u{c}', '\u{1c}'], "");
    let error = Error::new(ErrorKind::Upstream, ends);
    let items =
        vec![piece(ends), thought(ends), call(0, "a", "f"), arguments(0, &json), Err(error)];
    let read_error = read(streamed(), items).await;
    assert_eq!((read_error.text.as_str(), read_error.error()), (ends, Some(ends)));
    let items = vec![call(0, ends, ends), arguments(0, &json), piece(ends), STOP];
    let request = || ask(json!({"model": ends}));
    let text = text(answered(request(), stream::iter(items)).await).await;
    let is_end = |c: char| matches!(c, '\r' | '\u{b}'..='\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    assert!(!text.contains(is_end), "{text:?}");
    let read = reader::read(&text, false).expect("a right stream");
    assert_eq!(read.text, ends);
    let arguments: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        read.calls,
        [json!({"id": ends, "function": {"name": ends, "arguments": arguments}})]
    );
    assert_eq!(read.last["model"], ends);
}

/// A reader of JSON in a client may give up, and here nobody could tell whether it is whole.
#[tokio::test]
async fn arguments_that_nest_without_end_are_an_error() {
    let deep = format!("{{\"a\":{}", "[".repeat(5_000));
    let items = || vec![call(0, "a", "f"), arguments(0, &deep), STOP];
    let read = read(streamed(), items()).await;
    assert!(read.error().is_some_and(|error| error.contains("nest too deep")), "{:?}", read.last);
    let whole = answered(ask(json!({"stream": false})), stream::iter(items())).await;
    assert_eq!(whole.status(), 502);
}

/// What loads a model in Ollama: nobody is asked.
#[tokio::test]
async fn a_request_without_anything_to_answer_is_answered_at_once() {
    let messages = |list: Value, more: Value| {
        let mut more = more;
        more["messages"] = list;
        ask(more)
    };
    let prompt = |text: Value, more: Value| {
        let mut more = more;
        more["prompt"] = text;
        prompted(more)
    };
    for (more, reason) in [
        (json!({}), "load"),
        (json!({"keep_alive": "5m"}), "load"),
        (json!({"keep_alive": -1}), "load"),
        (json!({"keep_alive": 0}), "unload"),
        (json!({"keep_alive": 0.0}), "unload"),
        (json!({"keep_alive": "0"}), "unload"),
        (json!({"keep_alive": "0s"}), "unload"),
        (json!({"keep_alive": "10s"}), "load"),
    ] {
        for stream in [true, false] {
            let mut more = more.clone();
            more["stream"] = json!(stream);
            let requests = [
                (messages(json!([]), more.clone()), json!({"role": "assistant", "content": ""})),
                (messages(json!(null), more.clone()), json!({"role": "assistant", "content": ""})),
                (prompt(json!(""), more.clone()), json!("")),
                (prompt(json!(null), more.clone()), json!("")),
            ];
            for (request, said) in requests {
                let nobody = service_fn(|_: Request<ChatRequest>| async {
                    panic!("nobody is to be asked");
                    #[allow(unreachable_code, reason = "it says what the type is")]
                    Ok::<Response<Events>, Error>(Response::new(stream::empty().boxed()))
                });
                let is_chat = request.uri().path() == "/api/chat";
                let body = if is_chat {
                    text(
                        OllamaLayer::new()
                            .layer(nobody)
                            .oneshot(request)
                            .await
                            .expect("infallible"),
                    )
                    .await
                } else {
                    text(
                        GenerateLayer::new()
                            .layer(nobody)
                            .oneshot(request)
                            .await
                            .expect("infallible"),
                    )
                    .await
                };
                let mut line: Value = serde_json::from_str(&body).expect("JSON");
                assert!(line["created_at"].take().is_string());
                let field = if is_chat { "message" } else { "response" };
                let model = if is_chat { "alias:latest" } else { "alias" };
                assert_eq!(
                    line,
                    json!({"model": model, "created_at": null, field: said, "done": true,
                           "done_reason": reason})
                );
                assert_eq!(body.ends_with('\n'), stream);
            }
        }
    }
}

/// Errors: before the commit point with their status, and behind it as the last line.
#[tokio::test]
async fn errors_are_told_in_the_clients_form() {
    for (kind, status) in [
        (ErrorKind::InvalidRequest, 400),
        (ErrorKind::ContextLength, 400),
        (ErrorKind::Auth, 401),
        (ErrorKind::Permission, 403),
        (ErrorKind::ModelNotFound, 404),
        (ErrorKind::RateLimited, 429),
        (ErrorKind::Quota, 429),
        (ErrorKind::Internal, 500),
        (ErrorKind::Upstream, 502),
        (ErrorKind::Challenge, 503),
        (ErrorKind::Overloaded, 503),
        (ErrorKind::Timeout, 504),
    ] {
        let error = move || Error::new(kind, "what \"went\" wrong");
        let items = || vec![piece("as far as"), call(0, "a", "f"), Err(error())];
        let read = read(streamed(), items()).await;
        assert_eq!(read.last, json!({"error": "what \"went\" wrong"}));
        assert_eq!((read.text.as_str(), read.calls.len()), ("as far as", 0));

        let inner = service_fn(move |_: Request<ChatRequest>| async move {
            Err::<Response<Events>, _>(error())
        });
        for request in [streamed(), ask(json!({"stream": false}))] {
            let response = OllamaLayer::new().layer(inner).oneshot(request).await;
            let response = response.expect("infallible");
            assert_eq!(response.status().as_u16(), status, "{kind:?}");
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(json_of(response).await, json!({"error": "what \"went\" wrong"}));
        }
        let response = answered(ask(json!({"stream": false})), stream::iter(items())).await;
        assert_eq!(response.status().as_u16(), status, "{kind:?}");
        assert_eq!(error_response(&error()).status().as_u16(), status);
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let request = Request::get("/api/chat").body(FullBody::default()).expect("a request");
    let response = answered(request, stream::iter([])).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "POST");
    assert!(json_of(response).await["error"].is_string());

    let request = Request::post("/api/chat").body(FullBody::from("{")).expect("a request");
    let response = answered(request, stream::iter([])).await;
    assert_eq!(response.status(), 400);
    assert!(json_of(response).await["error"].is_string());
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error() {
    for items in [vec![], vec![piece("x")], vec![call(0, "a", "f"), arguments(0, "{")]] {
        let read = read(streamed(), items).await;
        assert!(read.error().is_some(), "{:?}", read.last);
        assert!(read.calls.is_empty());
    }
    // Behind the finish reason the answer is whole.
    let late = Err(Error::new(ErrorKind::Upstream, "too late"));
    let read = read(streamed(), [piece("x"), STOP, late]).await;
    assert_eq!(read.reason(), Some("stop"));
}

#[tokio::test(start_paused = true)]
async fn quiet_streams_begin_and_are_kept_alive() {
    for request in [streamed(), prompted(json!({}))] {
        let start = tokio::time::Instant::now();
        let generate = request.uri().path() == "/api/generate";
        let inner = service_fn(|_: Request<ChatRequest>| async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            let quiet = stream::once(async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                STOP
            });
            Ok::<_, Error>(Response::new(stream::iter([piece("x")]).chain(quiet).boxed()))
        });
        let text = if generate {
            let response = GenerateLayer::new().layer(inner).oneshot(request).await;
            assert_eq!(start.elapsed().as_secs(), 15);
            text(response.expect("infallible")).await
        } else {
            let response = OllamaLayer::new().layer(inner).oneshot(request).await;
            assert_eq!(start.elapsed().as_secs(), 15);
            text(response.expect("infallible")).await
        };
        assert_eq!(start.elapsed().as_secs(), 60);
        let read = reader::read(&text, generate).expect("a right stream");
        // At 15, at 30, and at 55.
        assert_eq!(read.signs_of_life, 3);
        assert_eq!(read.text, "x");
        // The first event came after 40 s, also where the response had begun by then.
        assert_eq!(read.last["prompt_eval_duration"], 40_000_000_000_u64);
        assert_eq!(read.last["total_duration"], 60_000_000_000_u64);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

/// The events, with a pause where `pauses` says so.
fn paused(items: Vec<Item>, pauses: Vec<bool>) -> impl Stream<Item = Item> + Send {
    let (mut items, mut pauses) = (items.into_iter(), pauses.into_iter());
    stream::poll_fn(move |cx| {
        if pauses.next() == Some(true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(items.next())
    })
}

/// The last line without what the clock says.
fn timeless(mut line: Value) -> Value {
    if let Some(line) = line.as_object_mut() {
        line.retain(|field, _| !field.ends_with("_duration") && field != "created_at");
    }
    line
}

proptest! {
    /// Whatever an upstream says, and however its events are grouped: a strict reader takes the
    /// stream, whose lines are those that a plain function finds, and each frame is of whole lines.
    #[test]
    fn any_answer_makes_a_right_stream(
        program in prop::collection::vec(any::<u8>(), 0..120),
        pauses in prop::collection::vec(any::<bool>(), 0..80),
    ) {
        let (items, said) = events::answer(&program);
        let plain: Vec<_> = items.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
        let (frames, text) = block_on(async {
            let events = paused(items, pauses).checked();
            let mut body = Box::pin(answered(streamed(), events).await.into_body());
            let (mut frames, mut all) = (Vec::new(), String::new());
            while let Some(frame) = body.frame().await {
                let frame = frame.expect("infallible").into_data().expect("data");
                all.push_str(core::str::from_utf8(&frame).expect("UTF-8"));
                frames.push(frame);
            }
            (frames, all)
        });
        let read = reader::read(&text, false).map_err(TestCaseError::fail)?;
        for frame in frames {
            prop_assert!(frame.starts_with(b"{") && frame.ends_with(b"\n"), "{:?}", frame);
        }
        prop_assert_eq!(&read.pieces, &reader::naive(&plain));
        prop_assert_eq!(&read.text, &said.text);
        prop_assert_eq!(&read.thinking, &said.thinking);

        // In other groups the lines are the same.
        let (items, _) = events::answer(&program);
        let again = block_on(read_all(items));
        prop_assert_eq!(
            lines(&text).into_iter().map(|line| timeless(serde_json::from_str(&line).expect("JSON"))).collect::<Vec<_>>(),
            lines(&again).into_iter().map(|line| timeless(serde_json::from_str(&line).expect("JSON"))).collect::<Vec<_>>()
        );

        let reason = match said.end.expect("an end") {
            Err(_) => {
                prop_assert!(read.error().is_some());
                return Ok(());
            }
            Ok(FinishReason::ToolCalls) => "stop",
            Ok(reason) => reason.as_str(),
        };
        prop_assert_eq!(read.reason(), Some(reason));
        prop_assert_eq!(read.last.get("eval_count").and_then(Value::as_u64), said.usage.map(|usage| usage.completion_tokens));

        // In one piece it says the same.
        let (items, _) = events::answer(&program);
        let whole = block_on(async {
            json_of(answered(ask(json!({"stream": false})), stream::iter(items)).await).await
        });
        let message = &whole["message"];
        prop_assert_eq!(&message["content"], &json!(said.text));
        prop_assert_eq!(message["thinking"].as_str().unwrap_or_default(), &said.thinking);
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        prop_assert_eq!(calls, read.calls);
        reader::end(whole.as_object().expect("an object"), false).map_err(TestCaseError::fail)?;
        for field in ["done_reason", "eval_count", "prompt_eval_count", "model"] {
            prop_assert_eq!(whole.get(field), read.last.get(field));
        }
    }

    /// An answer that comes back, as the clients send it that keep no ids, is what was said: the
    /// session knows it, and each result belongs to its call.
    #[test]
    fn an_answer_that_comes_back_is_what_was_said(
        // An answer that ends well.
        end in 0_u8..6,
        program in prop::collection::vec(any::<u8>(), 4..80),
        with_ids in any::<bool>(),
    ) {
        let (items, said) = events::answer(&[&[end], &program[..]].concat());
        let tenant = Tenant::from_digest([7; 32]);
        let first = decode(&body(&json!({})).to_string().into()).expect("valid").chat;
        let mut chain = KeyChain::new(&tenant, &first);
        first.history.iter().for_each(|message| chain.push(message));
        let mut answer = chain.answer();
        items.iter().flatten().for_each(|event| answer.push(event));
        let known = answer.finish();

        let read = block_on(read(streamed(), items));
        prop_assume!(!read.text.trim().is_empty() || !read.calls.is_empty());
        let mut calls = read.calls.clone();
        let mut messages = vec![json!({"role": "user", "content": "x"})];
        let mut results = Vec::new();
        for (at, call) in calls.iter_mut().enumerate() {
            let mut result = json!({"role": "tool", "content": format!("result {at}")});
            if with_ids {
                result["tool_call_id"] = call["id"].clone();
            } else {
                call.as_object_mut().expect("an object").remove("id");
                result["tool_name"] = call["function"]["name"].clone();
            }
            results.push(result);
        }
        messages.push(json!({"role": "assistant", "content": read.text, "thinking": read.thinking,
            "tool_calls": calls}));
        let count = results.len();
        messages.extend(results);
        messages.push(json!({"role": "user", "content": "And then?"}));
        let next = json!({"model": "alias:latest", "messages": messages});
        let next = decode(&next.to_string().into()).expect("valid").chat;

        let mut chain = KeyChain::new(&tenant, &next);
        next.history.iter().take(2).for_each(|message| chain.push(message));
        let message = &next.history[1];
        prop_assert_eq!(message.role, Role::Assistant);
        prop_assert_eq!(message.text(), said.text.as_str());
        // Of calls that were mixed the session knows nothing.
        if let Some(known) = known {
            prop_assert_eq!(chain.key(), known);
        }
        prop_assert_eq!(message.tool_calls.len(), said.calls.len());
        for at in 0..count {
            let result = &next.history[2 + at];
            prop_assert_eq!(result.tool_call_id.as_ref(), Some(&message.tool_calls[at].id));
            let text = format!("result {at}");
            prop_assert_eq!(result.text(), text.as_str());
        }
        let last = next.history.iter().last().expect("a message");
        prop_assert_eq!(last.text(), "And then?");
    }
}

async fn read_all(items: Vec<Item>) -> String {
    text(answered(streamed(), stream::iter(items)).await).await
}
