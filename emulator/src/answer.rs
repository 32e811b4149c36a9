//! What the emulated model says.

use std::fmt::Write as _;

use super::{prompt::Turn, tools::Offer};

/// What the model knows of a request.
pub(super) struct Question<'a> {
    pub(super) model: &'a str,
    /// What the emulator passes itself off as.
    pub(super) server: &'a str,
    /// What stands before the conversation, where the server is told that apart.
    pub(super) instructions: &'a str,
    /// The text of the message.
    pub(super) content: &'a str,
    /// The last turn within it.
    pub(super) turn: Turn<'a>,
    /// The texts of the earlier messages on the path, oldest first.
    pub(super) path: &'a [&'a str],
    pub(super) files: usize,
    /// What is said of those that were uploaded.
    pub(super) shown: &'a str,
}

/// How much of a text is quoted.
const QUOTED: usize = 400;

impl Question<'_> {
    /// The answer to a message that asks for nothing special.
    pub(super) fn describe(&self) -> String {
        let mut answer = format!("This is {} of the emulated {}. ", self.model, self.server);
        let characters = self.content.chars().count();
        // Writing to a string cannot fail.
        let _ = match self.turn {
            Turn::ToolResult(result) => write!(answer, "The tool returned:\n\n{}", quote(result)),
            Turn::User(words) => write!(
                answer,
                "Your message has {}, {} on its path{}. You said:\n\n{}",
                plural(characters, "character"),
                match self.path.len() {
                    0 => "and there is no earlier message".to_owned(),
                    1 => "and there is 1 earlier message".to_owned(),
                    n => format!("and there are {n} earlier messages"),
                },
                match self.files {
                    0 => String::new(),
                    n => format!(", with {}", plural(n, "file")),
                },
                quote(words)
            ),
        };
        answer.push_str(self.shown);
        answer
    }

    /// The calls that the user asks for, if the conversation offers tools. The result of a tool
    /// never leads to another call, so the loop of an agent ends.
    pub(super) fn calls(&self) -> Option<String> {
        let Turn::User(words) = self.turn else { return None };
        let texts = [self.content].into_iter().chain(self.path.iter().rev().copied());
        texts.chain([self.instructions]).find_map(Offer::read)?.answer(words)
    }

    /// The texts on the path of the message, one a line.
    pub(super) fn list_path(&self) -> String {
        let mut answer = String::new();
        for (n, text) in self.path.iter().chain([&self.content]).enumerate() {
            let _ = writeln!(answer, "{}. {}", n + 1, quote(text).replace('\n', " "));
        }
        answer
    }
}

fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// `text`, or its start.
fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// An answer in which hardly a character is one byte long.
pub(super) const UNICODE: &str = "千问说：“你好，世界！” — Привет, мир; γειά σου Κόσμε; こんにちは世界 🌍. \
     Families 👨‍👩‍👧‍👦 and flags 🇺🇳 are several code points each; é and e\u{301} look alike; \
     \u{200f}עולם\u{200e} runs the other way; and 𝒳 lies outside the first plane.";
