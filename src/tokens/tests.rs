use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::chat::{FunctionTool, Role, ToolCall};

fn request(messages: impl IntoIterator<Item = Message>) -> ChatRequest {
    ChatRequest::new("qwen3.8-max", messages)
}

fn of_parts(parts: Vec<Part>) -> u64 {
    let mut message = Message::empty(Role::User);
    message.content = Some(Content::Parts(parts));
    of_request(&request([message])) - of_request(&request([Message::empty(Role::User)]))
}

/// As on the wire: base64 of `bytes`.
fn data_url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut url = String::from("data:image/any;base64,");
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - three.len()));
        for at in 0..=three.len() {
            url.push(LETTERS[(bits >> (18 - 6 * at) & 63) as usize].into());
        }
    }
    url
}

fn of_image(bytes: &[u8]) -> u64 {
    of_parts(vec![Part::image(data_url(bytes))])
}

#[test]
fn each_part_of_a_request_counts() {
    let mut all = request([Message::new(Role::User, "Hello")]);
    let mut last = of_request(&all);
    let mut grows = |request: &ChatRequest, least: u64, what: &str| {
        let now = of_request(request);
        assert!(now >= last + least, "{what}: {last} {now}");
        last = now;
    };
    let mut call = Message::empty(Role::Assistant);
    call.reasoning = Some("I should look at the clock.".into());
    all.history.push(call.clone());
    grows(&all, 7, "a message and its thinking");
    call.tool_calls = vec![ToolCall::new("c", "get_time", r#"{"zone": "CET"}"#)];
    all.history.push(call);
    grows(&all, 15, "a call");
    let mut result = Message::new(Role::Tool, "12:30");
    result.tool_call_id = Some("c".into());
    all.history.push(result);
    grows(&all, 10, "a result");
    let schema = json!({"type": "object", "properties": {"zone": {"type": "string"}}});
    let mut tool = FunctionTool::new("get_time", schema.clone());
    tool.description = Some("The time in a zone.".into());
    all.tools = Arc::new(vec![Tool::Function(tool)]);
    grows(&all, 100, "a tool");
    Arc::make_mut(&mut all.tools).push(Tool::Other(json!({"type": "web_search"}).into()));
    grows(&all, 5, "another tool");
    all.response_format = Some(ResponseFormat::JsonSchema(json!({"schema": schema}).into()));
    grows(&all, 10, "a form of the answer");
}

#[test]
fn a_history_that_was_seen_counts_as_well() {
    let mut split = request([Message::new(Role::User, "One"), Message::new(Role::User, "Two")]);
    let whole = of_request(&split);
    split.history.mark_seen(1);
    assert_eq!(of_request(&split), whole);
}

#[test]
fn an_image_counts_by_its_size() {
    let png = |width: u32, height: u32| {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes
    };
    assert_eq!(of_image(&png(280, 140)), 52);
    assert_eq!(of_image(&png(281, 140)), 57);
    assert_eq!(of_image(&png(1, 1)), 6, "a small one is made larger");
    assert_eq!(of_image(&png(u32::MAX, u32::MAX)), 16_386, "a large one is made smaller");
    assert_eq!(of_image(b"GIF89a\x18\x01\x8c\0______"), 52);
    let webp = |chunk: &[u8]| [b"RIFF____WEBP", chunk].concat();
    assert_eq!(of_image(&webp(b"VP8X____\0\0\0\0\x17\x01\0\x8b\0\0")), 52);
    assert_eq!(of_image(&webp(b"VP8 ____\0\0\0\x9d\x01\x2a\x18\x01\x8c\0")), 52);
    let bits: u32 = 279 | 139 << 14;
    let lossless = [&b"VP8L____\x2f"[..], &bits.to_le_bytes(), b"_____"].concat();
    assert_eq!(of_image(&webp(&lossless)), 52);
    let jpeg = b"\xff\xd8\xff\xe0\0\x05abc\xff\xff\xc4\0\x02\xff\xc2\0\x11\x08\0\x8c\x01\x18____";
    assert_eq!(of_image(jpeg), 52);
}

#[test]
fn an_image_of_unknown_size_is_an_ordinary_one() {
    let whole = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x18\0\0\0\x8c";
    for cut in 0..whole.len() {
        assert_eq!(of_image(&whole[..cut]), PICTURE, "{cut}");
    }
    for bytes in [
        &b"\xff\xd8\xff\xe0\0\0"[..],
        b"\xff\xd8\xff\xe0\xff\xff",
        b"RIFF____WEBPABCD__________",
        b"BM______________",
    ] {
        assert_eq!(of_image(bytes), PICTURE, "{bytes:?}");
    }
    for url in ["https://example.com/a.png", "data:image/png,x", "data:", "", "data:;base64,é"] {
        assert_eq!(of_parts(vec![Part::image(url)]), PICTURE, "{url}");
    }
}

#[test]
fn what_is_no_text_counts_by_its_length() {
    let file =
        |data: Option<String>| PartKind::File { id: None, data: data.map(Into::into), name: None };
    let page = format!("data:application/pdf;base64,{}", "A".repeat(64_000));
    assert_eq!(of_parts(vec![Part::new(file(Some(page)))]), 2_000);
    assert_eq!(of_parts(vec![Part::new(file(None))]), PICTURE);
    let sound = PartKind::Audio { data: "A".repeat(8_000).into(), format: None };
    assert_eq!(of_parts(vec![Part::new(sound)]), 11);
    assert_eq!(of_parts(vec![Part::new(PartKind::Video { url: "x".into() })]), VIDEO);
    assert!(of_parts(vec![Part::new(PartKind::ToolReference { name: "get_time".into() })]) >= 2);
}

#[test]
fn the_vocabulary_is_that_of_the_model() {
    for (model, vocabulary) in [
        ("qwen3-max", Vocabulary::Qwen),
        ("Qwen/Qwen2.5-72B-Instruct", Vocabulary::Qwen),
        ("qwen3.5-plus", Vocabulary::Qwen35),
        ("qwen3.8-max", Vocabulary::Qwen35),
        ("my-model", Vocabulary::Qwen35),
    ] {
        assert_eq!(Vocabulary::of_model(model), vocabulary, "{model}");
    }
    // Greek is much better covered by the newer one.
    let of =
        |model| of_request(&ChatRequest::new(model, [Message::new(Role::User, "καλημέρα κόσμε")]));
    assert!(of("qwen3-max") > of("qwen3.8-max"));
}

#[test]
fn an_estimator_learns_and_errs_to_the_large_side() {
    let estimator = TokenEstimator::new();
    let long = request([Message::new(Role::User, "word ".repeat(1_000))]);
    let plain = of_request(&long);
    assert_eq!(estimator.estimate(&long), plain, "nothing is known yet");
    // Always the same: it comes near, and stays above.
    for _ in 0..50 {
        estimator.learn("qwen3.8-max", 1_000, 950);
    }
    let learnt = estimator.corrected("qwen3.8-max", 1_000);
    assert!((950..=952).contains(&learnt), "{learnt}");
    // Definitions in JSON may count far less than they are taken for. Prose does not.
    for _ in 0..50 {
        estimator.learn("with tools", 1_000, 600);
    }
    assert_eq!(estimator.corrected("with tools", 1_000), 900);
    assert_eq!(
        estimator.corrected("qwen3.8-flash", 1_000),
        1_000,
        "of another model it knows nothing"
    );
    // What varies is answered with more.
    for at in 0..50 {
        estimator.learn("varies", 1_000, if at % 2 == 0 { 800 } else { 1_000 });
    }
    assert!((1_000..1_200).contains(&estimator.corrected("varies", 1_000)));
    // One large report raises it at once; the small ones after it lower it slowly.
    estimator.learn("qwen3.8-max", 1_000, 1_200);
    assert!(estimator.corrected("qwen3.8-max", 1_000) > 1_000);
}

#[test]
fn reports_that_say_nothing_are_ignored() {
    let estimator = TokenEstimator::new();
    for (estimated, reported) in [
        (0, 0),
        (0, 500),
        (255, 300),
        (1_000, 0),
        (1_000, 3_001),
        (1_000, 333),
        (1_000, u64::MAX),
        (u64::MAX, 1),
    ] {
        estimator.learn("m", estimated, reported);
        assert_eq!(estimator.corrected("m", 1_000), 1_000, "{estimated} {reported}");
    }
    assert_eq!(format!("{estimator:?}"), "{}");
    estimator.learn("m", 1_000, 1_000);
    assert_eq!(format!("{estimator:?}"), r#"{"m": 1.1}"#);
}

#[test]
fn an_estimator_remembers_a_bounded_number_of_models() {
    let estimator = TokenEstimator::new();
    estimator.learn("first", 1_000, 2_000);
    estimator.learn("second", 1_000, 2_000);
    for n in 0..62 {
        estimator.learn(&format!("m{n}"), 1_000, 2_000);
    }
    // It is used again, so the second one has been idle the longest.
    estimator.learn("first", 1_000, 2_000);
    estimator.learn("new", 1_000, 2_000);
    let knows = |model: &str| estimator.corrected(model, 1_000) != 1_000;
    assert_eq!(["first", "second", "m0", "new"].map(knows), [true, false, true, true]);
}

/// Twice the text takes about twice the steps, and no text makes it go back.
#[test]
fn long_texts_of_one_kind_are_read_to_their_end() {
    for unit in ["a", "A", "é", "字", "か", "9", " ", "\n", "\r\n", ".", "😀", "а", "-\n ", "'s"]
    {
        for vocabulary in [Vocabulary::Qwen, Vocabulary::Qwen35] {
            let of = |times: usize| of_text(&unit.repeat(times), vocabulary);
            assert!(of(100_000) >= of(50_000), "{unit:?}");
            assert!(of(100_000) <= 2 * of(50_000) + 2, "{unit:?}");
        }
    }
}
