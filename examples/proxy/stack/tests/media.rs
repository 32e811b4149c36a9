//! Pictures and films through the whole proxy.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_picture_is_made_and_given_as_the_client_wants_it() {
    let app = proxy(&[]);
    let body = json!({"model": "qwen3-max", "prompt": "A fox", "n": 2, "size": "1024x1024"});
    let answer = ask(app.clone(), "/v1/images/generations", body).await;
    let data = answer["data"].as_array().expect("a list");
    assert_eq!(data.len(), 2, "{answer}");
    assert!(data.iter().all(|it| it["url"].as_str().is_some_and(|url| url.contains(".png?key="))));

    // Who fetches is the proxy, from where the emulator has put it.
    let body = json!({"model": "qwen3-max", "prompt": "A fox", "response_format": "b64_json"});
    let answer = ask(app.clone(), "/v1/images/generations", body).await;
    assert!(answer["data"][0]["b64_json"].as_str().is_some_and(|it| it.starts_with("iVBOR")));

    let body = json!({"model": "qwen3-max", "prompt": "Now blue",
        "image": "https://x.example/a.png"});
    let answer = ask(app, "/v1/images/edits", body).await;
    assert!(answer["data"][0]["url"].is_string(), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn dashscope_makes_images_and_videos() {
    let app = proxy(&["--emulate", "dashscope"]);
    let body =
        json!({"model": "qwen-image-plus", "prompt": "A fox", "response_format": "b64_json"});
    let answer = ask(app.clone(), "/v1/images/generations", body).await;
    assert!(answer["data"][0]["b64_json"].as_str().is_some_and(|it| it.starts_with("iVBOR")));
    let body = json!({"model": "wan2.6-t2v", "prompt": "A fox", "seconds": "5"});
    let answer = ask(app.clone(), "/v1/videos/generations", body.clone()).await;
    assert!(answer["data"][0]["url"].as_str().is_some_and(|url| url.contains(".mp4")), "{answer}");
    let begun = ask(app, "/v1/videos", body).await;
    assert_eq!((&begun["object"], &begun["seconds"]), (&json!("video"), &json!("5")), "{begun}");
}

#[tokio::test(start_paused = true)]
async fn servers_that_make_none_say_who_does() {
    let app = proxy(&["--emulate", "vllm"]);
    for path in ["/v1/images/generations", "/v1/images/edits"] {
        let body = json!({"model": "Qwen/Qwen3-32B", "prompt": "A fox"});
        let answer = ask(app.clone(), path, body).await;
        assert_eq!(answer["error"]["code"], "images_not_supported", "{answer}");
        let message = answer["error"]["message"].as_str().expect("words");
        assert!(message.contains("vllm") && message.contains("chat.qwen.ai"), "{message}");
    }
}
