//! When all that was asked for is finished, in events that go by as they are.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::words::{FINISH_REASON, STOP, Word};

/// How many answers a request wants: `n` for each prompt. What cannot be read wants one.
pub(super) fn answers_asked(body: &[u8]) -> usize {
    /// The most that a server is thought to give.
    const MANY: usize = 4096;
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Asked<'a> {
        n: Option<f64>,
        #[serde(borrow)]
        prompt: Option<&'a RawValue>,
    }
    let is_there = |name: &[u8]| memmem::find(body, name).is_some();
    if !is_there(b"\"n\"") && !is_there(b"\"prompt\"") {
        return 1;
    }
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(body) else { return 1 };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is held within 1 and MANY"
    )]
    let each = asked.n.unwrap_or(1.0).clamp(1.0, MANY as f64) as usize;
    let prompts = asked.prompt.map_or(1, |prompt| {
        let list: Vec<&RawValue> = serde_json::from_str(prompt.get()).unwrap_or_default();
        // A list of numbers is one prompt, in tokens.
        let is_list = |prompt: &&RawValue| prompt.get().starts_with(['"', '[', '{']);
        list.iter().filter(|prompt| is_list(prompt)).count().max(1)
    });
    each.saturating_mul(prompts).min(MANY)
}

/// What of the answers in a stream has ended.
#[derive(Debug)]
pub(super) struct Finishes {
    asked: usize,
    finished: Vec<u64>,
    /// Whether it is OpenAI's API, whose streams have an end mark.
    has_choices: bool,
}

impl Finishes {
    pub(super) fn of(asked: usize) -> Self {
        Self { asked, finished: Vec::new(), has_choices: false }
    }

    /// Whether the stream has an end mark.
    pub(super) fn has_end_mark(&self) -> bool {
        self.has_choices
    }

    /// Reads whole events: whether they are more than comments, and all answers are finished by now.
    pub(super) fn read(&mut self, events: &[u8]) -> bool {
        let is_data = |line: &[u8]| line.starts_with(b"data");
        // Nearly always it is the first line.
        if !is_data(events) && !events.split(|byte| *byte == b'\n').any(is_data) {
            return false;
        }
        // In most events a reason is null, and a chat's text has no such key that is not escaped.
        if has(events, &FINISH_REASON, b"\"") {
            self.has_choices = true;
            for line in events.split(|byte| *byte == b'\n') {
                self.finished_in(line);
            }
        } else if has(events, &STOP, b"true") {
            // llama.cpp's own form has one answer.
            self.finished.resize(self.asked.max(1), 0);
        }
        self.finished.len() >= self.asked
    }

    fn finished_in(&mut self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Chunk<'a> {
            #[serde(borrow, default)]
            choices: Vec<Choice<'a>>,
        }
        #[derive(Deserialize)]
        struct Choice<'a> {
            #[serde(default)]
            index: Option<u64>,
            #[serde(borrow, default)]
            finish_reason: Option<&'a RawValue>,
        }
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
        for choice in chunk.choices {
            let is_word =
                |reason: &RawValue| reason.get().starts_with('"') && reason.get() != "\"\"";
            let index = choice.index.unwrap_or(0);
            if choice.finish_reason.is_some_and(is_word) && !self.finished.contains(&index) {
                self.finished.push(index);
            }
        }
    }
}

/// Whether `key` is there with a value that starts with `value`.
fn has(json: &[u8], key: &Word, value: &[u8]) -> bool {
    key.find_iter(json).any(|at| {
        let after = json[at + key.needle().len()..].trim_ascii_start();
        after.strip_prefix(b":").is_some_and(|after| after.trim_ascii_start().starts_with(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted() {
        for (body, asked) in [
            (r#"{"model":"m"}"#, 1),
            (r#"{"n":3}"#, 3),
            (r#"{"n":2.0,"prompt":"a"}"#, 2),
            (r#"{"n":null,"prompt":["a","b"]}"#, 2),
            (r#"{"n":2,"prompt":["a","b"]}"#, 4),
            (r#"{"prompt":[1,2,3]}"#, 1),
            (r#"{"prompt":[[1,2],[3]]}"#, 2),
            (r#"{"prompt":[]}"#, 1),
            (r#"{"n":-1}"#, 1),
            (r#"{"n":1e300}"#, 4096),
            (r#"{"n":"two"}"#, 1),
            (r#"{"messages":[{"content":"\"n\""}]}"#, 1),
            (r#"{"n":"#, 1),
        ] {
            assert_eq!(answers_asked(body.as_bytes()), asked, "{body}");
        }
    }

    #[test]
    fn all_answers_finish() {
        let chunk = |index: &str, reason: &str| {
            format!("data: {{\"choices\":[{{{index}\"finish_reason\":{reason}}}]}}\n\n")
        };
        let (zero, one) = ("\"index\":0,", "\"index\":1,");
        for (asked, events, is_finished) in [
            (1, vec![chunk(zero, "null")], false),
            (1, vec![chunk(zero, "\"\"")], false),
            (1, vec![chunk(zero, "\"stop\"")], true),
            (1, vec![chunk("", " \"length\"")], true),
            (1, vec!["data: {\"choices\":[{\"delta\":{\"content\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}}]}\n\n".to_owned()], false),
            (2, vec![chunk(zero, "\"stop\""), chunk(zero, "\"stop\"")], false),
            (2, vec![chunk(one, "\"stop\""), chunk(zero, "\"stop\"")], true),
            (2, vec![format!("{}{}", chunk(one, "\"stop\""), chunk(zero, "\"stop\""))], true),
            (1, vec!["data: {\"content\":\"\",\"stop\" : true}\n\n".to_owned()], true),
            (1, vec!["data: {\"content\":\"\",\"stop\":false}\n\n".to_owned()], false),
            (1, vec!["data: {\"choices\":[{\"finish_reason\":\"stop\"\n\n".to_owned()], false),
        ] {
            let mut finishes = Finishes::of(asked);
            let said = events.iter().map(|events| finishes.read(events.as_bytes())).last();
            assert_eq!(said, Some(is_finished), "{events:?}");
            assert!(!finishes.read(b": still here\n\n"), "a comment");
            assert_eq!(finishes.read(b"data: {}\n\n"), is_finished);
        }
    }
}
