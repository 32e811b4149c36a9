//! Embeddings as clients of Ollama ask for them, over servers of this file's own.

mod traced;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    ollama::{EmbedLayer, EmbeddingsLayer},
    qwen::compatible::Server,
};

/// The answer to `body` at `path`, and what the server was asked meanwhile. It takes a second each
/// time, and embeds a text as its length and a half.
async fn embedded(path: &str, body: Value) -> (StatusCode, Value, Vec<Value>) {
    traced::on();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let server = service_fn(move |request: Request<FullBody>| {
        let noted = Arc::clone(&noted);
        async move {
            let (head, body) = request.into_parts();
            assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/embeddings"));
            let body = body.collect().await.expect("infallible").to_bytes();
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            noted.lock().expect("not poisoned").push(body.clone());
            tokio::time::sleep(Duration::from_secs(1)).await;
            if body["model"] == "unknown" {
                let error = json!({"error": {"message": "The model `unknown` does not exist.",
                    "type": "NotFoundError", "code": 404}});
                return Ok::<_, Infallible>(
                    Response::builder()
                        .status(404)
                        .body(FullBody::from(error.to_string()))
                        .expect("a response"),
                );
            }
            let inputs = match &body["input"] {
                Value::Array(inputs) => inputs.clone(),
                alone => vec![alone.clone()],
            };
            let vector = |input: &Value| json!([input.as_str().expect("a text").len(), 0.5]);
            // Out of order, as some servers give them.
            let data: Vec<_> = inputs
                .iter()
                .enumerate()
                .rev()
                .map(|(at, input)| json!({"index": at, "embedding": vector(input)}))
                .collect();
            let answer = json!({"data": data, "usage": {"prompt_tokens": inputs.len() * 3}});
            Ok(Response::new(FullBody::from(answer.to_string())))
        }
    });
    let request = Request::post(path).body(FullBody::from(body.to_string())).expect("a request");
    let response = match path {
        "/api/embed" => EmbedLayer::new(Server::DashScope).layer(server).oneshot(request).await,
        _ => EmbeddingsLayer::new(Server::DashScope).layer(server).oneshot(request).await,
    };
    let (head, body) = response.expect("infallible").into_parts();
    assert_eq!(head.headers["content-type"], "application/json");
    let body = body.collect().await.expect("infallible").to_bytes();
    let asked = std::mem::take(&mut *seen.lock().expect("not poisoned"));
    (head.status, serde_json::from_slice(&body).expect("JSON"), asked)
}

#[tokio::test(start_paused = true)]
async fn texts_are_embedded_in_order_and_in_batches() {
    let texts: Vec<_> = (1..=12).map(|len| "x".repeat(len)).collect();
    let body = json!({"model": "e:latest", "input": texts, "truncate": true, "dimensions": 2,
        "options": {"num_ctx": 512}, "keep_alive": "5m"});
    let (status, answer, asked) = embedded("/api/embed", body).await;
    assert_eq!(status, 200);
    let vectors: Vec<_> = (1..=12).map(|len| json!([len, 0.5])).collect();
    assert_eq!(
        answer,
        json!({"model": "e:latest", "embeddings": vectors, "total_duration": 1_000_000_000_u64,
            "load_duration": 0, "prompt_eval_count": 36})
    );
    // DashScope takes ten at once. What is about a process that holds weights is not passed on.
    let asked: Vec<_> = asked
        .into_iter()
        .map(|mut body| {
            let inputs = body["input"].take().as_array().expect("a list").len();
            (inputs, body)
        })
        .collect();
    let rest = json!({"model": "e", "input": null, "encoding_format": "float", "dimensions": 2});
    assert_eq!(asked, [(10, rest.clone()), (2, rest)]);
}

#[tokio::test(start_paused = true)]
async fn one_text_is_embedded_in_both_forms() {
    let (_, answer, _) = embedded("/api/embed", json!({"model": "e", "input": "Hello"})).await;
    assert_eq!(answer["embeddings"], json!([[5, 0.5]]));
    let (_, answer, asked) =
        embedded("/api/embeddings", json!({"model": "e:latest", "prompt": "Hello"})).await;
    assert_eq!(answer, json!({"embedding": [5, 0.5]}));
    assert_eq!(asked, [json!({"model": "e", "input": "Hello", "encoding_format": "float"})]);
}

/// What loads a model in Ollama: nobody is asked.
#[tokio::test(start_paused = true)]
async fn of_nothing_there_are_no_vectors() {
    for input in [json!(null), json!(""), json!([]), json!([])] {
        let (status, answer, asked) =
            embedded("/api/embed", json!({"model": "e", "input": input})).await;
        assert_eq!((status.as_u16(), asked.len()), (200, 0));
        assert_eq!(
            answer,
            json!({"model": "e", "embeddings": [], "total_duration": 0, "load_duration": 0,
                "prompt_eval_count": 0})
        );
    }
    for prompt in [json!(null), json!("")] {
        let (_, answer, asked) =
            embedded("/api/embeddings", json!({"model": "e", "prompt": prompt})).await;
        assert_eq!((answer, asked.len()), (json!({"embedding": []}), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_in_the_clients_form() {
    for (path, body, status, says) in [
        ("/api/embed", json!({"input": "x"}), 400, "`model`"),
        ("/api/embed", json!({"model": "e", "input": {"a": 1}}), 400, "`input`"),
        ("/api/embed", json!({"model": "e", "input": ["x", ""]}), 400, "`input[1]`"),
        ("/api/embed", json!({"model": "e", "input": [1, 2]}), 400, "send strings"),
        ("/api/embed", json!({"model": "e", "input": "x", "dimensions": 0}), 400, "`dimensions`"),
        ("/api/embeddings", json!({"model": "e", "prompt": ["x"]}), 400, "`prompt`"),
        ("/api/embeddings", json!({"model": "e", "prompt": 7}), 400, "`prompt`"),
        ("/api/embed", json!({"model": "unknown", "input": "x"}), 404, "does not exist"),
    ] {
        let (found, answer, asked) = embedded(path, body.clone()).await;
        assert_eq!(found.as_u16(), status, "{body}");
        let fields = answer.as_object().expect("an object");
        assert_eq!(fields.len(), 1);
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(says)), "{answer}");
        assert_eq!(asked.len(), usize::from(status == 404));
    }
}
