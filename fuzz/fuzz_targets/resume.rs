//! `ResumeLayer`: an answer that breaks off anywhere is the whole one where the upstream goes on with it as
//! it was asked to, and whatever it says instead, nothing is stitched without the last words.
#![no_main]

#[path = "../../tests/resumed/mod.rs"]
mod resumed;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    words: Vec<Word<'a>>,
    cut: u16,
    back: u16,
    size: u8,
    other: &'a str,
}

#[derive(Arbitrary, Debug)]
enum Word<'a> {
    Any(&'a str),
    Often(u8),
}

const WORDS: [&str; 8] =
    ["the rain ", "in Spain ", "\n", "\n\n", "```\n", "| --- |", "\u{3000}", "日本"];

fuzz_target!(|input: Input<'_>| {
    let mut whole = String::new();
    for word in &input.words {
        whole.push_str(match word {
            Word::Any(text) => text,
            Word::Often(index) => WORDS[usize::from(*index) % WORDS.len()],
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (cut, back) = (usize::from(input.cut), usize::from(input.back));
    let size = usize::from(input.size) + 1;
    runtime.block_on(async {
        resumed::check_whole(&whole, cut, back, size).await;
        resumed::check_any(&whole, input.other, size).await;
        resumed::check_any(&whole, &format!("{}{whole}{}", input.other, input.other), size).await;
    });
});
