//! What has to wait until something else of an answer is complete.

use std::collections::VecDeque;

use crate::{Error, ErrorKind, Text, chat::ChatEvent};

/// How much may wait, in bytes. Calls whose arguments are mixed further than that end the answer
/// with an error.
const HELD_LEN: usize = 8 * 1024 * 1024;

/// The parts of an answer that come behind the one that is being written, in their order.
#[derive(Debug, Default)]
pub(crate) struct Held {
    items: VecDeque<HeldItem>,
    len: usize,
}

/// One of them.
#[derive(Debug, PartialEq)]
pub(crate) enum HeldItem {
    Text(String),
    Reasoning { text: String, signature: Option<Text> },
    Call { index: u32, id: Text, name: Text, arguments: String },
}

impl HeldItem {
    /// The item that `event` begins.
    fn new(event: ChatEvent) -> Option<Self> {
        Some(match event {
            ChatEvent::Text(text) => Self::Text(text.to_string()),
            ChatEvent::Reasoning(text) => {
                Self::Reasoning { text: text.to_string(), signature: None }
            }
            ChatEvent::ToolCall { index, id, name } => {
                Self::Call { index, id, name, arguments: String::new() }
            }
            _ => return None,
        })
    }

    /// About what it takes, in bytes: an item of a few letters takes more than these.
    fn len(&self) -> usize {
        const ITEM: usize = 128;
        ITEM + match self {
            Self::Text(text) => text.len(),
            Self::Reasoning { text, signature } => {
                text.len() + signature.as_ref().map_or(0, |signature| signature.len())
            }
            Self::Call { id, name, arguments, .. } => id.len() + name.len() + arguments.len(),
        }
    }
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Keeps an event.
    ///
    /// # Errors
    ///
    /// Where there is no room for it.
    pub(crate) fn push(&mut self, event: ChatEvent) -> Result<(), Error> {
        self.len += match (event, self.items.back_mut()) {
            (ChatEvent::Text(text), Some(HeldItem::Text(before)))
            | (ChatEvent::Reasoning(text), Some(HeldItem::Reasoning { text: before, .. })) => {
                before.push_str(&text);
                text.len()
            }
            (ChatEvent::ReasoningSignature(text), Some(HeldItem::Reasoning { signature, .. })) => {
                let before = signature.as_ref().map_or(0, |before| before.len());
                let more = text.len().saturating_sub(before);
                *signature = Some(text);
                more
            }
            (ChatEvent::ToolArguments { index, json }, _) => {
                // Calls are few, and nearly always it is the last.
                let call = self.items.iter_mut().rev().find_map(|item| match item {
                    HeldItem::Call { index: own, arguments, .. } if *own == index => {
                        Some(arguments)
                    }
                    _ => None,
                });
                call.map_or(0, |arguments| {
                    arguments.push_str(&json);
                    json.len()
                })
            }
            (event, _) => {
                let Some(item) = HeldItem::new(event) else { return Ok(()) };
                let len = item.len();
                self.items.push_back(item);
                len
            }
        };
        if self.len > HELD_LEN {
            let message = "the calls of the answer are mixed further than can be held back";
            return Err(Error::new(ErrorKind::Upstream, message));
        }
        Ok(())
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<HeldItem> {
        let item = self.items.pop_front()?;
        self.len = self.len.saturating_sub(item.len());
        Some(item)
    }
}
