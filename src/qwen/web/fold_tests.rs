use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::chat::{Extra, ToolCall};

fn history(messages: impl IntoIterator<Item = Message>) -> History {
    History::new(messages.into_iter().collect::<Vec<_>>())
}

fn parts(parts: Vec<PartKind>) -> Message {
    let mut message = Message::empty(Role::User);
    message.content = Some(Content::Parts(parts.into_iter().map(Part::new).collect()));
    message
}

fn image_at(url: &str) -> PartKind {
    PartKind::Image { url: url.into(), detail: None }
}

#[test]
fn a_single_user_message_goes_as_it_is() {
    let message = Message::new(Role::User, String::from("Hello [image 1]\n"));
    let history = history([message]);
    let folded = fold(&history).unwrap();
    assert_eq!(folded.to_string(), "Hello [image 1]\n");
}

#[test]
fn a_history_is_marked_with_its_instructions_first() {
    let mut named = Message::new(Role::User, "What is the weather?");
    named.name = Some("ann".into());
    let mut calls = Message::empty(Role::Assistant);
    calls.reasoning = Some("I must look.".into());
    calls.tool_calls = vec![
        ToolCall::new("call_1", "get_weather", "{\"city\":\"Oslo\"}"),
        ToolCall::new("", "now", "{}"),
    ];
    let mut result = Message::new(Role::Tool, "4 °C");
    result.tool_call_id = Some("call_1".into());
    let mut legacy = Message::new(Role::Function, "noon");
    legacy.name = Some("now".into());
    let history = history([
        Message::new(Role::User, "Hi"),
        Message::new(Role::System, "Answer in verse."),
        named,
        calls,
        result,
        legacy,
        Message::new(Role::Developer, "Be short."),
        Message::new(Role::Assistant, "It is cold."),
    ]);
    assert_eq!(
        fold(&history).unwrap().to_string(),
        "[system]\nAnswer in verse.\n\n\
         [developer]\nBe short.\n\n\
         [user]\nHi\n\n\
         [user: ann]\nWhat is the weather?\n\n\
         [assistant]\n[thinks]\nI must look.\n\
         [calls get_weather, id call_1]\n{\"city\":\"Oslo\"}\n\
         [calls now]\n{}\n\n\
         [tool result: get_weather, id call_1]\n4 °C\n\n\
         [tool result: now]\nnoon\n\n\
         [assistant]\nIt is cold."
    );
}

#[test]
fn a_single_message_that_is_not_a_users_is_marked() {
    let mut result = Message::new(Role::Tool, "4 °C");
    result.tool_call_id = Some("call_1".into());
    assert_eq!(fold(&history([result])).unwrap().to_string(), "[tool result, id call_1]\n4 °C");
    let mut named = Message::new(Role::User, "Hi");
    named.name = Some("ann".into());
    assert_eq!(fold(&history([named])).unwrap().to_string(), "[user: ann]\nHi");
}

#[test]
fn images_keep_their_place_among_the_text() {
    let first = parts(vec![
        PartKind::Text("Look: ".into()),
        image_at("https://cdn.example/a.png"),
        PartKind::Text(" and ".into()),
        image_at("HTTPS://cdn.example/b.jpg"),
    ]);
    let alone = history([first.clone()]);
    let folded = fold(&alone).unwrap();
    assert_eq!(folded.to_string(), "Look:  and ");
    let urls = ["https://cdn.example/a.png".into(), "HTTPS://cdn.example/b.jpg".into()];
    assert_eq!(folded.files, [File::Image(&urls[0]), File::Image(&urls[1])]);
    let history = history([first, parts(vec![image_at("https://cdn.example/c.gif")])]);
    let folded = fold(&history).unwrap();
    assert_eq!(folded.to_string(), "[user]\nLook: [image 1] and [image 2]\n\n[user]\n[image 3]");
    assert_eq!(folded.files.len(), 3);
}

#[test]
fn what_upstream_keeps_is_marked_by_its_kind() {
    let uploaded = |kind, name: &str| {
        PartKind::Uploaded(UploadedFile::new(kind, name, "https://b.example/f", name, "a/b"))
    };
    let first = parts(vec![
        PartKind::Text("See ".into()),
        uploaded(FileKind::Image, "a.png"),
        image_at("https://cdn.example/b.png"),
        uploaded(FileKind::Document, "r.pdf"),
        uploaded(FileKind::Document, "s.pdf"),
        uploaded(FileKind::Audio, "a.wav"),
        uploaded(FileKind::Video, "a.mp4"),
    ]);
    let history = history([Message::new(Role::System, "s"), first]);
    let folded = fold(&history).unwrap();
    assert_eq!(
        folded.to_string(),
        "[system]\ns\n\n[user]\nSee [image 1][image 2][document 1: r.pdf][document 2: s.pdf]\
         [audio 1][video 1]"
    );
    assert_eq!(folded.files.len(), 6);
}

#[test]
fn what_cannot_be_carried_is_named() {
    let text = || PartKind::Text("x".into());
    let other = json!({"type": "audio_url", "audio_url": {"url": "https://cdn.example/a.mp3"}});
    let other: Extra = serde_json::from_value(other).expect("an object");
    for (kind, word) in [
        (image_at("data:image/png;base64,AAAA"), "data:"),
        (image_at("http://cdn.example/a.png"), "not https:"),
        (image_at("é"), "not https:"),
        (PartKind::Audio { data: "AAAA".into(), format: None }, "audio"),
        (PartKind::Video { url: "https://cdn.example/a.mp4".into() }, "video"),
        (PartKind::File { id: Some("f".into()), data: None, name: None }, "a file"),
        (PartKind::Other(other), "type"),
    ] {
        let alone = fold(&history([parts(vec![text(), kind.clone()])])).expect_err("not carried");
        assert_eq!(alone.param(), Some("messages[0].content[1]"));
        assert!(alone.to_string().contains(word), "{alone}");
        let marked = history([Message::new(Role::System, "s"), parts(vec![text(), kind])]);
        let error = fold(&marked).expect_err("not carried");
        assert_eq!(error.param(), Some("messages[1].content[1]"));
        assert_eq!(error.kind(), crate::ErrorKind::InvalidRequest);
    }
}

#[test]
fn nothing_to_say_is_an_error() {
    for messages in [vec![], vec![Message::new(Role::User, " \n")], vec![parts(vec![])]] {
        assert_eq!(fold(&history(messages)).expect_err("empty").param(), Some("messages"));
    }
    assert!(fold(&history([parts(vec![image_at("https://cdn.example/a.png")])])).is_ok());
}

proptest! {
    /// No text of the history is lost, and the order is kept among those of a kind.
    #[test]
    fn nothing_is_lost(said in proptest::collection::vec((0..4_u8, "[a-z]{1,8}"), 2..20)) {
        let messages: Vec<_> = said
            .iter()
            .enumerate()
            .map(|(at, (role, text))| {
                let text = text.replace('z', "\n\"");
                let role = [Role::System, Role::User, Role::Assistant, Role::Tool][*role as usize];
                Message::new(role, format!("{text}#{at}#"))
            })
            .collect();
        let mut history = history(messages.clone());
        history.mark_seen(said.len() / 2);
        let folded = fold(&history).unwrap();
        let escaped = folded.escaped_len();
        let folded = folded.to_string();
        prop_assert_eq!(escaped + 2, json!(folded).to_string().len());
        for instructions in [true, false] {
            let mut from = 0;
            for message in &messages {
                if message.role.is_instruction() == instructions {
                    let text = message.text();
                    let at = folded[from..].find(text.as_str());
                    prop_assert!(at.is_some(), "{} after {} in {}", text, from, folded);
                    from += at.unwrap_or(0) + text.len();
                }
            }
        }
    }
}
