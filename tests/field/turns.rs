//! Calls whose pieces come in turns, in any order, cut anywhere.

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};
use tower_qwen::qwen::compatible::Server;

use crate::wires::{Given, compatible, shown, web};

/// A call as the server sends it.
#[derive(Clone, Debug)]
struct Sent {
    name: &'static str,
    arguments: String,
    pieces: Vec<(String, String)>,
}

/// Where a text is cut.
fn cuts(text: &str, at: &[Index]) -> Vec<usize> {
    let mut cuts: Vec<_> = at.iter().map(|at| at.index(text.len() + 1)).collect();
    cuts.push(text.len());
    cuts.retain(|cut| text.is_char_boundary(*cut));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn calls() -> impl Strategy<Value = Sent> {
    let inside = prop::collection::btree_map("[ax]{0,2}", "[a-z\"\\\\\u{1f600}{}:]{0,6}", 1..3);
    let at = || prop::collection::vec(any::<Index>(), 0..5);
    (prop::sample::select(vec!["get_weather", "write_file"]), inside, at(), at(), any::<bool>())
        .prop_map(|(name, inside, of_name, of_arguments, repeats)| {
            let arguments = json!(inside).to_string();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts(name, &of_name) {
                let piece = &name[from..cut];
                // One letter may be the whole name of another function on offer.
                if piece.len() > 1 || cut == name.len() {
                    pieces.push((piece.to_owned(), String::new()));
                    from = cut;
                }
            }
            let mut from = 0;
            for cut in cuts(&arguments, &of_arguments) {
                pieces.push((String::new(), arguments[from..cut].to_owned()));
                from = if repeats { 0 } else { cut };
            }
            Sent { name, arguments, pieces }
        })
        .prop_filter("a last letter is no piece of its own", |sent| {
            sent.pieces.iter().all(|(name, _)| name.len() != 1)
        })
}

proptest! {
    #[test]
    fn pieces_in_turns_are_the_calls_that_they_are_of(
        sent in prop::collection::vec(calls(), 1..4),
        order in prop::collection::vec(any::<Index>(), 60),
        in_lists: bool,
    ) {
        let mut left: Vec<_> = sent.iter().map(|sent| sent.pieces.iter().enumerate()).collect();
        let mut chunks: Vec<Value> = Vec::new();
        let mut begun = Vec::new();
        for at in order.iter().cycle() {
            let open: Vec<usize> = (0..left.len()).filter(|call| left[*call].len() > 0).collect();
            if open.is_empty() {
                break;
            }
            let call = *at.get(&open);
            let Some((place, (name, arguments))) = left[call].next() else { continue };
            let mut function = json!({});
            if !name.is_empty() {
                function["name"] = name.as_str().into();
            }
            if !arguments.is_empty() {
                function["arguments"] = arguments.as_str().into();
            }
            let mut delta = json!({"index": call, "function": function});
            if place == 0 {
                delta["id"] = format!("call-{call}").into();
                begun.push(call);
            }
            chunks.push(json!({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]}));
        }
        chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}));
        let mut events: Vec<String> = match in_lists {
            false => chunks.iter().map(Value::to_string).collect(),
            true => chunks.chunks(3).map(|chunks| json!(chunks).to_string()).collect(),
        };
        events.push("[DONE]".to_owned());
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        // In the order in which they were begun.
        let mut expected: Vec<String> =
            begun.iter().map(|call| format!("{}{}", sent[*call].name, sent[*call].arguments)).collect();
        expected.push("tool_calls".to_owned());
        let expected = expected.join(" ");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let answer = runtime.block_on(compatible(Server::Generic, Given::events(&events)));
        prop_assert_eq!(shown(answer), expected.as_str(), "compatible: {:#?}", events);
        let answer = runtime.block_on(web(Given::events(&events)));
        prop_assert_eq!(shown(answer), expected.as_str(), "web: {:#?}", events);
    }
}

/// What waits behind half a name has a limit; then it is told as it is.
#[tokio::test]
async fn what_waits_behind_half_a_name_has_a_limit() {
    let chunk = |call: Value| json!({"choices": [{"delta": {"tool_calls": [call]}}]}).to_string();
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(200_000));
    let mut events = vec![
        chunk(json!({"index": 0, "id": "a", "function": {"name": "get_"}})),
        chunk(json!({"index": 1, "id": "b", "function": {"name": "f"}})),
    ];
    for piece in long.as_bytes().chunks(1000) {
        let piece = std::str::from_utf8(piece).expect("ASCII");
        events.push(chunk(json!({"index": 1, "function": {"arguments": piece}})));
    }
    // Too late.
    events.push(chunk(json!({"index": 0, "function": {"name": "weather"}})));
    events.push(chunk(json!({"index": 0, "function": {"arguments": "{}"}})));
    events.push("[DONE]".to_owned());
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let answer = compatible(Server::Generic, Given::events(&events)).await;
    assert_eq!(shown(answer), format!("get_{{}} f{long} tool_calls"));
}
