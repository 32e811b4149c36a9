//! Objects and arrays that a model wrote as nested plain tags.

use super::{
    super::schema::{Parameter, Types},
    DEPTH_LIMIT, convert, push_string,
};

/// Writes `text`, trimmed, as the object or array that `parameter` declares: an object is a row
/// of `<property>…</property>` with declared names, an array a row of equal tags, one an item.
/// False, with nothing written, if the text is anything else.
pub(super) fn write(text: &str, parameter: &Parameter<'_>, out: &mut String) -> bool {
    value(text, parameter, out, 0)
}

/// Whether a form fits is decided by the elements of this level alone, before anything is
/// written; so no text is read in two ways at every level.
fn value(text: &str, parameter: &Parameter<'_>, out: &mut String, depth: usize) -> bool {
    if depth >= DEPTH_LIMIT || !text.starts_with('<') {
        return false;
    }
    let types = parameter.types();
    if types.contains(Types::OBJECT) && elements(text, |name, _| parameter.property(name).is_some())
    {
        object(text, parameter, out, depth);
        return true;
    }
    let mut item = None;
    let items = parameter.items();
    let blank_fits = items.types().contains(Types::STRING);
    if types.contains(Types::ARRAY)
        && elements(text, |name, inner| {
            *item.get_or_insert(name) == name && (blank_fits || !inner.trim().is_empty())
        })
    {
        array(text, &items, out, depth);
        return true;
    }
    false
}

fn object(text: &str, parameter: &Parameter<'_>, out: &mut String, depth: usize) {
    out.push('{');
    elements(text, |name, inner| {
        let Some(property) = parameter.property(name) else { return false };
        // As at the top: what is blank and no string is left out.
        if !inner.trim().is_empty() || property.types().contains(Types::STRING) {
            if !out.ends_with('{') {
                out.push(',');
            }
            push_string(out, name);
            out.push(':');
            member(inner, &property, out, depth + 1);
        }
        true
    });
    out.push('}');
}

fn array(text: &str, items: &Parameter<'_>, out: &mut String, depth: usize) {
    out.push('[');
    elements(text, |_, inner| {
        if !out.ends_with('[') {
            out.push(',');
        }
        member(inner, items, out, depth + 1);
        true
    });
    out.push(']');
}

/// Writes a value that is not blank, or may be a string.
fn member(text: &str, parameter: &Parameter<'_>, out: &mut String, depth: usize) {
    if !value(text.trim(), parameter, out, depth) {
        convert(text, parameter.types(), out);
    }
}

/// Whether `text` is a row of elements that all pass `each`.
fn elements<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str) -> bool) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        match element(rest) {
            Some((name, inner, after)) if each(name, inner) => rest = after,
            _ => return false,
        }
    }
    true
}

/// The element at the start of `text`: its name, its inside, and the trimmed rest after it.
fn element(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    if name.is_empty() || name.contains(['<', '/', ' ', '\n', '"']) {
        return None;
    }
    // Elements of the same name may nest.
    let mut open = 1;
    let mut from = 0;
    loop {
        let at = from + rest[from..].find('<')?;
        let tag = &rest[at + 1..];
        let (closing, tag) = match tag.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, tag),
        };
        if tag.strip_prefix(name).is_some_and(|tag| tag.starts_with('>')) {
            open = if closing { open - 1 } else { open + 1 };
            if open == 0 {
                let after = &rest[at + name.len() + 3..];
                return Some((name, &rest[..at], after.trim_start()));
            }
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::{super::schema::Toolset, convert_nested};
    use crate::chat::{FunctionTool, Tool};

    fn read(schema: Value, text: &str) -> Option<String> {
        let parameters = json!({"properties": {"p": schema}});
        let tools =
            Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("f", parameters))]));
        let mut out = String::new();
        convert_nested(text, &tools.parameter("f", "p"), &mut out).then_some(out)
    }

    fn files() -> Value {
        json!({"type": "object", "properties": {"file": {"type": "array", "items": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "line": {"type": "integer"}},
        }}, "one": {"type": "object", "properties": {"path": {}}}}})
    }

    #[test]
    fn tags_follow_the_schema() {
        let text = "<one><path>a b</path></one>\n<file><item><path>x</path><line>3</line></item>\n\
                    <item><path>y</path></item></file>";
        assert_eq!(
            read(files(), text).as_deref(),
            Some(r#"{"one":{"path":"a b"},"file":[{"path":"x","line":3},{"path":"y"}]}"#)
        );
        let numbers = json!({"type": "array", "items": {"type": "integer"}});
        assert_eq!(read(numbers, "<n>1</n><n>2</n>").as_deref(), Some("[1,2]"));
        assert_eq!(
            read(files(), "<one><path>a</one>").as_deref(),
            Some(r#"{"one":"<path>a"}"#),
            "what does not fit inside is text inside"
        );
    }

    #[test]
    fn what_does_not_fit_stays_text() {
        for text in ["<other>1</other>", "<one>", "<file>", "<one>x</one> tail"] {
            let expected = serde_json::to_string(text).ok();
            assert_eq!(read(files(), text), expected, "{text}");
        }
    }

    #[test]
    fn an_element_may_hold_its_own_name() {
        let schema = json!({"type": "array", "items": {"type": "string"}});
        assert_eq!(read(schema, "<a>x<a>y</a></a>").as_deref(), Some(r#"["x<a>y</a>"]"#));
    }
}
