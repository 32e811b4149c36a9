//! A reader of the Responses API's stream that forgives nothing: what any official client, Codex
//! or typed SDK relies on is checked.

use std::collections::HashSet;

use serde_json::{Value, json};

/// What a stream said.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// The items, as their last events had them.
    pub(crate) items: Vec<Value>,
    /// The item that was begun and not ended.
    pub(crate) cut: Option<Value>,
    /// The response of the last event.
    pub(crate) last: Value,
    /// How often `response.in_progress` came.
    pub(crate) signs_of_life: usize,
}

impl Response {
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.items.iter().filter(move |item| item["type"] == kind)
    }

    pub(crate) fn text(&self) -> String {
        self.of("message").map(|item| string(&item["content"][0]["text"])).collect()
    }

    pub(crate) fn thinking(&self) -> String {
        self.of("reasoning")
            .flat_map(|item| item["summary"].as_array().expect("a list"))
            .map(|part| string(&part["text"]))
            .collect()
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

macro_rules! ensure {
    ($right:expr, $($told:tt)*) => {
        if !$right {
            return Err(format!($($told)*));
        }
    };
}

/// The item that is open.
struct Open {
    item: Value,
    /// The pieces so far, and whether their end was told.
    text: String,
    is_told: bool,
    has_part: bool,
    annotations: Vec<Value>,
}

/// Reads a whole stream.
pub(crate) fn read(stream: &str) -> Result<Response, String> {
    let mut reader = Reader::default();
    ensure!(stream.ends_with("\n\n"), "the last event does not end");
    for event in stream.split_terminator("\n\n") {
        reader.event(event).map_err(|fault| format!("{fault}: {event}"))?;
    }
    ensure!(reader.is_over, "no last event");
    let Reader { mut response, open, .. } = reader;
    response.cut = open.map(|open| open.item);
    Ok(response)
}

#[derive(Default)]
struct Reader {
    sequence: u64,
    response: Response,
    /// What all responses of the stream have in common.
    envelope: Option<Value>,
    open: Option<Open>,
    begun: usize,
    ids: HashSet<String>,
    is_over: bool,
}

impl Reader {
    fn event(&mut self, event: &str) -> Result<(), String> {
        ensure!(!self.is_over, "an event behind the last");
        let (name, data) = event.split_once('\n').ok_or("not two lines")?;
        let name = name.strip_prefix("event: ").ok_or("no name")?;
        let data = data.strip_prefix("data: ").ok_or("no data")?;
        ensure!(!data.contains(['\n', '\r']), "more than one line of data");
        let data: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
        ensure!(data["type"] == name, "two names");
        ensure!(data["sequence_number"] == self.sequence, "the number is not {}", self.sequence);
        self.sequence += 1;
        ensure!(
            (name == "response.created") == (self.sequence == 1),
            "`response.created` comes first and once"
        );
        match name {
            "response.created" | "response.in_progress" => {
                self.response.signs_of_life += usize::from(name == "response.in_progress");
                self.response(&data["response"], "in_progress")?;
                ensure!(data["response"]["output"] == json!([]), "output too early");
                ensure!(data["response"]["usage"].is_null(), "usage too early");
                Ok(())
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let status = name.strip_prefix("response.").expect("as above");
                self.response(&data["response"], status)?;
                self.last(&data["response"], status)
            }
            "response.output_item.added" => self.added(&data),
            "response.output_item.done" => self.done(&data),
            other => {
                ensure!(data.get("item").is_none() && data.get("response").is_none(), "too much");
                self.within(other, &data)
            }
        }
    }

    fn response(&mut self, response: &Value, status: &str) -> Result<(), String> {
        ensure!(response["status"] == status, "the status is not {status}");
        ensure!(response["object"] == "response", "no response");
        ensure!(string(&response["id"]).starts_with("resp_"), "no id");
        ensure!(response["created_at"].is_u64(), "no time");
        ensure!(response["tools"] == json!([]) && response["tool_choice"] == "auto", "tools");
        ensure!(response["parallel_tool_calls"].is_boolean(), "parallel calls");
        ensure!(response["metadata"].is_object(), "metadata");
        ensure!(response["error"].is_object() == (status == "failed"), "an error");
        let details = response["incomplete_details"].is_object();
        ensure!(details == (status == "incomplete"), "details");
        let envelope = json!([
            response["id"],
            response["created_at"],
            response["model"],
            response["metadata"],
            response["text"],
            response["reasoning"]
        ]);
        ensure!(*self.envelope.get_or_insert(envelope.clone()) == envelope, "another response");
        Ok(())
    }

    fn last(&mut self, response: &Value, status: &str) -> Result<(), String> {
        let output = response["output"].as_array().ok_or("no output")?;
        ensure!(*output == self.response.items, "the output is not what was said");
        ensure!(self.open.is_none() || status != "incomplete", "an item is open");
        if let Value::Object(usage) = &response["usage"] {
            let counts = ["input_tokens", "output_tokens", "total_tokens"].map(|name| &usage[name]);
            let details = [
                &usage["input_tokens_details"]["cached_tokens"],
                &usage["input_tokens_details"]["cache_write_tokens"],
                &usage["output_tokens_details"]["reasoning_tokens"],
            ];
            ensure!(counts.into_iter().chain(details).all(Value::is_u64), "no integers");
        }
        self.response.last = response.clone();
        self.is_over = true;
        Ok(())
    }

    fn added(&mut self, data: &Value) -> Result<(), String> {
        ensure!(self.open.is_none(), "two items at a time");
        ensure!(data["output_index"] == self.begun, "the place is not {}", self.begun);
        let item = &data["item"];
        ensure!(item["status"] == "in_progress", "the item's status");
        let (prefix, is_empty) = match string(&item["type"]) {
            "message" => ("msg_", item["content"] == json!([]) && item["role"] == "assistant"),
            "reasoning" => {
                ("rs_", item["summary"] == json!([]) && item.get("encrypted_content").is_none())
            }
            "function_call" => ("fc_", item["arguments"] == ""),
            "custom_tool_call" => ("ctc_", item["input"] == ""),
            "local_shell_call" => ("lsh_", item["action"]["command"] == json!([])),
            "tool_search_call" => ("tsc_", item["arguments"] == json!({})),
            other => return Err(format!("an item of kind {other}")),
        };
        ensure!(is_empty, "the item is not empty");
        let id = string(&item["id"]);
        ensure!(id.starts_with(prefix), "the item's id");
        ensure!(self.ids.insert(id.to_owned()), "two items with one id");
        if let Some(call_id) = item.get("call_id") {
            let call_id = string(call_id);
            ensure!(!call_id.is_empty() && self.ids.insert(call_id.to_owned()), "a call's id");
        }
        self.begun += 1;
        self.open = Some(Open {
            item: item.clone(),
            text: String::new(),
            is_told: false,
            has_part: false,
            annotations: Vec::new(),
        });
        Ok(())
    }

    fn within(&mut self, name: &str, data: &Value) -> Result<(), String> {
        let open = self.open.as_mut().ok_or("no item is open")?;
        ensure!(data["item_id"] == open.item["id"], "another item's id");
        ensure!(data["output_index"] == self.begun - 1, "another item's place");
        let (kind, place) =
            match name {
                "response.content_part.added"
                | "response.content_part.done"
                | "response.output_text.delta"
                | "response.output_text.done"
                | "response.output_text.annotation.added" => ("message", Some("content_index")),
                "response.reasoning_summary_part.added"
                | "response.reasoning_summary_part.done"
                | "response.reasoning_summary_text.delta"
                | "response.reasoning_summary_text.done" => ("reasoning", Some("summary_index")),
                "response.function_call_arguments.delta"
                | "response.function_call_arguments.done" => ("function_call", None),
                "response.custom_tool_call_input.delta"
                | "response.custom_tool_call_input.done" => ("custom_tool_call", None),
                other => return Err(format!("no event is called {other}")),
            };
        ensure!(open.item["type"] == kind, "an event of another kind of item");
        for field in ["content_index", "summary_index"] {
            let is_zero = data.get(field).map(|value| *value == 0);
            ensure!(is_zero == (place == Some(field)).then_some(true), "{field}");
        }
        match (name.rsplit('.').next().expect("a name"), kind) {
            ("added", _) if name.ends_with("part.added") => {
                let part = if kind == "message" {
                    json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
                } else {
                    json!({"type": "summary_text", "text": ""})
                };
                ensure!(data["part"] == part && !open.has_part, "the part is not new");
                open.has_part = true;
            }
            ("added", _) => {
                ensure!(open.has_part && !open.is_told, "an annotation of nothing");
                ensure!(data["annotation_index"] == open.annotations.len(), "its place");
                let annotation = &data["annotation"];
                let range = ["start_index", "end_index"].map(|name| annotation[name].as_u64());
                let [Some(start), Some(end)] = range else { return Err("no range".into()) };
                let len = open.text.chars().count() as u64;
                ensure!(start <= end && end <= len, "a range of {len}");
                ensure!(annotation["type"] == "url_citation", "an annotation's type");
                ensure!(annotation["url"].is_string() && annotation["title"].is_string(), "a url");
                open.annotations.push(annotation.clone());
            }
            ("delta", _) => {
                ensure!(open.has_part || place.is_none(), "text before its part");
                ensure!(!open.is_told, "text behind its end");
                let delta = string(&data["delta"]);
                ensure!(!delta.is_empty(), "an empty piece");
                ensure!((data.get("logprobs") == Some(&json!([]))) == (kind == "message"), "probs");
                open.text.push_str(delta);
            }
            (_, "message" | "reasoning") if name.ends_with("part.done") => {
                ensure!(open.is_told, "the part ends before its text");
                let part = &data["part"];
                ensure!(part["text"] == open.text, "the part is not its pieces");
                if kind == "message" {
                    ensure!(part["annotations"] == json!(open.annotations), "annotations");
                    ensure!(part["logprobs"] == json!([]), "probs");
                }
                open.has_part = false;
            }
            _ => {
                ensure!(!open.is_told, "two ends");
                open.is_told = true;
                let field = match kind {
                    "function_call" => "arguments",
                    "custom_tool_call" => "input",
                    _ => "text",
                };
                ensure!(data[field] == open.text, "the end is not its pieces");
                if kind == "function_call" {
                    ensure!(data["name"] == open.item["name"], "another name");
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, data: &Value) -> Result<(), String> {
        let open = self.open.take().ok_or("no item is open")?;
        ensure!(data["output_index"] == self.begun - 1, "another item's place");
        let item = &data["item"];
        for field in ["id", "type", "call_id", "name", "namespace", "role"] {
            ensure!(item.get(field) == open.item.get(field), "another {field}");
        }
        ensure!(item["status"] == "completed" || item["status"] == "incomplete", "the status");
        ensure!(!open.has_part, "the part has not ended");
        match string(&item["type"]) {
            "message" => {
                let part = json!({"type": "output_text", "text": open.text,
                    "annotations": open.annotations, "logprobs": []});
                ensure!(open.is_told && item["content"] == json!([part]), "not what was said");
            }
            "reasoning" if open.is_told => {
                let part = json!({"type": "summary_text", "text": open.text});
                ensure!(item["summary"] == json!([part]), "not what was said");
            }
            "reasoning" => ensure!(item["encrypted_content"].is_string(), "nothing is in it"),
            "function_call" => {
                ensure!(open.is_told && item["arguments"] == open.text, "not what was said");
            }
            "custom_tool_call" => {
                ensure!(open.is_told && item["input"] == open.text, "not what was said");
            }
            _ => {}
        }
        self.response.items.push(item.clone());
        Ok(())
    }
}
