//! What is remembered of an answer that a client goes on from by its id.

use std::fmt;

use super::{
    key::{self, KeyChain},
    meaning::Digest,
};
use crate::{
    Text,
    chat::{ChatEvent, ChatRequest, Message, Messages, Role, Tenant},
};

/// How many bytes the ids and names of an answer's calls may have for them to be remembered.
const CALLS_LEN: usize = 32 * 1024;

/// What is known of the history behind an answer whose client sends nothing of it again. Digests
/// and names, and nothing of the text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// The model that gave the answer.
    pub(super) model: Text,
    /// The key of the history with the answer as its last message, where that is known.
    pub(super) history: Option<Digest>,
    /// What the chat was instructed with last, if with anything.
    pub(super) instructions: Option<Digest>,
    /// Whose chat it is, among several upstreams that share a store.
    pub(super) scope: Option<Text>,
    /// The calls in the answer: their ids and the names of their functions.
    pub(super) calls: Vec<(Text, Text)>,
}

impl Past {
    /// The chain of the history with the answer as its last message.
    ///
    /// With another model it is one that no whole history has: the answers before were not that
    /// model's.
    pub(super) fn chain(&self, tenant: &Tenant, chat: &ChatRequest) -> KeyChain {
        let history = self.history.filter(|_| self.model == chat.model);
        let ids = self.calls.iter().map(|(id, _)| id.clone());
        match history {
            Some(history) => KeyChain::behind(tenant, history, ids),
            None => KeyChain::behind(tenant, key::elsewhere(self.history, chat), ids),
        }
    }

    /// Gives the results among `messages` the names of their functions, as far as they have none:
    /// the calls themselves are not sent again.
    pub(super) fn name_results(&self, messages: &mut Messages) {
        if self.calls.is_empty() {
            return;
        }
        messages.replace_each(|message| {
            let id = message
                .tool_call_id
                .as_ref()
                .filter(|_| message.role == Role::Tool && message.name.is_none())?;
            let (_, name) = self.calls.iter().find(|(call, _)| call == id)?;
            Some(Message { name: Some(name.clone()), ..message.clone() })
        });
    }

    /// Takes an event of the answer in.
    pub(super) fn push(&mut self, event: &ChatEvent) {
        if let ChatEvent::ToolCall { id, name, .. } = event {
            // The record outlives the buffer that they may be slices of.
            self.calls.push((id.as_str().into(), name.as_str().into()));
        }
    }

    /// The calls as they are recorded: none where they are absurdly long.
    pub(super) fn calls_json(&self) -> Option<String> {
        let json = serde_json::to_string(&pairs(&self.calls)).ok()?;
        (!self.calls.is_empty() && json.len() <= CALLS_LEN).then_some(json)
    }

    /// The calls that [`calls_json`](Self::calls_json) has written.
    pub(super) fn calls_from_json(json: &[u8]) -> Option<Vec<(Text, Text)>> {
        let calls: Vec<(String, String)> = serde_json::from_slice(json).ok()?;
        Some(calls.into_iter().map(|(id, name)| (id.into(), name.into())).collect())
    }
}

fn pairs(calls: &[(Text, Text)]) -> Vec<(&str, &str)> {
    calls.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect()
}

/// How many messages at the beginning of `messages` are instructions, and a digest of them.
pub(super) fn instructions(messages: &Messages) -> (usize, Option<Digest>) {
    let count = messages.iter().take_while(|message| message.role.is_instruction()).count();
    (count, (count > 0).then(|| key::instructions_digest(&messages[..count])))
}

/// Says of what there is something, never what.
impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past")
            .field("history", &self.history.is_some())
            .field("instructions", &self.instructions.is_some())
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}
