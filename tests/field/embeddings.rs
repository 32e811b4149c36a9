//! Odd fields beside good vectors.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{FullBody, openai::embeddings::EmbeddingsLayer, qwen::compatible::Server};

async fn embedded(answer: &'static str) -> (u16, Value) {
    let upstream = service_fn(move |_: Request<FullBody>| async move {
        let response = Response::builder().header("content-type", "application/json");
        Ok::<_, Infallible>(response.body(FullBody::from(answer)).expect("a response"))
    });
    let service =
        ServiceBuilder::new().layer(EmbeddingsLayer::new(Server::Generic)).service(upstream);
    let body = FullBody::from(r#"{"model":"m","input":["a","b"],"encoding_format":"float"}"#);
    let request = Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .body(body)
        .expect("a request");
    let response = service.oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn odd_fields_beside_good_vectors() {
    for (kind, answer, prompt_tokens) in [
        (
            "the usual",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#,
            3,
        ),
        (
            "a byte order mark",
            "\u{feff}{\"data\":[{\"index\":0,\"embedding\":[1.0]},{\"index\":1,\"embedding\":[2.0]}],\"usage\":{\"prompt_tokens\":3}}",
            3,
        ),
        (
            "usage: null",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":null}"#,
            0,
        ),
        (
            "usage: a list",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":[]}"#,
            0,
        ),
        (
            "usage: a string",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":""}"#,
            0,
        ),
        (
            "usage: strings",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":"3","total_tokens":"x"}}"#,
            3,
        ),
        (
            "usage: with points",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":3.0}}"#,
            3,
        ),
        (
            "usage: NaN",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":NaN}}"#,
            0,
        ),
        (
            "usage: below zero",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":-1}}"#,
            0,
        ),
        (
            "usage: a key twice",
            r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":1,"prompt_tokens":3}}"#,
            3,
        ),
        (
            "usage: twice",
            r#"{"usage":7,"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}],"usage":{"prompt_tokens":3}}"#,
            3,
        ),
        (
            "index: strings, in another order",
            r#"{"data":[{"index":"1","embedding":[2.0]},{"index":"0","embedding":[1.0]}],"usage":{"prompt_tokens":3}}"#,
            3,
        ),
        (
            "index: null",
            r#"{"data":[{"index":null,"embedding":[1.0]},{"index":null,"embedding":[2.0]}],"usage":{"prompt_tokens":3}}"#,
            3,
        ),
        (
            "data: a key twice",
            r#"{"data":[],"data":[{"index":0,"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}]}"#,
            0,
        ),
        (
            "other fields of any type",
            r#"{"object":7,"id":[],"error":null,"data":[{"object":{},"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}]}"#,
            0,
        ),
    ] {
        let (status, body) = embedded(answer).await;
        assert_eq!(status, 200, "{kind}: {body}");
        let vectors: Vec<&Value> = body["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| &item["embedding"][0])
            .collect();
        assert_eq!(vectors, [1.0, 2.0], "{kind}");
        assert_eq!(body["usage"]["prompt_tokens"], prompt_tokens, "{kind}");
    }
    // What is wrong with a vector is an error.
    for answer in [
        r#"{"data":[{"index":0,"embedding":[NaN]},{"index":1,"embedding":[2.0]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1}]}"#,
        r#"{"data":[{"index":0,"embedding":[1.0]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}]"#,
        r#"{"error":{"message":"no"}}"#,
    ] {
        assert_eq!(embedded(answer).await.0, 502, "{answer}");
    }
}
