//! `GET /models` of OpenAI-compatible servers.

mod traced;

use std::{convert::Infallible, future::ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use serde_json::{Value, json};
use tower::service_fn;
use tower_qwen::{
    CredentialHeaders, Error, ErrorKind, FullBody,
    qwen::{
        compatible::Server,
        models::{Catalogue, Model, list_compatible},
    },
};

async fn list(server: Server, status: u16, body: &str) -> Result<Vec<Model>, Error> {
    traced::on();
    let body = Bytes::from(body.to_owned());
    let service = service_fn(move |request: Request<FullBody>| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/models"));
        assert_eq!(request.headers()["authorization"], "Bearer demo");
        assert_eq!(request.headers().len(), 2, "and what is asked for");
        let response = Response::builder().status(status).body(FullBody::new(body.clone()));
        ready(Ok::<_, Infallible>(response.expect("a response")))
    });
    let key = HeaderValue::from_static("Bearer demo");
    let credential = CredentialHeaders::new([(header::AUTHORIZATION, key)]);
    list_compatible(service, Some(&credential), server).await
}

/// Each server's own shape; what OpenAI has no field for is kept.
#[tokio::test]
async fn every_servers_list_is_read() {
    let vllm = json!({"object": "list", "data": [{"id": "qwen3-32b", "object": "model",
        "created": 1_790_000_000, "owned_by": "vllm", "root": "/models/q", "max_model_len": 40960,
        "permission": [{"id": "modelperm-1"}]}]});
    let models = list(Server::Vllm, 200, &vllm.to_string()).await.expect("a list");
    assert_eq!((models[0].created, &*models[0].owned_by), (1_790_000_000, "vllm"));
    assert_eq!(
        models[0].object().to_value().expect("JSON"),
        vllm["data"][0],
        "nothing is lost on the way to a client"
    );

    let cases: [(Server, Value, &[&str]); 5] = [
        (
            Server::Ollama,
            json!({"object": "list", "data": [{"id": "qwen3:8b", "owned_by": "library"}]}),
            &["qwen3:8b"],
        ),
        (Server::Ollama, json!({"object": "list", "data": null}), &[]),
        (
            Server::LlamaCpp,
            json!({"models": [{"name": "x", "model": "x"}], "object": "list",
                "data": [{"id": "/m/qwen.gguf", "meta": {"n_ctx_train": 32768}}]}),
            &["/m/qwen.gguf"],
        ),
        (Server::LmStudio, json!({"data": [{"id": "a", "object": "model"}, {"id": ""}]}), &["a"]),
        (Server::Generic, json!([{"id": "a"}, {"id": "b"}, 7]), &["a", "b"]),
    ];
    for (server, body, ids) in cases {
        let models = list(server, 200, &body.to_string()).await.expect("a list");
        let found: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(found, ids, "{server:?}");
        for model in models {
            assert!(!model.owned_by.is_empty());
        }
    }
}

#[tokio::test]
async fn refusals_keep_their_meaning() {
    for (server, status, body, kind) in [
        (
            Server::DashScope,
            401,
            r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
            ErrorKind::Auth,
        ),
        (Server::Portal, 403, r#"{"code":"insufficient_quota"}"#, ErrorKind::Quota),
        (
            Server::LlamaCpp,
            503,
            r#"{"error":{"code":503,"message":"Loading model"}}"#,
            ErrorKind::Overloaded,
        ),
        (Server::Generic, 404, "404 page not found", ErrorKind::Unsupported),
        (Server::Generic, 405, "", ErrorKind::Unsupported),
        (Server::Generic, 502, "<html>Bad Gateway</html>", ErrorKind::Upstream),
        // A gateway that reports an error with a good status.
        (
            Server::DashScope,
            200,
            r#"{"code":"InvalidApiKey","message":"no","status":401}"#,
            ErrorKind::Auth,
        ),
        (Server::Generic, 200, r#"{"models":[]}"#, ErrorKind::Upstream),
        (Server::Generic, 200, "<html>a page</html>", ErrorKind::Upstream),
        (Server::Generic, 200, "7", ErrorKind::Upstream),
        (Server::Generic, 200, r#"{"data":["qwen3"]}"#, ErrorKind::Upstream),
        (Server::Generic, 200, r#"[{"name":"qwen3"}]"#, ErrorKind::Upstream),
    ] {
        let error = list(server, status, body).await.expect_err(body);
        assert_eq!(error.kind(), kind, "{status} {body}");
    }
}

#[tokio::test]
async fn a_list_that_is_cut_is_none() {
    let service = service_fn(|_: Request<FullBody>| {
        ready(Ok::<_, Infallible>(Response::new(http_body_util::StreamBody::new(
            futures_util::stream::iter([
                Ok(http_body::Frame::data(Bytes::from_static(br#"{"data":[]}"#))),
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            ]),
        ))))
    });
    let error = list_compatible(service, None, Server::Vllm).await;
    assert_eq!(error.expect_err("cut").kind(), ErrorKind::Truncated);
}

#[tokio::test]
async fn a_catalogue_keeps_the_list_of_a_service() {
    let mut calls = 0;
    let service = service_fn(move |_: Request<FullBody>| {
        calls += 1;
        ready(Ok::<_, Infallible>(Response::new(FullBody::from(format!(
            r#"{{"data":[{{"id":"call-{calls}"}}]}}"#
        )))))
    });
    let catalogue = Catalogue::compatible(service, Server::SgLang);
    for _ in 0..2 {
        let listing = catalogue.list().await.expect("a list");
        assert_eq!(
            listing.models[0].object().as_str(),
            r#"{"id":"call-1","object":"model","created":0,"owned_by":"sglang"}"#
        );
    }
}
