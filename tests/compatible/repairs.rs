//! The count of repairs, by kind: each once an answer, and none where nothing is wrong.

use serde_json::{Value, json};
use tower_qwen::qwen::compatible::{CompatibleLayer, ContentMode, Server};

use crate::upstream::{DONE, Upstream, delta, events, finish, request};

/// The kinds that were counted, each with its count.
fn counted(upstream: Upstream) -> Vec<(String, String)> {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let layer = CompatibleLayer::new(Server::Generic).content(ContentMode::Cumulative);
    metrics::with_local_recorder(&recorder, || {
        // Whether it is an answer or an error is not the question here.
        let _ = tokio_test::block_on(upstream.answer(layer, request()));
    });
    recorder
        .handle()
        .render()
        .lines()
        .filter_map(|line| line.strip_prefix("tower_qwen_compatible_repairs_total{repair=\""))
        .filter_map(|line| line.split_once("\"} "))
        .map(|(kind, count)| (kind.to_owned(), count.to_owned()))
        .collect()
}

fn stream(chunks: &[Value], end: &str) -> Upstream {
    Upstream::stream(&(events(chunks) + end))
}

#[test]
fn every_kind_is_counted_once_an_answer() {
    let call = |call: Value| delta(json!({"tool_calls": [call]}));
    let named = |id: &str, name: &str, arguments: Value| {
        call(json!({"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}))
    };
    let say = |text: &str| delta(json!({"content": text}));
    let stop = || finish("stop");
    let good = named("a", "f", json!("{}"));
    let error = |code: Value| json!({"error": {"message": "boom", "code": code}});
    #[rustfmt::skip]
    let cases = [
        (stream(&[say("a"), stop()], DONE), &[][..]),
        (stream(&[good.clone(), finish("tool_calls")], DONE), &[]),
        (stream(&[say("<think>a"), say("<think>a</think>b"), stop()], DONE), &["cumulative", "think_tags"]),
        (stream(&[named("", "f", json!("{}")), finish("tool_calls")], DONE), &["call_id", "call_repeated"]),
        (stream(&[good.clone(), named("", "", json!("")), named("", "f", json!("")), finish("tool_calls")], DONE), &["call_repeated"]),
        (stream(&[good.clone(), named("b", "f", json!("{}")), finish("tool_calls")], DONE), &["call_index"]),
        (stream(&[named("a", "f", json!(null)), finish("tool_calls")], DONE), &["arguments"]),
        (stream(&[named("a", "f", json!({"x": 1})), finish("tool_calls")], DONE), &["arguments"]),
        (stream(&[call(json!({"index": 0, "id": "a", "function": {"name": "f"}})), finish("tool_calls")], DONE), &[]),
        (stream(&[call(json!({"index": 0, "id": "a", "function": {"arguments": "{}"}})), call(json!({"index": 0, "function": {"name": "f"}})), finish("tool_calls")], DONE), &["late_name"]),
        (stream(&[call(json!({"index": 0, "id": "a", "function": {"arguments": "{}"}})), finish("tool_calls")], DONE), &["nameless"]),
        (stream(&[good.clone(), call(json!({"index": 1, "id": "b", "function": {"arguments": ""}})), finish("tool_calls")], DONE), &["nameless"]),
        (stream(&[json!({"choices": [{"delta": {"content": "a"}, "finish_reason": ""}]}), json!({"choices": [{"delta": {}, "finish_reason": "null"}]}), stop()], DONE), &["empty_finish_reason"]),
        (stream(&[good, stop()], DONE), &["finish_reason"]),
        (stream(&[say("a"), finish("eos")], DONE), &["unknown_finish_reason"]),
        (stream(&[say("a")], DONE), &["missing_finish_reason"]),
        (stream(&[say("a"), stop()], ""), &["missing_done"]),
        (stream(&[say("a"), stop(), json!({"choices": [], "usage": {"prompt_tokens": "many"}})], DONE), &["usage"]),
        (Upstream::json(200, &json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})), &["whole"]),
        (Upstream { content_type: "text/plain", ..stream(&[say("a"), stop()], DONE) }, &["media_type"]),
        (Upstream::json(500, &error(json!(500))), &["error_code"]),
        (Upstream::json(500, &error(json!("InternalError"))), &[]),
        (Upstream::json(400, &json!({"message": "boom", "code": "InvalidParameter"})), &["flat_error"]),
        (stream(&[error(json!("x"))], DONE), &[]),
        (Upstream::stream("error: {\"code\":500,\"message\":\"boom\"}\n\n"), &["error_code", "error_event", "flat_error"]),
    ];
    for (at, (upstream, kinds)) in cases.into_iter().enumerate() {
        let mut found = counted(upstream);
        found.sort_unstable();
        let expected: Vec<_> =
            kinds.iter().map(|kind| ((*kind).to_owned(), "1".to_owned())).collect();
        assert_eq!(found, expected, "case {at}");
    }
}
