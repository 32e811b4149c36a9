//! Calls and results in the old form, in which a result names the function and no call has an id.
//!
//! A server for tools knows neither: its template has no role for such a result, and matches results
//! with calls by their ids. So each call without an id gets one that its place in the history makes, the
//! same in every turn, and each result goes to the call that it answers.

use std::borrow::Cow;

use crate::{
    Text,
    chat::{History, Message, Role},
};

/// The messages with ids on all calls and results; `None` where they have them already.
pub(in crate::qwen) fn answered(history: &History) -> Option<Vec<Cow<'_, Message>>> {
    let has_no_id =
        |message: &Message| message.tool_call_id.as_ref().is_none_or(|id| id.is_empty());
    let is_old = |message: &Message| match message.role {
        Role::Function => true,
        Role::Tool => has_no_id(message),
        _ => message.tool_calls.iter().any(|call| call.id.is_empty()),
    };
    if !history.iter().any(is_old) {
        return None;
    }
    // The calls of the last answer that have no result yet: their ids and names.
    let mut open: Vec<(Text, Text)> = Vec::new();
    let messages = history.iter().enumerate().map(|(at, message)| {
        let mut message = Cow::Borrowed(message);
        match message.role {
            Role::Assistant => {
                for place in 0..message.tool_calls.len() {
                    if message.tool_calls[place].id.is_empty() {
                        message.to_mut().tool_calls[place].id = format!("call_{at}_{place}").into();
                    }
                }
                let calls = message.tool_calls.iter();
                open = calls.map(|call| (call.id.clone(), call.name.clone())).collect();
            }
            Role::Tool | Role::Function => {
                let given = message.tool_call_id.as_ref().filter(|id| !id.is_empty());
                let found = match given {
                    Some(given) => open.iter().position(|(id, _)| id == given),
                    None => open
                        .iter()
                        .position(|(_, name)| message.name.as_ref() == Some(name))
                        .or_else(|| (!open.is_empty()).then_some(0)),
                };
                let answered = found.map(|place| open.remove(place).0);
                let id = given.cloned().or(answered);
                if message.role == Role::Function || message.tool_call_id != id {
                    let message = message.to_mut();
                    message.role = Role::Tool;
                    message.tool_call_id = Some(id.unwrap_or_else(|| format!("call_{at}").into()));
                }
            }
            _ => {}
        }
        message
    });
    Some(messages.collect())
}
