//! The sources of a search as the official SDKs read them: annotations, blocks, links; the tests
//! themselves are the scripts in tests/clients.
//!
//! They need the packages that tests/clients.rs names. Without them the tests say so and pass,
//! except where `CI` is set.

#[path = "served/suite.rs"]
mod suite;

use std::process::Command;

use axum::Router;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_qwen::{
    anthropic::AnthropicLayer,
    chat::Tenant,
    dedup::DedupLayer,
    edge::Offer,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        models::Catalogue,
        web::QwenWebLayer,
    },
    responses::ResponsesLayer,
    session::{MemoryStore, SessionLayer},
    variant::{Suffix, VariantLayer, Variants},
};
use tower_qwen_emulator::{Emulator, Kind};

/// The three edges over chat.qwen.ai at `/web`, and over DashScope at `/dashscope`.
fn app() -> Router {
    let emulator = Emulator::builder().piece_size(37).build();
    let catalogue = Catalogue::web(emulator.clone(), emulator.clone());
    let web = ServiceBuilder::new()
        .layer(VariantLayer::new(Variants::new(catalogue, Suffix::WEB)))
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new())
        .layer(QwenWebLayer::new())
        .service(emulator);
    let emulator = Emulator::builder().kind(Kind::DashScope).piece_size(37).build();
    let dashscope =
        ServiceBuilder::new().layer(CompatibleLayer::new(Server::DashScope)).service(emulator);
    // All clients here are one.
    let tenant = |_: &http::request::Parts| Some(Tenant::from_digest([7; 32]));
    let chat = OpenAiLayer::new().tenant(tenant);
    let messages = AnthropicLayer::new().tenant(tenant);
    let responses = ResponsesLayer::new().tenant(tenant);
    let over_web = ServiceBuilder::new().layer(chat.clone().offer(Offer::Web));
    Router::new()
        .route_service("/web/v1/chat/completions", over_web.service(web.clone()))
        .route_service(
            "/web/v1/messages",
            ServiceBuilder::new().layer(messages.clone().offer(Offer::Web)).service(web.clone()),
        )
        .route_service(
            "/web/v1/responses",
            ServiceBuilder::new().layer(responses.clone().offer(Offer::Web)).service(web),
        )
        .route_service(
            "/dashscope/v1/chat/completions",
            ServiceBuilder::new().layer(chat).service(dashscope.clone()),
        )
        .route_service(
            "/dashscope/v1/messages",
            ServiceBuilder::new().layer(messages).service(dashscope.clone()),
        )
        .route_service(
            "/dashscope/v1/responses",
            ServiceBuilder::new().layer(responses).service(dashscope),
        )
}

/// Runs `suite` against the edges.
async fn run(mut suite: Command) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app()).await });
    tokio::task::spawn_blocking(move || suite::run(&mut suite, &origin)).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_python() {
    let Some(mut suite) = suite::python("openai, anthropic") else { return };
    suite.args(["-m", "unittest", "-v", "test_search"]);
    run(suite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_node() {
    let Some(mut suite) = suite::node(&["openai"]) else { return };
    suite.args(["--test", "search.test.mjs"]);
    run(suite).await;
}
