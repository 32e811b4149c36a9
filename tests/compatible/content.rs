//! Streams whose pieces hold the whole text so far.

use serde_json::{Value, json};
use tower_qwen::{
    Error,
    chat::Answer,
    qwen::compatible::{CompatibleLayer, ContentMode, Server},
};

use crate::upstream::{Upstream, delta, events, finish, request};

const GROWING: [&str; 4] =
    ["Once upon", "Once upon a", "Once upon a time", "Once upon a time there was"];

async fn said(layer: CompatibleLayer, chunks: &[Value]) -> Result<Answer, Error> {
    Upstream::stream(&events(chunks)).answer(layer, request()).await
}

fn contents(field: &str, pieces: &[&str]) -> Vec<Value> {
    pieces.iter().map(|piece| delta(json!({ field: piece }))).collect()
}

/// The mode is per upstream: found out for the portal, incremental for the others unless set.
#[tokio::test]
async fn cumulative_content_per_upstream() {
    let mut chunks = contents("content", &GROWING);
    chunks.push(finish("stop"));
    let whole = *GROWING.last().expect("four");
    for (layer, expected) in [
        (CompatibleLayer::new(Server::Portal), whole),
        (CompatibleLayer::new(Server::Generic).content(ContentMode::Auto), whole),
        (CompatibleLayer::new(Server::Generic).content(ContentMode::Cumulative), whole),
        (CompatibleLayer::new(Server::Generic), &*GROWING.concat()),
        (CompatibleLayer::new(Server::DashScope), &*GROWING.concat()),
        (
            CompatibleLayer::new(Server::Portal).content(ContentMode::Incremental),
            &*GROWING.concat(),
        ),
    ] {
        let shown = format!("{layer:?}");
        let answer = said(layer, &chunks).await.expect("complete");
        assert_eq!(answer.text, expected, "{shown}");
    }
}

/// The portal: words that are said again are not taken for it.
#[tokio::test]
async fn repeated_words_of_an_incremental_stream_stay() {
    for pieces in [&["ha", "haha", "hahaha!"][..], &["the end. ", "the end. ", "the end. "]] {
        let mut chunks = contents("content", pieces);
        chunks.push(finish("stop"));
        let answer = said(CompatibleLayer::new(Server::Portal), &chunks).await.expect("complete");
        assert_eq!(answer.text, pieces.concat());
    }
}

/// Reasoning repeats itself as content does; each is found out for itself.
#[tokio::test]
async fn cumulative_reasoning() {
    let mut chunks = contents("reasoning_content", &GROWING);
    chunks.extend(contents("content", &["Hi"]));
    chunks.push(finish("stop"));
    let answer = said(CompatibleLayer::new(Server::Portal), &chunks).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), (GROWING[3], "Hi"));
}

/// A think block in cumulative content is found behind the repair.
#[tokio::test]
async fn think_tags_in_cumulative_content() {
    let pieces =
        ["<think>so it", "<think>so it is", "<think>so it is</think>", "<think>so it is</think>Hi"];
    let mut chunks = contents("content", &pieces);
    chunks.push(finish("stop"));
    let layer = CompatibleLayer::new(Server::Generic).content(ContentMode::Cumulative);
    let answer = said(layer, &chunks).await.expect("complete");
    assert_eq!((&*answer.reasoning, &*answer.text), ("so it is", "Hi"));
}

/// What is held back comes before what follows it, and is not lost with the end.
#[tokio::test]
async fn what_is_held_is_given_in_order() {
    use futures_util::StreamExt;
    use tower_qwen::chat::ChatEvent;

    let held = ["Once upon", "Once upon a"];
    let call = delta(json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}));
    for (last, label) in [
        (vec![call, finish("tool_calls")], "a call"),
        (vec![delta(json!({"reasoning_content": "hm"})), finish("stop")], "reasoning"),
        (vec![finish("stop")], "the end"),
        (vec![], "a cut"),
    ] {
        let mut chunks = contents("content", &held);
        chunks.extend(last);
        let upstream = Upstream::stream(&events(&chunks));
        let stream = upstream.open(CompatibleLayer::new(Server::Portal), request()).await;
        let given: Vec<_> = stream.expect("committed").collect().await;
        let texts: Vec<_> = given
            .iter()
            .skip(1)
            .take(2)
            .map(|event| match event {
                Ok(ChatEvent::Text(text)) => text.as_str(),
                other => panic!("{label}: {other:?}"),
            })
            .collect();
        assert_eq!(texts, held, "{label}");
        assert_eq!(given.last().expect("some").is_err(), label == "a cut");
    }
}
