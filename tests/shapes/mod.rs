//! The shapes of requests that cost the most for their size: one unit, again and again, in one
//! place of a request.

/// A place of a request, and what stands there again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// What is tried.
    pub(crate) name: &'static str,
    pub(crate) before: &'static str,
    pub(crate) unit: &'static str,
    /// Stands between two units.
    pub(crate) between: &'static str,
    pub(crate) after: &'static str,
}

impl Shape {
    /// A request of about `len` bytes.
    pub(crate) fn body(&self, len: usize) -> String {
        let fixed = self.before.len() + self.after.len() + self.unit.len();
        let each = self.unit.len() + self.between.len();
        self.times(1 + len.saturating_sub(fixed) / each)
    }

    /// A request with so many units.
    pub(crate) fn times(&self, count: usize) -> String {
        let each = self.unit.len() + self.between.len();
        let mut body = String::with_capacity(self.before.len() + self.after.len() + count * each);
        body.push_str(self.before);
        for index in 0..count {
            if index > 0 {
                body.push_str(self.between);
            }
            body.push_str(self.unit);
        }
        body.push_str(self.after);
        body
    }
}

/// `before [unit] after`, with a comma between two units unless something else is given.
macro_rules! shapes {
    ($($name:literal: $before:literal [$unit:literal] $after:literal $(, $between:literal)?;)*) => {
        &[$(Shape {
            name: $name,
            before: $before,
            unit: $unit,
            between: shapes!(@ $($between)?),
            after: $after,
        },)*]
    };
    (@ $between:literal) => { $between };
    (@) => { "," };
}

/// Every place that is a list or an object, and every kind of thing that may be put there.
pub(crate) const SHAPES: &[Shape] = shapes! {
    // Unknown fields.
    "lists": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"vendor":["# ["[]"] "]}";
    "numbers in lists": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"vendor":["# ["[0]"] "]}";
    "objects": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"vendor":["# [r#"{"a":0}"#] "]}";
    "many unknown fields": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"# [r#""v":0"#] "}";
    "fields of a message": r#"{"model":"m","messages":[{"role":"user","content":"x","# [r#""v":0"#] "}]}";
    "fields of a part": r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x","# [r#""v":0"#] "}]}]}";
    "fields with escapes": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"# [r#""\u0001":0"#] "}";
    "stream options": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{"# [r#""v":0"#] "}}";
    "template kwargs": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"# [r#""v":0"#] "}}";
    "response format": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"x","v":["# ["{}"] "]}}";
    "schema of the answer": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"v":["# ["{}"] "]}}}";
    "tool choice": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"x","v":["# ["{}"] "]}}";
    "stop": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stop":["# [r#""""#] "]}";
    "stop of escapes": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stop":["# [r#""\n""#] "]}";

    // Messages.
    "empty messages": r#"{"model":"m","messages":["# ["{}"] "]}";
    "messages of nulls": r#"{"model":"m","messages":["# ["null"] "]}";
    "short messages": r#"{"model":"m","messages":["# [r#"{"role":"tool"}"#] "]}";
    "user messages": r#"{"model":"m","messages":["# [r#"{"role":"user","content":""}"#] "]}";
    "system messages": r#"{"model":"m","messages":["# [r#"{"role":"system","content":"x"}"#] "]}";
    "messages with names": r#"{"model":"m","messages":["# [r#"{"role":"user","content":"\n","name":"\n","v":0}"#] "]}";
    "messages with parts": r#"{"model":"m","messages":["# [r#"{"role":"user","content":[{"type":"text","text":""}]}"#] "]}";
    "results": r#"{"model":"m","messages":["# [r#"{"role":"tool","tool_call_id":"c","content":"x"}"#] "]}";
    "calls in messages": r#"{"model":"m","messages":["# [r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}"#] "]}";
    "legacy calls": r#"{"model":"m","messages":["# [r#"{"role":"assistant","function_call":{"name":"f"}}"#] "]}";
    "pairs": r#"{"model":"m","messages":["# [r#"{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f"}}]},{"role":"tool","tool_call_id":"c"}"#] "]}";

    // Parts.
    "empty parts": r#"{"model":"m","messages":[{"role":"user","content":["# ["{}"] "]}]}";
    "unknown parts": r#"{"model":"m","messages":[{"role":"user","content":["# [r#"{"type":"x"}"#] "]}]}";
    "text parts": r#"{"model":"m","messages":[{"role":"user","content":["# [r#"{"type":"text","text":""}"#] "]}]}";
    "text parts with escapes": r#"{"model":"m","messages":[{"role":"user","content":["# [r#"{"type":"text","text":"\n"}"#] "]}]}";
    "images": r#"{"model":"m","messages":[{"role":"user","content":["# [r#"{"type":"image_url","image_url":"x"}"#] "]}]}";
    "files": r#"{"model":"m","messages":[{"role":"user","content":["# [r#"{"type":"file","file":{"file_id":""}}"#] "]}]}";
    "a large unknown part": r#"{"model":"m","messages":[{"role":"user","content":[{"type":"x","v":["# ["[0]"] "]}]}]}";
    "an unknown part of fields": r#"{"model":"m","messages":[{"role":"user","content":[{"type":"x","# [r#""a":0"#] "}]}]}";
    "parts of a result": r#"{"model":"m","messages":[{"role":"tool","content":["# [r#"{"type":"text","text":"x"}"#] "]}]}";
    "images of a result": r#"{"model":"m","messages":[{"role":"tool","content":["# [r#"{"type":"text","text":"x"},{"type":"image_url","image_url":"x"}"#] "]}]}";
    "a mark": r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":["# ["[0]"] "]}]}]}";

    // Tools.
    "empty tools": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":["# ["{}"] "]}";
    "unknown tools": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":["# [r#"{"type":"x"}"#] "]}";
    "function tools": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":["# [r#"{"type":"function","function":{"name":"f"}}"#] "]}";
    "flat tools": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":["# [r#"{"type":"function","name":"f"}"#] "]}";
    "a large schema": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"x":["# ["[0]"] "]}}}]}";
    "a large schema of objects": r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","x":["# [r#"{"a":0}"#] "]}}}]}";
    "many parameters": r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"# [r#""a":{}"#] "}}}}]}";
    "a large tool of another kind": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"x","v":["# ["[0]"] "]}]}";
    "fields of a tool": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"},"# [r#""v":0"#] "}]}";
    "fields of a function": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","# [r#""v":0"#] "}}]}";

    // Calls.
    "empty calls": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":["# ["{}"] "]}]}";
    "calls": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":["# [r#"{"function":{"name":"f"}}"#] "]}]}";
    "calls with ids": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":["# [r#"{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}"#] "]}]}";
    "calls with escapes": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":["# [r#"{"id":"\n","function":{"name":"f\n","arguments":"{\"\":0}"}}"#] "]}]}";
    "arguments of lists": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"a":["# ["[0]"] "]}}}]}]}";
    "arguments of fields": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"# [r#""a":0"#] "}}}]}]}";
    "arguments as a string": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{"# [r#"\"a\":0"#] r#"}"}}]}]}"#;
    "fields of a call": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"},"# [r#""v":0"#] "}]}]}";

    // Texts.
    "a text": r#"{"model":"m","messages":[{"role":"user","content":""# ["word "] r#""}]}"#, "";
    "a text of line ends": r#"{"model":"m","messages":[{"role":"user","content":""# [r"\n"] r#""}]}"#, "";
    "a text of control characters": r#"{"model":"m","messages":[{"role":"user","content":""# [r"\u0001"] r#""}]}"#, "";
    "a text of quotes": r#"{"model":"m","messages":[{"role":"user","content":""# [r#"\""#] r#""}]}"#, "";
    "a text of raw controls": r#"{"model":"m","messages":[{"role":"user","content":""# ["\u{7f}"] r#""}]}"#, "";
    "a system prompt": r#"{"model":"m","messages":[{"role":"system","content":""# [r#"<a>\n"#] r#""},{"role":"user","content":"x"}]}"#, "";
    "a result": r#"{"model":"m","messages":[{"role":"tool","content":""# [r#"<a>\n"#] r#""}]}"#, "";
    "reasoning": r#"{"model":"m","messages":[{"role":"assistant","content":"x","reasoning_content":""# [r"\n"] r#""}]}"#, "";
    "a model's name": r#"{"messages":[{"role":"user","content":"x"}],"model":""# ["a"] r#""}"#, "";
    "a user's name": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"user":""# [r"\n"] r#""}"#, "";
    "a description": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","description":""# [r"\n"] r#""}}]}"#, "";
    "the name of a tool": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":""# [r"a"] r#""}}]}"#, "";

    // Depth.
    "nested lists": r#"{"model":"m","messages":[{"role":"user","content":"x"}],"vendor":"# ["["] "", "";
    "nested lists in arguments": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"a\":"# ["["] r#""}}]}]}"#, "";
    "nested objects in arguments": r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":""# [r#"{\"a\":"#] r#""}}]}]}"#, "";
};
