//! The tags of Qwen3-Coder: `<function=NAME>`, `<parameter=KEY>` (tool-calls.md a.2).

use super::{
    super::schema::Toolset,
    body::{Body, Next, followed},
    tag::{Look, bare, declared_function, declared_key, literal, name},
};

/// What follows in a call of function `function`, where no value is open.
pub(super) fn next(text: &str, function: &str, tools: &Toolset) -> Look<Next> {
    let parameter = literal(text, &["<parameter="]).and_then(|start| {
        name(&text[start..], |_| true).map(|key| {
            let length = start + key.len() + 1;
            let declared = |key: &str| tools.declares(function, key);
            if !declared(key) {
                if declared(bare(key)) {
                    return Next::Parameter { key: bare(key).into(), length, value: None };
                }
                if let Some((key, value)) = lost_bracket(key)
                    && declared(key)
                {
                    return Next::Parameter { key: key.into(), length, value: Some(value.into()) };
                }
            }
            Next::Parameter { key: key.into(), length, value: None }
        })
    });
    parameter
        .or(|| {
            literal(text, &["</function>"]).map(|length| Next::Closer { length, wrapper: false })
        })
        .or(|| {
            literal(text, &["</tool_call>"]).map(|length| Next::Closer { length, wrapper: true })
        })
}

/// `<parameter=KEY=VALUE</parameter>`, or a newline in place of the second `=`: the `>` after
/// the key was lost, and that of the closer ended it (QwenLM/Qwen3-Coder#457).
fn lost_bracket(key: &str) -> Option<(&str, &str)> {
    let (key, value) = key.strip_suffix("</parameter")?.split_once(['=', '\n'])?;
    Some((key.trim_ascii(), value.strip_suffix('\n').unwrap_or(value)))
}

/// Whether the tag that `text` begins with ends the open value; yes carries how much of it
/// belongs to that end (rule 14).
pub(super) fn ends_value(
    text: &str,
    body: &Body,
    line_start: bool,
    end: bool,
    tools: &Toolset,
) -> Look<usize> {
    // Nearly every `<` of a value is followed by something else.
    if !matches!(text.as_bytes(), [_] | [_, b'/' | b'p', ..]) {
        return Look::No;
    }
    let opener = |rest: &str| {
        literal(rest, &["<tool_call>"])
            .or(|| declared_function(rest, tools).map(|(length, _)| length))
    };
    literal(text, &["</parameter>"])
        .and_then(|length| {
            let accept = |rest: &str| {
                literal(rest, &["<parameter="])
                    .or(|| literal(rest, &["</function>"]))
                    .or(|| literal(rest, &["</tool_call>"]))
                    .or(|| opener(rest))
            };
            followed(&text[length..], end, accept).map(|()| length)
        })
        .or(|| {
            literal(text, &["</function>"]).and_then(|length| {
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
            declared_key(text, "<parameter=", &body.name, tools, unused).map(|_| 0)
        })
}
