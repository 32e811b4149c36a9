//! The edges for pictures.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{Attachment, AttachmentKind, ChatEvent, ChatRequest, FinishReason, Tenant},
    edge::Offer,
    openai::media::{MediaLayer, NoMedia},
    qwen::web::QwenWebLayer,
};
use tower_qwen_emulator::Emulator;

struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn request(body: &Value) -> Request<FullBody> {
    let request = Request::post("/v1/images/generations");
    let request = request.header("content-type", "application/json");
    request.body(FullBody::from(body.to_string())).unwrap()
}

/// What is said of `body` by the edge `layer` over the web API.
async fn said_by<F>(layer: MediaLayer<F>, emulator: &Emulator, body: &Value) -> Said
where
    MediaLayer<F>: Clone,
    F: Clone
        + Send
        + 'static
        + tower::Service<Request<FullBody>, Response = Response<tower_qwen_emulator::Body>>,
    F::Future: Send,
    F::Error: Into<tower::BoxError>,
{
    let service = ServiceBuilder::new()
        .layer(layer.offer(Offer::Web))
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let (head, body) = service.oneshot(request(body)).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Said { status: head.status, headers: head.headers, body }
}

async fn said(body: &Value) -> Said {
    let emulator = Emulator::new();
    said_by(MediaLayer::image_generations().fetch(emulator.clone()), &emulator, body).await
}

fn asked(prompt: &str) -> Value {
    json!({"model": "qwen3-max", "prompt": prompt})
}

#[tokio::test(start_paused = true)]
async fn a_url_is_handed_on() {
    let said = said(&asked("A fox")).await;
    assert_eq!(
        (said.status, &said.headers["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let answer = said.json();
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000, "{answer}");
    let url = answer["data"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("https://cdn.qwenlm.ai/output/"), "{url}");
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    // Nothing was counted, so nothing is said of it.
    assert!(answer["usage"].is_null());
}

#[tokio::test(start_paused = true)]
async fn the_picture_itself_is_fetched() {
    let mut body = asked("A fox");
    body["response_format"] = json!("b64_json");
    let answer = said(&body).await.json();
    let data = answer["data"][0]["b64_json"].as_str().unwrap();
    assert!(data.starts_with("iVBORw0KGgo"), "{data}");
    assert!(answer["data"][0]["url"].is_null());

    // It is gone from where it was: it is paid for, so that nobody asks again by himself.
    body["prompt"] = json!("emulate:expired");
    let said = said(&body).await;
    assert_eq!(said.status, StatusCode::BAD_GATEWAY);
    assert!(said.text().contains("does not keep it"), "{}", said.text());

    // Nobody is there who fetches.
    let emulator = Emulator::new();
    let service = ServiceBuilder::new()
        .layer(MediaLayer::image_generations())
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let response = service.oneshot(request(&body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
}

/// What is larger than the limit is no answer, one picture by itself or all together.
#[tokio::test(start_paused = true)]
async fn pictures_are_bounded() {
    let emulator = Emulator::new();
    let picture = Bytes::from(vec![0; 3_000]);
    let fetch = service_fn(move |_: Request<FullBody>| {
        let picture = picture.clone();
        async move { Ok::<_, Error>(Response::new(FullBody::from(picture))) }
    });
    let mut body = asked("A fox");
    body["response_format"] = json!("b64_json");
    // 3,000 bytes are 4,000 in base64.
    for (limit, n, status) in
        [(2_999, 1, 502), (3_999, 1, 502), (4_000, 1, 200), (7_999, 2, 502), (8_000, 2, 200)]
    {
        body["n"] = json!(n);
        let service = ServiceBuilder::new()
            .layer(MediaLayer::image_generations().max_answer(limit).fetch(fetch.clone()))
            .layer(QwenWebLayer::new())
            .service(emulator.clone());
        let response = service.oneshot(request(&body)).await.unwrap();
        assert_eq!(response.status(), status, "{limit} {n}");
    }
}

/// As many requests as pictures, four at a time; the answer has them in order.
#[tokio::test(start_paused = true)]
async fn several_pictures_are_several_requests() {
    let (running, most, count) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let stub = {
        let (running, most, count) = (running.clone(), most.clone(), count.clone());
        service_fn(move |request: Request<ChatRequest>| {
            let (running, most) = (running.clone(), most.clone());
            let place = count.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_eq!(request.body().tenant, Some(Tenant::from_digest([7; 32])));
                assert!(request.headers().get("authorization").is_none());
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The later ones are sooner there.
                sleep(Duration::from_secs(20 - place as u64)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                let url = format!("https://x.example/{place}");
                let mut response = Response::new(stream::iter([
                    Ok(ChatEvent::Attachment(Attachment::new(AttachmentKind::Image, url.into()))),
                    Ok(ChatEvent::Finished(FinishReason::Stop)),
                ]));
                response.headers_mut().insert("x-of-upstream", place.to_string().parse().unwrap());
                Ok::<_, Error>(response)
            }
        })
    };
    let layer = MediaLayer::image_generations().tenant(|_| Some(Tenant::from_digest([7; 32])));
    let service = ServiceBuilder::new().layer(layer).service(stub);
    let mut body = asked("A fox");
    body["n"] = json!(10);
    let mut request = request(&body);
    request.headers_mut().insert("authorization", "Bearer sk-demo".parse().unwrap());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["x-of-upstream"], "0");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let urls: Vec<_> =
        answer["data"].as_array().unwrap().iter().map(|it| it["url"].as_str().unwrap()).collect();
    let wanted: Vec<_> = (0..10).map(|n| format!("https://x.example/{n}")).collect();
    assert_eq!(urls, wanted);
    assert_eq!((most.load(Ordering::SeqCst), count.load(Ordering::SeqCst)), (4, 10));
}

/// The first that fails fails all, and the others are let go.
#[tokio::test(start_paused = true)]
async fn one_failure_fails_all() {
    let (alive, count) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
    let stub = {
        let (alive, count) = (alive.clone(), count.clone());
        service_fn(move |_: Request<ChatRequest>| {
            let (held, place) = (alive.clone(), count.fetch_add(1, Ordering::SeqCst));
            async move {
                let _held = held;
                sleep(Duration::from_secs(if place == 2 { 1 } else { 60 })).await;
                let error = Error::new(ErrorKind::Quota, "used up");
                Err::<Response<stream::Empty<Result<ChatEvent, Error>>>, _>(
                    error.with_retry_after(Duration::from_secs(7_200)),
                )
            }
        })
    };
    let mut body = asked("A fox");
    body["n"] = json!(4);
    let service = ServiceBuilder::new().layer(MediaLayer::image_generations()).service(stub);
    let begun = Instant::now();
    let response = service.oneshot(request(&body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "7200");
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(Arc::strong_count(&alive), 1, "no call goes on");
}

/// Each picture leaves as soon as it is made, and until then the client hears that somebody is there.
#[tokio::test(start_paused = true)]
async fn a_stream_brings_pictures_as_they_are_made() {
    let emulator = Emulator::new();
    let mut body = asked("emulate:draw=40000");
    for (name, value) in [("stream", json!(true)), ("n", json!(2)), ("partial_images", json!(2))] {
        body[name] = value;
    }
    let layer = MediaLayer::image_generations().fetch(emulator.clone());
    let said = said_by(layer, &emulator, &body).await;
    assert_eq!(said.headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(said.headers["x-qwen-left-out"], "partial_images");
    let text = said.text();
    assert!(text.starts_with(": keep-alive\n"), "{text}");
    let data: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(data.len(), 2, "{text}");
    for event in &data {
        assert_eq!(event["type"], "image_generation.completed");
        assert!(event["b64_json"].as_str().unwrap().starts_with("iVBOR"));
        assert!(event["created_at"].is_u64());
    }
    assert_eq!(text.matches("event: image_generation.completed\n").count(), 2);
}

/// A failure before the response has begun has a status; behind that it is an event.
#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_says_so() {
    let emulator = Emulator::new();
    let layer = || MediaLayer::image_generations().fetch(emulator.clone());
    let mut body = asked("emulate:content_filter");
    body["stream"] = json!(true);
    let said = said_by(layer(), &emulator, &body).await;
    assert_eq!(
        (said.status, said.json()["error"]["code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("content_filter"))
    );

    body["prompt"] = json!("emulate:draw=40000 emulate:content_filter");
    let late = said_by(layer(), &emulator, &body).await;
    assert_eq!(late.status, StatusCode::OK);
    let event = late.text().split("event: error\ndata: ").nth(1).unwrap();
    let error: Value = serde_json::from_str(event.trim()).unwrap();
    assert_eq!(error["error"]["code"], "content_filter");
}

/// Nothing is ignored without a word.
#[tokio::test(start_paused = true)]
async fn what_upstream_has_not_got_is_named() {
    for (field, value, named) in [
        ("quality", json!("hd"), Some("quality")),
        ("quality", json!("auto"), None),
        ("style", json!("vivid"), Some("style")),
        ("style", json!(null), None),
        ("seed", json!(7), Some("seed")),
        ("negative_prompt", json!("snow"), Some("negative_prompt")),
        ("output_format", json!("webp"), Some("output_format")),
        ("output_format", json!("png"), None),
        ("background", json!("opaque"), None),
        ("moderation", json!("low"), Some("moderation")),
        ("partial_images", json!(0), None),
        ("user", json!("ann"), Some("user")),
        ("input_fidelity", json!("high"), Some("input_fidelity")),
        ("newer", json!(1), Some("newer")),
    ] {
        let mut body = asked("A fox");
        body[field] = value.clone();
        let said = said(&body).await;
        assert_eq!(said.status, StatusCode::OK, "{field}: {value} {}", said.text());
        let header = said.headers.get("x-qwen-left-out").map(|names| names.to_str().unwrap());
        assert_eq!(header, named, "{field}: {value}");
    }
    let mut body = asked("A fox");
    body["size"] = json!("1536x1024");
    assert_eq!(said(&body).await.headers["x-qwen-size"], "1536x1024; sent=4:3");
}

/// Changes need a picture, and are asked for as such.
#[tokio::test(start_paused = true)]
async fn a_change_needs_a_picture() {
    let emulator = Emulator::new();
    let layer = || MediaLayer::image_edits().fetch(emulator.clone());
    let refused = said_by(layer(), &emulator, &asked("Now blue")).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["param"].as_str()),
        (StatusCode::BAD_REQUEST, Some("image"))
    );
    assert!(emulator.requests().is_empty());

    let mut body = asked("Now blue");
    body["image"] = json!(["https://x.example/a.png"]);
    let made = said_by(layer(), &emulator, &body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let asked = emulator.requests().into_iter().find(|it| it.path().ends_with("/completions"));
    let message = &asked.unwrap().body["messages"][0];
    assert_eq!(
        (&message["chat_type"], &message["files"][0]["url"]),
        (&json!("image_edit"), &json!("https://x.example/a.png"))
    );
    assert_eq!(message["content"], "Now blue");
}

/// An answer that holds no picture says why.
#[tokio::test(start_paused = true)]
async fn an_answer_without_a_picture_is_an_error() {
    for (text, words) in [("", "made no picture"), ("I cannot draw that.", "I cannot draw that.")] {
        let stub = service_fn(move |_: Request<ChatRequest>| async move {
            let said = (!text.is_empty()).then(|| Ok(ChatEvent::Text(text.into())));
            let end = Ok(ChatEvent::Finished(FinishReason::Stop));
            Ok::<_, Error>(Response::new(stream::iter(said.into_iter().chain([end]))))
        });
        let service = ServiceBuilder::new().layer(MediaLayer::image_generations()).service(stub);
        let response = service.oneshot(request(&asked("A fox"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(words), "{body:?}");
    }
}

/// What the head of a request can be wrong in.
#[tokio::test]
async fn the_head_is_checked() {
    let emulator = Emulator::new();
    let service = ServiceBuilder::new()
        .layer(MediaLayer::image_generations())
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    for (method, kind, status) in [
        ("GET", "application/json", 405),
        ("POST", "text/plain", 415),
        ("POST", "application/json", 400),
    ] {
        let request = Request::builder().method(method).header("content-type", kind);
        let request = request.body(FullBody::from("[]")).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {kind}");
        if status == 405 {
            assert_eq!(response.headers()["allow"], "POST");
        }
    }
    assert!(emulator.requests().is_empty());
}

#[tokio::test]
async fn who_makes_none_says_who_does() {
    for (kind, code) in [
        (tower_qwen::chat::AnswerKind::Image, "images_not_supported"),
        (tower_qwen::chat::AnswerKind::Video, "videos_not_supported"),
    ] {
        let response = NoMedia::new("llama.cpp", kind).oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert!(error["error"]["message"].as_str().unwrap().contains("llama.cpp"));
    }
}
