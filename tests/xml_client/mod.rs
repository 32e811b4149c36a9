//! What the parsers of XML clients make of a reply: docs/reference/tool-calls.md#d.2, written down
//! a second time and as literally as can be, to judge `ToolWrapLayer` by. It shares no code with
//! it.

use std::collections::BTreeMap;

/// A call that the client runs, unclosed ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) closed: bool,
}

/// A reply as the client reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) calls: Vec<Call>,
    /// The text outside calls, untrimmed, without the tags.
    pub(crate) text: String,
}

pub(crate) struct Client {
    pub(crate) tools: Vec<String>,
    pub(crate) parameters: Vec<String>,
}

impl Client {
    pub(crate) fn new(tools: &[&str], parameters: &[&str]) -> Self {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { tools: own(tools), parameters: own(parameters) }
    }

    /// Roo Code's streaming parser: one character at a time, looking only at what the text so
    /// far ends with.
    pub(crate) fn roo_streaming(&self, reply: &str) -> Reading {
        struct Open {
            call: Call,
            start: usize,
            parameter: Option<(String, usize)>,
        }
        let mut reading = Reading::default();
        let mut so_far = String::new();
        let mut text_start = 0;
        let mut open: Option<Open> = None;
        for c in reply.chars() {
            so_far.push(c);
            let Some(tool) = &mut open else {
                let opened = c == '>';
                let name = opened
                    .then(|| self.tools.iter().find(|name| so_far.ends_with(&format!("<{name}>"))));
                if let Some(Some(name)) = name {
                    let tag = so_far.len() - name.len() - 2;
                    reading.text.push_str(&so_far[text_start..tag]);
                    open = Some(Open {
                        call: Call { name: name.clone(), ..Call::default() },
                        start: so_far.len(),
                        parameter: None,
                    });
                }
                continue;
            };
            if let Some((key, start)) = tool.parameter.clone() {
                let value = &so_far[start..];
                if value.len() > 102_400 && value.chars().count() > 102_400 {
                    tool.call.parameters.insert(key, value.to_owned());
                    tool.parameter = None;
                } else if let Some(value) = value.strip_suffix(&format!("</{key}>")) {
                    let value = roo_trim(&key, value);
                    tool.call.parameters.insert(key, value);
                    tool.parameter = None;
                }
                continue;
            }
            if c != '>' {
                continue;
            }
            if so_far[tool.start..].ends_with(&format!("</{}>", tool.call.name)) {
                tool.call.closed = true;
                text_start = so_far.len();
                reading.calls.extend(open.take().map(|open| open.call));
                continue;
            }
            if let Some(key) =
                self.parameters.iter().find(|key| so_far.ends_with(&format!("<{key}>")))
            {
                tool.parameter = Some((key.clone(), so_far.len()));
                continue;
            }
            if tool.call.name == "write_to_file" && so_far.ends_with("</content>") {
                recover_content(&so_far[tool.start..], &mut tool.call, |value| {
                    roo_trim("content", value)
                });
            }
        }
        match open {
            Some(mut tool) => {
                if let Some((key, start)) = tool.parameter {
                    tool.call.parameters.insert(key, so_far[start..].to_owned());
                }
                reading.calls.push(tool.call);
            }
            None => reading.text.push_str(&so_far[text_start..]),
        }
        reading
    }

    /// Cline's parser: the whole text at once, an index that walks over it, and tags that must
    /// end at the index.
    pub(crate) fn cline(&self, reply: &str) -> Reading {
        let bytes = reply.as_bytes();
        let ends = |at: usize, tag: &str| bytes[..=at].ends_with(tag.as_bytes());
        let mut reading = Reading::default();
        let mut text_start = 0;
        let mut tool: Option<(Call, usize)> = None;
        let mut parameter: Option<(&str, usize)> = None;
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] != b'>' {
                at += 1;
                continue;
            }
            match (&mut tool, parameter) {
                (Some((call, _)), Some((key, start))) => {
                    let closer = format!("</{key}>");
                    if at + 1 >= start + closer.len() && ends(at, &closer) {
                        let value = &reply[start..at + 1 - closer.len()];
                        call.parameters.insert(key.to_owned(), value.trim().to_owned());
                        parameter = None;
                    }
                }
                (Some((call, start)), None) => {
                    let closer = format!("</{}>", call.name);
                    if at + 1 >= *start + closer.len() && ends(at, &closer) {
                        let inside = reply[*start..at + 1 - closer.len()].to_owned();
                        call.closed = true;
                        if call.name == "write_to_file" {
                            recover_content(&inside, call, |value| value.trim().to_owned());
                        }
                        reading.calls.extend(tool.take().map(|(call, _)| call));
                        text_start = at + 1;
                    } else if let Some(key) =
                        self.parameters.iter().find(|key| ends(at, &format!("<{key}>")))
                    {
                        parameter = Some((key, at + 1));
                    }
                }
                (None, _) => {
                    if let Some(name) =
                        self.tools.iter().find(|name| ends(at, &format!("<{name}>")))
                    {
                        reading.text.push_str(&reply[text_start..at + 1 - name.len() - 2]);
                        tool = Some((Call { name: name.clone(), ..Call::default() }, at + 1));
                    }
                }
            }
            at += 1;
        }
        match tool {
            Some((mut call, _)) => {
                if let Some((key, start)) = parameter {
                    call.parameters.insert(key.to_owned(), reply[start..].trim().to_owned());
                }
                reading.calls.push(call);
            }
            None => reading.text.push_str(&reply[text_start..]),
        }
        reading
    }
}

fn roo_trim(key: &str, value: &str) -> String {
    if key != "content" {
        return value.trim().to_owned();
    }
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value).to_owned()
}

fn recover_content(inside: &str, call: &mut Call, trim: impl Fn(&str) -> String) {
    let (Some(start), Some(end)) = (inside.find("<content>"), inside.rfind("</content>")) else {
        return;
    };
    if start + 9 <= end {
        call.parameters.insert("content".to_owned(), trim(&inside[start + 9..end]));
    }
}
