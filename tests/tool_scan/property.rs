//! Properties over generated text that is dense with markup.

use proptest::prelude::*;
use tower_qwen::tool::scan::Toolset;

use crate::{Scanned, declared, fragments::FRAGMENTS, scan, toolset, twin};

/// The headers of calls, with a parameter open.
const HEADERS: &[&str] = &[
    "<tool_call>\n<function=write_file>\n<parameter=content>\n",
    "<tool_call><tool_call><function=search><parameter=filter>",
    "<function=search>\n<parameter=options>\n",
    "<tool_call>\n<function=unknown>\n<parameter=x>\n",
    "<search>\n<query>",
    "<tool_call>\n<read>\n<path>\n",
    "<tool_call>\n[{\"name\": \"read\", \"arguments\": {\"path\": \"x\"}}, ",
];

fn fragments(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(FRAGMENTS), 0..most).prop_map(|parts| parts.concat())
}

fn markup() -> impl Strategy<Value = String> {
    let calls = (fragments(4), prop::sample::select(HEADERS), fragments(12), fragments(8))
        .prop_map(|(before, header, value, after)| {
            [&before, header, &value, "\n", &after].concat()
        });
    prop_oneof![fragments(24), calls]
}

/// `text` cut at fractions of its length.
fn cut<'a>(text: &'a str, cuts: &[f64]) -> Vec<&'a str> {
    let mut places: Vec<usize> = cuts
        .iter()
        .map(|cut| {
            let at = (text.len() as f64 * cut) as usize;
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        })
        .collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in places {
        pieces.push(&text[start..place]);
        start = place;
    }
    pieces.push(&text[start..]);
    pieces
}

fn check(tools: &Toolset, text: &str, pieces: Vec<&str>) -> Result<Scanned, TestCaseError> {
    let whole = scan(tools, [text]);
    prop_assert_eq!(&scan(tools, pieces), &whole);
    Ok(whole)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any cut of any text comes to the same, and all arguments parse; where the text's JSON is
    /// strict, the twin agrees.
    #[test]
    fn cuts_do_not_matter_and_the_twin_agrees(
        text in markup(), cuts in prop::collection::vec(0.0..1.0f64, 0..12),
    ) {
        let declared = declared();
        let tools = toolset(&declared);
        let whole = check(&tools, &text, cut(&text, &cuts))?;
        let characters = scan(&tools, crate::characters(&text));
        prop_assert_eq!(&characters, &whole);
        let outcome = whole.outcome();
        if let Some(expected) = twin::outcome(&declared, &text) {
            prop_assert_eq!(outcome, expected);
        }
    }

    /// The text around well-formed calls comes out as it went in, but for the blanks next to
    /// them, and the values come out as they were written.
    #[test]
    fn text_out_and_call_text_are_text_in(
        parts in prop::collection::vec(("[a-z<>&;.é]{1,12}( [a-z<>/=\"]{1,8}){0,3}", "(?s)[^\r]{0,40}", 0..3usize), 1..5),
        cuts in prop::collection::vec(0.0..1.0f64, 0..12),
    ) {
        let tools = toolset(&declared());
        let (mut text, mut expected) = (String::new(), Scanned::default());
        for (prose, value, form) in &parts {
            // What the format cannot hold is not asked of it.
            prop_assume!(!value.contains("</p") && !value.contains("<path>"));
            text.push_str(prose);
            expected.text.push_str(prose);
            text.push_str("\n\n");
            let json = serde_json::to_string(value).expect("a string");
            let layout = [
                format!("<tool_call>\n<function=read>\n<parameter=path>\n{value}\n</parameter>\n</function>\n</tool_call>\n"),
                format!("<tool_call>\n{{\"name\": \"read\", \"arguments\": {{\"path\":{json}}}}}\n</tool_call>\n"),
                format!("<read>\n<path>\n{value}\n</path>\n</read>\n"),
            ];
            text.push_str(&layout[*form]);
            expected.calls.push(("read".into(), format!("{{\"path\":{json}}}"), true));
        }
        let whole = check(&tools, &text, cut(&text, &cuts))?;
        prop_assert_eq!(&whole.text, &expected.text);
        prop_assert_eq!(whole.outcome().calls, expected.outcome().calls);
    }

    /// Text cut at any place still gives arguments that parse, and nothing that was announced
    /// is taken back.
    #[test]
    fn a_cut_reply_is_a_prefix_with_closed_arguments(text in markup(), at in 0.0..1.0f64) {
        let tools = toolset(&declared());
        let head = cut(&text, &[at])[0];
        let short = scan(&tools, [head]);
        short.outcome();
        let long = scan(&tools, [text.as_str()]);
        for (short, long) in short.calls.iter().zip(&long.calls) {
            prop_assert_eq!(&short.0, &long.0);
        }
        prop_assert!(short.calls.len() <= long.calls.len());
    }
}
