//! The usual delta event, read by hand.
//!
//! Nearly all events of an answer are alike to the byte but for their text and their counts:
//! Python's `json.dumps` wrote them. Those are matched against that template, in either
//! spacing. Where the order is another, the same fields are read one by one; whatever else differs
//! in the slightest is left to the general parser. A test holds that all always agree.

mod any_order;

use crate::{
    Text,
    chat::Usage,
    qwen::cursor::{Content, Cursor, Literal},
};

/// What the usual event says, in slices of it: nothing is counted, copied or kept before all of
/// it is known to be usual.
#[derive(Clone, Copy)]
pub(super) struct Usual<'a> {
    pub(super) is_thinking: bool,
    content: Literal<'a>,
    pub(super) response_id: Option<&'a str>,
    pub(super) usage: Option<Usage>,
}

impl Usual<'_> {
    /// The text of the event with this `data`; `None` where its escapes are no JSON.
    #[inline]
    pub(super) fn content(&self, data: &Text) -> Option<Content> {
        self.content.content(data)
    }
}

/// The delta in `data`, if it is of the usual shape.
#[inline]
pub(super) fn parse(data: &Text) -> Option<Usual<'_>> {
    // The byte after `{"choices":` tells the spacing.
    let usual = match data.as_bytes().get(11)? {
        b' ' => spaced(data),
        b'[' => compact(data),
        _ => None,
    };
    usual.or_else(|| any_order::parse(data))
}

/// A parser for the template whose colons and commas are followed by `$s`.
macro_rules! template {
    ($name:ident, $s:literal) => {
        #[inline(always)]
        fn $name(data: &str) -> Option<Usual<'_>> {
            let at = Cursor(data.as_bytes());
            let at = at.eat(concat!(
                "{\"choices\":",
                $s,
                "[{\"delta\":",
                $s,
                "{\"role\":",
                $s,
                "\"assistant\",",
                $s,
                "\"content\":",
                $s,
                "\""
            ))?;
            let (content, at) = at.string(data)?;
            let at = at.eat(concat!(",", $s, "\"phase\":", $s, "\""))?;
            let (is_thinking, at) = match at.eat("answer\"") {
                Some(at) => (false, at),
                None => (true, at.eat("think\"")?),
            };
            let at = at.eat(concat!(",", $s, "\"status\":", $s, "\"typing\"}}]"))?;
            let (response_id, at) = match at.eat(concat!(",", $s, "\"response_id\":", $s, "\"")) {
                Some(at) => match at.string(data)? {
                    (Literal { is_escaped: true, .. }, _) => return None,
                    (Literal { text, .. }, at) => (Some(text), at),
                },
                None => (None, at),
            };
            let (usage, at) =
                match at.eat(concat!(",", $s, "\"usage\":", $s, "{\"input_tokens\":", $s)) {
                    Some(at) => {
                        let (prompt_tokens, at) = at.count()?;
                        let at = at.eat(concat!(",", $s, "\"output_tokens\":", $s))?;
                        let (completion_tokens, at) = at.count()?;
                        let at = at.eat(concat!(",", $s, "\"characters\":", $s))?;
                        let (_, at) = at.count()?;
                        let at = at.eat(concat!(",", $s, "\"total_tokens\":", $s))?;
                        let (total_tokens, at) = at.count()?;
                        let details = concat!(
                            ",",
                            $s,
                            "\"input_tokens_details\":",
                            $s,
                            "{\"text_tokens\":",
                            $s
                        );
                        let at = match at.eat(details) {
                            Some(at) => at.count()?.1.eat("}")?,
                            None => at,
                        };
                        let details = concat!(
                            ",",
                            $s,
                            "\"output_tokens_details\":",
                            $s,
                            "{\"text_tokens\":",
                            $s
                        );
                        let (reasoning_tokens, at) = match at.eat(details) {
                            Some(at) => {
                                let (_, at) = at.count()?;
                                let (tokens, at) =
                                    at.labelled(concat!(",", $s, "\"reasoning_tokens\":", $s))?;
                                (tokens, at.eat("}")?)
                            }
                            None => (None, at),
                        };
                        let (cached_tokens, at) =
                            at.labelled(concat!(",", $s, "\"cached_tokens\":", $s))?;
                        let mut usage = Usage::new(prompt_tokens, completion_tokens);
                        usage.total_tokens = total_tokens;
                        usage.reasoning_tokens = reasoning_tokens;
                        usage.cached_tokens = cached_tokens;
                        (Some(usage), at.eat("}")?)
                    }
                    None => (None, at),
                };
            let (_, at) = at.labelled(concat!(",", $s, "\"timestamp\":", $s))?;
            let Cursor(rest) = at.eat("}")?;
            rest.is_empty().then_some(Usual { is_thinking, content, response_id, usage })
        }
    };
}

template!(spaced, " ");
template!(compact, "");

impl Cursor<'_> {
    /// The number behind `label`, if that comes next; `None` where it is not one.
    #[inline(always)]
    fn labelled(self, label: &'static str) -> Option<(Option<u64>, Self)> {
        match self.eat(label) {
            Some(at) => at.count().map(|(count, at)| (Some(count), at)),
            None => Some((None, self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::qwen::web::wire::{Delta, Event, Phase, Status};

    fn read(data: &Text) -> Option<Delta> {
        let usual = parse(data)?;
        Some(Delta {
            phase: if usual.is_thinking { Phase::Think } else { Phase::Answer },
            status: Status::Typing,
            content: usual.content(data)?.of(data.clone()),
            usage: usual.usage,
            response_id: usual.response_id.map(Text::from),
            ..Delta::default()
        })
    }

    const CAPTURED: [&str; 5] = [
        r#"{"choices": [{"delta": {"role": "assistant", "content": "Hel", "phase": "answer", "status": "typing"}}], "usage": {"input_tokens": 12, "output_tokens": 1, "characters": 0, "total_tokens": 13, "input_tokens_details": {"text_tokens": 12}, "output_tokens_details": {"text_tokens": 1}, "cached_tokens": 0}}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":"Answer [[1]]","phase":"answer","status":"typing"}}],"response_id":"r-1","usage":{"input_tokens":2400,"output_tokens":60,"characters":0,"total_tokens":2460,"output_tokens_details":{"text_tokens":6,"reasoning_tokens":54}},"timestamp":1790000012}"#,
        r#"{"choices": [{"delta": {"role": "assistant", "content": "\n\u00e9\\\"🌌", "phase": "think", "status": "typing"}}], "response_id": "r-1", "timestamp": 1790000012}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":"","phase":"answer","status":"typing"}}]}"#,
        r#"{"usage": {"output_tokens": 1, "input_tokens": 12, "total_tokens": 13}, "choices": [{"index": 0, "delta": {"content": "Hel", "phase": "answer"}, "finish_reason": null}]}"#,
    ];

    fn agree(data: &str) -> Result<bool, TestCaseError> {
        let data = Text::from(data);
        let Some(fast) = read(&data) else { return Ok(false) };
        let general = Event::parse(&data);
        prop_assert!(
            matches!(&general, Ok(Event::Delta(delta)) if *delta == fast),
            "{data}\n{fast:?}\n{general:?}"
        );
        Ok(true)
    }

    #[test]
    fn captured_shapes_are_read_and_agree() {
        for data in CAPTURED {
            assert!(agree(data).unwrap(), "{data}");
        }
    }

    #[test]
    fn content_shares_the_buffer() {
        let data = Text::from(CAPTURED[0]);
        let content = read(&data).unwrap().content;
        assert!(data.as_bytes().as_ptr_range().contains(&content.as_ptr()));
    }

    #[test]
    fn what_is_not_json_is_left_to_the_general_parser() {
        for (from, to) in [
            ("Hel", "He\tl"),
            ("Hel", "He\u{0}l"),
            ("Hel", "He\\x"),
            ("Hel", "He\\ud800"),
            ("Hel", "He\\"),
            (": 12,", ": 012,"),
            (": 12,", ": ,"),
            (": 12,", ": 1234567890123456789,"),
            (": 12,", ": 1.5,"),
            (": 12,", ": -1,"),
            ("\"cached_tokens\": 0}}", "\"cached_tokens\": 0}} "),
            ("\"cached_tokens\": 0}}", "\"cached_tokens\": 0}"),
            ("\"typing\"", "\"finished\""),
            ("\"answer\"", "\"answers\""),
        ] {
            let data = CAPTURED[0].replacen(from, to, 1);
            assert_ne!(data, CAPTURED[0]);
            assert!(read(&data.as_str().into()).is_none(), "{data}");
        }
        assert!(parse(&Text::new()).is_none());
    }

    proptest! {
        /// Any text and any counts are read by hand, in either spacing, as in general.
        #[test]
        fn any_text_agrees(
            content: String, id in "[a-z0-9-]{0,36}", counts: [u32; 4],
            with_id: bool, with_usage: bool, spacing: bool, escape: bool,
        ) {
            let content = if escape {
                // As Python does by default.
                let mut out = String::from("\"");
                for unit in content.encode_utf16() {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
                out + "\""
            } else {
                json!(content).to_string()
            };
            let [input, output, total, reasoning] = counts;
            let mut data = format!(
                r#"{{"choices": [{{"delta": {{"role": "assistant", "content": {content}, "phase": "answer", "status": "typing"}}}}]"#
            );
            if with_id {
                data += &format!(r#", "response_id": "{id}""#);
            }
            if with_usage {
                data += &format!(r#", "usage": {{"input_tokens": {input}, "output_tokens": {output}, "characters": 0, "total_tokens": {total}, "output_tokens_details": {{"text_tokens": 1, "reasoning_tokens": {reasoning}}}}}"#);
            }
            data += "}";
            if spacing && !content.contains([',', ':']) {
                data = data.replace(", \"", ",\"").replace("\": ", "\":");
            }
            prop_assert!(agree(&data)?, "{}", data);
        }

        /// In whatever order the members of each object stand.
        #[test]
        fn any_order_agrees(
            event in Just(vec!["choices", "response_id", "usage", "timestamp"]).prop_shuffle(),
            choice in Just(vec!["delta", "index", "finish_reason"]).prop_shuffle(),
            delta in Just(vec!["role", "content", "phase", "status"]).prop_shuffle(),
            usage in Just(vec![
                "input_tokens", "output_tokens", "characters", "total_tokens",
                "input_tokens_details", "output_tokens_details", "cached_tokens",
            ]).prop_shuffle(),
            details in Just(vec!["text_tokens", "reasoning_tokens"]).prop_shuffle(),
        ) {
            let object = |names: &[&str], value: &dyn Fn(&str) -> String| {
                let members = names.iter().map(|name| format!("\"{name}\": {}", value(name)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            };
            let data = object(&event, &|name| match name {
                "choices" => format!("[{}]", object(&choice, &|name| match name {
                    "delta" => object(&delta, &|name| match name {
                        "role" => "\"assistant\"",
                        "content" => "\" quick\\n\"",
                        "phase" => "\"think\"",
                        _ => "\"typing\"",
                    }.to_owned()),
                    "index" => "0".to_owned(),
                    _ => "null".to_owned(),
                })),
                "usage" => object(&usage, &|name| match name {
                    "input_tokens_details" => "{\"text_tokens\": 7}".to_owned(),
                    "output_tokens_details" => object(&details, &|name| name.len().to_string()),
                    name => name.len().to_string(),
                }),
                "response_id" => "\"r-1\"".to_owned(),
                _ => "1790000012".to_owned(),
            });
            prop_assert!(agree(&data)?, "{}", data);
        }

        /// Whatever a slip makes of such an event, it is left alone or read as in general.
        #[test]
        fn slips_agree(
            which in 0..CAPTURED.len(),
            slips in proptest::collection::vec((any::<prop::sample::Index>(), any::<Slip>()), 1..3),
        ) {
            let mut data: Vec<char> = CAPTURED[which].chars().collect();
            for (at, slip) in slips {
                let at = at.index(data.len());
                match slip.0 {
                    Some(c) if slip.1 => data.insert(at, c),
                    Some(c) => data[at] = c,
                    None => { data.remove(at); }
                }
            }
            agree(&data.into_iter().collect::<String>())?;
        }
    }

    /// A character to put in, in the place of another or not, or to take one out.
    #[derive(Debug)]
    struct Slip(Option<char>, bool);

    impl Arbitrary for Slip {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;

        fn arbitrary_with((): ()) -> Self::Strategy {
            let c = prop_oneof![
                4 => prop::sample::select(" \"\\{}[]:,0123456789-.eEunt\t".chars().collect::<Vec<_>>()),
                1 => any::<char>(),
            ];
            (proptest::option::weighted(0.8, c), any::<bool>())
                .prop_map(|(c, insert)| Self(c, insert))
                .boxed()
        }
    }
}
