//! The vocabulary, without a runtime.

use futures_executor::block_on;
use futures_util::stream;
use tower_qwen::chat::{Answer, ChatEvent, FinishReason};

#[test]
fn an_answer_is_collected() {
    let stream = stream::iter([
        Ok(ChatEvent::Text("Hel".into())),
        Ok(ChatEvent::Text("lo".into())),
        Ok(ChatEvent::Finished(FinishReason::Stop)),
    ]);
    let answer = block_on(Answer::collect(stream)).expect("complete");
    assert_eq!((answer.text.as_str(), answer.finish_reason), ("Hello", Some(FinishReason::Stop)));
}

#[test]
fn a_stream_without_an_end_is_an_error() {
    let stream = stream::iter([Ok(ChatEvent::Text("half".into()))]);
    let error = block_on(Answer::collect(stream)).expect_err("cut");
    assert_eq!(error.kind(), tower_qwen::ErrorKind::Truncated);
}
