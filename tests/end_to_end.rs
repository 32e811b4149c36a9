//! The whole path: an OpenAI request in, the web API's wire and the emulator below, the
//! OpenAI answer out.

mod traced;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{FullBody, openai::OpenAiLayer, qwen::web::QwenWebLayer};
use tower_qwen_emulator::Emulator;

fn ask(content: &str, stream: bool) -> Request<FullBody> {
    let body = json!({
        "model": "qwen3-max",
        "messages": [{"role": "user", "content": content}],
        "stream": stream,
        "stream_options": {"include_usage": true},
    });
    Request::post("/v1/chat/completions")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request")
}

async fn over(emulator: Emulator, request: Request<FullBody>) -> (StatusCode, String) {
    traced::on();
    let service = ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(QwenWebLayer::new())
        .service(emulator);
    let response = service.oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

/// The text, the usage and whether it ended well, of a streamed answer.
fn read(text: &str) -> (String, Option<Value>, bool) {
    let (mut content, mut usage, mut done) = (String::new(), None, false);
    for data in text.split_terminator("\n\n") {
        let data = data.strip_prefix("data: ").expect("a data line");
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).expect("JSON");
        if chunk.get("error").is_some() {
            return (content, usage, false);
        }
        content += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        usage = chunk.get("usage").filter(|usage| !usage.is_null()).cloned().or(usage);
    }
    (content, usage, done)
}

/// A recording in the shape of 2025, with text beyond ASCII, escapes and a trailing space.
fn recording() -> (String, String) {
    let pieces =
        ["Gr\u{fc}\u{df}e", ",", " \u{1F30C}", "\n\n", "\"you\"", " and ha", "ha", "\u{2728}"];
    let mut wire = String::from(
        "data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \"response_id\":\"r-1\"}} \n\n",
    );
    for (n, piece) in pieces.iter().enumerate() {
        let piece = serde_json::to_string(piece).expect("a string");
        wire += &format!(
            "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": {piece}, \
             \"phase\": \"answer\", \"status\": \"typing\"}}}}], \"usage\": {{\"input_tokens\": 12, \
             \"output_tokens\": {}, \"characters\": 0, \"total_tokens\": {}, \
             \"cached_tokens\": 0}}}}\n\n",
            n + 1,
            n + 13,
        );
    }
    wire += "data: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \"assistant\", \
             \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n";
    (wire, pieces.concat())
}

async fn replayed(wire: &str, piece: usize, stream: bool) -> (String, Value) {
    traced::on();
    let emulator = Emulator::builder()
        .piece_size(piece)
        .replay(wire.to_owned())
        .expect("an event stream")
        .build();
    let (status, body) = over(emulator, ask("Hello", stream)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    if stream {
        let (content, usage, done) = read(&body);
        assert!(done, "{body}");
        return (content, usage.expect("asked for"));
    }
    let whole: Value = serde_json::from_str(&body).expect("JSON");
    let content = whole["choices"][0]["message"]["content"].as_str().expect("text");
    (content.to_owned(), whole["usage"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_recording_comes_out_to_the_letter_however_it_is_cut() {
    let (wire, text) = recording();
    for piece in [1, 7, 1_460, 16_384] {
        for stream in [false, true] {
            let (content, usage) = replayed(&wire, piece, stream).await;
            assert_eq!(content, text, "pieces of {piece}");
            assert_eq!(
                [&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]],
                [12, 8, 20],
                "pieces of {piece}"
            );
        }
    }
}

/// Any other recording, by its path: `TOWER_QWEN_RECORDING=… cargo test recording_by_path`.
#[tokio::test(start_paused = true)]
async fn a_recording_by_path_comes_out_to_the_letter() {
    let Ok(path) = std::env::var("TOWER_QWEN_RECORDING") else {
        eprintln!("skipped: TOWER_QWEN_RECORDING names no recording");
        return;
    };
    let wire = std::fs::read_to_string(path).expect("a readable recording");
    let (mut text, mut last) = (String::new(), Value::Null);
    for line in wire.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let delta = &event["choices"][0]["delta"];
        if delta["phase"] == "answer" {
            text += delta["content"].as_str().unwrap_or_default();
        }
        if event["usage"].is_object() {
            last = event["usage"].clone();
        }
    }
    for piece in [1, 7, 1_460, 16_384] {
        for stream in [false, true] {
            let (content, usage) = replayed(&wire, piece, stream).await;
            assert_eq!(content, text, "pieces of {piece}");
            assert_eq!(usage["prompt_tokens"], last["input_tokens"]);
            assert_eq!(usage["completion_tokens"], last["output_tokens"]);
            assert_eq!(usage["total_tokens"], last["total_tokens"]);
        }
    }
}

type UpstreamBody = UnsyncBoxBody<Bytes, Infallible>;

/// An upstream that answers the completion with what the test sends, piece by piece, or for the
/// property with any bytes under any content type.
async fn scripted(
    pieces: mpsc::UnboundedReceiver<Bytes>,
    content_type: &'static str,
    request: Request<FullBody>,
) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
    traced::on();
    let pieces = Arc::new(Mutex::new(Some(pieces)));
    let upstream = service_fn(move |request: Request<FullBody>| {
        let (content_type, body): (_, UpstreamBody) = if request.uri().path().ends_with("/new") {
            let created = r#"{"success":true,"request_id":"q","data":{"id":"c-1"}}"#;
            ("application/json", FullBody::new(Bytes::from(created)).boxed_unsync())
        } else if let Some(pieces) = pieces.lock().expect("not poisoned").take() {
            let frames = stream::unfold(pieces, |mut pieces| async {
                let piece = pieces.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(piece)), pieces))
            });
            (content_type, StreamBody::new(frames).boxed_unsync())
        } else {
            // The call that stops an abandoned answer.
            ("application/json", FullBody::new(Bytes::from(r#"{"success":true}"#)).boxed_unsync())
        };
        let response = Response::builder().header("content-type", content_type).body(body);
        std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
    });
    ServiceBuilder::new()
        .layer(OpenAiLayer::new())
        .layer(QwenWebLayer::new())
        .service(upstream)
        .oneshot(request)
        .await
        .expect("infallible")
}

fn delta(text: &str) -> Bytes {
    let text = serde_json::to_string(text).expect("a string");
    Bytes::from(format!(
        "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": {text}, \
         \"phase\": \"answer\", \"status\": \"typing\"}}}}]}}\n\n"
    ))
}

#[tokio::test(start_paused = true)]
async fn content_reaches_the_client_when_the_upstreams_delta_does() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let start = Instant::now();
    sender
        .send(Bytes::from(
            "data: {\"response.created\":{\"chat_id\":\"c-1\",\"parent_id\":\"u\",\"response_id\":\"r\"}}\n\n",
        ))
        .expect("open");
    let upstream = tokio::spawn(async move {
        for (seconds, text) in [(3, "first"), (5, "second"), (20, "third")] {
            sleep_until(start + Duration::from_secs(seconds)).await;
            sender.send(delta(text)).expect("open");
        }
        // Held open: nothing may wait for more.
        sleep_until(start + Duration::from_secs(1000)).await;
    });
    let response = scripted(receiver, "text/event-stream", ask("x", true)).await;
    assert_eq!(start.elapsed().as_secs(), 3, "the head comes with the first delta");
    let mut body = Box::pin(response.into_body());
    let mut arrived = Vec::new();
    while arrived.len() < 3 {
        let frame = body.frame().await.expect("a frame").expect("infallible");
        let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8");
        for word in ["first", "second", "third"] {
            if text.contains(word) {
                arrived.push((start.elapsed().as_secs(), word));
            }
        }
    }
    assert_eq!(arrived, [(3, "first"), (5, "second"), (20, "third")]);
    upstream.abort();
}

#[tokio::test(start_paused = true)]
async fn faults_reach_the_client_as_the_right_status_or_in_band() {
    for (fault, status) in [
        ("emulate:rate_limited=2", 429),
        ("emulate:unauthorized", 401),
        ("emulate:challenge_html", 503),
        ("emulate:challenge_json", 503),
        ("emulate:status=502", 502),
        ("emulate:timeout", 504),
        ("emulate:content_filter", 400),
    ] {
        for stream in [false, true] {
            let (got, body) = over(Emulator::new(), ask(fault, stream)).await;
            assert_eq!(got.as_u16(), status, "{fault}: {body}");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
    let (status, body) = over(Emulator::new(), ask("emulate:cut=3", true)).await;
    assert_eq!(status, StatusCode::OK);
    let (content, _, ended_well) = read(&body);
    assert!(!content.is_empty() && !ended_well, "{body}");
    let (status, _) = over(Emulator::new(), ask("emulate:cut=3", false)).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
}

/// Bytes that are more likely than chance to get somewhere.
fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            "data: ", "\n\n", "\r\n", "{\"choices\": [{\"delta\": {\"content\": \"x\", ",
            "\"phase\": \"answer\", \"status\": \"typing\"}}]}\n\n", "[DONE]", "{\"error\":", "\"x\"}",
            "{\"success\": false, \"data\": {\"code\": \"RateLimited\", \"num\": 1e400}}", "<!doctypehtml>",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\",\"status\":\"finished\",\"phase\":\"answer\"}}]}\n\n",
            "data: {\"response.created\":{\"response_id\":\"r\"}}\n\n", "\u{feff}", ": c\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_upstream_bytes_end_in_an_answer_or_an_error(
        pieces in prop::collection::vec(any_piece(), 0..12),
        content_type in prop::sample::select(vec![
            "text/event-stream", "application/json", "text/html", "",
        ]),
        streamed: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (status, body) = runtime.block_on(async {
            let (sender, receiver) = mpsc::unbounded_channel();
            for piece in pieces {
                sender.send(piece.into()).expect("open");
            }
            drop(sender);
            let response = scripted(receiver, content_type, ask("x", streamed)).await;
            let status = response.status();
            (status, response.into_body().collect().await.expect("infallible").to_bytes())
        });
        let body = String::from_utf8(body.to_vec()).expect("UTF-8");
        if status.is_success() && streamed {
            prop_assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
        } else {
            let json: Value = serde_json::from_str(&body).expect("JSON");
            prop_assert_eq!(json.get("error").is_none(), status.is_success());
        }
    }

    #[test]
    fn any_client_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let request = Request::post("/").body(FullBody::new(Bytes::from(bytes))).expect("a request");
        let (status, _) = runtime.block_on(over(Emulator::new(), request));
        prop_assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
