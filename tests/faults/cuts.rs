//! A good answer that is cut at each of its bytes, under the adapter alone, the full stack and every edge.

use std::time::Duration;

use crate::{
    edges::{Mode, Turn},
    fault::{cut, end_of_cut},
    pairs::Case,
    protocol::{Asks, EDGES},
    stack::Stack,
    upstream::{Script, Then},
    wire::Wire,
};

/// Each place in a good answer: the script of one that is cut there, and whether it is by a reset.
fn scripts(wire: Wire) -> impl Iterator<Item = (usize, bool, Script)> {
    let events = wire.events(9_000);
    let len = events.concat().len();
    assert!(len > 300, "{len}");
    (0..=len).flat_map(move |bytes| {
        let of = |then| cut(&events, bytes, then);
        [(bytes, false, of(Then::End)), (bytes, true, of(Then::Reset))]
    })
}

async fn under_stacks(wire: Wire) {
    for stack in [Stack(Vec::new()), Stack::alone()] {
        for (bytes, is_reset, script) in scripts(wire) {
            let end = end_of_cut(wire, bytes, is_reset);
            let what = format!("{wire:?} cut at {bytes}, reset: {is_reset}, {:?}", stack.0);
            let case = Case {
                wire,
                stack: &stack,
                script: Some(script),
                is_once: false,
                end,
                tries: 1,
                at_most: Duration::ZERO,
                what,
            };
            case.run(true).await;
        }
    }
}

async fn under_edges(wire: Wire) {
    let stack = Stack::alone();
    for edge in EDGES {
        for (bytes, is_reset, script) in scripts(wire) {
            // Under an edge each place has one of the four ways, and its neighbours the others.
            if is_reset != (bytes % 2 == 0) {
                continue;
            }
            let mode = if bytes % 4 < 2 { Mode::Stream } else { Mode::Whole };
            let end = end_of_cut(wire, bytes, is_reset);
            let what =
                format!("{edge:?} over {wire:?} cut at {bytes}, reset: {is_reset}, {mode:?}");
            let script = Some(script);
            Turn {
                asks: Asks::Words,
                is_told_late: false,
                wire,
                stack: &stack,
                edge,
                mode,
                script,
                end,
                is_late: false,
                at_most: Duration::ZERO,
                what,
            }
            .run()
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_web_that_is_cut_at_any_byte() {
    under_stacks(Wire::Web).await;
    under_edges(Wire::Web).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_compatible_server_that_is_cut_at_any_byte() {
    under_stacks(Wire::Compatible).await;
    under_edges(Wire::Compatible).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_dashscopes_responses_that_is_cut_at_any_byte() {
    under_stacks(Wire::Responses).await;
    under_edges(Wire::Responses).await;
}
