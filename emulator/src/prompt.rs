//! Reading a prompt that may hold a whole conversation.
//!
//! The web API takes one message, so a client without a conversation folds its history into one
//! text with the roles marked. The emulator must tell the last turn from the ones
//! before it: a directive or a tool's name in an earlier turn, or in the system text, is not a
//! request.

/// Who speaks in a section of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    Tool,
}

/// A part of a prompt, from one role marker to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    pub(super) speaker: Speaker,
    pub(super) text: &'a str,
}

/// What the last turn of a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn<'a> {
    /// The user says this.
    User(&'a str),
    /// A tool returned this.
    ToolResult(&'a str),
}

/// Cuts `prompt` at its role markers.
///
/// A marker is a line that starts with a role's name, either capitalised and before a colon
/// (`User: …`), or within decoration (`[user]`, `<user>`, `### User`, `**User**:`,
/// `<|im_start|>user`); what follows on the line belongs to the section. Text before the first
/// marker is the system's; a prompt without markers is the user's.
pub(super) fn sections(prompt: &str) -> Vec<Section<'_>> {
    let mut marks = Vec::new();
    let mut at = 0;
    for line in prompt.split_inclusive('\n') {
        if let Some((speaker, rest)) = marker(line) {
            marks.push((at, at + rest, speaker));
        }
        at += line.len();
    }
    let Some((first, _, _)) = marks.first() else {
        return vec![Section { speaker: Speaker::User, text: prompt.trim() }];
    };
    let before = Section { speaker: Speaker::System, text: prompt[..*first].trim() };
    let ends = marks.iter().skip(1).map(|(at, _, _)| *at).chain([prompt.len()]);
    let marked = marks.iter().zip(ends).map(|((_, start, speaker), end)| Section {
        speaker: *speaker,
        text: prompt[*start..end].trim(),
    });
    [before].into_iter().chain(marked).filter(|section| !section.text.is_empty()).collect()
}

/// The role that `line` marks, and where the text after the marker starts.
fn marker(line: &str) -> Option<(Speaker, usize)> {
    let body = line.trim_start_matches([' ', '\t']);
    let indent = line.len() - body.len();
    let (decoration, body) = match body.strip_prefix("<|im_start|>") {
        Some(rest) => ("<|", rest),
        None => body.split_at(body.find(|c| !"#*[<|(=-_> ".contains(c))?),
    };
    let start = line.len() - body.len();
    let end = body.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(body.len());
    let (word, rest) = body.split_at(end);
    let speaker = match word.to_ascii_lowercase().as_str() {
        "system" | "developer" => Speaker::System,
        "user" | "human" => Speaker::User,
        "assistant" => Speaker::Assistant,
        "tool" | "function" => Speaker::Tool,
        _ => return None,
    };
    let after = start + end;
    let decoration = decoration.trim();
    if decoration.is_empty() {
        // `User: …` at the very start of a line. In lower case it is likelier to be YAML.
        let capital = word.starts_with(|c: char| c.is_ascii_uppercase());
        let named = rest.strip_prefix(':')?;
        return (capital && indent == 0).then_some((speaker, line.len() - named.len()));
    }
    if decoration == "<" {
        // `<function>` and `<tool>` are markup of tools, not roles.
        let rest = rest.strip_prefix('>')?;
        return (speaker != Speaker::Tool).then_some((speaker, line.len() - rest.len()));
    }
    if decoration == "<|" {
        let blank = rest.starts_with([' ', '\n', '\r', '|']) || rest.is_empty();
        return blank.then_some((speaker, after + usize::from(rest.starts_with('|')) * 2));
    }
    if decoration.starts_with('[') || decoration.starts_with('(') {
        // `[user]`, `[Tool result: name]`.
        let close = rest.find([']', ')'])?;
        let inner = &rest[..close];
        let plain = inner.chars().all(|c| c.is_alphanumeric() || " _-:.#/\"'".contains(c));
        let text = rest[close + 1..].trim_start_matches([':', '*']);
        return (plain && inner.len() <= 100).then_some((speaker, line.len() - text.len()));
    }
    // `### User`, `**User**:`, `--- user ---`, `=== USER (1) ===`.
    let text = rest.trim_start_matches(['*', ':', '#', '=', '-', '_', ' ']);
    let only = text.trim().is_empty();
    let closed = rest.starts_with([':', '*']);
    (only || closed).then_some((speaker, line.len() - text.len()))
}

/// The last turn of a prompt that was cut by [`sections`].
///
/// A user's section that starts as tool results do (`<tool_response>`, `Tool Result from …`,
/// `[tool for …] Result:`) is a result.
pub(super) fn last_turn<'a>(sections: &[Section<'a>]) -> Turn<'a> {
    let mut turns = sections
        .iter()
        .rev()
        .filter(|section| matches!(section.speaker, Speaker::User | Speaker::Tool));
    let mut last = turns.next();
    // What a tool layer says about calls in this reply may stand behind the results.
    if let Some(Section { speaker: Speaker::User, text }) = last
        && text.contains("in this reply")
        && !text.contains('\n')
        && let Some(before) = turns.next()
        && (before.speaker == Speaker::Tool || is_tool_result(before.text))
    {
        last = Some(before);
    }
    match last {
        Some(Section { speaker: Speaker::Tool, text }) => Turn::ToolResult(text),
        Some(section) if is_tool_result(section.text) => Turn::ToolResult(section.text),
        Some(section) => Turn::User(own_words(section.text)),
        None => Turn::User(sections.last().map_or("", |section| section.text)),
    }
}

fn is_tool_result(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line.starts_with("<tool_response>")
        || line.starts_with("Tool Result from ")
        || (line.starts_with('[') && (line.contains("] Result:") || line.ends_with("] Result")))
}

/// The user's part of a section that also holds a description of tools (where nothing marks the
/// roles) or what a client adds about its environment.
fn own_words(text: &str) -> &str {
    let mut text = text;
    if let Some(at) = text.find("<environment_details>") {
        text = &text[..at];
    }
    if text.contains("<tools>") {
        for end in ["</tools>", "</IMPORTANT>", "</tool_call>"] {
            if let Some(at) = text.rfind(end) {
                text = &text[at + end.len()..];
            }
        }
    }
    text.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speakers(prompt: &str) -> Vec<(Speaker, &str)> {
        sections(prompt).iter().map(|section| (section.speaker, section.text)).collect()
    }

    #[test]
    fn a_prompt_without_markers_is_the_users() {
        assert_eq!(speakers(" Hello\nthere "), [(Speaker::User, "Hello\nthere")]);
        assert_eq!(last_turn(&sections("Hello")), Turn::User("Hello"));
        assert_eq!(last_turn(&sections("")), Turn::User(""));
    }

    #[test]
    fn all_common_markers_are_read() {
        for prompt in [
            "Be brief.\n\nUser: one\n\nAssistant: two\n\nUser: three\nand four",
            "Be brief.\n\n[user]\none\n\n[assistant]\ntwo\n\n[user]\nthree\nand four",
            "Be brief.\n### User\none\n### Assistant\ntwo\n### User:\nthree\nand four",
            "Be brief.\n**User**: one\n**Assistant:** two\n**User:**\nthree\nand four",
            "<system>\nBe brief.\n<user>\none\n<assistant>\ntwo\n<user>\nthree\nand four",
            "<|im_start|>system\nBe brief.\n<|im_start|>user\none\n<|im_start|>assistant\ntwo\n\
             <|im_start|>user\nthree\nand four",
            "=== SYSTEM ===\nBe brief.\n=== USER ===\none\n=== ASSISTANT ===\ntwo\n=== USER ===\n\
             three\nand four",
        ] {
            assert_eq!(
                speakers(prompt),
                [
                    (Speaker::System, "Be brief."),
                    (Speaker::User, "one"),
                    (Speaker::Assistant, "two"),
                    (Speaker::User, "three\nand four"),
                ],
                "{prompt}"
            );
        }
    }

    #[test]
    fn ordinary_text_holds_no_markers() {
        for text in [
            "user: in YAML",
            "<function>\n<name>f</name>\n</function>",
            "<tool_call>\n<function=f>\n</function>\n</tool_call>",
            "Users: all of them",
            "# System requirements\n- none",
            "## Tools",
            "The tool: a hammer",
            "[users](list)",
        ] {
            assert_eq!(speakers(text), [(Speaker::User, text)], "{text}");
        }
    }

    #[test]
    fn tool_results_are_told_from_questions() {
        let turn = |prompt| last_turn(&sections(prompt));
        assert_eq!(
            turn("User: a\n\nAssistant: b\n\nTool: 42"),
            Turn::ToolResult("42"),
            "a role of its own"
        );
        for text in [
            "<tool_response>\n42\n</tool_response>",
            "Tool Result from f:\n42",
            "[read_file for 'a'] Result:\n42",
        ] {
            assert_eq!(turn(text), Turn::ToolResult(text));
        }
        assert_eq!(turn("[Tool result: get_weather]\nsunny"), Turn::ToolResult("sunny"));
        assert_eq!(turn("[Tool result: f]\nsunny\n\n[User]\nthanks"), Turn::User("thanks"));
    }

    #[test]
    fn the_description_of_tools_is_not_the_users_words() {
        assert_eq!(
            last_turn(&sections("# Tools\n<tools>\n{}\n</tools>\nhow\n\nCall f")),
            Turn::User("how\n\nCall f")
        );
        assert_eq!(
            last_turn(&sections("do it\n<environment_details>x</environment_details>")),
            Turn::User("do it")
        );
    }
}
