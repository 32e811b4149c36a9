//! The closing tags of calls, spelt right or nearly so, which nothing but a call may stand before.

/// The longest name in a closing tag, in bytes.
const NAME_LEN: usize = 40;

/// What a text that may go on begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closer {
    /// A closer of `len` bytes.
    Whole {
        len: usize,
        part: Part,
    },
    /// What may become one.
    Half,
    None,
}

impl Closer {
    /// The closer that `text` begins with: `</…>`, `<|…|>` or `[/…]` whose name is nearly one that
    /// dialects have for calls. Whether it is one does not depend on what follows it, and what may
    /// become one is at most a few dozen bytes long.
    pub(crate) fn at(text: &str) -> Self {
        let kinds = [("</", ">"), ("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>"), ("[/", "]")];
        for (open, close) in kinds {
            if text.len() < open.len() {
                if open.starts_with(text) {
                    return Self::Half;
                }
                continue;
            }
            let Some(inside) = text.strip_prefix(open) else { continue };
            return match inside.find(close) {
                Some(end) if end <= NAME_LEN => match part(&inside[..end]) {
                    Some(part) => Self::Whole { len: open.len() + end + close.len(), part },
                    None => Self::None,
                },
                None if inside.len() < NAME_LEN + close.len()
                    && name(inside.trim_end_matches(['|', '\u{ff5c}'])).is_some() =>
                {
                    Self::Half
                }
                _ => Self::None,
            };
        }
        Self::None
    }
}

/// What a closer closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is around calls, or the whole answer.
    Wrapper,
    Call,
    /// An argument, or all of them.
    Argument,
}

/// The name in a tag, which may go on with a value (`function=read`); none, if it holds what no
/// name does.
fn name(inside: &str) -> Option<&str> {
    let name = inside.split('=').next().unwrap_or(inside);
    let is_name = |c: char| c.is_alphanumeric() || "_-:. \u{2581}".contains(c);
    (name.chars().all(is_name) && !inside.contains(['<', '\n'])).then_some(name)
}

/// What a tag of nearly this name closes.
fn part(inside: &str) -> Option<Part> {
    const NAMES: [(&str, Part); 17] = [
        ("function", Part::Call),
        ("func", Part::Call),
        ("parameter", Part::Argument),
        ("parameters", Part::Argument),
        ("param", Part::Argument),
        ("arguments", Part::Argument),
        ("invoke", Part::Call),
        ("toolcall", Part::Wrapper),
        ("toolcalls", Part::Wrapper),
        ("toolcallend", Part::Wrapper),
        ("toolcallsend", Part::Wrapper),
        ("tool", Part::Wrapper),
        ("tooluse", Part::Wrapper),
        ("functioncall", Part::Wrapper),
        ("functioncalls", Part::Wrapper),
        ("imend", Part::Wrapper),
        ("endoftext", Part::Wrapper),
    ];
    let letters = |name: &str| -> String {
        name.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect()
    };
    let name = name(inside)?;
    // Names with a vendor before them, such as `minimax:tool_call`.
    let names = [letters(name), letters(name.rsplit(':').next().unwrap_or(name))];
    let is_near = |known: &str| {
        // One slip in a short name makes another word.
        let slips = (known.len() / 4).min(2);
        names.iter().any(|name| distance(name, known) <= slips)
    };
    NAMES.iter().find(|(known, _)| is_near(known)).map(|(_, part)| *part)
}

/// How many letters must be put in, taken out or changed to make the one of the other. Both are
/// short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let same = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = same.min(before + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closers_are_told_from_other_tags() {
        for (text, part) in [
            ("</tool_call>", Part::Wrapper),
            ("</tool_calls>", Part::Wrapper),
            ("</toolcall>", Part::Wrapper),
            ("</tool-call>", Part::Wrapper),
            ("</TOOL_CALL>", Part::Wrapper),
            ("</tool_cal>", Part::Wrapper),
            ("</tool call>", Part::Wrapper),
            ("</minimax:tool_call>", Part::Wrapper),
            ("</function_calls>", Part::Wrapper),
            ("<|im_end|>", Part::Wrapper),
            ("<|endoftext|>", Part::Wrapper),
            ("<|tool_call_end|>", Part::Wrapper),
            ("<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}>", Part::Wrapper),
            ("[/TOOL_CALLS]", Part::Wrapper),
            ("</function>", Part::Call),
            ("</func>", Part::Call),
            ("</Function>", Part::Call),
            ("</function=read>", Part::Call),
            ("</parameter>", Part::Argument),
            ("</param>", Part::Argument),
            ("</arguments>", Part::Argument),
            ("</invoke>", Part::Call),
        ] {
            let whole = Closer::Whole { len: text.len(), part };
            assert_eq!(Closer::at(text), whole, "{text}");
            for behind in ["x", ">", "</", "\n", "\u{a0}", "|>"] {
                assert_eq!(Closer::at(&format!("{text}{behind}")), whole, "{text}{behind}");
            }
            for (at, _) in text.char_indices() {
                assert_eq!(Closer::at(&text[..at]), Closer::Half, "{text} up to {at}");
            }
        }
    }

    /// What is none stays none, and nothing long waits.
    #[test]
    fn other_text_is_no_closer() {
        let long = format!("</{}>", "t".repeat(NAME_LEN + 1));
        for text in [
            "x",
            "<b>",
            "</div>",
            "</>",
            "</tooltip>",
            "</tool\n_call>",
            "</tool<_call>",
            "</\"arguments\">",
            "<|im_end>",
            "<|im||>",
            "<tool_call>",
            "<function=read>",
            "[1]",
            "[/b]",
            "{",
            &long,
        ] {
            assert_eq!(Closer::at(text), Closer::None, "{text}");
            let waits = text.char_indices().map(|(at, _)| Closer::at(&text[..at]));
            assert!(waits.into_iter().all(|look| !matches!(look, Closer::Whole { .. })), "{text}");
        }
        assert_eq!(Closer::at(&format!("</{}", "t".repeat(NAME_LEN))), Closer::Half);
        assert_eq!(Closer::at(&format!("</{}", "t".repeat(NAME_LEN + 1))), Closer::None);
    }
}
