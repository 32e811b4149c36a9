use axum::http::StatusCode;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tower_qwen::sse::reframe::SseReframeLayer;

use super::*;

fn request(body: &'static str) -> Request {
    Request::post("/v1/chat/completions")
        .header("authorization", "Bearer of-the-proxy")
        .header("x-api-key", "of-the-proxy")
        .header("cookie", "a=b")
        .header("connection", "keep-alive, X-Hop")
        .header("x-hop", "of the hop")
        .header("accept-encoding", "gzip")
        .header("content-type", "application/json")
        .header("x-request-id", "mine")
        .header("x-dashscope-datainspection", "{}")
        // What a client says of itself and others, or has of other services.
        .header("x-stainless-lang", "js")
        .header("user-agent", "client/1")
        .header("x-goog-api-key", "of-another-service")
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-openwebui-user-email", "somebody@example.org")
        .header("range", "bytes=0-1")
        .header("if-none-match", "*")
        .header("bx-umidtoken", "T-demo")
        .body(AxumBody::from(body))
        .expect("a request")
}

#[tokio::test]
async fn bytes_pass_and_credentials_of_the_proxy_do_not() {
    let upstream = service_fn(async |request: axum::http::Request<FullBody>| {
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/chat/completions"));
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-dashscope-datainspection", "x-request-id"]);
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let response = axum::http::Response::builder()
            .status(StatusCode::IM_A_TEAPOT)
            .header("x-ratelimit-remaining-requests", "7")
            .header("retry-after-ms", "20")
            .header("openai-processing-ms", "3")
            .header("x-request-id", "of-upstream")
            .header("x-odd", "its own")
            .header("set-cookie", "session=1")
            .header("access-control-allow-origin", "*")
            .header("server", "nginx")
            .header("connection", "close, x-odd-hop")
            .header("x-odd-hop", "1")
            .body(FullBody::new(body));
        Ok::<_, BoxError>(response.expect("a response"))
    });
    let body = r#"{"model": "m",  "odd" : [ ]}"#;
    let response = Passage::to("/chat/completions").over(upstream).oneshot(request(body)).await;
    let response = response.expect("infallible");
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "openai-processing-ms",
            "retry-after-ms",
            "x-ratelimit-remaining-requests",
            "x-request-id"
        ]
    );
    let said = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(said, body);
}

/// A body that never gives its end.
fn endless() -> AxumBody {
    AxumBody::from_stream(stream::pending::<Result<Bytes, BoxError>>())
}

#[tokio::test(start_paused = true)]
async fn an_error_that_repeats_the_key_does_not_get_it_to_the_client() {
    let answer = async |status: u16, body: AxumBody| {
        let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
        let upstream = service_fn(move |_: axum::http::Request<FullBody>| {
            let body = body.lock().expect("one task").take().expect("asked once");
            async move {
                let key = "Bearer of-the/upstream".parse().expect("a value");
                let sent = CredentialHeaders::new([(header::AUTHORIZATION, key)]);
                let response = axum::http::Response::builder().status(status).extension(sent);
                let response = response.header("content-type", "application/json");
                Ok::<_, BoxError>(response.body(body).expect("a response"))
            }
        });
        let response =
            Passage::to("/x").over(upstream).oneshot(request("{}")).await.expect("infallible");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    };
    for (said, shown) in [
        (r#"{"error":"no key of-the/upstream"}"#, r#"{"error":"no key [redacted]"}"#),
        (r#"{"error":"no key of-the\/upstream"}"#, r#"{"error":"no key [redacted]"}"#),
        (r#"{ "error" : "kept as it is" }"#, r#"{ "error" : "kept as it is" }"#),
    ] {
        assert_eq!(answer(401, said.into()).await, (401, shown.to_owned()));
    }
    let (status, shown) = answer(500, "of-the/upstream ".repeat(10_000).into()).await;
    assert!(status == 500 && shown.contains("larger than") && !shown.contains("of-the"), "{shown}");
    let (status, shown) = answer(502, endless()).await;
    assert!(status == 502 && shown.contains("broke off"), "{shown}");
    for answered in [
        r#"{"choices":[],"said":"of-the/upstream"}"#,
        r#"{ "content" : "error: of-the/upstream" }"#,
    ] {
        assert_eq!(answer(200, answered.into()).await, (200, answered.to_owned()), "no error");
    }
    let failed = r#"{"success":false,"choices of-the/upstream":"of-the/upstream"}"#;
    let (_, shown) = answer(200, failed.into()).await;
    assert!(!shown.contains("of-the"), "{shown}");
}

#[tokio::test]
async fn events_leave_whole() {
    let pieces = ["data: {\"a\"", ":1}\r\n\r", "\ndata: [DONE]\n\n"];
    let upstream = service_fn(move |_: axum::http::Request<FullBody>| async move {
        let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
        let response = axum::http::Response::builder()
            .header("content-type", "text/event-stream")
            // Nothing follows the end mark, whatever the connection does.
            .body(StreamBody::new(stream::iter(frames).chain(stream::pending())));
        Ok::<_, BoxError>(response.expect("a response"))
    });
    let upstream = tower::ServiceBuilder::new().layer(SseReframeLayer::new()).service(upstream);
    let response = Passage::to("/chat/completions").over(upstream).oneshot(request("{}")).await;
    let mut body = response.expect("infallible").into_body();
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.push(frame.expect("no error").into_data().expect("data"));
    }
    assert_eq!(frames, ["data: {\"a\":1}\n\n", "data: [DONE]\n\n"]);
}

#[tokio::test]
async fn what_fails_is_an_openai_error() {
    async fn refusal(error: impl Into<BoxError>) -> (StatusCode, Value) {
        let error = std::sync::Mutex::new(Some(error.into()));
        let error = std::sync::Arc::new(error);
        let upstream = service_fn(move |_: axum::http::Request<FullBody>| {
            let error = error.lock().expect("one task").take().expect("asked once");
            async { Err::<axum::http::Response<FullBody>, _>(error) }
        });
        let response =
            Passage::to("/x").over(upstream).oneshot(request("{}")).await.expect("infallible");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }
    let (status, body) = refusal(Error::new(ErrorKind::Timeout, "too slow")).await;
    assert_eq!(
        (status, &body["error"]["type"]),
        (StatusCode::GATEWAY_TIMEOUT, &"timeout_error".into())
    );
    assert_eq!(refusal("some other").await.0, StatusCode::BAD_GATEWAY);

    let upstream = service_fn(async |_: axum::http::Request<FullBody>| {
        Ok::<_, BoxError>(axum::http::Response::new(FullBody::default()))
    });
    let get = Request::get("/").body(AxumBody::empty()).expect("a request");
    let response = Passage::to("/x").over(upstream).oneshot(get).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

/// Fields over a compatible upstream: what the layers have not goes byte by byte, all else through
/// them.
#[tokio::test]
async fn what_asks_for_more_passes_byte_by_byte() {
    let said = |name: &'static str| {
        Route::new(service_fn(async move |request: Request| {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            Ok(Response::new(AxumBody::from([name.as_bytes(), &body].concat())))
        }))
    };
    let route = or_bytes(said("typed "), said("bytes "), BodyPace::new());
    let call = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
    for (fields, name) in [
        (r#""stream":true"#, "typed"),
        (r#""n":1"#, "typed"),
        (r#""n":null"#, "typed"),
        (r#""n":2"#, "bytes"),
        (r#""n": 2.0"#, "bytes"),
        (r#""best_of":1"#, "typed"),
        (r#""best_of":3"#, "bytes"),
        (r#""logprobs":false"#, "typed"),
        (r#""logprobs":null"#, "typed"),
        (r#""logprobs":true"#, "bytes"),
        (r#""logprobs":0"#, "bytes"),
        (r#""logprobs":5"#, "bytes"),
        (r#""top_logprobs":0"#, "typed"),
        (r#""top_logprobs":2"#, "bytes"),
        (r#""prompt_logprobs":1"#, "bytes"),
        (r#""n_probs":0"#, "typed"),
        (r#""n_probs":4"#, "bytes"),
        (r#""return_token_ids":false"#, "typed"),
        (r#""return_token_ids":true"#, "bytes"),
        (r#""return_progress":false"#, "typed"),
        (r#""return_progress":true"#, "bytes"),
        (r#""timings_per_token":false"#, "typed"),
        (r#""timings_per_token":true"#, "bytes"),
        (r#""modalities":["text"]"#, "typed"),
        (r#""modalities":["text","audio"]"#, "bytes"),
        (r#""n":2,"tools":[]"#, "bytes"),
        (r#""n":2,"tools":null"#, "bytes"),
        // Its edge refuses these with the field's name.
        (&format!(r#""n":2,{call}"#), "typed"),
        (&format!(r#""logprobs":true,{call}"#), "typed"),
        (&format!(r#""functions":[{{"name":"f"}}],{call}"#), "typed"),
        (r#""functions":[{"name":"f"}]"#, "bytes"),
        (r#""functions":null,"function_call":null"#, "typed"),
        (r#""function_call":"auto""#, "bytes"),
        (r#""messages":[{"function_call":{"name":"f"}}]"#, "typed"),
        (r#""n":2,"n":3"#, "typed"),
        (r#""n":"two""#, "typed"),
        (r#""messages":[{"content":"set \"n\": 2"}]"#, "typed"),
        (r#""x":{"n":2,"logprobs":true}"#, "typed"),
        (r#""n":2,"#, "typed"),
    ] {
        let body = format!(r#"{{"model":"m",{fields}}}"#);
        let request = Request::post("/").body(AxumBody::from(body.clone())).expect("a request");
        let response = route.clone().oneshot(request).await.expect("infallible");
        let answer = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(answer, format!("{name} {body}"), "the body arrives as it was");
    }
    let get = Request::get("/").body(AxumBody::from(r#"{"n":2}"#)).expect("a request");
    let response = route.oneshot(get).await.expect("infallible");
    let answer = response.into_body().collect().await.expect("a body").to_bytes();
    assert!(answer.starts_with(b"typed"));
}

/// The limit on a whole answer holds for its head, for events and for what is read whole.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_has_a_limit() {
    const TOTAL: Duration = Duration::from_secs(9);
    let answer = async |head: Duration, content_type: &'static str, key: bool| {
        let upstream = service_fn(move |_: axum::http::Request<FullBody>| async move {
            tokio::time::sleep(head).await;
            let mut response = axum::http::Response::builder().header("content-type", content_type);
            if key {
                let key = "Bearer of-the/upstream".parse().expect("a value");
                response =
                    response.extension(CredentialHeaders::new([(header::AUTHORIZATION, key)]));
            }
            let first = stream::iter([Ok::<_, BoxError>(Bytes::from("data: {\"a\":1}\n\n"))]);
            let body = AxumBody::from_stream(first.chain(stream::pending()));
            Ok::<_, BoxError>(response.body(body).expect("a response"))
        });
        let begun = Instant::now();
        let passage = Passage::to("/x").total(TOTAL).over(upstream);
        let response = passage.oneshot(request("{}")).await.expect("infallible");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(|body| body.to_bytes());
        assert!((TOTAL..TOTAL + Duration::from_millis(5)).contains(&begun.elapsed()));
        let body = body.map(|body| String::from_utf8(body.to_vec()).expect("UTF-8"));
        (status, body.map_err(|error| format!("{error:?}")))
    };
    let words = "was not complete within 9s of the request";
    let (status, body) = answer(Duration::from_secs(60), "text/event-stream", false).await;
    assert!(status == 504 && body.as_ref().is_ok_and(|body| body.contains(words)), "{body:?}");
    let (status, body) = answer(Duration::from_secs(1), "text/event-stream", false).await;
    let body = body.expect("it ends with an event");
    assert_eq!(status, 200);
    let last = body.strip_prefix("data: {\"a\":1}\n\ndata: ").expect("what was said before");
    let error: Value = serde_json::from_str(last.trim_end()).expect("one event");
    assert!(error["error"]["message"].as_str().is_some_and(|said| said.contains(words)), "{error}");
    // Nothing fits behind half of something else.
    let (status, body) = answer(Duration::ZERO, "application/json", false).await;
    assert!(status == 200 && body.as_ref().is_err_and(|error| error.contains(words)), "{body:?}");
    let (status, body) = answer(Duration::ZERO, "application/json", true).await;
    assert!(status == 504 && body.as_ref().is_ok_and(|body| body.contains(words)), "{body:?}");
}

/// A server that keeps its connection open behind the last finish reason is waited for as long as the
/// layers wait, and the client is told the end.
#[tokio::test(start_paused = true)]
async fn all_that_was_asked_for_is_the_end() {
    const GRACE: Duration = Duration::from_secs(2);
    const STOP: &str = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
    const OTHER: &str = "data: {\"choices\":[{\"index\":1,\"finish_reason\":\"stop\"}]}\n\n";
    const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"finish_reason\":null}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    const OWN: &str = "data: {\"content\":\"\",\"stop\":true}\n\n";
    const TOTAL: &str = "data: {\"error\"";
    let seconds = Duration::from_secs;
    // Each event with the silence before it; comments come each second for ever.
    for (body, sent, end, after) in [
        ("{}", &[(0, STOP)][..], DONE, seconds(2)),
        ("{}", &[(0, STOP), (1, USAGE)], DONE, seconds(3)),
        ("{}", &[(0, STOP), (1, STOP), (1, STOP)], DONE, seconds(4)),
        ("{}", &[(0, STOP), (1, DONE)], "", seconds(1)),
        ("{}", &[(0, TEXT)], TOTAL, seconds(9)),
        (r#"{"n":2}"#, &[(0, STOP), (5, OTHER)], DONE, seconds(7)),
        (r#"{"n":2}"#, &[(0, STOP)], TOTAL, seconds(9)),
        (r#"{"prompt":["a","b"]}"#, &[(0, STOP), (3, OTHER)], DONE, seconds(5)),
        (r#"{"prompt":"a"}"#, &[(3, OWN)], "", seconds(5)),
    ] {
        let upstream = service_fn(move |_: axum::http::Request<FullBody>| async move {
            let events = stream::iter(sent).then(async |&(silence, event)| {
                tokio::time::sleep(Duration::from_secs(silence)).await;
                Ok::<_, BoxError>(Bytes::from_static(event.as_bytes()))
            });
            let comments = stream::repeat(": here\n\n").then(async |comment| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(Bytes::from_static(comment.as_bytes()))
            });
            let body = AxumBody::from_stream(events.chain(comments));
            let response =
                axum::http::Response::builder().header("content-type", "text/event-stream");
            Ok::<_, BoxError>(response.body(body).expect("a response"))
        });
        let begun = Instant::now();
        let passage = Passage::to("/x").total(seconds(9)).grace(GRACE).over(upstream);
        let response = passage.oneshot(request(body)).await.expect("infallible");
        let said = response.into_body().collect().await.expect("a body").to_bytes();
        let said = String::from_utf8(said.to_vec()).expect("UTF-8").replace(": here\n\n", "");
        let events: String = sent.iter().map(|(_, event)| *event).collect();
        let rest = said.strip_prefix(&events).unwrap_or_else(|| panic!("{body}: {said}"));
        assert!(rest.starts_with(end) && (!end.is_empty() || rest.is_empty()), "{body}: {said}");
        let took = begun.elapsed();
        assert!((after..after + Duration::from_millis(20)).contains(&took), "{said}: {took:?}");
    }
}
