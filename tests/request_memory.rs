//! What a request costs, whatever its shape: allocated bytes, counted, of reading it and of the
//! whole stack above an upstream.
//!
//! The counting allocator is that of `allocation-counter`, and counts this thread only.
#![cfg(all(
    feature = "compatible",
    feature = "dedup",
    feature = "openai",
    feature = "session",
    feature = "tool-call",
    feature = "tool-wrap",
    feature = "web"
))]

use std::{
    convert::Infallible,
    future::{self, Ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, FullBody,
    dedup::DedupLayer,
    openai::{OpenAiBody, OpenAiLayer, decode},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::{
        call::{Format, ToolCallLayer},
        wrap::ToolWrapLayer,
    },
};

mod shapes;
use shapes::SHAPES;

const BODY: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Wire;

impl Service<Request<FullBody>> for Wire {
    type Response = Response<FullBody>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        let path = request.uri().path();
        let (kind, body) = if path.ends_with("/new") {
            ("application/json", r#"{"success":true,"request_id":"q","data":{"id":"c-1"}}"#)
        } else if path.starts_with("/api") {
            (
                "text/event-stream",
                "data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \
                 \"response_id\":\"r-1\"}}\n\ndata: {\"choices\": [{\"delta\": {\"content\": \
                 \"<tool_call>{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"a\\\":1}}</tool_call>\", \"role\": \"assistant\", \"status\": \"typing\", \"phase\": \
                 \"answer\"}}]}\n\ndata: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \"assistant\", \
                 \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n",
            )
        } else {
            (
                "text/event-stream",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"<tool_call>{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"a\\\":1}}</tool_call>\"}}]}\n\ndata: \
                 {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            )
        };
        let response = Response::builder().header(CONTENT_TYPE, kind).body(FullBody::from(body));
        future::ready(Ok(response.expect("a response")))
    }
}

type Stack = Box<dyn Fn(Bytes) -> u16>;

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

fn ask<S, C>(stack: S, body: Bytes) -> u16
where
    S: Service<Request<FullBody>, Response = Response<OpenAiBody<C>>, Error = Infallible>,
    C: tower_qwen::chat::ChatStream,
{
    let request = Request::post("/v1/chat/completions")
        .header("authorization", "Bearer k")
        .body(FullBody::new(body))
        .expect("a request");
    let Ok(response) = now(stack.oneshot(request));
    let status = response.status().as_u16();
    let Ok(_) = now(response.into_body().collect());
    status
}

fn stacks() -> Vec<(&'static str, Stack)> {
    let edge = || {
        ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(SessionLayer::new(MemoryStore::default()))
    };
    macro_rules! stack {
        ($stack:expr) => {{
            let stack = $stack;
            Box::new(move |body| ask(stack.clone(), body)) as Stack
        }};
    }
    let prompted = |format| {
        edge()
            .layer(DedupLayer::new())
            .layer(ToolCallLayer::prompted_in(format))
            .layer(QwenWebLayer::new())
            .service(Wire)
    };
    let compatible = |tools| {
        ServiceBuilder::new()
            .layer(OpenAiLayer::new())
            .layer(tools)
            .layer(CompatibleLayer::new(Server::Vllm))
            .service(Wire)
    };
    vec![
        ("decode", Box::new(|body: Bytes| decode(&body).map_or(400_u16, |_| 200)) as Stack),
        ("web, Hermes", stack!(prompted(Format::Hermes))),
        ("web, Coder", stack!(prompted(Format::Coder))),
        ("web, XML", stack!(prompted(Format::Xml))),
        (
            "web, wrapped",
            stack!(
                edge()
                    .layer(ToolWrapLayer::new())
                    .layer(DedupLayer::new())
                    .layer(QwenWebLayer::new())
                    .service(Wire)
            ),
        ),
        ("compatible, native", stack!(compatible(ToolCallLayer::native()))),
        ("compatible, rescue", stack!(compatible(ToolCallLayer::native_with_rescue()))),
        ("compatible, prompted", stack!(compatible(ToolCallLayer::prompted()))),
    ]
}

#[test]
fn a_body_costs_its_size() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    for shape in SHAPES {
        let body = Bytes::from(shape.body(BODY));
        for (name, stack) in stacks() {
            let mut status = 0;
            let clock = std::time::Instant::now();
            let info = measure(|| status = stack(body.clone()));
            let factor = info.bytes_max as f64 / body.len() as f64;
            println!(
                "{factor:6.2} {status} {:5} ms {name:20} {}",
                clock.elapsed().as_millis(),
                shape.name
            );
        }
    }
}
