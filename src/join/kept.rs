//! What an answer has said so far, for who joins it (sans-I/O).

use crate::{Text, chat::ChatEvent};

/// What an event takes beside its text, in bytes.
const EVENT_LEN: usize = size_of::<ChatEvent>();

/// The events so far, neighbours of one kind as one.
///
/// Nothing of them is a slice of what they came in, so no buffer is kept for the sake of a word.
#[derive(Debug, Default)]
pub(super) struct Kept {
    events: Vec<ChatEvent>,
    open: Option<Open>,
    len: usize,
}

/// The text that goes on.
#[derive(Debug)]
struct Open {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Reasoning,
    Arguments(u32),
}

impl Kept {
    /// Takes an event in; `false` where that would be more than `limit` bytes.
    pub(super) fn push(&mut self, event: &ChatEvent, limit: usize) -> bool {
        let (kind, piece) = match event {
            ChatEvent::Text(piece) => (Kind::Text, piece),
            ChatEvent::Reasoning(piece) => (Kind::Reasoning, piece),
            ChatEvent::ToolArguments { index, json } => (Kind::Arguments(*index), json),
            other => {
                self.close();
                self.len += EVENT_LEN;
                self.events.push(owned(other));
                return self.len <= limit;
            }
        };
        self.len += piece.len();
        match &mut self.open {
            Some(open) if open.kind == kind => open.text.push_str(piece),
            _ => {
                self.close();
                self.len += EVENT_LEN;
                self.open = Some(Open { kind, text: piece.as_str().to_owned() });
            }
        }
        self.len <= limit
    }

    fn close(&mut self) {
        if let Some(Open { kind, text }) = self.open.take() {
            let text = Text::from(text);
            self.events.push(match kind {
                Kind::Text => ChatEvent::Text(text),
                Kind::Reasoning => ChatEvent::Reasoning(text),
                Kind::Arguments(index) => ChatEvent::ToolArguments { index, json: text },
            });
        }
    }

    /// The events, for a client that has had none of them.
    pub(super) fn events(&mut self) -> Vec<ChatEvent> {
        self.close();
        self.events.clone()
    }
}

/// The event with texts of its own.
fn owned(event: &ChatEvent) -> ChatEvent {
    let copy = |text: &Text| Text::from(text.as_str());
    match event {
        ChatEvent::ToolCall { index, id, name } => {
            ChatEvent::ToolCall { index: *index, id: copy(id), name: copy(name) }
        }
        ChatEvent::ReasoningSignature(text) => ChatEvent::ReasoningSignature(copy(text)),
        // They come once, and hold little.
        other => other.clone(),
    }
}
