//! The estimate of tokens against what Qwen's own tokenizers count.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use proptest::prelude::*;
use tower_qwen::tokens::{Vocabulary, of_text};

const VOCABULARIES: [Vocabulary; 2] = [Vocabulary::Qwen, Vocabulary::Qwen35];

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A sample of a text, as `tests/tokens/count.py` makes it.
fn sample(name: &str, first: usize, step: usize, size: usize) -> String {
    let text = file(&format!("texts/{name}.txt"));
    let lines: Vec<&str> = text.lines().collect();
    let joint = match name {
        "english" | "german" | "spanish" | "russian" | "arabic" => " ",
        "chinese" | "japanese" => "",
        _ => "\n",
    };
    let (mut sample, mut at) = (String::new(), first);
    while sample.len() < size {
        sample.push_str(lines[at % lines.len()]);
        sample.push_str(joint);
        at += step;
    }
    let end = (0..=size).rev().find(|&end| sample.is_char_boundary(end));
    sample.truncate(end.expect("0 is one"));
    sample
}

/// Of each sample: the text that it is of, and what the estimate is to the count.
fn ratios(vocabulary: usize) -> Vec<(String, f64)> {
    let counts = file("counts.tsv");
    let ratio = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, numbers @ ..] = &columns[..] else { panic!("no columns: {line:?}") };
        let numbers: Vec<usize> = numbers.iter().map(|n| n.parse().expect("a number")).collect();
        let [first, step, size, counts @ ..] = &numbers[..] else { panic!("{line:?}") };
        let estimated = of_text(&sample(name, *first, *step, *size), VOCABULARIES[vocabulary]);
        ((*name).to_owned(), estimated as f64 / counts[vocabulary] as f64)
    };
    counts.lines().map(ratio).collect()
}

/// At least 95 % are not too small, and at least 95 % are at most 1.3 times too large.
#[test]
fn estimates_are_seldom_too_small_and_seldom_much_too_large() {
    for (at, vocabulary) in VOCABULARIES.into_iter().enumerate() {
        let ratios = ratios(at);
        assert!(ratios.len() >= 200, "{} samples", ratios.len());
        let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, ratio) in &ratios {
            kinds.entry(name).or_default().push(*ratio);
            kinds.entry("all").or_default().push(*ratio);
        }
        let mut table = String::new();
        for (name, ratios) in &mut kinds {
            ratios.sort_by(f64::total_cmp);
            let at = |share: usize| ratios[(ratios.len() - 1) * share / 100];
            writeln!(table, "{name:12} {:.2} {:.2} {:.2}", at(5), at(50), at(95)).expect("text");
        }
        println!("{vocabulary:?}: 5 %, half and 95 % of estimate / count\n{table}");
        let share = |fits: &dyn Fn(f64) -> bool| {
            ratios.iter().filter(|(_, ratio)| fits(*ratio)).count() as f64 / ratios.len() as f64
        };
        let (enough, near) = (share(&|ratio| ratio >= 1.0), share(&|ratio| ratio <= 1.3));
        println!("not too small {enough:.3}, at most 1.3 {near:.3}");
        assert!(enough >= 0.95 && near >= 0.95, "{vocabulary:?} {enough} {near}\n{table}");
    }
}

/// Texts of all that is counted in a way of its own.
fn text() -> impl Strategy<Value = String> {
    let letters =
        "[a-zA-Z]{1,12}|[äöüéøñ]{1,3}|[а-я]{1,6}|[א-ת]{1,4}|[ا-ي]{1,4}|[ऀ-ॿ]{1,4}|[ก-๛]{1,4}";
    let more = "[ぁ-ん]{1,4}|[一-龥]{1,5}|[가-힣]{1,3}|[\u{10400}-\u{1044f}]{1,2}|[0-9]{1,4}|[०-९]";
    let marks =
        "[!-/:-@\\[-`{-~]{1,4}|[。、「」—…€]{1,3}|[😀-🙏]{1,2}|[ \t\n\r\u{a0}\u{3000}]{1,5}|.";
    prop::collection::vec(
        prop_oneof![
            prop::string::string_regex(letters).expect("a pattern"),
            prop::string::string_regex(more).expect("a pattern"),
            prop::string::string_regex(marks).expect("a pattern"),
        ],
        0..8,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// More text never has fewer tokens, on whichever side it is added.
    #[test]
    fn more_text_is_no_fewer_tokens(a in text(), b in text()) {
        for vocabulary in VOCABULARIES {
            let of = |text: &str| of_text(text, vocabulary);
            let (both, apart) = (of(&format!("{a}{b}")), (of(&a), of(&b)));
            prop_assert!(both >= apart.0.max(apart.1), "{vocabulary:?} {both} {apart:?}");
            prop_assert!(both <= 4 * (a.len() + b.len()) as u64);
        }
    }

    #[test]
    fn any_text_has_an_estimate(text in any::<String>()) {
        for vocabulary in VOCABULARIES {
            prop_assert_eq!(of_text(&text, vocabulary) == 0, text.is_empty());
        }
    }
}
