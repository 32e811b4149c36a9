//! An answer as a server without deviations writes it.

use serde_json::{Value, json};

/// An answer, and how it is cut.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) thinking: Vec<String>,
    pub(crate) text: Vec<String>,
    pub(crate) calls: Vec<(String, Value)>,
    /// How many characters of arguments a chunk has.
    pub(crate) piece: usize,
}

impl Model {
    /// The chunks as OpenAI would write them.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let chunk = |delta: Value, reason: Value| {
            json!({"id": "i", "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        };
        let null = || Value::Null;
        let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), null())];
        chunks.extend(
            self.thinking.iter().map(|text| chunk(json!({"reasoning_content": text}), null())),
        );
        chunks.extend(self.text.iter().map(|text| chunk(json!({"content": text}), null())));
        for (at, (name, arguments)) in self.calls.iter().enumerate() {
            let arguments: Vec<char> = arguments.to_string().chars().collect();
            for (number, piece) in arguments.chunks(self.piece).enumerate() {
                let piece: String = piece.iter().collect();
                let call = match number {
                    0 => json!({"index": at, "id": format!("call-{at}"), "type": "function",
                        "function": {"name": name, "arguments": piece}}),
                    _ => json!({"index": at, "function": {"arguments": piece}}),
                };
                chunks.push(chunk(json!({"tool_calls": [call]}), null()));
            }
        }
        let reason = if self.calls.is_empty() { "stop" } else { "tool_calls" };
        chunks.push(chunk(json!({}), json!(reason)));
        chunks
    }
}
