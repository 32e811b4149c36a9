//! The usual delta event, read by hand.
//!
//! Nearly all events of an answer are alike to the byte but for their text and their counts:
//! Python's `json.dumps` wrote them (A11.1). Those are matched against that template, in either
//! spacing; whatever differs in the slightest is left to the general parser. A test holds that
//! both always agree.

use super::wire::{Delta, Phase, Status};
use crate::chat::{Text, Usage};

/// The delta in `data`, if it is of the usual shape.
#[inline]
pub(super) fn parse(data: &Text) -> Option<Delta> {
    // The byte after `{"choices":` tells the spacing.
    match data.as_bytes().get(11)? {
        b' ' => spaced(data),
        b'[' => compact(data),
        _ => None,
    }
}

/// A parser for the template whose colons and commas are followed by `$s`.
macro_rules! template {
    ($name:ident, $s:literal) => {
        #[inline]
        fn $name(data: &Text) -> Option<Delta> {
            let mut at = Cursor { text: data, at: 0 };
            at.eat(concat!(
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
            let content = at.string(data)?;
            at.eat(concat!(",", $s, "\"phase\":", $s, "\""))?;
            let phase = if at.eat("answer\"").is_some() {
                Phase::Answer
            } else {
                at.eat("think\"")?;
                Phase::Think
            };
            at.eat(concat!(",", $s, "\"status\":", $s, "\"typing\"}}]"))?;
            let mut delta = Delta { phase, status: Status::Typing, content, ..Delta::default() };
            if at.eat(concat!(",", $s, "\"response_id\":", $s, "\"")).is_some() {
                delta.response_id = Some(at.string(data)?);
            }
            if at.eat(concat!(",", $s, "\"usage\":", $s, "{\"input_tokens\":", $s)).is_some() {
                let mut usage = Usage::new(at.count()?, 0);
                at.eat(concat!(",", $s, "\"output_tokens\":", $s))?;
                usage.completion_tokens = at.count()?;
                at.eat(concat!(",", $s, "\"characters\":", $s))?;
                at.count()?;
                at.eat(concat!(",", $s, "\"total_tokens\":", $s))?;
                usage.total_tokens = at.count()?;
                let details =
                    concat!(",", $s, "\"input_tokens_details\":", $s, "{\"text_tokens\":", $s);
                if at.eat(details).is_some() {
                    at.count()?;
                    at.eat("}")?;
                }
                let details =
                    concat!(",", $s, "\"output_tokens_details\":", $s, "{\"text_tokens\":", $s);
                if at.eat(details).is_some() {
                    at.count()?;
                    if at.eat(concat!(",", $s, "\"reasoning_tokens\":", $s)).is_some() {
                        usage.reasoning_tokens = Some(at.count()?);
                    }
                    at.eat("}")?;
                }
                if at.eat(concat!(",", $s, "\"cached_tokens\":", $s)).is_some() {
                    usage.cached_tokens = Some(at.count()?);
                }
                at.eat("}")?;
                delta.usage = Some(usage);
            }
            if at.eat(concat!(",", $s, "\"timestamp\":", $s)).is_some() {
                at.count()?;
            }
            at.eat("}")?;
            at.is_at_end().then_some(delta)
        }
    };
}

template!(spaced, " ");
template!(compact, "");

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    #[inline(always)]
    fn eat(&mut self, literal: &'static str) -> Option<()> {
        self.rest().starts_with(literal.as_bytes()).then(|| self.at += literal.len())
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// A whole number as JSON writes it, short enough to be one of 64 bits.
    #[inline]
    fn count(&mut self) -> Option<u64> {
        const MOST: usize = 18;
        let rest = self.rest();
        let mut count = 0;
        let mut digits = 0;
        while let Some(digit) = rest.get(digits).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
            if digits == MOST {
                return None;
            }
            count = count * 10 + u64::from(digit);
            digits += 1;
        }
        if digits == 0 || (digits > 1 && rest[0] == b'0') {
            return None;
        }
        self.at += digits;
        Some(count)
    }

    /// The string that began before the cursor, as a slice of `data` where it has no escapes.
    #[inline]
    fn string(&mut self, data: &Text) -> Option<Text> {
        let start = self.at;
        let mut end = memchr::memchr2(b'"', b'\\', self.rest())? + start;
        let escaped = data.as_bytes()[end] == b'\\';
        while data.as_bytes()[end] == b'\\' {
            // Whatever is escaped, it is not the end; an escape of several bytes holds no quote.
            end += 2;
            end += memchr::memchr2(b'"', b'\\', data.as_bytes().get(end..)?)?;
        }
        self.at = end + 1;
        if escaped {
            return serde_json::from_str::<String>(data.get(start - 1..=end)?).ok().map(Text::from);
        }
        // JSON wants control characters escaped. No early exit, so that it is done in steps of
        // a vector.
        let text = &data[start..end];
        let controls = text.bytes().fold(false, |any, b| any | (b < 0x20));
        (!controls).then(|| data.slice_ref(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::qwen::web::wire::Event;

    const CAPTURED: [&str; 4] = [
        r#"{"choices": [{"delta": {"role": "assistant", "content": "Hel", "phase": "answer", "status": "typing"}}], "usage": {"input_tokens": 12, "output_tokens": 1, "characters": 0, "total_tokens": 13, "input_tokens_details": {"text_tokens": 12}, "output_tokens_details": {"text_tokens": 1}, "cached_tokens": 0}}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":"Answer [[1]]","phase":"answer","status":"typing"}}],"response_id":"r-1","usage":{"input_tokens":2400,"output_tokens":60,"characters":0,"total_tokens":2460,"output_tokens_details":{"text_tokens":6,"reasoning_tokens":54}},"timestamp":1790000012}"#,
        r#"{"choices": [{"delta": {"role": "assistant", "content": "\n\u00e9\\\"🌌", "phase": "think", "status": "typing"}}], "response_id": "r-1", "timestamp": 1790000012}"#,
        r#"{"choices":[{"delta":{"role":"assistant","content":"","phase":"answer","status":"typing"}}]}"#,
    ];

    fn agree(data: &str) -> Result<bool, TestCaseError> {
        let data = Text::from(data);
        let Some(fast) = parse(&data) else { return Ok(false) };
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
        let content = parse(&data).unwrap().content;
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
            assert!(parse(&data.as_str().into()).is_none(), "{data}");
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

        /// Whatever a slip makes of the template, it is left alone or read as in general.
        #[test]
        fn slips_agree(
            which in 0..4_usize,
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
