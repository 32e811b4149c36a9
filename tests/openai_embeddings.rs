//! The edge for embeddings over servers of this file's own.

mod traced;

use std::{
    convert::Infallible,
    future::{Future, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    openai::embeddings::{EmbeddingsLayer, NoEmbeddings},
    qwen::compatible::Server,
};

type Seen = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

fn ask(body: &Value) -> Request<FullBody> {
    Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("authorization", "Bearer the-clients-own")
        .header("x-request-id", "r-1")
        .header("x-other", "stays")
        .body(FullBody::new(Bytes::from(body.to_string())))
        .expect("a request")
}

async fn json_of(response: Response<FullBody>) -> (StatusCode, Value) {
    let (head, body) = response.into_parts();
    assert_eq!(head.headers["content-type"], "application/json");
    let body = body.collect().await.expect("infallible").to_bytes();
    (head.status, serde_json::from_slice(&body).expect("JSON"))
}

/// The edge over a server that answers each call as `answer` makes it of the request.
async fn run<F, Fut>(layer: EmbeddingsLayer, body: Value, answer: F) -> (StatusCode, Value, Seen)
where
    F: Fn(Value) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = (u16, String)> + Send,
{
    traced::on();
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let server = service_fn(move |request: Request<FullBody>| {
        let (answer, noted) = (answer.clone(), Arc::clone(&noted));
        async move {
            let (head, body) = request.into_parts();
            assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/embeddings"));
            let body = body.collect().await.expect("infallible").to_bytes();
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            noted.lock().expect("not poisoned").push((head.headers, body.clone()));
            let (status, body) = answer(body).await;
            let response =
                Response::builder().status(status).body(FullBody::new(Bytes::from(body)));
            Ok::<_, Infallible>(response.expect("a response"))
        }
    });
    let response = layer.layer(server).oneshot(ask(&body)).await.expect("infallible");
    let (status, answer) = json_of(response).await;
    (status, answer, seen)
}

fn bodies(seen: &Seen) -> Vec<Value> {
    seen.lock().expect("not poisoned").iter().map(|(_, body)| body.clone()).collect()
}

/// A server that embeds a text as its length, its first byte and its place in the batch.
fn embed(request: &Value) -> Value {
    let inputs = match &request["input"] {
        Value::Array(inputs) => inputs.clone(),
        alone => vec![alone.clone()],
    };
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| {
            let text = input.as_str().expect("a text");
            let vector = json!([text.len(), text.as_bytes()[0], 0.5]);
            json!({"object": "embedding", "index": at, "embedding": vector})
        })
        .collect();
    let tokens = inputs.len() * 3;
    json!({"object": "list", "data": data, "model": "upstreams-own", "id": "e-1",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

async fn good(request: Value) -> (u16, String) {
    (200, embed(&request).to_string())
}

#[tokio::test]
async fn one_text_goes_out_and_comes_back() {
    let body = json!({"model": "text-embedding-v4", "input": "Hello", "dimensions": 3,
        "user": "u", "text_type": "query", "nested": {"a": [1, null]}});
    let (status, answer, seen) = run(EmbeddingsLayer::new(Server::DashScope), body, good).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [5, 72, 0.5]}],
            "model": "text-embedding-v4",
            "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    );
    assert_eq!(
        bodies(&seen),
        [json!({"model": "text-embedding-v4", "input": "Hello", "encoding_format": "float",
            "dimensions": 3, "user": "u", "text_type": "query", "nested": {"a": [1, null]}})]
    );
    let seen = seen.lock().expect("not poisoned");
    let mut names: Vec<_> = seen[0].0.keys().map(ToString::to_string).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-type", "x-request-id"], "no key of the client's");
}

/// DashScope: batches of 10, of 25 for v1 and v2; others have no known limit; it can be set.
#[tokio::test]
async fn batches_per_server_and_model() {
    for (server, model, set, batches) in [
        (Server::DashScope, "text-embedding-v4", None, &[10, 10, 10, 10, 10, 2][..]),
        (Server::DashScope, "text-embedding-v3", None, &[10, 10, 10, 10, 10, 2]),
        (Server::DashScope, "text-embedding-v2", None, &[25, 25, 2]),
        (Server::DashScope, "text-embedding-v1", None, &[25, 25, 2]),
        (Server::DashScope, "text-embedding-v4", Some(30), &[30, 22]),
        (Server::Vllm, "m", None, &[52]),
        (Server::Ollama, "m", Some(0), &[1; 52]),
    ] {
        let mut layer = EmbeddingsLayer::new(server).concurrency(1);
        if let Some(limit) = set {
            layer = layer.max_batch(limit);
        }
        let inputs: Vec<_> = (0..52).map(|n| "x".repeat(n + 1)).collect();
        let (status, answer, seen) =
            run(layer, json!({"model": model, "input": inputs}), good).await;
        assert_eq!(status, 200, "{answer}");
        let sizes: Vec<_> = bodies(&seen)
            .iter()
            .map(|body| body["input"].as_array().expect("a list").len())
            .collect();
        assert_eq!(sizes, batches, "{server:?} {model}");
        for (at, item) in answer["data"].as_array().expect("a list").iter().enumerate() {
            assert_eq!((&item["index"], &item["embedding"][0]), (&json!(at), &json!(at + 1)));
        }
        assert_eq!(answer["usage"], json!({"prompt_tokens": 156, "total_tokens": 156}));
    }
}

/// However the batches end, and with a few at once, the answer is in order.
#[tokio::test(start_paused = true)]
async fn batches_run_a_few_at_once_and_are_merged_in_order() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let inputs: Vec<_> = (0..23).map(|n| "x".repeat(n + 1)).collect();
    let (now_, most_) = (Arc::clone(&now), Arc::clone(&most));
    let (status, answer, _) = run(
        EmbeddingsLayer::new(Server::Vllm).max_batch(2).concurrency(3),
        json!({"model": "m", "input": inputs}),
        move |request| {
            let (now, most) = (Arc::clone(&now_), Arc::clone(&most_));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The earlier ones take longer.
                let first = request["input"][0].as_str().expect("a text").len() as u64;
                tokio::time::sleep(Duration::from_secs(100 - first)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                good(request).await
            }
        },
    )
    .await;
    assert_eq!(status, 200);
    let lengths: Vec<_> = answer["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["embedding"][0].as_u64().expect("a length"))
        .collect();
    assert_eq!(lengths, (1..=23).collect::<Vec<u64>>());
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

/// The SDKs ask for base64 by default; who does not ask gets floats.
#[tokio::test]
async fn either_encoding_from_either_server() {
    // 1.5, -2.
    let base64 = json!("AADAPwAAAMA=");
    let floats = json!([1.5, -2.0]);
    for (server, gives, asked_of_server) in [
        (Server::DashScope, &floats, "float"),
        (Server::Ollama, &floats, "float"),
        (Server::Ollama, &base64, "float"),
        (Server::Vllm, &base64, "base64"),
        (Server::Vllm, &floats, "base64"),
    ] {
        for (wanted, expected) in [("base64", &base64), ("float", &floats)] {
            let gives = gives.clone();
            let (status, answer, seen) = run(
                EmbeddingsLayer::new(server),
                json!({"model": "m", "input": ["a"], "encoding_format": wanted}),
                move |_| {
                    ready((200, json!({"data": [{"index": 0, "embedding": gives}]}).to_string()))
                },
            )
            .await;
            assert_eq!(status, 200);
            assert_eq!(&answer["data"][0]["embedding"], expected, "{server:?} {wanted}");
            let asked = if wanted == "float" { "float" } else { asked_of_server };
            assert_eq!(bodies(&seen)[0]["encoding_format"], asked, "{server:?} {wanted}");
            // AOA demands both counts, whatever the server says.
            assert_eq!(answer["usage"], json!({"prompt_tokens": 0, "total_tokens": 0}));
        }
    }
}

#[tokio::test]
async fn floats_pass_digit_by_digit() {
    let body = r#"{"data":[{"index":0,"embedding":[ 0.10000000149011612,1E-7, -0]}]}"#;
    let server = service_fn(move |_: Request<FullBody>| {
        ready(Ok::<_, Infallible>(Response::new(FullBody::from(body))))
    });
    let response = EmbeddingsLayer::new(Server::Generic)
        .layer(server)
        .oneshot(ask(&json!({"model": "m", "input": "x"})))
        .await
        .expect("infallible");
    let bytes = response.into_body().collect().await.expect("infallible").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    assert!(text.contains(r#""embedding":[ 0.10000000149011612,1E-7, -0]"#), "{text}");
}

/// DashScope: items may come with indexes that have gaps, and out of order.
#[tokio::test]
async fn items_are_put_in_order() {
    for (indexes, order) in [
        ([json!(7), json!(0), json!(3)], [1, 2, 0]),
        // Where the indexes say nothing, the order in which they came is all there is.
        ([json!(0), json!(0), json!(0)], [0, 1, 2]),
        ([json!(2), json!(null), json!(0)], [0, 1, 2]),
    ] {
        let data: Vec<_> = indexes
            .iter()
            .enumerate()
            .map(|(at, index)| json!({"index": index, "embedding": [at]}))
            .collect();
        let body = json!({"data": data, "usage": {"total_tokens": 4}}).to_string();
        let (_, answer, _) = run(
            EmbeddingsLayer::new(Server::DashScope),
            json!({"model": "m", "input": ["a", "b", "c"]}),
            move |_| ready((200, body.clone())),
        )
        .await;
        for (at, from) in order.iter().enumerate() {
            let item = &answer["data"][at];
            assert_eq!(*item, json!({"object": "embedding", "index": at, "embedding": [from]}));
        }
        assert_eq!(answer["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
    }
}

#[tokio::test]
async fn tokens_go_to_servers_that_embed_them() {
    for input in [json!([1, 2, 3]), json!([[1, 2], [3]]), json!([4_294_967_295_u32])] {
        let many = input[0].is_array();
        let (status, _, seen) = run(
            EmbeddingsLayer::new(Server::Vllm),
            json!({"model": "m", "input": input}),
            move |_| {
                let item = json!({"embedding": [1]});
                let data = if many { vec![item.clone(), item] } else { vec![item] };
                ready((200, json!({"data": data}).to_string()))
            },
        )
        .await;
        assert_eq!((status, &bodies(&seen)[0]["input"]), (StatusCode::OK, &input));
    }
    for (input, param) in [(json!([1, 2]), "input"), (json!([[1], [2]]), "input[0]")] {
        let body = json!({"model": "m", "input": input});
        let (status, answer, seen) = run(EmbeddingsLayer::new(Server::DashScope), body, good).await;
        assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)));
        assert!(answer["error"]["message"].as_str().expect("a text").contains("send strings"));
        assert!(bodies(&seen).is_empty());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_never_sent() {
    let layer = || EmbeddingsLayer::new(Server::Vllm).max_inputs(3);
    #[rustfmt::skip]
    let cases = [
        (json!({"input": "x"}), "model", "missing_required_parameter"),
        (json!({"model": " ", "input": "x"}), "model", "invalid_value"),
        (json!({"model": 7, "input": "x"}), "model", "invalid_type"),
        (json!({"model": "m"}), "input", "missing_required_parameter"),
        (json!({"model": "m", "input": null}), "input", "missing_required_parameter"),
        (json!({"model": "m", "input": ""}), "input", "invalid_value"),
        (json!({"model": "m", "input": []}), "input", "invalid_value"),
        (json!({"model": "m", "input": {"a": 1}}), "input", "invalid_type"),
        (json!({"model": "m", "input": 7}), "input", "invalid_type"),
        (json!({"model": "m", "input": ["a", ""]}), "input[1]", "invalid_value"),
        (json!({"model": "m", "input": ["a", 7]}), "input[1]", "invalid_type"),
        (json!({"model": "m", "input": ["a", [1]]}), "input[1]", "invalid_value"),
        (json!({"model": "m", "input": [null]}), "input[0]", "invalid_type"),
        (json!({"model": "m", "input": [[1], []]}), "input[1]", "invalid_value"),
        (json!({"model": "m", "input": [1, -1]}), "input", "invalid_value"),
        (json!({"model": "m", "input": [1.5]}), "input", "invalid_value"),
        (json!({"model": "m", "input": [[1, "a"]]}), "input[0]", "invalid_value"),
        (json!({"model": "m", "input": ["a", "b", "c", "d"]}), "input", "invalid_value"),
        (json!({"model": "m", "input": "x", "encoding_format": "hex"}), "encoding_format", "invalid_value"),
        (json!({"model": "m", "input": "x", "dimensions": 0}), "dimensions", "invalid_value"),
        (json!({"model": "m", "input": "x", "dimensions": -3}), "dimensions", "invalid_type"),
    ];
    for (body, param, code) in cases {
        let (status, answer, seen) = run(layer(), body.clone(), good).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer["error"]["param"], param, "{body} {answer}");
        assert_eq!(answer["error"]["code"], code, "{body} {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert!(bodies(&seen).is_empty());
    }
    // As many tokens as one likes are one input.
    let (status, _, _) = run(layer(), json!({"model": "m", "input": [1, 2, 3, 4, 5]}), |_| {
        ready((200, json!({"data": [{"embedding": [1]}]}).to_string()))
    })
    .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_wrong_method_type_or_size_is_refused() {
    let service = EmbeddingsLayer::new(Server::Vllm).max_body(20).layer(service_fn(
        |_: Request<FullBody>| async {
            Err::<Response<FullBody>, _>(tower::BoxError::from("not to be called"))
        },
    ));
    let full = || FullBody::new(Bytes::from_static(b"{\"model\":\"m\",\"input\":\"x\"}"));
    for (request, status) in [
        (Request::get("/").body(full()), 405),
        (Request::post("/").header("content-type", "text/plain").body(full()), 415),
        (Request::post("/").body(full()), 413),
        (Request::post("/").body(FullBody::new(Bytes::from_static(b"{"))), 400),
    ] {
        let response = service.clone().oneshot(request.expect("a request")).await;
        assert_eq!(response.expect("infallible").status(), status);
    }
}

/// Those of the upstream keep their meaning; an upstream without embeddings is told apart from
/// one that does not know the model.
#[tokio::test]
async fn the_upstreams_errors_keep_their_meaning() {
    let error = |message: &str, code: Value| json!({"error": {"message": message, "code": code}});
    #[rustfmt::skip]
    let cases = [
        (Server::DashScope, 401, error("Incorrect API key provided", json!("invalid_api_key")), 401, "invalid_api_key"),
        (Server::DashScope, 429, error("Allocated quota exceeded", json!("insufficient_quota")), 429, "rate_limit_exceeded"),
        (Server::DashScope, 400, error("batch size is invalid", json!("InvalidParameter")), 400, "InvalidParameter"),
        (Server::DashScope, 404, error("The model `m` does not exist", json!("model_not_found")), 404, "model_not_found"),
        (Server::Ollama, 404, error("model \"m\" not found, try pulling it first", json!(null)), 404, "model_not_found"),
        (Server::Vllm, 404, json!({"detail": "Not Found"}), 501, "embeddings_not_supported"),
        (Server::Generic, 405, json!({}), 501, "embeddings_not_supported"),
        (Server::LlamaCpp, 501, error("This server does not support embeddings", json!(501)), 501, "embeddings_not_supported"),
        (Server::Portal, 404, json!({}), 501, "embeddings_not_supported"),
        (Server::Vllm, 400, error("The model does not support Embeddings API", json!(400)), 400, "null"),
        (Server::Vllm, 200, error("no", json!(503)), 503, "overloaded"),
        (Server::Vllm, 200, json!({"data": null}), 502, "upstream_error"),
        (Server::Vllm, 200, json!({"data": []}), 502, "upstream_error"),
        (Server::Vllm, 200, json!({"data": [{"embedding": null}]}), 502, "upstream_error"),
        (Server::Vllm, 200, json!({"data": [{"embedding": [[1, 2]]}]}), 502, "upstream_error"),
        (Server::Vllm, 500, json!("<html>"), 502, "upstream_error"),
    ];
    for (server, status, body, expected, code) in cases {
        let answer = body.to_string();
        let (got, answer, _) =
            run(EmbeddingsLayer::new(server), json!({"model": "m", "input": "x"}), move |_| {
                ready((status, answer.clone()))
            })
            .await;
        assert_eq!(got.as_u16(), expected, "{server:?} {status} {body} {answer}");
        let found = &answer["error"]["code"];
        assert_eq!(found.as_str().unwrap_or("null"), code, "{server:?} {status} {body}");
        if code == "embeddings_not_supported" {
            let message = answer["error"]["message"].as_str().expect("a text");
            assert!(message.contains(server.name()) && message.contains("text-embedding-v4"));
        }
    }
}

/// One batch that fails is the answer, and the others are given up.
#[tokio::test(start_paused = true)]
async fn one_failure_ends_the_request() {
    let left = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&left);
    let before = tokio::time::Instant::now();
    let (status, _, seen) = run(
        EmbeddingsLayer::new(Server::Vllm).max_batch(1).concurrency(2),
        json!({"model": "m", "input": ["slow", "bad", "never"]}),
        move |request| {
            struct Left(Arc<AtomicUsize>);
            impl Drop for Left {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            let left = Left(Arc::clone(&counted));
            async move {
                let _left = left;
                if request["input"][0] == "bad" {
                    return (503, "busy".to_owned());
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
                good(request).await
            }
        },
    )
    .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bodies(&seen).len(), 2, "the third was not begun");
    assert_eq!(left.load(Ordering::SeqCst), 2, "the slow one was dropped");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_answer_that_is_cut_or_too_large_is_an_error() {
    let long = json!({"data": [{"embedding": vec![1.5; 100]}]}).to_string();
    let (status, answer, _) = run(
        EmbeddingsLayer::new(Server::Vllm).max_answer(100),
        json!({"model": "m", "input": "x"}),
        move |_| ready((200, long.clone())),
    )
    .await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (502, &json!("upstream_stream_error")));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_an_error() {
    let service =
        EmbeddingsLayer::new(Server::Vllm).layer(service_fn(|_: Request<FullBody>| async {
            Err::<Response<FullBody>, _>(tower::BoxError::from("connection refused"))
        }));
    let response = service.oneshot(ask(&json!({"model": "m", "input": "x"}))).await;
    let (status, answer) = json_of(response.expect("infallible")).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (502, &json!("upstream_error")));
    assert!(!answer.to_string().contains("refused"), "what lies below is for the log");
}

/// chat.qwen.ai has none.
#[tokio::test]
async fn the_web_upstream_says_who_has_them() {
    let response = NoEmbeddings::new("chat.qwen.ai").oneshot(ask(&json!({}))).await;
    let response = response.expect("infallible");
    assert_eq!(response.headers()["x-should-retry"], "false");
    let (status, answer) = json_of(response).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(answer["error"]["type"], "invalid_request_error");
    let message = answer["error"]["message"].as_str().expect("a text");
    assert!(message.contains("chat.qwen.ai") && message.contains("DashScope"), "{message}");
}

/// An `AuthRefreshLayer` stands between as over any HTTP service, and each batch is a request of
/// its own to it.
#[tokio::test]
async fn a_credential_is_put_on_each_batch() {
    use tower_qwen::auth::{AuthRefreshLayer, Credential, StaticCredential};

    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let key = Credential::api_key("sk-not-a-real-key").expect("a key");
    let service = ServiceBuilder::new()
        .layer(EmbeddingsLayer::new(Server::DashScope))
        .layer(AuthRefreshLayer::new(StaticCredential::new(key)))
        .service(service_fn(move |request: Request<FullBody>| {
            let calls = Arc::clone(&counted);
            async move {
                assert_eq!(request.headers()["authorization"], "Bearer sk-not-a-real-key");
                assert_eq!(request.extensions().get::<&str>(), Some(&"for the layers below"));
                calls.fetch_add(1, Ordering::SeqCst);
                let body = request.into_body().collect().await.expect("infallible").to_bytes();
                let answer = embed(&serde_json::from_slice(&body).expect("JSON")).to_string();
                Ok::<_, tower_qwen::Error>(Response::new(FullBody::new(Bytes::from(answer))))
            }
        }));
    let inputs = vec!["x"; 11];
    let mut request = ask(&json!({"model": "m", "input": inputs}));
    request.extensions_mut().insert("for the layers below");
    let response = service.oneshot(request).await;
    let (status, answer) = json_of(response.expect("infallible")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

proptest! {
    /// Whatever the sizes, item `n` is the embedding of input `n`.
    #[test]
    fn every_input_gets_its_own_vector(
        inputs in prop::collection::vec("[a-z\u{e9}\"\\\\]{1,9}", 1..40),
        batch in 1_usize..12,
        concurrency in 0_usize..6,
        base64: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let layer = EmbeddingsLayer::new(Server::Generic).max_batch(batch).concurrency(concurrency);
        let encoding = if base64 { "base64" } else { "float" };
        let body = json!({"model": "m", "input": inputs, "encoding_format": encoding});
        let (status, answer, seen) = runtime.block_on(run(layer, body, good));
        prop_assert_eq!(status, 200);
        prop_assert_eq!(bodies(&seen).len(), inputs.len().div_ceil(batch));
        let data = answer["data"].as_array().expect("a list");
        prop_assert_eq!(data.len(), inputs.len());
        for (at, (item, input)) in data.iter().zip(&inputs).enumerate() {
            prop_assert_eq!(&item["index"], at);
            let (length, first) = (input.len() as f32, f32::from(input.as_bytes()[0]));
            let expected: Vec<u8> =
                [length, first, 0.5].into_iter().flat_map(f32::to_le_bytes).collect();
            let found: Vec<u8> = match &item["embedding"] {
                Value::String(text) => {
                    prop_assert!(base64);
                    decode_base64(text)
                }
                Value::Array(numbers) => numbers
                    .iter()
                    .flat_map(|number| (number.as_f64().expect("a number") as f32).to_le_bytes())
                    .collect(),
                other => panic!("{other}"),
            };
            prop_assert_eq!(found, expected);
        }
    }
}

/// A naive twin of what the crate uses.
fn decode_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        let value = ALPHABET.iter().position(|&known| known == byte).expect("of the alphabet");
        bits = bits << 6 | u32::try_from(value).expect("six bits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
