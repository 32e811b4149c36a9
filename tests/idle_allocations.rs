//! What a layer allocates that has nothing to do, counted: nothing at an event that is ready.

use std::pin::pin;

use allocation_counter::measure;
use futures_util::Stream;
use http::Request;
use tower::Layer;
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, Message, Role, Tenant},
    dedup::DedupLayer,
    fallback::FallbackLayer,
    format::FormatLayer,
    inspect::InspectLayer,
    join::JoinLayer,
    resume::ResumeLayer,
    timeout::TimeoutLayer,
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
    usage::UsageLayer,
};

#[path = "../benches/ready/mod.rs"]
mod ready;
use ready::{EVENTS, answer, exchange, next};

/// How much is allocated for the events behind the first 1,024 of an answer.
fn allocations(answer: impl Stream<Item = Result<ChatEvent, Error>>) -> u64 {
    let mut answer = pin!(answer);
    let mut next = || next(answer.as_mut()).map(|event| event.expect("nothing fails here"));
    for _ in 0..1024 {
        drop(next().expect("there are more"));
    }
    let mut counted = 0;
    let info = measure(|| {
        while let Some(event) = next() {
            drop(event);
            counted += 1;
        }
    });
    assert!(counted >= EVENTS - 1024, "{counted}");
    info.count_total
}

#[test]
fn an_event_that_is_ready_costs_no_allocation() {
    // Who gives others their turn looks at the clock then.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();
    let text = answer(|word| ChatEvent::Text(word.into()));
    let reasoning = answer(|word| ChatEvent::Reasoning(word.into()));
    let mut chat = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    chat.tenant = Some(Tenant::from_digest([9; 32]));
    macro_rules! count {
        ($layer:expr, $upstream:expr) => {{
            let mut service = $layer.layer($upstream.clone());
            allocations(exchange(&mut service, Request::new(chat.clone())).into_body())
        }};
    }
    for upstream in [&text, &reasoning] {
        let plain = || exchange(&mut upstream.clone(), Request::new(chat.clone())).into_body();
        // The first copy of a text makes it one that is shared.
        allocations(plain());
        assert_eq!(allocations(plain()), 0, "the upstream's own");
    }
    for (name, count) in [
        ("timeout", count!(TimeoutLayer::hosted(), text)),
        ("resume, off", count!(ResumeLayer::new().tries(0), text)),
        ("fallback", count!(FallbackLayer::new("a").to("b", text.clone()), text)),
        ("format", count!(FormatLayer::new(), text)),
        ("dedup", count!(DedupLayer::new(), text)),
        ("inspect", count!(InspectLayer::new("here"), text)),
        ("tool calls", count!(ToolCallLayer::prompted(), text)),
        ("native tool calls", count!(ToolCallLayer::native(), text)),
    ] {
        assert_eq!(count, 0, "{name}");
    }
    // Nor does a request where nobody listens: what a layer has is in its own future and stream.
    let mut service = InspectLayer::new("here").layer(text.clone());
    let made = |service: &mut dyn FnMut(Request<ChatRequest>)| {
        let request = Request::new(chat.clone());
        measure(|| service(request)).count_total
    };
    let plain = made(&mut |request| drop(exchange(&mut text.clone(), request)));
    assert_eq!(made(&mut |request| drop(exchange(&mut service, request))), plain, "inspect");
    // The call that ends the answer is its own.
    assert!(count!(ToolWrapLayer::new(), reasoning) <= 1, "tool wrap");
    // Three counters have labels that are chosen at the end.
    assert!(count!(UsageLayer::new(drop), text) <= 3, "usage");
    // It keeps what is said, in a list that doubles.
    let kept = count!(JoinLayer::new(), text);
    assert!(kept <= 16, "{kept} for {EVENTS} events");
    let mut nobodys = chat.clone();
    nobodys.tenant = None;
    let mut service = JoinLayer::new().layer(text.clone());
    let count = allocations(exchange(&mut service, Request::new(nobodys)).into_body());
    assert_eq!(count, 0, "join without a tenant");
}
