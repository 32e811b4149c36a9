//! A history as the templates of models take it.
//!
//! Those of newer Qwen models raise on a system message that is not the first and only one, and
//! agents send others. So those at the start become one, and each later one goes, marked as what it
//! is, into the turn of the user that it stands beside. What stood before it does not change, so
//! that a server's cache of it holds.
//!
//! They raise as well where no turn is the user's, as when an agent has cut its history or asks with
//! instructions alone. Then instructions are the user's, and before anything else stands a turn of
//! his.

use std::borrow::Cow;

use crate::{
    Text,
    chat::{Content, Message, Part, PartKind, Role},
};

/// What the user says of a history that begins with something else.
const QUESTION: &str = "Continue.";

/// The messages with one instruction, and that first, and with a turn of the user; `None` where they
/// are so already. A history that only `goes_on` has none that is first, and had its turn before.
pub(in crate::qwen) fn arranged<'a>(
    history: impl Iterator<Item = &'a Message> + Clone,
    goes_on: bool,
) -> Option<Vec<Cow<'a, Message>>> {
    let is_instruction = |message: &&Message| message.role.is_instruction() && !goes_on;
    let leading = history.clone().take_while(is_instruction).count();
    let mut rest = history.clone().skip(leading);
    let is_asked = goes_on || history.clone().any(|message| message.role == Role::User);
    if leading <= 1 && is_asked && !rest.any(|message| message.role.is_instruction()) {
        return None;
    }
    let mut messages = Vec::new();
    let instructions: Vec<_> = history.clone().take(leading).collect();
    match &*instructions {
        [] => {}
        [only] => messages.push(Cow::Borrowed(*only)),
        [first, ..] => {
            let contents = instructions.iter().filter_map(|message| message.content.clone());
            let mut first = Message::clone(first);
            first.content = joined(contents.collect());
            messages.push(Cow::Owned(first));
        }
    }
    // Joined once, however many they are.
    let mut late = Vec::new();
    for message in history.skip(leading) {
        match message.role {
            role if role.is_instruction() => {
                late.extend(message.content.as_ref().and_then(marked));
            }
            Role::User if !late.is_empty() => {
                let mut message = message.clone();
                late.extend(message.content.take());
                message.content = joined(std::mem::take(&mut late));
                messages.push(Cow::Owned(message));
            }
            // Nothing stands between a call and its results.
            Role::Tool | Role::Function => messages.push(Cow::Borrowed(message)),
            _ => {
                put_behind(&mut messages, std::mem::take(&mut late));
                messages.push(Cow::Borrowed(message));
            }
        }
    }
    put_behind(&mut messages, late);
    if !goes_on && !messages.iter().any(|message| message.role == Role::User) {
        ask(&mut messages);
    }
    Some(messages)
}

/// Makes a turn of the user of the only instruction, or puts one behind it.
fn ask(messages: &mut Vec<Cow<'_, Message>>) {
    match &mut **messages {
        [only] if only.role.is_instruction() => only.to_mut().role = Role::User,
        _ => {
            let at = messages.iter().take_while(|message| message.role.is_instruction()).count();
            messages.insert(at, Cow::Owned(Message::new(Role::User, QUESTION)));
        }
    }
}

/// Puts what the system said late into the user's turn that was the last, or one of its own.
fn put_behind(messages: &mut Vec<Cow<'_, Message>>, late: Vec<Content>) {
    if late.is_empty() {
        return;
    }
    match messages.last_mut() {
        Some(last) if last.role == Role::User => {
            let last = last.to_mut();
            last.content = joined(last.content.take().into_iter().chain(late).collect());
        }
        _ => {
            let mut message = Message::empty(Role::User);
            message.content = joined(late);
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
fn joined(contents: Vec<Content>) -> Option<Content> {
    if contents.len() < 2 {
        return contents.into_iter().next();
    }
    let texts = contents.iter().map(|content| match content {
        Content::Text(text) => Some(text.as_str()),
        Content::Parts(_) => None,
    });
    Some(match texts.collect::<Option<Vec<_>>>() {
        Some(mut texts) => {
            texts.retain(|text| !text.is_empty());
            Content::Text(texts.join("\n\n").into())
        }
        None => Content::Parts(contents.into_iter().flat_map(parts).collect()),
    })
}

fn parts(content: Content) -> impl Iterator<Item = Part> {
    match content {
        Content::Text(text) => vec![Part::new(PartKind::Text(text))],
        Content::Parts(parts) => parts,
    }
    .into_iter()
}
