//! A generator of deviations: what servers were seen to write instead of the usual, in any mixture.
//! None of them takes anything from an answer.

use serde_json::{Value, json};

/// Numbers out of a seed, the same on every machine (splitmix64).
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.next().is_multiple_of(one_in)
    }

    fn one_of(&mut self, values: &[Value]) -> Value {
        let at = usize::try_from(self.next() % values.len() as u64).expect("fits");
        values[at].clone()
    }
}

/// What this seed does to a stream.
#[derive(Clone, Debug)]
pub(crate) struct Deviations {
    dice: Dice,
    /// Which of the deviations of single events there are in this stream: a few.
    some: u64,
    index: Option<Value>,
    parts: bool,
    counts: bool,
    halves: bool,
    ids: Ids,
    zero: bool,
    wrapped: u64,
    white_space: bool,
    closer: bool,
    reason: bool,
    in_call: bool,
    /// The id and name of each call.
    told: Vec<(Value, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ids {
    Usual,
    /// A new one on every piece, and no name.
    New,
    /// Id and name on every piece.
    Repeated,
}

impl Deviations {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        Self {
            some: dice.next() & dice.next(),
            index: dice
                .is(3)
                .then(|| dice.one_of(&[json!("0"), json!(0.0), json!(1), json!(null)])),
            parts: dice.is(8),
            counts: dice.is(4),
            halves: dice.is(5),
            ids: match dice.next() % 6 {
                0 => Ids::New,
                1 => Ids::Repeated,
                _ => Ids::Usual,
            },
            zero: dice.is(4),
            wrapped: dice.next() % 12,
            white_space: dice.is(5),
            closer: dice.is(5),
            reason: dice.is(4),
            in_call: false,
            told: Vec::new(),
            dice,
        }
    }

    /// Whether the deviation of this number happens to the event at hand.
    fn happens(&mut self, number: u32) -> bool {
        self.some >> number & 1 == 1 && self.dice.is(3)
    }

    /// The data of the events that stand for `chunk`.
    pub(crate) fn apply(&mut self, mut chunk: Value) -> Vec<String> {
        let nothings = [json!(null), json!(false), json!(""), json!({}), json!([])];
        let mut before = Vec::new();
        let mut behind = Vec::new();
        if self.happens(0) {
            chunk["error"] = self.dice.one_of(&nothings);
        }
        if self.happens(1) {
            chunk["id"] = json!(7);
        }
        if self.happens(2) {
            chunk["object"] = self.dice.one_of(&nothings);
        }
        if chunk["usage"].is_null() && self.happens(3) {
            chunk["usage"] = self.dice.one_of(&nothings);
        } else if self.counts
            && let Some(usage) = chunk["usage"].as_object_mut()
        {
            for count in usage.values_mut().filter(|count| count.is_number()) {
                *count = count.to_string().into();
            }
        }
        let nothing_said = [
            json!({"choices": []}),
            json!({"choices": [{"index": 0, "delta": {}}]}),
            json!({"choices": [{"index": 0, "delta": self.dice.one_of(&nothings)}]}),
            json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": ""}]}),
        ];
        for (number, event) in (8..).zip(nothing_said) {
            if self.happens(number) {
                before.push(event);
            }
        }
        if let Some(choice) = chunk["choices"].get_mut(0) {
            let is_last = choice["finish_reason"].as_str().is_some_and(|word| !word.is_empty());
            let called = self.choice(choice, &nothings);
            if called && !self.in_call && self.white_space {
                before.push(json!({"choices": [{"index": 0, "delta": {"content": "\n\n"}}]}));
            }
            self.in_call |= called;
            if is_last && !called && self.in_call && self.closer {
                before.push(
                    json!({"choices": [{"index": 0, "delta": {"content": "\n</tool_call>"}}]}),
                );
            }
        }
        if let Some(index) = &self.index {
            for event in before.iter_mut().chain([&mut chunk]) {
                if let Some(choice) = event["choices"].get_mut(0) {
                    choice["index"] = index.clone();
                }
            }
        }
        if self.halves
            && let Some(content) = chunk["choices"][0]["delta"]["content"].as_str()
            && let Some((at, wide)) = content.char_indices().find(|(_, c)| c.len_utf16() == 2)
        {
            let mut halves = [0; 2];
            wide.encode_utf16(&mut halves);
            let (first, second) =
                (content[..at].to_owned(), content[at + wide.len_utf8()..].to_owned());
            let mut next = chunk.clone();
            chunk["choices"][0]["delta"]["content"] =
                format!("{first}@@{:04x}@@", halves[0]).into();
            chunk["choices"][0]["finish_reason"] = json!(null);
            next["choices"][0]["delta"]["content"] =
                format!("@@{:04x}@@{second}", halves[1]).into();
            behind.push(next);
        } else if self.parts
            && let Some(content) = chunk["choices"][0]["delta"]["content"].as_str()
            && !content.is_empty()
        {
            let parts = json!([{"type": "text", "text": content}]);
            chunk["choices"][0]["delta"]["content"] = parts;
        }
        let events = before.into_iter().chain([chunk]).chain(behind);
        events.map(|event| self.written(&event)).collect()
    }

    /// Whether there is a piece of a call in it.
    fn choice(&mut self, choice: &mut Value, nothings: &[Value]) -> bool {
        if let Some(delta) = choice["delta"].as_object_mut() {
            for field in ["refusal", "reasoning", "function_call", "audio"] {
                if !delta.contains_key(field) && self.happens(4) {
                    delta.insert(field.to_owned(), self.dice.one_of(nothings));
                }
            }
        }
        if self.reason
            && let Some(word) = choice["finish_reason"].as_str()
        {
            choice["finish_reason"] = match word {
                "stop" => json!("end_turn"),
                "tool_calls" => json!("tool_use"),
                "length" => json!("MAX_TOKENS"),
                other => json!(other),
            };
        }
        let Some(calls) = choice["delta"]["tool_calls"].as_array_mut() else { return false };
        for call in &mut *calls {
            let number = call["index"].as_u64().unwrap_or(0);
            let is_first = call["function"]["name"].as_str().is_some_and(|name| !name.is_empty());
            match self.ids {
                Ids::New if !is_first => call["id"] = format!("new-{}", self.dice.next()).into(),
                Ids::Repeated if is_first => {
                    self.told.push((call["id"].clone(), call["function"]["name"].clone()));
                }
                Ids::Repeated => {
                    if let Some((id, name)) = self.told.last() {
                        call["id"] = id.clone();
                        call["function"]["name"] = name.clone();
                    }
                }
                _ => {}
            }
            let is_told = call["id"].as_str().is_some_and(|id| !id.is_empty());
            if self.zero && (is_told || !is_first) {
                call["index"] = json!(0);
            } else if self.happens(5) {
                call["index"] = number.to_string().into();
            }
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            if is_first
                && serde_json::from_str::<Value>(arguments).is_ok_and(|json| json.is_object())
            {
                call["function"]["arguments"] = match self.wrapped {
                    0 => json!(format!("[{arguments}]")),
                    1 => json!(Value::from(arguments).to_string()),
                    2 => json!(format!("```json\n{arguments}\n```")),
                    3 => json!(format!("<tool_call>\n{arguments}\n</tool_call>")),
                    4 => serde_json::from_str(arguments).unwrap_or_default(),
                    _ => json!(arguments),
                };
            }
        }
        !calls.is_empty()
    }

    /// The event as text, with what no tree of values can hold.
    fn written(&mut self, event: &Value) -> String {
        let mut text = event.to_string();
        let at = text.find("@@");
        if at.is_some() {
            for half in 0xd800..=0xdfff {
                let mark = format!("@@{half:04x}@@");
                if text.contains(&mark) {
                    text = text.replace(&mark, &format!("\\u{half:04x}"));
                }
            }
        }
        if self.happens(6) {
            text.insert_str(1, "\"speed\":NaN,");
        }
        if self.happens(7) {
            text.insert_str(1, "\"id\":\"first\",\"choices\":[],");
        }
        text
    }
}
