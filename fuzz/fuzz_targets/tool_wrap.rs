//! Whatever a model writes, and wherever its stream is cut, an XML client finds exactly one call:
//! judged by a second writing of the client's own parsers.
#![no_main]

#[allow(dead_code, reason = "the property tests use more of it")]
#[path = "../../tests/xml_client/replies.rs"]
mod replies;
#[path = "../../tests/xml_client/mod.rs"]
mod xml_client;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tower_qwen::tool::internals::End;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    parts: Vec<Part<'a>>,
    cut: bool,
    size: u8,
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Markup(u8),
    Text(&'a str),
    Blanks(u16),
}

fuzz_target!(|input: Input<'_>| {
    let mut reply = String::new();
    for part in &input.parts {
        match part {
            Part::Markup(index) => {
                reply.push_str(replies::MARKUP[usize::from(*index) % replies::MARKUP.len()]);
            }
            Part::Text(text) => reply.push_str(text),
            Part::Blanks(count) => {
                reply.extend(std::iter::repeat_n(' ', usize::from(*count % 600)))
            }
        }
    }
    let end = if input.cut { End::Cut } else { End::Complete };
    replies::check(&reply, end, &[1, usize::from(input.size) + 1]);
});
