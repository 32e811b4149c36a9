//! Whatever the upstream sends, and however it is cut.

use bytes::Bytes;
use proptest::prelude::*;
use tower_qwen::qwen::compatible::{CompatibleLayer, ContentMode, Server};

use crate::upstream::{Seen, Upstream, request};

fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..30),
        prop::sample::select(vec![
            "data: {\"choices\":[{\"delta\":{\"content\":\"x<think>\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":9,\"function\":{\"name\":\"f\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"arguments\":[]}}]}}]}\n\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", "data: {}\n\n", "data: [DONE]\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"x<think>\",\"reasoning\":\"x\"},\"finish_reason\":null}]}\n\n",
            "event: error\n", "error: {\"code\":500}\n\n", "error: ", "data: {\"usage\":7}\n\n",
            "data: {\"error\":null}\n\n", "data: {\"code\":1e99}\n\n", "data: ", "\n\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_upstream_bytes_are_an_answer_or_an_error_however_they_are_cut(
        pieces in prop::collection::vec(any_data(), 0..10),
        status in prop::sample::select(vec![200_u16, 401, 500]),
        content_type in prop::sample::select(vec!["text/event-stream", "application/json", "text/html", "text/plain"]),
        mode in prop::sample::select(vec![
            ContentMode::Incremental, ContentMode::Cumulative, ContentMode::Auto,
        ]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let whole: Bytes = pieces.concat().into();
        let run = |pieces: Vec<Bytes>| {
            let upstream = Upstream { status, content_type, pieces, seen: Seen::default() };
            let layer = CompatibleLayer::new(Server::Generic).content(mode);
            runtime.block_on(upstream.answer(layer, request()))
        };
        let at_once = run(vec![whole.clone()]);
        let by_byte = run((0..whole.len()).map(|at| whole.slice(at..=at)).collect());
        match (at_once, by_byte) {
            (Ok(mut a), Ok(mut b)) => {
                // Ids that the adapter made up differ.
                for call in a.tool_calls.iter_mut().chain(&mut b.tool_calls) {
                    if call.id.starts_with("call_") {
                        call.id = "call".into();
                    }
                }
                prop_assert_eq!(a, b);
            }
            (Err(a), Err(b)) => prop_assert_eq!(a.kind(), b.kind()),
            (a, b) => prop_assert!(false, "{a:?} and {b:?}"),
        }
    }
}
