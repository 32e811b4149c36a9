//! Plain tags, as the clients of the XML protocols prompt for: `<NAME>`, `<KEY>` (tool-calls.md
//! a.4).

use super::{
    super::schema::Toolset,
    body::{Body, Next, followed},
    tag::{Look, declared_function, declared_key, declared_tag, literal},
};

/// What follows in a call of function `function`, where no value is open.
pub(super) fn next(text: &str, function: &str, tools: &Toolset) -> Look<Next> {
    literal(text, &["</", function, ">"])
        .map(|length| Next::Closer { length, wrapper: false })
        .or(|| {
            literal(text, &["</tool_call>"]).map(|length| Next::Closer { length, wrapper: true })
        })
        .or(|| {
            declared_key(text, "<", function, tools, |_| true)
                .map(|(length, key)| Next::Parameter { key: key.into(), length, value: None })
        })
}

/// Whether the tag that `text` begins with ends the open value; yes carries how much of it
/// belongs to that end: the idea of rule 14 with this form's own closers.
pub(super) fn ends_value(
    text: &str,
    body: &Body,
    line_start: bool,
    end: bool,
    tools: &Toolset,
) -> Look<usize> {
    if !line_start && !matches!(text.as_bytes(), [_] | [_, b'/', ..]) {
        return Look::No;
    }
    let function = body.name.as_str();
    let opener = |rest: &str| {
        literal(rest, &["<tool_call>"])
            .or(|| declared_function(rest, tools).map(|(length, _)| length))
            .or(|| declared_tag(rest, tools).map(|(length, _)| length))
    };
    literal(text, &["</", body.open_key(), ">"])
        .and_then(|length| {
            let accept = |rest: &str| {
                literal(rest, &["</", function, ">"])
                    .or(|| {
                        declared_key(rest, "<", function, tools, |_| true).map(|(length, _)| length)
                    })
                    .or(|| literal(rest, &["</tool_call>"]))
                    .or(|| opener(rest))
            };
            followed(&text[length..], end, accept).map(|()| length)
        })
        .or(|| {
            literal(text, &["</", function, ">"]).and_then(|length| {
                let accept = |rest: &str| literal(rest, &["</tool_call>"]).or(|| opener(rest));
                followed(&text[length..], end, accept).map(|()| 0)
            })
        })
        .or(|| {
            literal(text, &["</tool_call>"])
                .and_then(|length| followed(&text[length..], end, opener).map(|()| 0))
        })
        .or(|| {
            if !line_start {
                return Look::No;
            }
            let unused = |key: &str| key != body.open_key() && !body.used.contains(key);
            declared_key(text, "<", function, tools, unused).map(|_| 0)
        })
}
