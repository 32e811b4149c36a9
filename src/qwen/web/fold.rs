//! A history in one message, as chat.qwen.ai takes it (A7: one message, no role but `user`).

use std::{collections::HashMap, fmt::Write};

use crate::{
    Error,
    chat::{Content, Message, Part, PartKind, Role, Text},
};

/// What the one message says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Folded {
    pub(super) text: Text,
    /// The `https:` URLs of the images, in the order of their markers.
    pub(super) images: Vec<Text>,
}

/// Folds `messages` into one.
///
/// One user message is sent as it is. Of several, the instructions (system and developer) stand
/// first, then the others in their order, each under a line that says who speaks:
///
/// ```text
/// [system]
/// Answer in verse.
///
/// [user: ann]
/// What is the weather? [image 1]
///
/// [assistant]
/// [calls get_weather, id call_1]
/// {"city":"Oslo"}
///
/// [tool result: get_weather, id call_1]
/// 4 °C
/// ```
///
/// # Errors
///
/// `messages[i].content[j]` is a part that this upstream cannot be given, or there is nothing to
/// say.
pub(super) fn fold(messages: &[Message]) -> Result<Folded, Error> {
    let folded = match messages {
        [only] if is_bare(only) => plain(only)?,
        _ => Fold::new(messages).fold()?,
    };
    if folded.text.trim_ascii().is_empty() && folded.images.is_empty() {
        return Err(Error::invalid("messages", "there is nothing in the messages to answer"));
    }
    Ok(folded)
}

/// Whether the message needs no mark of who speaks.
fn is_bare(message: &Message) -> bool {
    message.role == Role::User
        && message.name.is_none()
        && message.tool_calls.is_empty()
        && message.reasoning.is_none()
}

fn plain(message: &Message) -> Result<Folded, Error> {
    let mut images = Vec::new();
    if let Some(Content::Parts(parts)) = &message.content {
        for (at, part) in parts.iter().enumerate() {
            if part.as_text().is_none() {
                images.push(image(part, 0, at)?);
            }
        }
    }
    Ok(Folded { text: message.text(), images })
}

struct Fold<'a> {
    messages: &'a [Message],
    /// The names of the functions that were called, by the ids of the calls.
    called: HashMap<&'a str, &'a Text>,
    text: String,
    images: Vec<Text>,
}

impl<'a> Fold<'a> {
    fn new(messages: &'a [Message]) -> Self {
        // Room for the texts and a line of marks each: a long history is copied once.
        let bytes = messages
            .iter()
            .map(|message| {
                let content: usize = match &message.content {
                    None => 0,
                    Some(Content::Text(text)) => text.len(),
                    Some(Content::Parts(parts)) => {
                        parts.iter().map(|part| part.as_text().map_or(16, |text| text.len())).sum()
                    }
                };
                let calls: usize =
                    message.tool_calls.iter().map(|call| call.arguments.len() + 64).sum();
                content + calls + message.reasoning.as_ref().map_or(0, |text| text.len()) + 48
            })
            .sum();
        let called = messages
            .iter()
            .flat_map(|message| &message.tool_calls)
            .map(|call| (call.id.as_str(), &call.name))
            .collect();
        Self { messages, called, text: String::with_capacity(bytes), images: Vec::new() }
    }

    fn fold(mut self) -> Result<Folded, Error> {
        let messages = self.messages;
        for instructions in [true, false] {
            for (at, message) in messages.iter().enumerate() {
                if message.role.is_instruction() == instructions {
                    self.message(at, message)?;
                }
            }
        }
        Ok(Folded { text: self.text.into(), images: self.images })
    }

    fn message(&mut self, at: usize, message: &Message) -> Result<(), Error> {
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.head(message);
        if let Some(reasoning) = &message.reasoning {
            self.text.push_str("\n[thinks]\n");
            self.text.push_str(reasoning);
            if message.content.is_some() {
                self.text.push_str("\n[says]");
            }
        }
        match &message.content {
            None => {}
            Some(Content::Text(text)) => {
                self.text.push('\n');
                self.text.push_str(text);
            }
            Some(Content::Parts(parts)) => {
                self.text.push('\n');
                for (part_at, part) in parts.iter().enumerate() {
                    self.part(at, part_at, part)?;
                }
            }
        }
        for call in &message.tool_calls {
            self.text.push_str("\n[calls ");
            self.text.push_str(&call.name);
            if !call.id.is_empty() {
                self.text.push_str(", id ");
                self.text.push_str(&call.id);
            }
            self.text.push_str("]\n");
            self.text.push_str(&call.arguments);
        }
        Ok(())
    }

    /// The line that says who speaks.
    fn head(&mut self, message: &Message) {
        let (role, name) = match message.role {
            Role::Tool | Role::Function => {
                let called = || self.called.get(message.tool_call_id.as_ref()?.as_str()).copied();
                ("tool result", message.name.as_ref().or_else(called))
            }
            role => (role.as_str(), message.name.as_ref()),
        };
        self.text.push('[');
        self.text.push_str(role);
        if let Some(name) = name {
            self.text.push_str(": ");
            self.text.push_str(name);
        }
        if let Some(id) = &message.tool_call_id {
            self.text.push_str(", id ");
            self.text.push_str(id);
        }
        self.text.push(']');
    }

    fn part(&mut self, message_at: usize, part_at: usize, part: &Part) -> Result<(), Error> {
        if let Some(text) = part.as_text() {
            self.text.push_str(text);
            return Ok(());
        }
        self.images.push(image(part, message_at, part_at)?);
        // Writing to a string does not fail.
        let _ = write!(self.text, "[image {}]", self.images.len());
        Ok(())
    }
}

/// The URL of an image that upstream can fetch itself.
fn image(part: &Part, message_at: usize, part_at: usize) -> Result<Text, Error> {
    let what = match &part.kind {
        PartKind::Image { url, .. } => match url.get(..8) {
            Some(scheme) if scheme.eq_ignore_ascii_case("https://") => return Ok(url.clone()),
            _ if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) => {
                "an image in a data: URL"
            }
            _ => "an image whose URL is not https:",
        },
        PartKind::Audio { .. } => "audio",
        PartKind::Video { .. } => "video",
        PartKind::File { .. } => "a file",
        _ => "a part of this type",
    };
    Err(Error::invalid(
        format!("messages[{message_at}].content[{part_at}]"),
        format!("chat.qwen.ai cannot be given {what}; images by their https: URL can be sent"),
    ))
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
