use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    Text,
    qwen::{
        answer::{Answer, Pieces, Repairs, ThinkSplitter, Wire},
        compatible::{server::Server, translate::Translator},
        redact::Secrets,
    },
};

/// What servers write between the first and the last event of an answer.
const CAPTURED: [&str; 8] = [
    // vLLM.
    r#"{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1790000000,"model":"qwen","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
    // SGLang.
    r#"{"id":"7f","object":"chat.completion.chunk","created":1790000000,"model":"qwen","choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":"Hm","tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
    r#"{"id":"7f","object":"chat.completion.chunk","created":1790000000,"model":"qwen","choices":[{"index":0,"delta":{"content":"Hel","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
    // DashScope, with the counts so far.
    r#"{"choices":[{"delta":{"content":"word "},"finish_reason":null,"index":0,"logprobs":null}],"object":"chat.completion.chunk","usage":{"prompt_tokens":36,"completion_tokens":12,"total_tokens":48,"completion_tokens_details":{"reasoning_tokens":7},"prompt_tokens_details":{"cached_tokens":0}},"created":1790000000,"system_fingerprint":null,"model":"qwen-plus","id":"chatcmpl-7"}"#,
    r#"{"choices":[{"delta":{"content":null,"reasoning_content":"so"},"finish_reason":null,"index":0,"logprobs":null}],"object":"chat.completion.chunk","usage":null,"created":1790000000,"system_fingerprint":null,"model":"qwen-plus","id":"chatcmpl-7"}"#,
    // Ollama.
    r#"{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1790000000,"model":"qwen","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Hm"},"finish_reason":null}]}"#,
    // llama.cpp.
    r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" word\n\"\u00e9"}}],"created":1790000000,"id":"chatcmpl-7","model":"qwen","system_fingerprint":"b5","object":"chat.completion.chunk"}"#,
    // By Python's `json.dumps`.
    r#"{"id": "7", "object": "chat.completion.chunk", "created": 1790000000, "model": "qwen", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "\u4f60"}, "finish_reason": null}]}"#,
];

/// What an answer is before the event: its first events.
const BEFORE: [&[&str]; 5] = [
    &[],
    &[r#"{"id":"7","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#],
    &[r#"{"id":"7","choices":[{"index":0,"delta":{"content":"Hi"}}]}"#],
    &[r#"{"id":"7","choices":[{"index":1,"delta":{"content":"Hi"}}]}"#],
    &[
        r#"{"id":"7","choices":[{"index":0,"delta":{"content":"Hi"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    ],
];

/// What has come of an answer behind the `before`, when `data` is read in general or as it always is;
/// and whether it was read by hand.
fn told(before: &[&str], data: &str, in_general: bool) -> (String, bool) {
    let mut translator = Translator::new(Server::Generic, Secrets::default());
    let repairs = Repairs::new("tests");
    let mut answer = Answer::new(Pieces::incremental, ThinkSplitter::off(), repairs);
    for event in before {
        translator.event(None, Text::from(*event), &mut answer).expect("well formed");
        while answer.pop().is_some() {}
    }
    let data = Text::from(data);
    let usual = if in_general { None } else { translator.usual(&data, &mut answer) };
    let result = match usual {
        Some(()) => Ok(()),
        None => translator.in_general(&data, &mut answer),
    };
    (format!("{result:?} {translator:?} {answer:?}"), usual.is_some())
}

/// Whether the event was read by hand, behind whatever stood before it; in general it means the same.
fn agree(data: &str) -> Result<bool, TestCaseError> {
    let mut by_hand = false;
    // Also behind another usual event, and behind the same.
    let behind = CAPTURED.map(|usual| vec![BEFORE[2][0], usual]);
    let twice = vec![BEFORE[2][0], data];
    let twice = told(BEFORE[2], data, true).0.starts_with("Ok").then_some(twice);
    for before in BEFORE.map(<[_]>::to_vec).into_iter().chain(behind).chain(twice) {
        let (fast, usual) = told(&before, data, false);
        let (general, _) = told(&before, data, true);
        prop_assert_eq!(fast, general, "{} behind {:?}", data, before);
        by_hand |= usual;
    }
    Ok(by_hand)
}

#[test]
fn captured_shapes_are_read_and_agree() {
    for data in CAPTURED {
        assert!(agree(data).unwrap(), "{data}");
    }
}

/// Where only the text is another, the frame is what is compared, and the text may be anything.
#[test]
fn the_same_frame_around_any_text_agrees() {
    let texts =
        ["", " ", "é", "\\n", "\\\"", "\\ud83d", "\t", "\"", "\",\"index\":1,\"x\":\"", "}]}"];
    for data in CAPTURED {
        let usual = parse(data).expect("usual");
        let literal = usual.content.or(usual.reasoning).expect("a text");
        let at = literal.text.as_ptr().addr() - data.as_ptr().addr();
        let (before, behind) = (&data[..at], &data[at + literal.text.len()..]);
        for text in texts.map(str::to_owned).into_iter().chain([64, 65].map(|len| "x".repeat(len)))
        {
            let event = format!("{before}{text}{behind}");
            let start = [BEFORE[2][0], data];
            assert_eq!(told(&start, &event, false).0, told(&start, &event, true).0, "{event}");
        }
        let mut frame = Frame::default();
        assert!(frame.same(data).is_none() && frame.read(data).is_some());
        // The one that has both texts has no frame.
        let has_frame = usual.content.is_none() || usual.reasoning.is_none();
        let again = format!("{before}again{behind}");
        assert_eq!(frame.same(&again).is_some(), has_frame, "{data}");
        assert!(frame.same(before).is_none() && frame.same("").is_none());
    }
}

#[test]
fn content_shares_the_buffer() {
    let data = Text::from(CAPTURED[0]);
    let content = parse(&data).unwrap().content.unwrap().content(&data).unwrap().of(data.clone());
    assert!(data.as_bytes().as_ptr_range().contains(&content.as_ptr()));
}

#[test]
fn what_is_not_usual_is_left_to_the_general_path() {
    for (from, to) in [
        (" word", " \tword"),
        (" word", "\\x"),
        ("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
        ("\"index\":0", "\"index\":0.0"),
        ("\"index\":0", "\"index\":0,\"index\":1"),
        ("\"content\":\" word\"", "\"content\":\" word\",\"content\":\"twice\""),
        ("\"content\":\" word\"", "\"content\":\" word\",\"annotations\":[]"),
        ("\"content\":\" word\"", "\"content\":[{\"text\":\"a\"}]"),
        ("\"content\":\" word\"", "\"content\":\"a\",\"tool_calls\":[]"),
        ("\"token_ids\":null", "\"token_ids\":[1]"),
        ("\"model\":\"qwen\"", "\"model\":\"qwen\",\"error\":null"),
        ("}]}", "}]} "),
        ("}]}", "},{}]}"),
        ("}]}", "}]"),
    ] {
        let data = CAPTURED[0].replacen(from, to, 1);
        assert_ne!(data, CAPTURED[0]);
        let usual = told(BEFORE[1], &data, false).1;
        assert!(!usual, "{data}");
        agree(&data).unwrap();
    }
    assert!(parse("").is_none() && parse("{}").is_none() && parse("[]").is_none());
}

/// Half of a pair of surrogates means something to the general path.
#[test]
fn halves_of_surrogates_are_left_to_the_general_path() {
    let data = CAPTURED[0].replace(" word", "\\ud83d");
    assert!(!agree(&data).unwrap());
}

proptest! {
    /// Any text in any field is read by hand as in general, in either spacing.
    #[test]
    fn any_text_agrees(content: String, reasoning: Option<String>, index in 0u64..3, spacing: bool, escape: bool) {
        let literal = |text: &str| {
            if !escape {
                return json!(text).to_string();
            }
            // As Python does by default.
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            format!("\"{}\"", units.collect::<String>())
        };
        let reasoning = reasoning.map_or("null".to_owned(), |text| literal(&text));
        let (colon, comma) = if spacing { (": ", ", ") } else { (":", ",") };
        let data = format!(
            "{{\"id\"{colon}\"7\"{comma}\"choices\"{colon}[{{\"index\"{colon}{index}{comma}\"delta\"{colon}\
             {{\"content\"{colon}{}{comma}\"reasoning_content\"{colon}{reasoning}}}}}]}}",
            literal(&content)
        );
        agree(&data)?;
        prop_assert!(parse(&data).is_some(), "{}", data);
    }

    /// In whatever order the members of each object stand.
    #[test]
    fn any_order_agrees(
        event in Just(vec!["choices", "id", "usage", "created", "model", "object"]).prop_shuffle(),
        choice in Just(vec!["delta", "index", "finish_reason", "logprobs"]).prop_shuffle(),
        delta in Just(vec!["role", "content", "reasoning"]).prop_shuffle(),
        usage in Just(vec![
            "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
        ]).prop_shuffle(),
        left_out in 0usize..4,
    ) {
        let object = |names: &[&str], value: &dyn Fn(&str) -> String| {
            let members = names.iter().map(|name| format!("\"{name}\":{}", value(name)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        let data = object(&event, &|name| match name {
            "choices" => format!("[{}]", object(&choice, &|name| match name {
                "delta" => object(&delta[left_out.min(2)..], &|name| match name {
                    "role" => "\"assistant\"",
                    "content" => "\" quick\\n\"",
                    _ => "\"so\"",
                }.to_owned()),
                "index" => "0".to_owned(),
                _ => "null".to_owned(),
            })),
            "usage" => object(&usage[left_out..], &|name| match name {
                "prompt_tokens_details" => "{\"cached_tokens\":7}".to_owned(),
                name => name.len().to_string(),
            }),
            "created" => "1790000012".to_owned(),
            name => format!("\"{name}\""),
        });
        agree(&data)?;
    }

    /// Whatever a slip makes of such an event, it is left alone or read as in general.
    #[test]
    fn slips_agree(
        which in 0..CAPTURED.len(),
        slips in proptest::collection::vec(
            (any::<prop::sample::Index>(), proptest::option::weighted(0.8, slip()), any::<bool>()), 1..3,
        ),
    ) {
        let mut data: Vec<char> = CAPTURED[which].chars().collect();
        for (at, slip, insert) in slips {
            let at = at.index(data.len());
            match slip {
                Some(c) if insert => data.insert(at, c),
                Some(c) => data[at] = c,
                None => { data.remove(at); }
            }
        }
        agree(&data.into_iter().collect::<String>())?;
    }
}

/// A character that means something to a parser, or any.
fn slip() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => prop::sample::select(" \"\\{}[]:,0123456789-.eEunt\t".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ]
}
