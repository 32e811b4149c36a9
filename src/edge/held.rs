//! What has to wait until something else of an answer is complete.

use std::collections::VecDeque;

use crate::{Error, ErrorKind, Text, chat::ChatEvent};

/// How much may wait, in bytes. Calls whose arguments are mixed further than that end the answer
/// with an error.
const HELD_LEN: usize = 8 * 1024 * 1024;

/// What an item takes beside its text, in bytes.
const ITEM: usize = 128;

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
    fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Reasoning { text, .. } => text.len(),
            Self::Call { id, name, arguments, .. } => {
                ITEM + id.len() + name.len() + arguments.len()
            }
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
        self.len += match &event {
            ChatEvent::Text(text) | ChatEvent::Reasoning(text) => text.len(),
            ChatEvent::ToolArguments { json, .. } => json.len(),
            ChatEvent::ToolCall { id, name, .. } => ITEM + id.len() + name.len(),
            _ => 0,
        };
        if self.len > HELD_LEN {
            let message = "the calls of the answer are mixed further than can be held back";
            return Err(Error::new(ErrorKind::Upstream, message));
        }
        match (event, self.items.back_mut()) {
            (ChatEvent::Text(text), Some(HeldItem::Text(before))) => before.push_str(&text),
            (ChatEvent::Text(text), _) => self.items.push_back(HeldItem::Text(text.to_string())),
            (ChatEvent::Reasoning(text), Some(HeldItem::Reasoning { text: before, .. })) => {
                before.push_str(&text);
            }
            (ChatEvent::Reasoning(text), _) => {
                let item = HeldItem::Reasoning { text: text.to_string(), signature: None };
                self.items.push_back(item);
            }
            (ChatEvent::ReasoningSignature(text), Some(HeldItem::Reasoning { signature, .. })) => {
                *signature = Some(text)
            }
            (ChatEvent::ToolCall { index, id, name }, _) => {
                let arguments = String::new();
                self.items.push_back(HeldItem::Call { index, id, name, arguments });
            }
            (ChatEvent::ToolArguments { index, json }, _) => {
                // Calls are few, and nearly always it is the last.
                let call = self.items.iter_mut().rev().find_map(|item| match item {
                    HeldItem::Call { index: own, arguments, .. } if *own == index => {
                        Some(arguments)
                    }
                    _ => None,
                });
                if let Some(arguments) = call {
                    arguments.push_str(&json);
                }
            }
            _ => {}
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
