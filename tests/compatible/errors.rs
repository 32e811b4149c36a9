//! Errors: what statuses, codes and texts mean.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, ErrorKind,
    chat::{Answer, ChatStreamExt},
    qwen::compatible::{CompatibleLayer, Server},
};

use crate::upstream::{DONE, Seen, Upstream, delta, events, generic, request};

/// Errors inside a stream, before and behind the first content; wrapped, flat, a string.
#[tokio::test]
async fn errors_inside_the_stream() {
    let rate = json!({"message": "requests throttling triggered", "code": "Throttling.RateQuota"});
    for (fault, kind) in [
        (json!({"error": rate}), ErrorKind::RateLimited),
        (rate, ErrorKind::RateLimited),
        (json!({"error": {"message": "boom", "code": 500}}), ErrorKind::Upstream),
        (
            json!({"object": "error", "message": "too long: maximum context length is 8", "code": 400}),
            ErrorKind::ContextLength,
        ),
        (json!({"error": "boom"}), ErrorKind::Upstream),
    ] {
        for before in [&[][..], &[delta(json!({"content": "a"}))]] {
            let text = events(before) + &events(std::slice::from_ref(&fault)) + DONE;
            let error = generic(&text).await.expect_err(&fault.to_string());
            assert_eq!(error.kind(), kind, "{fault}");
        }
    }
}

/// An error in the place of a chunk, in whichever words; it is not lost over what stands
/// beside it.
#[tokio::test]
async fn errors_in_place_of_a_chunk() {
    let before = events(&[delta(json!({"content": "Hi"}))]);
    for (fault, said) in [
        (r#"{"detail":"the server failed"}"#, "the server failed"),
        (r#"{"msg":"the server failed","choices":[]}"#, "the server failed"),
        (r#"{"detail":[{"loc":["body"],"msg":"the server failed"}]}"#, "the server failed"),
        (r#"{"choices":null,"message":"the server failed","id":"i"}"#, "the server failed"),
        (r#"{"object":"error","choices":[]}"#, "the upstream answered with status 502"),
        (r#"{"error":{"message":"the server failed","at":1e400}}"#, "the server failed"),
        (
            r#"{"choices":[{"delta":{}}],"error":{"message":"the server failed"}}"#,
            "the server failed",
        ),
    ] {
        let error = generic(&format!("{before}data: {fault}\n\n{DONE}")).await.expect_err(fault);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Upstream, said), "{fault}");
    }
    for harmless in [
        r#"{"type":"ping"}"#,
        r#"{"code":0,"message":"Success","sid":"x","choices":[]}"#,
        r#"{"object":"ping","id":"","created":0}"#,
        r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2},"message":"x"}"#,
        r#"{"choices":[],"usage":null,"error":null,"detail":null,"message":null,"code":null}"#,
        "{}",
        r#"{"choices":[{"index":0,"delta":{"content":""}}],"code":"","message":"","detail":"x"}"#,
    ] {
        let text = format!("{before}data: {harmless}\n\n{DONE}");
        let answer = generic(&text).await;
        assert_eq!(answer.expect(harmless).text, "Hi", "{harmless}");
        assert!(generic(&format!("data: {harmless}\n\n{text}")).await.is_ok(), "{harmless}");
    }
}

/// DashScope: an answer without any choice is none, whole or streamed.
#[tokio::test]
async fn an_answer_without_a_choice() {
    for body in [
        json!({"choices": []}),
        json!({"choices": null}),
        json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}),
        json!({"choices": [{}]}),
        json!({"id": "i", "object": "chat.completion"}),
    ] {
        let whole = Upstream::json(200, &body);
        let stream = Upstream::stream(&(events(std::slice::from_ref(&body)) + DONE));
        for upstream in [whole, stream] {
            let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
            let error = answer.expect_err("nothing in it");
            assert_eq!(error.kind(), ErrorKind::Upstream, "{body}");
        }
    }
    assert_eq!(generic(DONE).await.expect_err("nothing").kind(), ErrorKind::Upstream);
    // An error in it is what it says.
    let body = json!({"choices": [], "error": {"message": "x", "code": "Throttling"}});
    let answer = Upstream::json(200, &body).answer(CompatibleLayer::new(Server::Vllm), request());
    assert_eq!(answer.await.expect_err("an error").kind(), ErrorKind::RateLimited);
    // A model may say nothing.
    for choice in [json!({"delta": {}}), json!({"delta": null, "finish_reason": "stop"})] {
        let text = events(&[json!({ "choices": [choice] })]) + DONE;
        assert_eq!(generic(&text).await.expect("an answer").text, "");
    }
}

/// What statuses, codes and texts mean, per kind of server.
#[tokio::test]
async fn errors_keep_their_meaning() {
    let wrapped = |message: &str, code: Value| json!({"error": {"message": message, "code": code}});
    #[rustfmt::skip]
    let cases = [
        (Server::DashScope, 401, wrapped("Incorrect API key provided", json!("invalid_api_key")), ErrorKind::Auth),
        (Server::DashScope, 400, json!({"code": "InvalidParameter", "message": "no", "request_id": "r"}), ErrorKind::InvalidRequest),
        (Server::DashScope, 400, wrapped("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 5]", json!("x")), ErrorKind::ContextLength),
        (Server::DashScope, 400, wrapped("inappropriate", json!("data_inspection_failed")), ErrorKind::ContentFilter),
        (Server::Generic, 400, wrapped("Content Exists Risk", json!("invalid_request_error")), ErrorKind::ContentFilter),
        (Server::Generic, 400, wrapped("系统检测到输入或生成内容可能包含不安全或敏感内容", json!("1301")), ErrorKind::ContentFilter),
        (Server::DashScope, 400, wrapped("overdue", json!("Arrearage")), ErrorKind::Quota),
        (Server::DashScope, 403, wrapped("no access", json!("Model.AccessDenied")), ErrorKind::Permission),
        (Server::DashScope, 403, wrapped("free tier", json!("AllocationQuota.FreeTierOnly")), ErrorKind::ModelQuota),
        (Server::DashScope, 404, wrapped("gone", json!("model_not_found")), ErrorKind::ModelNotFound),
        (Server::DashScope, 429, wrapped("Allocated quota exceeded", json!("insufficient_quota")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("Free allocated quota exceeded.", json!("insufficient_quota")), ErrorKind::ModelQuota),
        (Server::DashScope, 500, wrapped("late", json!("RequestTimeOut")), ErrorKind::Timeout),
        (Server::DashScope, 503, wrapped("busy", json!("ModelServingError")), ErrorKind::Overloaded),
        (Server::DashScope, 400, wrapped("no thinking", json!("InvalidParameter.NotSupportEnableThinking")), ErrorKind::InvalidRequest),
        (Server::DashScope, 400, wrapped("<400> InternalError.Algo.DataInspectionFailed: no", json!("x")), ErrorKind::ContentFilter),
        (Server::DashScope, 400, wrapped("no", json!("DataInspectionFailed")), ErrorKind::ContentFilter),
        (Server::DashScope, 403, wrapped("no access", json!("access_denied")), ErrorKind::Permission),
        (Server::DashScope, 403, wrapped("no access", json!("AccessDenied.Unpurchased")), ErrorKind::Permission),
        (Server::DashScope, 404, wrapped("gone", json!("ModelNotFound")), ErrorKind::ModelNotFound),
        (Server::DashScope, 404, wrapped("gone", json!("model_not_supported")), ErrorKind::ModelNotFound),
        (Server::DashScope, 429, wrapped("slow", json!("Throttling")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("slow", json!("Throttling.RateQuota")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("slow", json!("LimitRequests")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("Request rate increased too quickly", json!("limit_burst_rate")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("tokens", json!("Throttling.AllocationQuota")), ErrorKind::RateLimited),
        (Server::DashScope, 429, wrapped("buy it", json!("CommodityNotPurchased")), ErrorKind::Quota),
        (Server::DashScope, 429, wrapped("pay it", json!("PostpaidBillOverdue")), ErrorKind::Quota),
        (Server::DashScope, 500, wrapped("oops", json!("InternalError.Algo")), ErrorKind::Upstream),
        (Server::DashScope, 500, wrapped("oops", json!("ModelServiceFailed")), ErrorKind::Upstream),
        (Server::DashScope, 503, wrapped("busy", json!("ModelUnavailable")), ErrorKind::Overloaded),
        (Server::Portal, 401, wrapped("invalid access token or token expired", json!("invalid_api_key")), ErrorKind::Auth),
        (Server::Portal, 429, wrapped("requests throttling triggered", json!(null)), ErrorKind::RateLimited),
        (Server::Portal, 502, json!({}), ErrorKind::Upstream),
        (Server::SgLang, 400, json!({"object": "error", "code": 400, "message": "The input (9 tokens) is longer than the model's context length (8 tokens)."}), ErrorKind::ContextLength),
        (Server::Ollama, 400, wrapped("the input length exceeds the context length", json!(null)), ErrorKind::ContextLength),
        (Server::Vllm, 503, json!({}), ErrorKind::Overloaded),
        (Server::Vllm, 501, wrapped("not here", json!(501)), ErrorKind::Unsupported),
        (Server::Portal, 403, wrapped("no", json!("insufficient_quota")), ErrorKind::Quota),
        (Server::Portal, 403, wrapped("access denied", json!(null)), ErrorKind::Auth),
        (Server::Portal, 400, wrapped("invalid access token or token expired", json!(null)), ErrorKind::Auth),
        (Server::Portal, 429, wrapped("You exceeded your current quota", json!(null)), ErrorKind::Quota),
        (Server::Portal, 504, wrapped("stream timeout", json!(null)), ErrorKind::Timeout),
        (Server::Vllm, 400, wrapped("maximum context length is 4096 tokens", json!(400)), ErrorKind::ContextLength),
        (Server::SgLang, 400, json!({"object": "error", "message": "bad", "type": "BadRequestError", "param": "n", "code": 400}), ErrorKind::InvalidRequest),
        (Server::LlamaCpp, 503, wrapped("Loading model", json!(503)), ErrorKind::Overloaded),
        (Server::LlamaCpp, 400, json!({"error": {"code": 400, "message": "long", "type": "exceed_context_size_error"}}), ErrorKind::ContextLength),
        (Server::Vllm, 500, wrapped("Unexpected reasoning effort high", json!(500)), ErrorKind::InvalidRequest),
        (Server::LlamaCpp, 500, json!({"error": {"code": 500, "message": "Unexpected reasoning effort high at row 1", "type": "server_error"}}), ErrorKind::InvalidRequest),
        (Server::Ollama, 500, wrapped("System message must be at the beginning.", json!(null)), ErrorKind::InvalidRequest),
        (Server::Vllm, 503, wrapped("Unexpected reasoning effort high", json!(503)), ErrorKind::InvalidRequest),
        (Server::Ollama, 404, json!({"error": {"message": "model 'x' not found", "type": "api_error", "param": null, "code": null}}), ErrorKind::ModelNotFound),
    ];
    for (server, status, body, kind) in cases {
        let upstream = Upstream::json(status, &body);
        let error = upstream.answer(CompatibleLayer::new(server), request()).await;
        let error = error.expect_err("an error");
        assert_eq!(error.kind(), kind, "{server:?} {status} {body}");
        assert!(error.code().is_none_or(|code| code.parse::<u16>().is_err()), "a numeric code");
    }
}

#[tokio::test]
async fn tokens_per_minute_say_how_long_to_wait() {
    let body =
        json!({"error": {"message": "Allocated quota exceeded", "code": "insufficient_quota"}});
    let upstream = Upstream::json(429, &body);
    let error = upstream.answer(CompatibleLayer::new(Server::DashScope), request()).await;
    assert_eq!(error.expect_err("429").retry_after(), Some(Duration::from_secs(60)));
}

/// The upstream's code and parameter are for clients only where they are what they should be;
/// no credential is in them.
#[tokio::test]
async fn codes_and_params_are_fit_for_clients() {
    let key = "sk-demo1234567";
    let long = "x".repeat(5_000);
    for (code, kind, expected) in [
        (
            "InvalidParameter.NotSupportEnableThinking",
            "t",
            Some("InvalidParameter.NotSupportEnableThinking"),
        ),
        ("invalid_request-error", "t", Some("invalid_request-error")),
        (&*long, "BadRequestError", Some("BadRequestError")),
        (key, "BadRequestError", Some("BadRequestError")),
        (&*format!("Bearer {key}"), "BadRequestError", Some("BadRequestError")),
        ("400", "BadRequestError", Some("BadRequestError")),
        ("no such model", &*long, None),
        (&*long, key, None),
    ] {
        for body in [
            json!({"error": {"message": "no", "code": code, "type": kind}}),
            json!({"message": "no", "code": code, "type": kind}),
        ] {
            for upstream in
                [Upstream::json(400, &body), Upstream::stream(&events(std::slice::from_ref(&body)))]
            {
                let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
                assert_eq!(answer.expect_err("an error").code(), expected, "{body}");
            }
        }
    }
    for (param, expected) in [
        ("messages[0].content[1].image_url", "messages[0].content[1].image_url"),
        (&*format!("Bearer {key}"), "Bearer [redacted]"),
        (&*format!("api_key={key}\nx"), "api_key=[redacted] x"),
        (&*long, &*format!("{}\u{2026}", &long[..400])),
    ] {
        let body = json!({"error": {"message": "no", "param": param}});
        let answer =
            Upstream::json(400, &body).answer(CompatibleLayer::new(Server::Vllm), request());
        let error = answer.await.expect_err("an error");
        assert_eq!(error.param(), Some(expected));
        assert!(!format!("{error:?}").contains(key));
    }
}

/// A gateway's page is not shown to the client.
#[tokio::test]
async fn an_error_page_is_not_passed_on() {
    let upstream = Upstream {
        status: 502,
        content_type: "text/html",
        pieces: vec![Bytes::from_static(b"<html><body>Bad Gateway</body></html>")],
        seen: Seen::default(),
    };
    let error = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
    assert_eq!(error.expect_err("502").message(), "the upstream answered with status 502");
}

/// What the model says is in no error, whatever the type that it has: errors are logged.
#[tokio::test]
async fn an_error_holds_none_of_the_models_words() {
    for chunk in [
        r#"{"choices":[{"delta":{"content":"the patient's name is Ann"}]}"#,
        r#"{"choices":[{"delta":{"content":Ann}}]}"#,
        r#"{"choices":[{"delta":{"content":41234567x}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":"Ann"}}]"#,
        r#"{"choices":[{"delta":{"content":"Ann"#,
    ] {
        for upstream in [
            Upstream::stream(&format!("data: {chunk}\n\n")),
            Upstream { content_type: "application/json", ..Upstream::stream(chunk) },
        ] {
            let answer = upstream.answer(CompatibleLayer::new(Server::Vllm), request()).await;
            let error = answer.expect_err(chunk);
            assert_eq!(error.kind(), ErrorKind::Upstream, "{chunk}");
            let mut all = format!("{error} {error:?}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                all += &format!(" {cause} {cause:?}");
                source = cause.source();
            }
            assert!(!all.contains("Ann") && !all.contains("41234567"), "{all}");
        }
    }
}

/// DashScope: what is wrong with a whole answer that does not come to its end is said as it is.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_does_not_end() {
    type Frames = Vec<Result<Frame<Bytes>, std::io::Error>>;

    async fn outcome(
        media_type: &str,
        frames: Frames,
        pause: u64,
        end: Frames,
    ) -> (Result<Answer, Error>, u64) {
        let media_type = media_type.to_owned();
        let body = Arc::new(Mutex::new(Some(StreamBody::new(
            stream::iter(frames)
                .chain(
                    stream::once(tokio::time::sleep(Duration::from_secs(pause)))
                        .filter_map(|()| async { None }),
                )
                .chain(stream::iter(end)),
        ))));
        let service = ServiceBuilder::new()
            .layer(CompatibleLayer::new(Server::DashScope))
            .service_fn(move |_: Request<tower_qwen::FullBody>| {
                let body = body.lock().expect("not poisoned").take().expect("one request");
                let response =
                    Response::builder().header("content-type", &media_type).body(Box::pin(body));
                std::future::ready(response)
            });
        let start = tokio::time::Instant::now();
        let answer = async {
            Answer::collect(service.oneshot(Request::new(request())).await?.into_body().checked())
                .await
        };
        (answer.await, start.elapsed().as_secs())
    }

    let data = |text: &str| Ok(Frame::data(Bytes::from(text.to_owned())));
    let (start, end) =
        (r#"{"choices":[{"message":{"content":"Hi"},"#, r#""finish_reason":"stop"}]}"#);
    // Its end may take as long as such an answer takes.
    for pause in [0, 11, 299, 305] {
        let (answer, _) =
            outcome("application/json", vec![data(start)], pause, vec![data(end)]).await;
        assert_eq!(answer.expect("complete").text, "Hi", "{pause} s");
    }
    let (error, took) =
        outcome("application/json", vec![data(start)], 9_999, vec![data(end)]).await;
    let error = error.expect_err("too slow");
    assert_eq!((error.kind(), took), (ErrorKind::Timeout, 310));
    assert_eq!(
        error.message(),
        "the upstream's answer did not end within 310 seconds of its beginning"
    );

    let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let (error, _) = outcome("application/json", vec![data(start)], 0, vec![Err(reset())]).await;
    let error = error.expect_err("broke off");
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Truncated, "the upstream's answer broke off")
    );
    // What the client below says of it stays.
    let slow = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let (error, _) = outcome("application/json", vec![data(start)], 0, vec![Err(slow())]).await;
    assert_eq!(error.expect_err("too slow").kind(), ErrorKind::Timeout);

    let long = vec![data(start), data(&" ".repeat(16 << 20))];
    let (error, _) = outcome("application/json", long, 0, vec![data(end)]).await;
    let error = error.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert_eq!(
        error.message(),
        "the upstream's answer is larger than the 16777216 bytes that are read"
    );

    // A page is not waited for.
    let (error, took) =
        outcome("text/html; charset=utf-8", vec![data("<html>")], 9_999, vec![]).await;
    assert!(error.is_err());
    assert_eq!(took, 10);
}

/// DashScope: with a good status, or in a stream, the code is all there is.
#[tokio::test]
async fn codes_mean_the_same_without_a_status() {
    for (code, message, kind) in [
        ("InvalidApiKey", "no", ErrorKind::Auth),
        ("invalid_api_key", "no", ErrorKind::Auth),
        ("AccessDenied", "no", ErrorKind::Permission),
        ("ModelNotFound", "no", ErrorKind::ModelNotFound),
        ("InvalidParameter", "no", ErrorKind::InvalidRequest),
        ("invalid_parameter_error", "no", ErrorKind::InvalidRequest),
        ("Throttling.RateQuota", "no", ErrorKind::RateLimited),
        ("RequestTimeOut", "no", ErrorKind::Timeout),
        ("ModelServingError", "no", ErrorKind::Overloaded),
        ("unavailable_error", "Loading model", ErrorKind::Overloaded),
        ("SystemError", "no", ErrorKind::Upstream),
        ("x", "Too many requests", ErrorKind::RateLimited),
    ] {
        let wrapped = json!({"error": {"message": message, "code": code}});
        let native = json!({"code": code, "message": message, "request_id": "r"});
        for body in [wrapped, native] {
            let whole = Upstream::json(200, &body);
            let stream = Upstream::stream(&events(std::slice::from_ref(&body)));
            for upstream in [whole, stream] {
                let layer = CompatibleLayer::new(Server::DashScope);
                let error = upstream.answer(layer, request()).await.expect_err("an error");
                assert_eq!(error.kind(), kind, "{body}");
            }
        }
    }
}

/// llama.cpp before September 2025 wrote a field `error` in the place of `data`, then
/// `[DONE]`; an event of that type is an error too, whatever its data is.
#[tokio::test]
async fn error_lines() {
    let flat = json!({"code": 503, "message": "no slot", "type": "unavailable_error"});
    for fault in [
        format!("error: {flat}\n\n{DONE}"),
        format!("error: {}\n\n{DONE}", json!({ "error": flat })),
        format!("error:{flat}"),
        format!("event: error\ndata: {flat}\n\n"),
        format!("event: error\ndata: {}\n\n", json!({ "error": flat })),
    ] {
        for before in [&[][..], &[delta(json!({"content": "a"}))]] {
            let error = generic(&(events(before) + &fault)).await.expect_err(&fault);
            assert_eq!((error.kind(), error.message()), (ErrorKind::Overloaded, "no slot"));
        }
    }
    for words in ["event: error\ndata: out of memory\n\n", "error: out of memory\n\n"] {
        let error = generic(words).await.expect_err(words);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Upstream, "out of memory"));
    }
}

/// Self-hosted servers: a server that is still loading may refuse the connection: another try may
/// help.
#[tokio::test]
async fn a_refused_connection() {
    let service = ServiceBuilder::new().layer(CompatibleLayer::new(Server::SgLang)).service(
        tower::service_fn(|_: http::Request<tower_qwen::FullBody>| async {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            Err::<http::Response<tower_qwen::FullBody>, _>(refused)
        }),
    );
    let error = service.oneshot(Request::new(request())).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert!(error.is_retryable());
}
