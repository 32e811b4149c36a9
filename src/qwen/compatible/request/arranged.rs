//! A history as the templates of models take it.
//!
//! Those of newer Qwen models raise on a system message that is not the first and only one, and
//! agents send others. So those at the start become one, and each later one goes, marked as what it
//! is, into the turn of the user that it stands beside. What stood before it does not change, so
//! that a server's cache of it holds.

use std::borrow::Cow;

use crate::{
    Text,
    chat::{Content, History, Message, Part, PartKind, Role},
};

/// The messages with one instruction, and that first; `None` where they are so already.
pub(super) fn arranged(history: &History) -> Option<Vec<Cow<'_, Message>>> {
    let is_instruction = |message: &&Message| message.role.is_instruction();
    let leading = history.iter().take_while(is_instruction).count();
    if leading <= 1 && !history.iter().skip(leading).any(|message| message.role.is_instruction()) {
        return None;
    }
    let mut messages = Vec::new();
    let mut instructions = history.iter().take(leading);
    if let Some(first) = instructions.next() {
        let mut first = Cow::Borrowed(first);
        for next in instructions {
            let first = first.to_mut();
            first.content = joined(first.content.take(), next.content.clone());
        }
        messages.push(first);
    }
    let mut late = None;
    for message in history.iter().skip(leading) {
        match message.role {
            role if role.is_instruction() => {
                late = joined(late, message.content.as_ref().and_then(marked));
            }
            Role::User if late.is_some() => {
                let mut message = message.clone();
                message.content = joined(late.take(), message.content);
                messages.push(Cow::Owned(message));
            }
            // Nothing stands between a call and its results.
            Role::Tool | Role::Function => messages.push(Cow::Borrowed(message)),
            _ => {
                put_behind(&mut messages, late.take());
                messages.push(Cow::Borrowed(message));
            }
        }
    }
    put_behind(&mut messages, late);
    Some(messages)
}

/// Puts what the system said late into the user's turn that was the last, or one of its own.
fn put_behind(messages: &mut Vec<Cow<'_, Message>>, late: Option<Content>) {
    let Some(late) = late else { return };
    match messages.last_mut() {
        Some(last) if last.role == Role::User => {
            let last = last.to_mut();
            last.content = joined(last.content.take(), Some(late));
        }
        _ => {
            let mut message = Message::empty(Role::User);
            message.content = Some(late);
            messages.push(Cow::Owned(message));
        }
    }
}

/// What the system says, in a turn of the user; nothing where it says nothing.
fn marked(content: &Content) -> Option<Content> {
    const OPEN: &str = "<system-reminder>\n";
    const CLOSE: &str = "\n</system-reminder>";
    match content {
        Content::Text(text) if text.trim().is_empty() => None,
        Content::Text(text) => Some(Content::Text(format!("{OPEN}{text}{CLOSE}").into())),
        Content::Parts(parts) if parts.is_empty() => None,
        Content::Parts(parts) => {
            let mark = |mark: &'static str| Part::new(PartKind::Text(Text::from_static(mark)));
            let parts = [mark(OPEN)].into_iter().chain(parts.iter().cloned());
            Some(Content::Parts(parts.chain([mark(CLOSE)]).collect()))
        }
    }
}

/// One content behind the other.
fn joined(one: Option<Content>, other: Option<Content>) -> Option<Content> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    Some(match (one, other) {
        (Content::Text(one), Content::Text(other)) => {
            let between = if one.is_empty() || other.is_empty() { "" } else { "\n\n" };
            Content::Text([&*one, between, &*other].concat().into())
        }
        (one, other) => Content::Parts(parts(one).chain(parts(other)).collect()),
    })
}

fn parts(content: Content) -> impl Iterator<Item = Part> {
    match content {
        Content::Text(text) => vec![Part::new(PartKind::Text(text))],
        Content::Parts(parts) => parts,
    }
    .into_iter()
}
