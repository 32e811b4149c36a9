//! The emulated web API against docs/reference/qwen-wire.md#a21, behaviour by behaviour.

mod traced;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tower_qwen_emulator::{Emulator, Style, UnknownParent};

const MODEL: &str = "qwen3-max";

async fn send(
    emulator: &Emulator,
    method: Method,
    target: &str,
    token: Option<&str>,
    body: impl Into<Bytes>,
) -> (StatusCode, http::HeaderMap, Result<Bytes, std::io::Error>) {
    traced::on();
    let mut request = Request::builder().method(method).uri(target);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let (parts, body) = emulator.clone().oneshot(request).await.expect("infallible").into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    (parts.status, parts.headers, body)
}

async fn post(emulator: &Emulator, target: &str, body: &Value) -> Value {
    let (_, _, body) = send(emulator, Method::POST, target, None, body.to_string()).await;
    serde_json::from_slice(&body.expect("a body")).expect("JSON")
}

async fn new_chat(emulator: &Emulator) -> String {
    let answer = post(emulator, "/api/v2/chats/new", &json!({"title": "t"})).await;
    answer["data"]["id"].as_str().expect("an id").to_owned()
}

fn completion(chat: &str, parent: Option<&str>, content: &str) -> Value {
    json!({
        "stream": true, "incremental_output": true, "chat_id": chat, "model": MODEL,
        "parent_id": parent,
        "messages": [{
            "role": "user", "content": content, "parentId": parent, "parent_id": parent,
            "chat_type": "t2t", "feature_config": {"output_schema": "phase"},
        }],
    })
}

fn target(chat: &str) -> String {
    format!("/api/v2/chat/completions?chat_id={chat}")
}

/// The bytes of an answer.
async fn raw(emulator: &Emulator, chat: &str, parent: Option<&str>, content: &str) -> Bytes {
    let body = completion(chat, parent, content).to_string();
    send(emulator, Method::POST, &target(chat), None, body).await.2.expect("a whole body")
}

fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into()))
        .collect()
}

fn text(events: &[Value]) -> String {
    let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
    deltas
        .filter(|delta| delta["phase"] == "answer")
        .filter_map(|d| d["content"].as_str())
        .collect()
}

/// Sends a message in a new chat.
async fn say(emulator: &Emulator, content: &str) -> Vec<Value> {
    let chat = new_chat(emulator).await;
    events(&raw(emulator, &chat, None, content).await)
}

/// The code and the details of a refusal.
async fn refused(emulator: &Emulator, target: &str, body: &Value) -> (String, String) {
    let answer = post(emulator, target, body).await;
    assert_eq!(answer["success"], false, "{answer}");
    let data = if answer["data"].is_object() { &answer["data"] } else { &answer };
    let field = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    (field("code"), field("details"))
}

#[tokio::test]
async fn credentials_are_checked_and_chats_belong_to_accounts() {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .token("t-ann", "ann")
        .token("t-bob", "bob")
        .build();
    let status = |token: Option<&'static str>| {
        let emulator = emulator.clone();
        async move {
            let (status, headers, body) =
                send(&emulator, Method::POST, "/api/v2/chats/new", token, "{}").await;
            assert_eq!(status, StatusCode::OK, "the real status is in the header");
            let body: Value = serde_json::from_slice(&body.expect("a body")).expect("JSON");
            (headers["x-actual-status-code"].to_str().expect("digits").to_owned(), body)
        }
    };
    assert_eq!(status(None).await.1["data"]["code"], "Unauthorized");
    assert_eq!(status(Some("other")).await.0, "401");
    let (code, body) = status(Some("t-ann")).await;
    assert_eq!(code, "200");
    let chat = body["data"]["id"].as_str().expect("an id");

    let ask = completion(chat, None, "hello").to_string();
    let foreign = send(&emulator, Method::POST, &target(chat), Some("t-bob"), ask.clone()).await;
    let foreign: Value = serde_json::from_slice(&foreign.2.expect("a body")).expect("JSON");
    assert_eq!(foreign["data"]["code"], "Not_Found");
    let own = send(&emulator, Method::POST, &target(chat), Some("t-ann"), ask).await;
    assert!(text(&events(&own.2.expect("a body"))).contains("hello"));

    let requests = emulator.requests();
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[4].account.as_deref(), Some("ann"));
    assert_eq!(requests[4].headers["authorization"], "Bearer t-ann");
    assert!(!format!("{requests:?}").contains("t-ann"), "credentials are marked sensitive");
}

#[tokio::test]
async fn malformed_requests_are_refused_as_the_real_server_does() {
    let emulator = Emulator::new();
    let chat = new_chat(&emulator).await;
    let good = completion(&chat, None, "hello");
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let message = good["messages"][0].clone();
    for (target, body, code, part) in [
        (
            "/api/v2/chat/completions".to_owned(),
            good.clone(),
            "RequestValidationError",
            "query -> chat_id",
        ),
        (target(&chat), with("chat_id", Value::Null), "RequestValidationError", "'chat_id'"),
        (target(&chat), with("messages", json!([])), "RequestValidationError", "messages"),
        (
            target(&chat),
            with("messages", json!([message, message, message])),
            "Bad_Request",
            "too many",
        ),
        (
            target(&chat),
            with("messages", json!([{"role": "assistant", "content": ""}])),
            "Bad_Request",
            "assistant",
        ),
        (target(&chat), with("model", "gpt".into()), "Not_Found", "Model not found"),
        (target("none"), with("chat_id", "none".into()), "Not_Found", "is not exist"),
        (target(&chat), completion(&chat, Some("root"), "x"), "PARENT_NOT_FOUND", ""),
    ] {
        let (got, details) = refused(&emulator, &target, &body).await;
        assert_eq!(got, code, "{details}");
        assert!(details.contains(part), "{details}");
    }
    assert_eq!(emulator.counters().completions, 0);
    assert_eq!(emulator.counters().refusals, 8);
}

#[tokio::test]
async fn a_plain_answer_has_exactly_the_events_of_2025() {
    let emulator = Emulator::new();
    let chat = new_chat(&emulator).await;
    let body = raw(&emulator, &chat, None, "emulate:say=Hello you").await;
    let record = emulator.chat(&chat).expect("the chat");
    let (user, assistant) = (&record.messages[0].id, &record.messages[1].id);
    let delta = |content: &str, n: u32| {
        format!(
            "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": \
             \"{content}\", \"phase\": \"answer\", \"status\": \"typing\"}}}}], \"usage\": \
             {{\"input_tokens\": 29, \"output_tokens\": {n}, \"characters\": 0, \
             \"total_tokens\": {}, \"input_tokens_details\": {{\"text_tokens\": 29}}, \
             \"output_tokens_details\": {{\"text_tokens\": {n}}}, \"cached_tokens\": 0}}}}\n\n",
            29 + n
        )
    };
    let expected = format!(
        "data: {{\"response.created\":{{\"chat_id\": \"{chat}\", \"parent_id\": \"{user}\", \
         \"response_id\":\"{assistant}\"}}}} \n\n{}{}{}data: {{\"choices\": [{{\"delta\": \
         {{\"content\": \"\", \"role\": \"assistant\", \"status\": \"finished\", \"phase\": \
         \"answer\"}}}}]}}\n\n",
        delta("Hello", 1),
        delta(" you", 2),
        delta("", 2),
    );
    assert_eq!(std::str::from_utf8(&body).expect("UTF-8"), expected);
}

#[tokio::test]
async fn the_events_of_2026_name_their_answer() {
    let emulator = Emulator::builder().style(Style::Autumn2026).build();
    let events = say(&emulator, "emulate:think emulate:search emulate:keep_alive\nhi").await;
    assert_eq!(events[0]["response.created"]["response_index"], "0");
    let id = &events[0]["response.created"]["response_id"];
    for event in &events[1..] {
        assert!(event["response_id"] == *id || event["response.info"]["response_id"] == *id);
    }
    let finished: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"])
        .filter(|delta| delta["status"] == "finished")
        .map(|delta| &delta["phase"])
        .collect();
    assert_eq!(finished, ["thinking_summary", "web_search", "answer"]);
    let info = events.iter().filter(|event| event["response.info"].is_object()).count();
    assert_eq!(info, 2);
    let usage = events.iter().rev().find_map(|event| event.get("usage")).expect("usage");
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 18);
    assert!(text(&events).contains("[[1]]"));
}

#[tokio::test]
async fn the_parent_decides_what_the_model_sees() {
    let emulator = Emulator::new();
    let chat = new_chat(&emulator).await;
    raw(&emulator, &chat, None, "one emulate:say=ONE").await;
    let record = emulator.chat(&chat).expect("the chat");
    let (user, answer) = (&record.messages[0].id, &record.messages[1].id);

    let all = text(&events(&raw(&emulator, &chat, Some(answer), "two emulate:path").await));
    assert_eq!(all, "1. one emulate:say=ONE\n2. ONE\n3. two emulate:path\n");
    let sibling = text(&events(&raw(&emulator, &chat, Some(user), "two emulate:path").await));
    assert_eq!(sibling, "1. one emulate:say=ONE\n2. two emulate:path\n", "the answer is lost");
    let root = text(&events(&raw(&emulator, &chat, None, "two emulate:path").await));
    assert_eq!(root, "1. two emulate:path\n");

    assert_eq!(emulator.path(&chat, answer).expect("a path"), ["one emulate:say=ONE", "ONE"]);
    let second = &emulator.chat(&chat).expect("the chat").messages[3].id;
    let third = text(&events(&raw(&emulator, &chat, Some(second), "three emulate:path").await));
    assert_eq!(third.lines().count(), 5, "{third}");
    assert!(third.starts_with("1. one") && third.ends_with("5. three emulate:path\n"), "{third}");
    assert_eq!(emulator.path(&chat, "other"), None);
}

#[tokio::test]
async fn an_unknown_parent_is_refused_in_either_form_or_silently() {
    for (answer, code) in [
        (UnknownParent::Code, Some("PARENT_NOT_FOUND")),
        (UnknownParent::Text, Some("Bad_Request")),
        (UnknownParent::Silent, None),
    ] {
        let emulator = Emulator::builder().unknown_parent(answer).build();
        let chat = new_chat(&emulator).await;
        let body = completion(&chat, Some("gone"), "x emulate:path");
        match code {
            Some(code) => assert_eq!(refused(&emulator, &target(&chat), &body).await.0, code),
            None => {
                let body = raw(&emulator, &chat, Some("gone"), "x emulate:path").await;
                assert_eq!(text(&events(&body)), "1. x emulate:path\n");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_chat_answers_once_at_a_time_until_it_is_stopped() {
    let emulator = Emulator::builder().linger(Duration::from_secs(10)).build();
    let chat = new_chat(&emulator).await;
    let stalled = || {
        let body = completion(&chat, None, "emulate:stall=2").to_string();
        let request = Request::post(target(&chat)).body(Full::new(Bytes::from(body)));
        emulator.clone().oneshot(request.expect("a request"))
    };
    let mut body = stalled().await.expect("infallible").into_body();
    for _ in 0..3 {
        body.frame().await.expect("a frame").expect("data");
    }
    assert!(timeout(Duration::from_secs(3_600), body.frame()).await.is_err(), "it stalls");
    let ask = completion(&chat, None, "hello");
    let (code, details) = refused(&emulator, &target(&chat), &ask).await;
    assert_eq!((&*code, &*details), ("Bad_Request", "The chat is in progress!"));

    let stop = format!("/api/v2/chat/completions/stop?chat_id={chat}");
    let stopped = post(&emulator, &stop, &json!({"chat_id": chat})).await;
    assert_eq!(stopped["data"]["status"], true);
    assert!(body.frame().await.is_none(), "a stopped answer ends");
    assert!(!raw(&emulator, &chat, None, "hello").await.is_empty());

    drop(stalled().await.expect("infallible"));
    assert_eq!(emulator.counters().abandoned, 1);
    refused(&emulator, &target(&chat), &ask).await;
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(!raw(&emulator, &chat, None, "hello").await.is_empty(), "it ended by itself");
}

/// A reader needs no more than the last event, wherever the pieces are cut.
#[tokio::test(start_paused = true)]
async fn a_chat_is_free_when_its_last_event_was_read() {
    for piece in 1..=64 {
        let emulator = Emulator::builder().piece_size(piece).build();
        let chat = new_chat(&emulator).await;
        let body = completion(&chat, None, "hello").to_string();
        let request = Request::post(target(&chat)).body(Full::new(Bytes::from(body)));
        let answer = emulator.clone().oneshot(request.expect("a request"));
        let mut body = answer.await.expect("infallible").into_body();
        let mut read = String::new();
        while read.split_once("finished").is_none_or(|(_, rest)| !rest.contains('\n')) {
            let frame = body.frame().await.expect("a frame").expect("a piece");
            read += std::str::from_utf8(frame.data_ref().expect("data")).expect("ASCII");
        }
        drop(body);
        assert_eq!(emulator.counters().abandoned, 0, "pieces of {piece}");
        assert!(!raw(&emulator, &chat, None, "hello").await.is_empty(), "pieces of {piece}");
    }
}

#[tokio::test]
async fn refusals_are_envelopes_with_the_meant_status() {
    let emulator = Emulator::new();
    for (fault, code) in [
        ("rate_limited=5", "RateLimited"),
        ("quota", "quotaLimited"),
        ("unauthorized", "Unauthorized"),
        ("forbidden", "Forbidden"),
        ("model_not_found", "Not_Found"),
        ("in_progress", "Bad_Request"),
        ("parallel_limited emulate:flat", "ParallelLimited"),
        ("internal", "Internal_Server_Error"),
    ] {
        let chat = new_chat(&emulator).await;
        let body = completion(&chat, None, &format!("please emulate:{fault}"));
        assert_eq!(refused(&emulator, &target(&chat), &body).await.0, code);
    }
    let chat = new_chat(&emulator).await;
    let limited = completion(&chat, None, "emulate:rate_limited=5");
    assert_eq!(post(&emulator, &target(&chat), &limited).await["data"]["num"], 5);

    // A chat is lost only by those who go on with it.
    let body = raw(&emulator, &chat, None, "emulate:chat_lost emulate:parent_lost").await;
    assert!(!text(&events(&body)).is_empty());
    let parent = emulator.chat(&chat).expect("the chat").messages[1].id.clone();
    for (fault, code) in [
        ("chat_lost", "Not_Found"),
        ("chat_lost=2", "CHAT_NOT_FOUND"),
        ("chat_lost=3", "Bad_Request"),
        ("parent_lost", "PARENT_NOT_FOUND"),
        ("parent_lost=2", "Bad_Request"),
    ] {
        let body = completion(&chat, Some(&parent), &format!("emulate:{fault}"));
        assert_eq!(refused(&emulator, &target(&chat), &body).await.0, code);
    }
    let silent = raw(&emulator, &chat, Some(&parent), "emulate:parent_silent emulate:path").await;
    assert_eq!(text(&events(&silent)), "1. emulate:parent_silent emulate:path\n");
}

#[tokio::test]
async fn a_fault_can_be_limited_in_its_times() {
    let emulator = Emulator::new();
    let chat = new_chat(&emulator).await;
    let body = completion(&chat, None, "emulate:unauthorized emulate:times=2");
    for _ in 0..2 {
        assert_eq!(refused(&emulator, &target(&chat), &body).await.0, "Unauthorized");
    }
    let answer = raw(&emulator, &chat, None, "emulate:unauthorized emulate:times=2").await;
    assert!(!text(&events(&answer)).is_empty());
}

#[tokio::test]
async fn only_the_last_user_text_gives_directives() {
    let emulator = Emulator::new();
    let folded =
        "[system]\nemulate:quota\n\n[user]\nemulate:internal\n\n[assistant]\nNo.\n\n[user]\nhi";
    let answer = text(&say(&emulator, folded).await);
    assert!(answer.ends_with("hi") && !answer.contains("emulate:"), "{answer}");
    let result = text(&say(&emulator, "<tool_response>\nemulate:quota\n</tool_response>").await);
    assert!(result.contains("The tool returned"), "{result}");
}

#[tokio::test(start_paused = true)]
async fn errors_and_ends_come_where_they_were_asked_for() {
    let emulator = Emulator::new();
    for (fault, path) in [
        ("overloaded=2", "/error/code"),
        ("content_filter=2", "/error/code"),
        ("too_long=2", "/error/details"),
        ("error_event=2", "/error/code"),
        ("error_string=2", "/error"),
        ("error_envelope_event=2", "/data/code"),
        ("error_bare=2", "/code"),
    ] {
        let events = say(&emulator, &format!("emulate:{fault} emulate:tokens=9")).await;
        assert_eq!(events.len(), 4, "{fault}");
        assert_eq!(text(&events), "one two");
        assert!(events[3].pointer(path).is_some_and(Value::is_string), "{}", events[3]);
    }
    let cut = say(&emulator, "emulate:cut=1 emulate:tokens=9").await;
    assert_eq!((cut.len(), text(&cut)), (2, "one".to_owned()));

    let chat = new_chat(&emulator).await;
    let ask = completion(&chat, None, "emulate:reset=1").to_string();
    let (_, _, body) = send(&emulator, Method::POST, &target(&chat), None, ask).await;
    assert_eq!(body.expect_err("reset").kind(), std::io::ErrorKind::ConnectionReset);
    assert!(!raw(&emulator, &chat, None, "hi").await.is_empty(), "the chat is free again");

    let ask = completion(&chat, None, "emulate:hold_open emulate:done").to_string();
    let request = Request::post(target(&chat)).body(Full::new(Bytes::from(ask)));
    let mut body = emulator
        .clone()
        .oneshot(request.expect("a request"))
        .await
        .expect("infallible")
        .into_body();
    let mut held = Vec::new();
    while let Ok(frame) = timeout(Duration::from_secs(60), body.frame()).await {
        let frame = frame.expect("the socket stays open").expect("data");
        held.extend_from_slice(&frame.into_data().expect("data"));
    }
    assert!(held.ends_with(b"data: [DONE]\n\n"));
    assert!(!raw(&emulator, &chat, None, "hi").await.is_empty(), "the model was done");
}

#[tokio::test(start_paused = true)]
async fn the_anti_bot_layer_answers_in_all_its_forms() {
    let emulator = Emulator::new();
    let chat = new_chat(&emulator).await;
    for (form, content_type, marker) in [
        ("challenge_html", "text/html", "aliyun_waf_aa"),
        ("challenge_redirect", "text/html", "_____tmd_____/punish?x5secdata="),
        ("challenge_json", "application/json", "RGV587_ERROR"),
    ] {
        let ask = completion(&chat, None, &format!("emulate:{form}")).to_string();
        let (status, headers, body) =
            send(&emulator, Method::POST, &target(&chat), None, ask).await;
        let body = body.expect("a body");
        assert_eq!(
            (status, &headers["content-type"]),
            (StatusCode::OK, &content_type.parse().unwrap())
        );
        assert!(std::str::from_utf8(&body).expect("UTF-8").contains(marker));
    }
    let ask = completion(&chat, None, "emulate:challenge_endless").to_string();
    let target = target(&chat);
    let endless = send(&emulator, Method::POST, &target, None, ask);
    assert!(timeout(Duration::from_secs(600), endless).await.is_err());

    let ask = completion(&chat, None, "emulate:timeout").to_string();
    let (status, _, body) = send(&emulator, Method::POST, &target, None, ask).await;
    assert_eq!((status.as_u16(), &*body.expect("a body")), (504, &b"stream timeout"[..]));
    for (fault, status) in [("status", 502), ("status=503", 503), ("status=101", 502)] {
        let ask = completion(&chat, None, &format!("emulate:{fault}")).to_string();
        assert_eq!(send(&emulator, Method::POST, &target, None, ask).await.0.as_u16(), status);
    }
}

#[tokio::test]
async fn the_wire_takes_every_shape_and_the_text_stays() {
    let emulator = Emulator::new();
    let said = text(&say(&emulator, "emulate:unicode").await);
    for shape in
        ["crlf", "no_blank_lines", "bytes=1", "bytes=7", "style=2026", "done", "keep_alive"]
    {
        let events = say(&emulator, &format!("emulate:unicode emulate:{shape}")).await;
        assert_eq!(text(&events), said, "{shape}");
    }
    let chat = new_chat(&emulator).await;
    let body = raw(&emulator, &chat, None, "emulate:crlf").await;
    assert!(body.windows(4).any(|bytes| bytes == b"\r\n\r\n"));
    let body = raw(&emulator, &chat, None, "emulate:no_blank_lines").await;
    assert!(!body.windows(2).any(|bytes| bytes == b"\n\n"));

    let cumulative = say(&emulator, "emulate:cumulative emulate:say=a b c").await;
    let contents: Vec<_> = cumulative
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(contents, ["a", "a b", "a b c", "a b c", ""]);

    let bare = say(&emulator, "emulate:no_phase emulate:say=a").await;
    assert!(bare.iter().all(|event| event["choices"][0]["delta"]["phase"].is_null()));
    let image = say(&emulator, "emulate:image").await;
    assert_eq!(image[2]["choices"][0]["delta"]["phase"], "image_gen");
    assert_eq!(image[2]["choices"][0]["delta"]["status"], "finished");

    let ask = completion(&chat, None, "emulate:json emulate:say=x");
    let json = post(&emulator, &target(&chat), &ask).await;
    assert_eq!(json["data"]["choices"][0]["message"]["content"], "x");
    let last = emulator.chat(&chat).expect("the chat").messages.last().expect("one").clone();
    assert_eq!((&*last.text, json["data"]["message_id"].as_str()), ("x", Some(&*last.id)));
}

#[tokio::test]
async fn pieces_are_cut_within_characters() {
    let emulator = Emulator::builder().piece_size(5).build();
    let chat = new_chat(&emulator).await;
    let ask = completion(&chat, None, "emulate:unicode").to_string();
    let request = Request::post(target(&chat)).body(Full::new(Bytes::from(ask)));
    let response = emulator.oneshot(request.expect("a request")).await.expect("infallible");
    let mut body = response.into_body();
    let mut sizes = Vec::new();
    let mut cut = false;
    while let Some(frame) = body.frame().await {
        let piece = frame.expect("data").into_data().expect("data");
        cut |= std::str::from_utf8(&piece).is_err();
        sizes.push(piece.len());
    }
    let last = sizes.pop();
    assert!(sizes.iter().all(|size| *size == 5) && last.is_some_and(|size| size <= 5));
    assert!(cut);
}

#[tokio::test(start_paused = true)]
async fn deltas_come_at_their_pace() {
    let emulator = Emulator::builder().pace(Duration::from_millis(20)).build();
    let start = Instant::now();
    say(&emulator, "emulate:tokens=50").await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let start = Instant::now();
    say(&emulator, "emulate:tokens=50 emulate:slow=100 emulate:wait=2000").await;
    assert_eq!(start.elapsed(), Duration::from_secs(7));
}

#[tokio::test]
async fn a_recording_is_played_to_the_letter() {
    let recording =
        "data: {\"response.created\":{\"response_id\":\"r-1\"}}\n\ndata: {\"x\": \"\u{e9}\"}\n\n";
    for piece in [1, 7, 1_460] {
        let emulator = Emulator::builder()
            .piece_size(piece)
            .replay(recording)
            .expect("an event stream")
            .build();
        let chat = new_chat(&emulator).await;
        assert_eq!(raw(&emulator, &chat, None, "a").await, recording);
        assert_eq!(raw(&emulator, &chat, Some("r-1"), "b").await, recording);
        let record = emulator.chat(&chat).expect("the chat");
        assert_eq!(record.messages[2].parent_id.as_ref(), Some(&record.messages[1].id));
    }
    for odd in ["", "hello", "event: x\n\n"] {
        let error = Emulator::builder().replay(odd).expect_err("no event stream");
        assert!(error.to_string().starts_with("the recording is not an event stream"));
    }
}

#[tokio::test]
async fn chats_are_listed_shown_and_deleted() {
    let emulator = Emulator::new();
    let (one, two) = (new_chat(&emulator).await, new_chat(&emulator).await);
    raw(&emulator, &one, None, "hi").await;
    let get = |target: String| {
        let emulator = emulator.clone();
        async move {
            let body = send(&emulator, Method::GET, &target, None, "").await.2.expect("a body");
            serde_json::from_slice::<Value>(&body).expect("JSON")
        }
    };
    let list = get("/api/v2/chats/?page=1".into()).await;
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["data"][0]["id"], *one, "the last used is first");
    let history = &get(format!("/api/v2/chats/{one}")).await["data"]["chat"]["history"];
    let current = history["currentId"].as_str().expect("an id");
    let user = history["messages"][current]["parentId"].as_str().expect("an id");
    assert_eq!(history["messages"][user]["content"], "hi");
    assert_eq!(history["messages"][user]["childrenIds"], json!([current]));

    let deleted = send(&emulator, Method::DELETE, &format!("/api/v2/chats/{one}"), None, "").await;
    assert_eq!(deleted.1["x-actual-status-code"], "200");
    assert!(emulator.chat(&one).is_none() && emulator.chat(&two).is_some());
    post(&emulator, "/api/v2/chats/batch_delete", &json!({"ids": [two]})).await;
    assert!(emulator.chats().is_empty());
    let models = get("/api/models".into()).await;
    assert_eq!(models["data"][0]["id"], MODEL);
    assert_eq!(get("/api/v2/models/".into()).await["data"]["data"], models["data"]);
    let wrong = send(&emulator, Method::POST, "/api/v2/chats", None, "").await;
    assert_eq!(wrong.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let emulator = Emulator::builder().chat_limits(3, 20_000).log_limits(2, 1 << 20).build();
    let mut chats = Vec::new();
    for _ in 0..5 {
        chats.push(new_chat(&emulator).await);
    }
    assert_eq!(emulator.chats().len(), 3);
    assert!(emulator.chat(&chats[0]).is_none() && emulator.chat(&chats[4]).is_some());
    raw(&emulator, &chats[4], None, &"x".repeat(15_000)).await;
    raw(&emulator, &chats[3], None, &"x".repeat(15_000)).await;
    assert!(emulator.chat(&chats[4]).is_none() && emulator.chat(&chats[3]).is_some());
    assert_eq!(emulator.requests().len(), 2);
}

proptest! {
    #[test]
    fn any_request_gets_an_answer(
        method in prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE, Method::PUT]),
        target in prop_oneof![
            "/[a-z0-9/?&=%.]{0,40}",
            prop::sample::select(vec![
                "/api/v2/chats/new", "/api/v2/chat/completions?chat_id=c", "/api/v2/chats/",
                "/api/v1/oauth2/token", "/api/v1/oauth2/device/code", "/api/v1/auths/",
                "/api/v2/chat/completions/stop", "/api/v2/chats/batch_delete",
            ]).prop_map(str::to_owned),
        ],
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "[\\[\\]{}:,\"a-z0-9_ ]{0,60}".prop_map(String::into_bytes),
            "grant_type=refresh_token&[a-z%&=]{0,20}".prop_map(String::into_bytes),
        ],
    ) {
        let emulator = Emulator::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (status, _, body) =
            runtime.block_on(send(&emulator, method, &target, None, body));
        prop_assert!(!status.is_server_error());
        prop_assert!(body.is_ok());
    }

    #[test]
    fn any_message_gets_an_answer(
        content in prop_oneof![
            "\\PC{0,80}",
            "(\\[user\\]|\\[tool|User: |<tools>|</tools>|\\{\"name\":\"f\"\\}|emulate:|say=|cut|=|f\\(|a=1|\\)|[\n ]|## f\n<f>|<function>|<name>f</name>|é){0,12}",
            prop::collection::vec(prop::sample::select(vec![
                "flat", "rate_limited=99999999999999999999", "error_string=1", "cut=0", "reset=0",
                "tokens=20", "bytes=0", "cumulative", "no_blank_lines", "no_phase", "think",
                "think_raw", "think_empty", "search", "image", "keep_alive", "crlf", "json",
                "style=2026", "times=1", "lead=x", "status=99999", "done", "unicode", "path",
            ]), 0..5).prop_map(|names| {
                names.iter().map(|name| format!("emulate:{name} ")).collect::<String>()
            }),
        ],
    ) {
        let emulator = Emulator::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let chat = new_chat(&emulator).await;
            let body = completion(&chat, None, &content).to_string();
            let request = Request::post(target(&chat)).body(Full::new(Bytes::from(body)));
            let response = emulator.clone().oneshot(request.expect("a request")).await;
            let body = response.expect("infallible").into_body().collect();
            // Some of them never end, and that is what was asked for.
            let _ = timeout(Duration::from_secs(60), body).await;
        });
    }
}
