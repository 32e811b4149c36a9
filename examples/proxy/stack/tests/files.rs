//! Files and URLs in messages, through each edge of the proxy.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{ollama::post_json, *};

/// A picture of one pixel, as far as its first bytes say.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";

/// The routes of chats, with the body that shows `url` there, and where the answer's text is.
fn edges(url: &str) -> Vec<(&'static str, Value, &'static str)> {
    let base64 = url.rsplit(',').next().unwrap_or(url);
    let source = match url.starts_with("data:") {
        true => json!({"type": "base64", "media_type": "image/png", "data": base64}),
        false => json!({"type": "url", "url": url}),
    };
    let shown = json!([
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]);
    vec![
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": shown}]}),
            "/choices/0/message/content",
        ),
        (
            "/v1/messages",
            json!({"max_tokens": 99, "messages": [{"role": "user", "content": [
                {"type": "text", "text": "What is this?"}, {"type": "image", "source": source},
            ]}]}),
            "/content/0/text",
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": url},
            ]}]}),
            "/output/0/content/0/text",
        ),
        (
            "/api/chat",
            json!({"stream": false, "messages": [
                {"role": "user", "content": "What is this?", "images": [base64]},
            ]}),
            "/message/content",
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_image_is_seen_over_every_edge() {
    let app = proxy(&[]);
    for (path, mut body, at) in edges(&format!("data:image/png;base64,{PNG}")) {
        body["model"] = "qwen3-max".into();
        let (status, answer) = post_json(&app, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let text = answer.pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains("The image image.png is image/png, 33 bytes"), "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tool_shows_is_seen_over_every_edge() {
    let app = proxy(&[]);
    let url = format!("data:image/png;base64,{PNG}");
    for (path, body, at) in [
        (
            "/v1/chat/completions",
            json!({"messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "tool_calls": [{"id": "c", "type": "function",
                    "function": {"name": "shot", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": [
                    {"type": "image_url", "image_url": {"url": url}}]},
                {"role": "user", "content": "What is this?"},
            ]}),
            "/choices/0/message/content",
        ),
        (
            "/v1/messages",
            json!({"max_tokens": 99, "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c", "name": "shot", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": [
                        {"type": "image", "source": {
                            "type": "base64", "media_type": "image/png", "data": PNG}}]},
                    {"type": "text", "text": "What is this?"}]},
            ]}),
            "/content/0/text",
        ),
        (
            "/v1/responses",
            json!({"input": [
                {"role": "user", "content": "Look."},
                {"type": "function_call", "call_id": "c", "name": "shot", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": [
                    {"type": "input_image", "image_url": url}]},
                {"role": "user", "content": "What is this?"},
            ]}),
            "/output/0/content/0/text",
        ),
    ] {
        let mut body = body;
        body["model"] = "qwen3-max".into();
        let (status, answer) = post_json(&app, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let text = answer.pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains("The image image.png is image/png"), "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn documents_and_sound_are_seen() {
    let app = proxy(&[]);
    let notes = "data:text/plain;base64,VGhlIGZpcnN0IGxpbmUu";
    let parts = |path: &str, part: Value| {
        let content = json!([{"type": "text", "text": "Read."}, part]);
        match path {
            "/v1/responses" => {
                json!({"input": [{"role": "user", "content": [
                    {"type": "input_text", "text": "Read."}, content[1]]}]})
            }
            _ => json!({"max_tokens": 99, "messages": [{"role": "user", "content": content}]}),
        }
    };
    let chat = "/v1/chat/completions";
    for (path, part, told) in [
        (
            chat,
            json!({"type": "file", "file": {"filename": "n.txt", "file_data": notes}}),
            "The file n.txt is text/plain, 15 bytes",
        ),
        (
            chat,
            json!({"type": "file_url", "file_url": {"url": notes}}),
            "It begins: The first line.",
        ),
        (
            chat,
            json!({"type": "input_audio", "input_audio": {
            "data": "UklGRgAAAABXQVZFZm10IA==", "format": "wav"}}),
            "The audio audio.wav is audio/wav",
        ),
        (
            chat,
            json!({"type": "audio_url", "audio_url": {
            "url": "data:audio/wav;base64,UklGRgAAAABXQVZFZm10IA=="}}),
            "The audio audio.wav",
        ),
        (
            chat,
            json!({"type": "video_url", "video_url": {
            "url": "data:video/mp4;base64,AAAAIGZ0eXBpc29t"}}),
            "The video video.mp4 is video/mp4",
        ),
        (
            "/v1/messages",
            json!({"type": "document", "title": "n.txt", "source": {
            "type": "base64", "media_type": "text/plain", "data": "VGhlIGZpcnN0IGxpbmUu"}}),
            "The file n.txt is text/plain",
        ),
        (
            "/v1/responses",
            json!({"type": "input_file", "filename": "n.txt", "file_data": notes}),
            "The file n.txt is text/plain",
        ),
        (
            "/v1/responses",
            json!({"type": "input_audio", "input_audio": {
            "data": "UklGRgAAAABXQVZFZm10IA==", "format": "wav"}}),
            "The audio audio.wav",
        ),
    ] {
        let mut body = parts(path, part.clone());
        body["model"] = "qwen3-max".into();
        let (status, answer) = post_json(&app, path, body).await;
        assert_eq!(status, 200, "{part}: {answer}");
        assert!(answer.to_string().contains(told), "{part}: {answer}");
    }
}

/// What is not fetched is said in the form of each protocol, and with fetching on nothing is asked that
/// is not public.
#[tokio::test(start_paused = true)]
async fn urls_are_refused_over_every_edge() {
    let off = proxy(&[]);
    let part = json!({"type": "file_url", "file_url": {"url": "https://a.example/r.pdf"}});
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": [part]}]});
    let (status, answer) = post_json(&off, "/v1/chat/completions", body).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("messages[0].content[0]")));
    assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains("--fetch-urls")));

    for kind in ["web", "vllm"] {
        let on = proxy(&["--fetch-urls", "--emulate", kind]);
        let (model, _) = ollama::models(kind.parse().expect("a kind"));
        for url in [
            "http://127.0.0.1/a.png",
            "http://2130706433/a.png",
            "http://0177.0.0.1/a.png",
            "http://0x7f000001/a.png",
            "http://[::ffff:127.0.0.1]/a.png",
            "http://[64:ff9b::7f00:1]/a.png",
            "http://169.254.169.254/latest/meta-data/iam",
            "http://10.0.0.7:8080/a.png",
            "https://ann:secret@a.example/a.png",
            "http://localhost/a.png",
        ] {
            for (path, mut body, _) in edges(url).into_iter().take(3) {
                body["model"] = model.clone().into();
                let (status, answer) = post_json(&on, path, body).await;
                assert_eq!(status, 400, "{kind} {path} {url}: {answer}");
                let message = answer["error"]["message"].as_str().unwrap_or_default();
                assert!(message.contains("not fetched"), "{path} {url}: {answer}");
                assert!(!message.contains("secret"), "{message}");
            }
        }
    }
}

/// A server of the operator's own network, and a compatible upstream that gets what is there as data.
#[tokio::test]
async fn what_is_allowed_is_given_to_the_upstream_as_data() {
    let png = || async { STANDARD.decode(PNG).expect("base64") };
    let routes = Router::new().route("/a.png", axum::routing::get(png));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    for (kind, told) in [("web", "The image image.png is image/png, 33 bytes"), ("vllm", "1 file")]
    {
        let app = proxy(&["--fetch-urls", "--fetch-allow", &host, "--emulate", kind]);
        let (model, _) = ollama::models(kind.parse().expect("a kind"));
        let (path, mut body, at) = edges(&format!("http://{host}/a.png")).swap_remove(0);
        body["model"] = model.into();
        let (status, answer) = post_json(&app, path, body).await;
        assert_eq!(status, 200, "{kind}: {answer}");
        let text = answer.pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains(told), "{kind}: {answer}");
    }
}
