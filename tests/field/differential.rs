//! Any mixture of deviations is read as the answer that it stands for, over either wire.

use proptest::prelude::*;
use serde_json::json;
use tower_qwen::qwen::compatible::Server;

use crate::{
    deviations::Deviations,
    model::Model,
    wires::{Given, compatible, shown, web},
};

fn models() -> impl Strategy<Value = Model> {
    let word = || "[a-z\u{e9}\u{1f600} .]{1,6}[a-z\u{1f30d}]";
    let arguments = prop::collection::btree_map("[a-z]{1,3}", "[a-z\"\\\\\u{1f600}{}]{0,8}", 0..3);
    let call = ("[fgh]", arguments.prop_map(|arguments| json!(arguments)));
    (
        prop::collection::vec(word(), 0..3),
        prop::collection::vec(word(), 0..4),
        prop::collection::vec(call, 0..3),
        1..40_usize,
    )
        .prop_map(|(thinking, text, calls, piece)| Model { thinking, text, calls, piece })
        .prop_filter("something is said", |model| !model.text.is_empty() || !model.calls.is_empty())
}

/// The answer in a line, as a table shows it.
fn shown_model(model: &Model) -> String {
    let mut shown = Vec::new();
    let thinking = model.thinking.concat();
    if !thinking.is_empty() {
        shown.push(format!("({thinking})"));
    }
    if !model.text.is_empty() {
        shown.push(model.text.concat());
    }
    shown.extend(model.calls.iter().map(|(name, arguments)| format!("{name}{arguments}")));
    shown.push(if model.calls.is_empty() { "stop" } else { "tool_calls" }.to_owned());
    shown.join(" ")
}

proptest! {
    #[test]
    fn deviations_take_nothing_from_an_answer(model in models(), seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let mut deviations = Deviations::new(seed);
        let mut events: Vec<String> =
            model.chunks().into_iter().flat_map(|chunk| deviations.apply(chunk)).collect();
        events.push("[DONE]".to_owned());
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let answer = runtime.block_on(compatible(Server::Generic, Given::events(&events)));
        prop_assert_eq!(shown(answer), shown_model(&model), "compatible: {:#?}", events);
        let answer = runtime.block_on(web(Given::events(&events)));
        prop_assert_eq!(shown(answer), shown_model(&model), "web: {:#?}", events);
    }
}
