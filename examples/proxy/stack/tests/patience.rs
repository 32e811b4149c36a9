//! How long the stacks wait for their upstreams and how often they ask, on every route.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// The routes of answers that go through the layers of every upstream. A prompt for `/v1/completions` goes
/// to a compatible server byte by byte.
const ROUTES: [&str; 6] = [
    "/v1/chat/completions",
    "/xml/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/api/chat",
    "/api/generate",
];

/// Asks for an answer to `text`; its status and body, and how long it took.
async fn asked(args: &[&str], path: &str, text: &str) -> (u16, String, Duration) {
    let model = Options::of(args).resolve().expect("valid");
    let model = match &model.upstreams[0].upstream {
        Upstream::Emulator { emulated, .. } => emulated.models().swap_remove(0),
        _ => unreachable!("it is emulated"),
    };
    let messages = json!([{"role": "user", "content": text}]);
    let body = match path {
        "/v1/responses" => json!({"model": model, "input": text}),
        "/v1/completions" => json!({"model": model, "prompt": text}),
        "/api/generate" => json!({"model": model, "prompt": text, "stream": false}),
        "/api/chat" => json!({"model": model, "messages": messages, "stream": false}),
        _ => json!({"model": model, "max_tokens": 64, "messages": messages}),
    };
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(AxumBody::from(body.to_string())).expect("a request");
    let begun = Instant::now();
    let response = proxy(args).oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = match response.into_body().collect().await {
        Ok(body) => String::from_utf8(body.to_bytes().into()).expect("UTF-8"),
        // It broke off.
        Err(error) => format!("{error:?}"),
    };
    (status, body, begun.elapsed())
}

/// A prompt that a server of one's own takes two minutes to read is answered; over chat.qwen.ai it is
/// too late by then, and a 504.
#[tokio::test(start_paused = true)]
async fn each_kind_of_upstream_has_its_time() {
    for path in ROUTES {
        let slow = "emulate:wait=128000 emulate:say=All done.";
        let (status, body, took) = asked(&["--emulate", "llamacpp"], path, slow).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains("All done."), "{path}: {body}");
        assert!(took >= Duration::from_secs(128) && took < Duration::from_secs(140), "{took:?}");

        let (status, body, took) = asked(&["--emulate", "web"], path, slow).await;
        assert_eq!(status, 504, "{path}: {body}");
        assert!(body.contains("limit on the first event"), "{path}: {body}");
        // One try: the upstream may still be at work.
        assert!(took >= Duration::from_secs(60) && took < Duration::from_secs(62), "{took:?}");
    }
}

/// Over chat.qwen.ai a prompt is a chat.
#[tokio::test(start_paused = true)]
async fn a_prompt_over_the_web_has_the_same_limits() {
    let slow = "emulate:wait=128000";
    let (status, body, took) = asked(&["--emulate", "web"], "/v1/completions", slow).await;
    assert_eq!(status, 504, "{body}");
    assert!(body.contains("limit on the first event"), "{body}");
    assert!(took >= Duration::from_secs(60) && took < Duration::from_secs(62), "{took:?}");
}

/// Each option reaches each route.
#[tokio::test(start_paused = true)]
async fn each_limit_can_be_set() {
    for path in ROUTES {
        for (option, text, words, seconds) in [
            ("--first-event-timeout=7", "emulate:wait=60000", "limit on the first event", 7),
            ("--idle-timeout=8", "emulate:stall=1 emulate:tokens=9", "the answer stopped", 8),
            ("--total-timeout=9", "emulate:stall=1 emulate:tokens=9", "limit on a whole answer", 9),
        ] {
            for kind in ["web", "vllm"] {
                let (status, body, took) = asked(&["--emulate", kind, option], path, text).await;
                assert_eq!(status, 504, "{kind} {path} {option}: {body}");
                assert!(body.contains(words), "{kind} {path} {option}: {body}");
                let limit = Duration::from_secs(seconds);
                assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?}");
            }
        }
    }
}

/// A stream that timed out upstream comes in one piece, if that is wanted.
#[tokio::test(start_paused = true)]
async fn a_stream_that_timed_out_comes_in_one_piece() {
    // The emulated portal has no credential here, so nothing but the option asks again.
    let text = "emulate:timeout emulate:times=1";
    for path in ROUTES {
        let (status, body, _) = asked(&["--emulate", "portal"], path, text).await;
        assert_eq!(status, 504, "{path}: {body}");
        let args = ["--emulate", "portal", "--whole-after-timeout"];
        let (status, body, _) = asked(&args, path, text).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}

/// What may help is tried again, and how often can be set.
#[tokio::test(start_paused = true)]
async fn a_server_that_still_loads_is_asked_again() {
    for path in ROUTES {
        let text = "emulate:loading emulate:times=2";
        let (status, body, _) = asked(&["--emulate", "vllm"], path, text).await;
        assert_eq!(status, 200, "{path}: {body}");
        let (status, body, _) = asked(&["--emulate", "vllm", "--retries=1"], path, text).await;
        assert_eq!(status, 503, "{path}: {body}");
        let (status, body, took) = asked(&["--emulate", "vllm", "--retries=0"], path, text).await;
        assert_eq!(status, 503, "{path}: {body}");
        assert_eq!(took, Duration::ZERO, "{path}");
    }
}

/// What passes byte by byte is asked again, too, and has the limit on the whole.
#[tokio::test(start_paused = true)]
async fn the_byte_lane_asks_again_and_gives_up() {
    let bytes = &["--emulate", "vllm", "--tools", "off"];
    for (args, path) in [
        (&bytes[..], "/v1/chat/completions"),
        (bytes, "/v1/completions"),
        (&bytes[..2], "/v1/completions"),
    ] {
        let with = |option| [args, &[option]].concat();
        let text = "emulate:loading emulate:times=2";
        let (status, body, _) = asked(args, path, text).await;
        assert_eq!(status, 200, "{path}: {body}");
        let (status, body, took) = asked(&with("--retries=0"), path, text).await;
        assert_eq!((status, took), (503, Duration::ZERO), "{path}: {body}");

        let text = "emulate:stall=1 emulate:tokens=9";
        let (status, body, took) = asked(&with("--total-timeout=9"), path, text).await;
        // Its head is on its way by then.
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains("limit on a whole answer"), "{path}: {body}");
        let limit = Duration::from_secs(9);
        assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?}");
    }
}
