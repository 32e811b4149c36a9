//! A history in one message, as chat.qwen.ai takes it (one message, and no role but `user`).

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use crate::{
    Error, Text,
    chat::{Content, FileKind, History, Message, Part, PartKind, Role, UploadedFile},
    json::escaped_len,
};

/// What the one message says.
///
/// The text is not put together before it is written: of a long history that would be one more
/// copy. [`Display`](fmt::Display) gives it piece by piece.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    history: &'a History,
    /// The names of the functions that were called, by the ids of the calls.
    called: HashMap<&'a str, &'a Text>,
    /// One user message needs no mark of who speaks.
    bare: bool,
    /// The one message that is sent where the others are not.
    prompt: Option<&'a Message>,
    /// What is not text, in the order of its markers.
    pub(super) files: Vec<File<'a>>,
}

/// What a message shows beside its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum File<'a> {
    /// The image at an `https:` URL.
    Image(&'a Text),
    /// What upstream keeps.
    Uploaded(&'a UploadedFile),
}

/// Folds the messages of `history`, seen and fresh, into one.
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
pub(super) fn fold(history: &History) -> Result<Folded<'_>, Error> {
    let only = history.last().filter(|_| history.len() == 1);
    let bare = only.is_some_and(is_bare);
    let called = history
        .iter()
        .flat_map(|message| &message.tool_calls)
        .map(|call| (call.id.as_str(), &call.name))
        .collect();
    let folded = Folded { history, called, bare, prompt: None, files: Vec::new() };
    folded.with_files()
}

/// The last message of the user's alone, which says what picture is wanted.
///
/// # Errors
///
/// Those of [`fold`].
pub(super) fn prompt(history: &History) -> Result<Folded<'_>, Error> {
    let Some(prompt) = history.iter().rfind(|message| message.role == Role::User) else {
        return Err(Error::invalid("messages", "there is no message of a user's to make it from"));
    };
    let (called, files) = (HashMap::new(), Vec::new());
    Folded { history, called, bare: true, prompt: Some(prompt), files }.with_files()
}

/// Whether the message needs no mark of who speaks.
fn is_bare(message: &Message) -> bool {
    message.role == Role::User
        && message.name.is_none()
        && message.tool_calls.is_empty()
        && message.reasoning.is_none()
}

fn is_blank(message: &Message) -> bool {
    let blank = |text: &Text| text.trim_ascii().is_empty();
    match &message.content {
        None => true,
        Some(Content::Text(text)) => blank(text),
        Some(Content::Parts(parts)) => parts.iter().filter_map(Part::as_text).all(blank),
    }
}

impl<'a> Folded<'a> {
    /// The same with what is not text of what is sent.
    fn with_files(mut self) -> Result<Self, Error> {
        for (at, message) in self.in_order() {
            let Some(Content::Parts(parts)) = &message.content else { continue };
            for (part_at, part) in parts.iter().enumerate() {
                if !matches!(part.kind, PartKind::ToolReference { .. }) && part.as_text().is_none()
                {
                    self.files.push(file(part, at, part_at)?);
                }
            }
        }
        // Where speakers are marked there is always something.
        let blank = self.history.is_empty() || self.bare && self.only().is_none_or(is_blank);
        if blank && self.files.is_empty() {
            return Err(Error::invalid("messages", "there is nothing in the messages to answer"));
        }
        Ok(self)
    }

    /// The one message that is sent without a mark, if that is all.
    fn only(&self) -> Option<&'a Message> {
        self.prompt.or_else(|| self.history.last())
    }

    /// How long the text is where it stands in JSON, in bytes.
    pub(super) fn escaped_len(&self) -> usize {
        struct Len(usize);

        impl fmt::Write for Len {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 += escaped_len(text);
                Ok(())
            }
        }

        let mut len = Len(0);
        // Neither counting nor the text's own `Display` fails.
        let _ = write!(len, "{self}");
        len.0
    }

    /// The messages, instructions first, with their places in the history.
    fn in_order(&self) -> impl Iterator<Item = (usize, &'a Message)> + use<'a> {
        let (history, prompt) = (self.history, self.prompt);
        [true, false].into_iter().flat_map(move |instructions| {
            let these = move |(_, message): &(usize, &Message)| {
                message.role.is_instruction() == instructions
                    && prompt.is_none_or(|prompt| std::ptr::eq(prompt, *message))
            };
            history.iter().enumerate().filter(these)
        })
    }

    fn message(
        &self,
        out: &mut impl fmt::Write,
        message: &Message,
        markers: &mut Markers,
    ) -> fmt::Result {
        self.head(out, message)?;
        if let Some(reasoning) = &message.reasoning {
            out.write_str("\n[thinks]\n")?;
            out.write_str(reasoning)?;
            if message.content.is_some() {
                out.write_str("\n[says]")?;
            }
        }
        match &message.content {
            None => {}
            Some(Content::Text(text)) => {
                out.write_str("\n")?;
                out.write_str(text)?;
            }
            Some(Content::Parts(parts)) => {
                out.write_str("\n")?;
                for part in parts {
                    match (part.as_text(), &part.kind) {
                        (Some(text), _) => out.write_str(text)?,
                        (None, PartKind::ToolReference { name }) => {
                            out.write_str("[tool: ")?;
                            out.write_str(name)?;
                            out.write_str("]")?;
                        }
                        (None, PartKind::Uploaded(file)) => markers.file(out, file)?,
                        (None, _) => markers.image(out)?,
                    }
                }
            }
        }
        for call in &message.tool_calls {
            out.write_str("\n[calls ")?;
            out.write_str(&call.name)?;
            if !call.id.is_empty() {
                out.write_str(", id ")?;
                out.write_str(&call.id)?;
            }
            out.write_str("]\n")?;
            out.write_str(&call.arguments)?;
        }
        Ok(())
    }

    /// The line that says who speaks.
    fn head(&self, out: &mut impl fmt::Write, message: &Message) -> fmt::Result {
        let (role, name) = match message.role {
            Role::Tool | Role::Function => {
                let called = || self.called.get(message.tool_call_id.as_ref()?.as_str()).copied();
                ("tool result", message.name.as_ref().or_else(called))
            }
            role => (role.as_str(), message.name.as_ref()),
        };
        out.write_str("[")?;
        out.write_str(role)?;
        if let Some(name) = name {
            out.write_str(": ")?;
            out.write_str(name)?;
        }
        if let Some(id) = &message.tool_call_id {
            out.write_str(", id ")?;
            out.write_str(id)?;
        }
        out.write_str("]")
    }
}

/// The text of the one message.
impl fmt::Display for Folded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare {
            return match self.only().and_then(|only| only.content.as_ref()) {
                None => Ok(()),
                Some(Content::Text(text)) => f.write_str(text),
                Some(Content::Parts(parts)) => {
                    parts.iter().filter_map(Part::as_text).try_for_each(|text| f.write_str(text))
                }
            };
        }
        let mut markers = Markers::default();
        for (place, (_, message)) in self.in_order().enumerate() {
            if place > 0 {
                f.write_str("\n\n")?;
            }
            self.message(f, message, &mut markers)?;
        }
        Ok(())
    }
}

/// How many there were of each kind, so that each has a number of its own.
#[derive(Debug, Default)]
struct Markers {
    images: usize,
    sounds: usize,
    videos: usize,
    documents: usize,
}

impl Markers {
    fn image(&mut self, out: &mut impl fmt::Write) -> fmt::Result {
        self.images += 1;
        write!(out, "[image {}]", self.images)
    }

    fn file(&mut self, out: &mut impl fmt::Write, file: &UploadedFile) -> fmt::Result {
        let mut numbered = |count: &mut usize, word: &str| {
            *count += 1;
            write!(out, "[{word} {count}]")
        };
        match file.kind {
            FileKind::Image => self.image(out),
            FileKind::Audio => numbered(&mut self.sounds, "audio"),
            FileKind::Video => numbered(&mut self.videos, "video"),
            // Of several it is known by its name.
            _ => {
                self.documents += 1;
                write!(out, "[document {}: {}]", self.documents, file.name)
            }
        }
    }
}

/// What upstream can fetch itself, or keeps.
fn file(part: &Part, message_at: usize, part_at: usize) -> Result<File<'_>, Error> {
    let what = match &part.kind {
        PartKind::Uploaded(file) => return Ok(File::Uploaded(file)),
        PartKind::Image { url, .. } => match url.get(..8) {
            Some(scheme) if scheme.eq_ignore_ascii_case("https://") => return Ok(File::Image(url)),
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
        format!(
            "chat.qwen.ai cannot be given {what} as it is; images by their https: URL can be sent, \
             and with an UploadLayer over the adapter what data: URLs hold"
        ),
    ))
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
