//! The estimate of tokens against what Qwen's own tokenizers count.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};

use proptest::prelude::*;
use tower_qwen::{
    Text,
    chat::{ChatRequest, FunctionTool, Json, Message, Role, Tool, ToolCall},
    tokens::{Vocabulary, of_request, of_text},
};

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

/// Whole requests, against what the template of Qwen3.5 and later makes of them.
#[test]
fn a_request_is_estimated_with_what_stands_around_its_texts() {
    let tools: Vec<Tool> = file("texts/tools.txt").lines().map(tool).collect();
    let rows = file("chats.tsv");
    for row in rows.lines() {
        let columns: Vec<&str> = row.split('\t').collect();
        let [name, numbers @ ..] = &columns[..] else { panic!("no columns: {row:?}") };
        let numbers: Vec<usize> = numbers.iter().map(|n| n.parse().expect("a number")).collect();
        let [turns, size, offered, count] = numbers[..] else { panic!("{row:?}") };
        let mut request = ChatRequest::new(
            "qwen3.8-max",
            [Message::new(Role::User, sample("prompt", 0, 1, 2000))],
        );
        for turn in 0..turns {
            let text = |at: usize| sample(name, turn * 3 + at, 1, size);
            let mut call = Message::empty(Role::Assistant);
            let arguments = format!(r#"{{"file_path":"src/{turn}.rs"}}"#);
            call.tool_calls = vec![ToolCall::new(format!("call_{turn}"), "read_file", arguments)];
            let mut result = Message::new(Role::Tool, text(1));
            result.tool_call_id = Some(format!("call_{turn}").into());
            request.history.push(Message::new(Role::User, text(0)));
            request.history.push(call);
            request.history.push(result);
            request.history.push(Message::new(Role::Assistant, text(2)));
        }
        request.tools = Arc::new(tools[..offered].to_vec());
        let ratio = of_request(&request) as f64 / count as f64;
        println!("{row} {ratio:.3}");
        assert!((1.0..=1.3).contains(&ratio), "{row}: {ratio}");
    }
}

/// A tool, as a client sends it.
fn tool(json: &str) -> Tool {
    let tool = Json::parse(json).expect("JSON");
    let function = tool.get("function").expect("a function");
    let text =
        |name: &str| function.get(name).and_then(|text| Some(Text::from(&*text.as_string()?)));
    let parameters = function.get("parameters").expect("a schema");
    let mut function = FunctionTool::new(text("name").expect("a name"), parameters);
    function.description = text("description");
    Tool::Function(function)
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
