//! The items of an answer.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    input::Input,
    names::{Given, Kind},
    seal::seal,
};
use crate::{
    Text,
    json::{self, object::Checker, string_into},
};

/// An item, as far as it has come.
#[derive(Debug)]
pub(super) struct Item {
    /// The same in all of its events, and unlike any other.
    pub(super) id: String,
    pub(super) what: What,
    /// What was said, thought, or given as arguments.
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) enum What {
    Message {
        /// The sources, with commas between.
        annotations: BytesMut,
        count: u64,
        /// How many characters of visible text there were before.
        start: usize,
    },
    Reasoning {
        is_shown: bool,
        is_sealed: bool,
        signature: Option<Text>,
    },
    Call(Box<Call>),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) index: u32,
    pub(super) call_id: Text,
    pub(super) given: Given,
    pub(super) checker: Checker,
    /// What a custom tool is given.
    pub(super) input: Input,
}

impl Item {
    pub(super) fn new(what: What) -> Self {
        let prefix = match &what {
            What::Message { .. } => "msg",
            What::Reasoning { .. } => "rs",
            What::Call(call) => match call.given.kind {
                Kind::Function => "fc",
                Kind::Custom => "ctc",
                Kind::LocalShell => "lsh",
                Kind::ToolSearch => "tsc",
            },
        };
        let id = format!("{prefix}_{}", Uuid::new_v4().simple());
        Self { id, what, text: String::new() }
    }

    /// How many bytes it takes.
    pub(super) fn kept(&self) -> usize {
        self.text.len()
            + match &self.what {
                What::Message { annotations, .. } => annotations.len(),
                What::Reasoning { .. } => 0,
                What::Call(call) => call.input.text.len(),
            }
    }

    /// The one part of a message, with or without what it says.
    pub(super) fn text_part_into(&self, out: &mut BytesMut, is_whole: bool) {
        out.put_slice(b"{\"type\":\"output_text\",\"text\":");
        string_into(out, if is_whole { &self.text } else { "" });
        out.put_slice(b",\"annotations\":[");
        if let What::Message { annotations, .. } = &self.what {
            out.put_slice(annotations);
        }
        out.put_slice(b"],\"logprobs\":[]}");
    }
}

/// Appends an item: as it is when it appears, or whole.
pub(super) fn item_into(out: &mut BytesMut, item: &Item, status: &str, is_whole: bool) {
    let text = if is_whole { item.text.as_str() } else { "" };
    let begin = |out: &mut BytesMut, kind: &str| {
        out.put_slice(b"{\"type\":");
        string_into(out, kind);
        out.put_slice(b",\"id\":");
        string_into(out, &item.id);
    };
    match &item.what {
        What::Message { .. } => {
            begin(out, "message");
            out.put_slice(b",\"role\":\"assistant\",\"content\":[");
            if is_whole {
                item.text_part_into(out, true);
            }
            out.put_slice(b"]");
        }
        What::Reasoning { is_shown, is_sealed, signature } => {
            begin(out, "reasoning");
            out.put_slice(b",\"summary\":[");
            if is_whole && *is_shown {
                out.put_slice(b"{\"type\":\"summary_text\",\"text\":");
                string_into(out, text);
                out.put_slice(b"}");
            }
            out.put_slice(b"]");
            if is_whole && *is_sealed {
                out.put_slice(b",\"encrypted_content\":");
                string_into(out, &seal(text, signature.as_deref()));
            }
        }
        What::Call(call) => {
            begin(
                out,
                match call.given.kind {
                    Kind::Function => "function_call",
                    Kind::Custom => "custom_tool_call",
                    Kind::LocalShell => "local_shell_call",
                    Kind::ToolSearch => "tool_search_call",
                },
            );
            out.put_slice(b",\"call_id\":");
            string_into(out, &call.call_id);
            call.write_into(out, text);
        }
    }
    out.put_slice(b",\"status\":");
    string_into(out, status);
    out.put_slice(b"}");
}

impl Call {
    /// Appends what is called, and with what.
    fn write_into(&self, out: &mut BytesMut, arguments: &str) {
        match self.given.kind {
            Kind::Function | Kind::Custom => {
                out.put_slice(b",\"name\":");
                string_into(out, &self.given.name);
                if let Some(namespace) = &self.given.namespace {
                    out.put_slice(b",\"namespace\":");
                    string_into(out, namespace);
                }
                if self.given.kind == Kind::Function {
                    out.put_slice(b",\"arguments\":");
                    string_into(out, arguments);
                } else {
                    out.put_slice(b",\"input\":");
                    string_into(out, if arguments.is_empty() { "" } else { &self.input.text });
                }
            }
            Kind::LocalShell => {
                out.put_slice(b",\"action\":");
                action_into(out, arguments);
            }
            Kind::ToolSearch => {
                out.put_slice(b",\"execution\":\"client\",\"arguments\":");
                // An event is one line.
                let is_object = serde_json::from_str::<&RawValue>(arguments).is_ok();
                let object = if is_object { json::compact(arguments) } else { "{}".into() };
                out.put_slice(object.as_bytes());
            }
        }
    }
}

/// Appends what `local_shell` does: its arguments are those that it was offered with.
fn action_into(out: &mut BytesMut, arguments: &str) {
    let mut fields = [("command", None), ("working_directory", None), ("timeout_ms", None)];
    let is_json = serde_json::from_str::<&RawValue>(arguments).is_ok();
    for (name, value) in json::members(if is_json { arguments } else { "" }) {
        let (place, first) = match &*name {
            "command" => (0, b'['),
            "workdir" | "working_directory" => (1, b'"'),
            "timeout_ms" | "timeout" => (2, b'0'),
            _ => continue,
        };
        let is_right = match value.as_bytes().first() {
            Some(digit) if digit.is_ascii_digit() => {
                first == b'0' && !value.contains(['.', 'e', 'E'])
            }
            Some(other) => *other == first,
            None => false,
        };
        // A command in one piece is for a shell.
        let value = match (place, value.starts_with('"')) {
            (0, true) => Some(format!("[\"bash\",\"-lc\",{value}]")),
            _ => is_right.then(|| json::compact(value).into_owned()),
        };
        fields[place].1 = value.or(fields[place].1.take());
    }
    out.put_slice(b"{\"type\":\"exec\",\"env\":{}");
    for (name, value) in fields {
        let value = match value {
            Some(value) => value,
            None if name == "command" => "[]".to_owned(),
            None => continue,
        };
        out.put_slice(b",");
        string_into(out, name);
        out.put_slice(b":");
        out.put_slice(value.as_bytes());
    }
    out.put_slice(b"}");
}
