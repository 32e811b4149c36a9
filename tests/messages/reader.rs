//! A reader of the streams of the Messages API that forgives nothing: whatever an official client
//! or a widespread one stumbles over is an error here.

use serde_json::Value;

/// What a stream says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) blocks: Vec<Block>,
    /// The lists of sources, which stand in blocks of text of their own.
    pub(crate) links: Vec<String>,
    pub(crate) pings: usize,
    /// The counts of the beginning.
    pub(crate) first_usage: Value,
    pub(crate) end: Option<End>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    Text(String),
    Thinking { thinking: String, signature: String },
    Call { id: String, name: String, json: String },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Stopped { reason: String, sequence: Option<String>, usage: Value },
    Failed { kind: String, message: String },
}

/// The words for kinds of errors that the clients know.
const ERRORS: [&str; 10] = [
    "api_error",
    "authentication_error",
    "billing_error",
    "invalid_request_error",
    "not_found_error",
    "overloaded_error",
    "permission_error",
    "rate_limit_error",
    "request_too_large",
    "timeout_error",
];

/// Reads a stream from its first byte to its last.
/// What a list of sources begins with.
pub(crate) const LINKS: &str = "\n\nSources:\n";

pub(crate) fn read(stream: &str) -> Result<Message, String> {
    let mut reader = Reader::default();
    let mut rest = stream;
    while !rest.is_empty() {
        let Some((event, behind)) = rest.split_once("\n\n") else {
            return Err(format!("the last event has no end: {rest:?}"));
        };
        reader.event(event).map_err(|rule| format!("{rule}: {event:?} of {stream}"))?;
        rest = behind;
    }
    reader.end().map_err(|rule| format!("{rule}: {stream}"))
}

#[derive(Default)]
struct Reader {
    message: Message,
    has_begun: bool,
    /// The block that is open, and what has come for it.
    open: Option<Open>,
    /// Calls whose arguments are only the beginning of an object.
    cut: usize,
    is_over: bool,
}

struct Open {
    block: Block,
    /// How many pieces there were.
    pieces: usize,
}

impl Reader {
    fn event(&mut self, event: &str) -> Result<(), String> {
        let mut lines = event.split('\n');
        let name = lines.next().and_then(|line| line.strip_prefix("event: "));
        let data = lines.next().and_then(|line| line.strip_prefix("data: "));
        let (Some(name), Some(data), None) = (name, data, lines.next()) else {
            return Err("an event is a line with its name and a line with its data".into());
        };
        let data: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
        rule(data["type"] == *name, "the name is that of the data")?;
        rule(!self.is_over, "nothing comes behind the end")?;
        match name {
            "error" => return self.error(&data),
            "message_start" => return self.start(&data["message"]),
            _ => rule(self.has_begun, "`message_start` is the first")?,
        }
        match name {
            "ping" => self.message.pings += 1,
            "message_delta" => self.delta(&data)?,
            "message_stop" => {
                rule(self.message.end.is_some(), "`message_delta` comes before `message_stop`")?;
                self.is_over = true;
            }
            _ => {
                rule(self.message.end.is_none(), "no block comes behind `message_delta`")?;
                let next = self.message.blocks.len();
                rule(data["index"] == next, "blocks are numbered without gaps")?;
                match name {
                    "content_block_start" => self.open(&data["content_block"])?,
                    "content_block_delta" => self.piece(&data["delta"])?,
                    "content_block_stop" => self.close()?,
                    _ => return Err("the event is not known".into()),
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, message: &Value) -> Result<(), String> {
        rule(!self.has_begun, "`message_start` comes once")?;
        self.has_begun = true;
        rule(message["type"] == "message", "it is a message")?;
        rule(message["role"] == "assistant", "it is the assistant's")?;
        rule(message["content"] == Value::Array(Vec::new()), "it begins with no content")?;
        for field in ["stop_reason", "stop_sequence"] {
            rule(message.get(field) == Some(&Value::Null), "it has not ended yet")?;
        }
        self.message.id = text(&message["id"])?;
        let digits = self.message.id.strip_prefix("msg_").unwrap_or_default();
        rule(is_id(digits), "the id of a message is `msg_` and digits")?;
        self.message.model = text(&message["model"])?;
        counts(&message["usage"])?;
        self.message.first_usage = message["usage"].clone();
        Ok(())
    }

    fn open(&mut self, block: &Value) -> Result<(), String> {
        rule(self.open.is_none(), "one block is open at a time")?;
        let block = match block["type"].as_str() {
            Some("text") => {
                rule(block["text"] == "", "a block of text begins empty")?;
                Block::Text(String::new())
            }
            Some("thinking") => {
                rule(block["thinking"] == "", "a block of thinking begins empty")?;
                rule(block["signature"] == "", "its signature comes later")?;
                Block::Thinking { thinking: String::new(), signature: String::new() }
            }
            Some("tool_use") => {
                rule(block["input"] == Value::Object(Default::default()), "its input comes later")?;
                let (id, name) = (text(&block["id"])?, text(&block["name"])?);
                let digits = id.strip_prefix("toolu_").unwrap_or_default();
                rule(is_id(digits), "the id of a call is `toolu_` and digits")?;
                let is_new =
                    |block: &Block| !matches!(block, Block::Call { id: own, .. } if *own == id);
                rule(self.message.blocks.iter().all(is_new), "each call has an id of its own")?;
                Block::Call { id, name, json: String::new() }
            }
            _ => return Err("the kind of block is not known".into()),
        };
        self.open = Some(Open { block, pieces: 0 });
        Ok(())
    }

    fn piece(&mut self, delta: &Value) -> Result<(), String> {
        let Some(Open { block, pieces }) = &mut self.open else {
            return Err("a piece is one of the open block".into());
        };
        *pieces += 1;
        match (block, delta["type"].as_str().unwrap_or_default()) {
            (Block::Text(all), "text_delta") => all.push_str(&text(&delta["text"])?),
            (Block::Thinking { thinking, signature }, "thinking_delta") => {
                rule(signature.is_empty(), "the signature is the last piece")?;
                thinking.push_str(&text(&delta["thinking"])?);
            }
            (Block::Thinking { signature, .. }, "signature_delta") => {
                rule(signature.is_empty(), "there is one signature")?;
                *signature = text(&delta["signature"])?;
            }
            (Block::Call { json, .. }, "input_json_delta") => {
                json.push_str(&text(&delta["partial_json"])?);
                rule(json.starts_with('{'), "each piece makes the beginning of an object")?;
            }
            _ => return Err("a piece is of the kind of its block".into()),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(Open { block, pieces }) = self.open.take() else {
            return Err("the block that ends has begun".into());
        };
        rule(pieces > 0, "a block has at least one piece")?;
        match &block {
            Block::Text(_) => {}
            Block::Thinking { signature, .. } => {
                rule(!signature.is_empty(), "thinking has a signature")?;
            }
            Block::Call { json, .. } => match serde_json::from_str::<Value>(json) {
                Ok(input) => rule(input.is_object(), "the input of a call is an object")?,
                Err(error) if error.is_eof() => self.cut += 1,
                Err(error) => return Err(format!("the input of a call is JSON: {error}")),
            },
        }
        self.message.blocks.push(block);
        Ok(())
    }

    fn delta(&mut self, data: &Value) -> Result<(), String> {
        rule(self.open.is_none(), "every block has ended before `message_delta`")?;
        rule(self.message.end.is_none(), "`message_delta` comes once")?;
        let reason = text(&data["delta"]["stop_reason"])?;
        let calls = self.message.blocks.iter().filter(|block| matches!(block, Block::Call { .. }));
        let calls = calls.count();
        let is_cut = match reason.as_str() {
            "end_turn" | "stop_sequence" => {
                rule(calls == 0, "an answer with calls ends with `tool_use`")?;
                false
            }
            "tool_use" => {
                rule(calls > 0, "`tool_use` says that there is a call")?;
                false
            }
            "max_tokens" | "refusal" => true,
            _ => return Err("the reason to stop is not known".into()),
        };
        rule(self.cut <= usize::from(is_cut), "a call is whole unless the answer is cut")?;
        let sequence = match data["delta"].get("stop_sequence") {
            Some(Value::Null) => None,
            Some(sequence) => Some(text(sequence)?),
            None => return Err("`stop_sequence` may be null, and is always there".into()),
        };
        rule(
            sequence.is_some() == (reason == "stop_sequence"),
            "the sequence is named where one was met",
        )?;
        counts(&data["usage"])?;
        self.message.end = Some(End::Stopped { reason, sequence, usage: data["usage"].clone() });
        Ok(())
    }

    fn error(&mut self, data: &Value) -> Result<(), String> {
        rule(self.message.end.is_none(), "what has ended does not fail")?;
        let (kind, message) = (text(&data["error"]["type"])?, text(&data["error"]["message"])?);
        rule(ERRORS.contains(&kind.as_str()), "the kind of error is known")?;
        let id = data.get("request_id");
        rule(id.is_some_and(|id| id.is_null() || id.is_string()), "the request may have an id")?;
        // What there is of the open block is shown all the same.
        self.message.blocks.extend(self.open.take().map(|open| open.block));
        self.message.end = Some(End::Failed { kind, message });
        self.is_over = true;
        Ok(())
    }

    fn end(self) -> Result<Message, String> {
        rule(self.is_over, "a stream ends with `message_stop` or `error`")?;
        let mut message = self.message;
        message.links = message
            .blocks
            .extract_if(.., |block| matches!(block, Block::Text(text) if text.starts_with(LINKS)))
            .filter_map(|block| match block {
                Block::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        Ok(message)
    }
}

fn rule(is_kept: bool, rule: &str) -> Result<(), String> {
    if is_kept { Ok(()) } else { Err(rule.into()) }
}

/// A string that is not empty.
fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| format!("{value} should be a text"))
}

fn is_id(digits: &str) -> bool {
    digits.len() >= 22 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Clients add the counts up.
fn counts(usage: &Value) -> Result<(), String> {
    for field in
        ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
    {
        rule(usage[field].is_u64(), "the counts are integers")?;
    }
    let details = usage.get("output_tokens_details");
    rule(
        details.is_none_or(|details| details["thinking_tokens"].is_u64()),
        "the count of thinking is an integer",
    )
}

impl Message {
    pub(crate) fn text(&self) -> String {
        self.joined(|block| match block {
            Block::Text(text) => text,
            _ => "",
        })
    }

    pub(crate) fn thinking(&self) -> String {
        self.joined(|block| match block {
            Block::Thinking { thinking, .. } => thinking,
            _ => "",
        })
    }

    fn joined(&self, of: impl Fn(&Block) -> &str) -> String {
        self.blocks.iter().map(of).collect()
    }

    /// The names and the arguments of the calls.
    pub(crate) fn calls(&self) -> Vec<(String, String)> {
        let calls = self.blocks.iter().filter_map(|block| match block {
            Block::Call { name, json, .. } => Some((name.clone(), json.clone())),
            _ => None,
        });
        calls.collect()
    }
}
