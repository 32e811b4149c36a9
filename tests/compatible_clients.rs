//! The official OpenAI SDKs over every emulated OpenAI-compatible server: server × feature, each
//! cell a test of the scripts in tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass,
//! except where `CI` is set.
//!
//! Below `/KIND-YEAR/TOOLS/v1` stands the server of that kind and year behind the layers, where
//! TOOLS is `native`, `rescue` or `prompt`, as `ToolCallLayer` has them. The scripts find the
//! servers in what `SERVERS` holds. Whatever a server gets wrong, a
//! client sees the same.

mod deviations;
mod emulated;
#[path = "served/suite.rs"]
mod suite;
mod traced;

use std::{convert::Infallible, process::Command};

use axum::Router;
use bytes::Bytes;
use deviations::Deviations;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    openai::{OpenAiLayer, completions::CompletionsLayer, embeddings::EmbeddingsLayer},
    qwen::compatible::CompatibleLayer,
    sse::Decoder,
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::{Emulator, Kind, Style};

const STYLES: [(Style, &str); 2] = [(Style::Autumn2025, "2025"), (Style::Autumn2026, "2026")];

/// The kinds and years, each with a model that thinks only when asked to, and one for embeddings.
fn servers() -> impl Iterator<Item = (Kind, Style, String, Value)> {
    let kinds = Kind::ALL.into_iter().filter(|kind| emulated::server(*kind).is_some());
    kinds.flat_map(|kind| {
        STYLES.into_iter().map(move |(style, year)| {
            let (model, embedder) = match kind {
                Kind::Vllm | Kind::SgLang => {
                    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", Some("Qwen/Qwen3-Embedding-0.6B"))
                }
                Kind::Ollama => ("qwen3-coder:30b", Some("qwen3-embedding:0.6b")),
                Kind::LlamaCpp => {
                    ("qwen3-coder-30b-a3b-instruct-q4_k_m", Some("qwen3-embedding-0.6b"))
                }
                Kind::DashScope => ("qwen-plus", Some("text-embedding-v4")),
                _ => ("coder-model", None),
            };
            let name = format!("{kind}-{year}");
            let told = json!({"name": name, "model": model, "embedder": embedder});
            (kind, style, name, told)
        })
    })
}

/// Every server behind the layers, and whether its bytes come in pieces as a network cuts them.
fn app() -> Router {
    traced::on();
    let mut app = Router::new();
    for (kind, style, name, _) in servers() {
        let server = emulated::server(kind).expect("one of the compatible kinds");
        let emulator = Emulator::builder().kind(kind).style(style).piece_size(37).build();
        for (mode, tools) in [
            ("native", ToolCallLayer::native()),
            ("rescue", ToolCallLayer::native_with_rescue()),
            ("prompt", ToolCallLayer::prompted()),
        ] {
            let chat = ServiceBuilder::new()
                .layer(OpenAiLayer::new())
                .layer(tools.clone())
                .layer(CompatibleLayer::new(server))
                .service(emulator.clone());
            let texts = ServiceBuilder::new()
                .layer(CompletionsLayer::new())
                .layer(tools)
                .layer(CompatibleLayer::new(server))
                .service(emulator.clone());
            let vectors =
                ServiceBuilder::new().layer(EmbeddingsLayer::new(server)).service(emulator.clone());
            let base = format!("/{name}/{mode}/v1");
            app = app
                .route_service(&format!("{base}/chat/completions"), chat)
                .route_service(&format!("{base}/completions"), texts)
                .route_service(&format!("{base}/embeddings"), vectors);
        }
        let upstream = deviating(emulator);
        let chat = ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(CompatibleLayer::new(server))
            .service(upstream.clone());
        app = app
            .route_service(&format!("/{name}/deviating/v1/chat/completions"), chat)
            .route_service(
                &format!("/{name}/straight/v1/chat/completions"),
                service_fn(move |request: Request<axum::body::Body>| {
                    let upstream = upstream.clone();
                    async move {
                        let (mut head, body) = request.into_parts();
                        head.uri = "/chat/completions".parse().expect("a path");
                        let body = body.collect().await.expect("a request").to_bytes();
                        upstream.oneshot(Request::from_parts(head, FullBody::new(body))).await
                    }
                }),
            );
    }
    app
}

/// The server, whose streams deviate as the `seed` of a request says.
fn deviating<S, B>(
    server: S,
) -> impl Service<
    Request<FullBody>,
    Response = Response<FullBody>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<FullBody>, Infallible>> + Send,
> + Clone
+ Send
+ Sync
+ 'static
where
    S: Service<Request<FullBody>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug,
{
    service_fn(move |request: Request<FullBody>| {
        let server = server.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("infallible").to_bytes();
            let asked: Value = serde_json::from_slice(&body).expect("JSON");
            let request = Request::from_parts(head, FullBody::new(body));
            let (mut head, body) = server.oneshot(request).await?.into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            let mut deviations = Deviations::new(asked["seed"].as_u64().expect("a seed"));
            let mut decoder = Decoder::new();
            decoder.push(body);
            let mut out = String::new();
            while let Some(event) = decoder.next_event().expect("events") {
                let events = match serde_json::from_str(&event.data) {
                    Ok(chunk) => deviations.apply(chunk),
                    Err(_) => vec![event.data.to_string()],
                };
                out.extend(events.iter().map(|data| format!("data: {data}\n\n")));
            }
            head.headers.remove("content-length");
            Ok(Response::from_parts(head, FullBody::new(Bytes::from(out))))
        }
    })
}

/// Runs `suite` against the servers.
async fn run(mut suite: Command) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app()).await });
    let told: Vec<Value> = servers().map(|(.., told)| told).collect();
    suite.env("SERVERS", Value::from(told).to_string());
    tokio::task::spawn_blocking(move || suite::run(&mut suite, &origin)).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python() {
    let Some(mut suite) = suite::python("openai") else { return };
    suite.args(["-m", "unittest", "-v", "test_servers"]);
    run(suite).await;
}

/// What it reads correctly when it asks a server that deviates, it reads through the layers as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python_over_deviations() {
    let Some(mut suite) = suite::python("openai") else { return };
    suite.args(["-m", "unittest", "-v", "test_deviations"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_node() {
    let Some(mut suite) = suite::node(&["openai"]) else { return };
    suite.args(["--test", "servers.test.mjs"]);
    run(suite).await;
}
