use super::{Extra, Json, UploadedFile};
use crate::Text;

/// Who speaks in a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Instructions from the application.
    System,
    /// The newer name of [`System`](Role::System).
    Developer,
    /// The person, or the program that speaks for one.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// The legacy form of [`Tool`](Role::Tool).
    Function,
}

impl Role {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Function => "function",
        }
    }

    /// The role that `word` names on the wire.
    #[must_use]
    pub fn from_wire(word: &str) -> Option<Self> {
        Some(match word {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            "function" => Self::Function,
            _ => return None,
        })
    }

    /// Whether the message instructs the model rather than takes part in the conversation.
    #[must_use]
    pub const fn is_instruction(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}

/// One message of the history.
///
/// Cloning copies no text: every [`Text`] shares its buffer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; `None` where the client sent `null` or nothing, as with an assistant
    /// message that only calls tools.
    pub content: Option<Content>,
    /// The participant's name, or the function's for [`Role::Function`].
    pub name: Option<Text>,
    /// The calls of an assistant message, in order. A legacy `function_call` stands here too,
    /// with an empty id.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a [`Role::Tool`] message answers.
    pub tool_call_id: Option<Text>,
    /// The thinking that clients send back, as `reasoning_content` or `reasoning`.
    pub reasoning: Option<Text>,
    /// What came with the thinking as a proof of it, opaque: the `signature` of a thinking block,
    /// the `encrypted_content` of a reasoning item.
    pub reasoning_signature: Option<Text>,
    /// Fields of the message that the vocabulary does not name, as the client sent them.
    pub extra: Extra,
}

impl Message {
    /// A message of plain text.
    #[must_use]
    pub fn new(role: Role, text: impl Into<Text>) -> Self {
        Self { content: Some(Content::Text(text.into())), ..Self::empty(role) }
    }

    /// A message that says nothing yet.
    #[must_use]
    pub fn empty(role: Role) -> Self {
        Self {
            role,
            content: None,
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning: None,
            reasoning_signature: None,
            extra: Extra::new(),
        }
    }

    /// The text of the content, its text parts joined; a slice where it is one piece.
    #[must_use]
    pub fn text(&self) -> Text {
        self.content.as_ref().map(Content::text).unwrap_or_default()
    }
}

/// The content of a [`Message`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// A string.
    Text(Text),
    /// A list of parts.
    Parts(Vec<Part>),
}

impl Content {
    /// The text, text parts joined without a separator; a slice where it is one piece.
    #[must_use]
    pub fn text(&self) -> Text {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => {
                let mut texts = parts.iter().filter_map(Part::as_text);
                match (texts.next(), texts.next()) {
                    (None, _) => Text::new(),
                    (Some(only), None) => only.clone(),
                    (Some(first), Some(second)) => {
                        let mut joined = String::from(first.as_str());
                        joined.push_str(second);
                        texts.for_each(|text| joined.push_str(text));
                        joined.into()
                    }
                }
            }
        }
    }

    /// The parts that are not text.
    pub fn media(&self) -> impl Iterator<Item = &Part> {
        let parts: &[Part] = match self {
            Self::Text(_) => &[],
            Self::Parts(parts) => parts,
        };
        parts.iter().filter(|part| part.as_text().is_none())
    }
}

/// One part of a [`Content::Parts`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// What the part is.
    pub kind: PartKind,
    /// `cache_control`: the client says that what comes before the end of this part is worth
    /// keeping in a cache.
    pub cache_control: Option<Json>,
    /// Unknown fields inside the kind's own object, which is `image_url`, `video_url`,
    /// `input_audio` or `file`.
    pub inner_extra: Extra,
    /// Fields beside these.
    pub extra: Extra,
}

impl Part {
    /// A part of this kind, with nothing beside it.
    #[must_use]
    pub const fn new(kind: PartKind) -> Self {
        Self { kind, cache_control: None, inner_extra: Extra::new(), extra: Extra::new() }
    }

    /// A part of text.
    #[must_use]
    pub fn text(text: impl Into<Text>) -> Self {
        Self::new(PartKind::Text(text.into()))
    }

    /// The image at an `https:` or `data:` URL.
    #[must_use]
    pub fn image(url: impl Into<Text>) -> Self {
        Self::new(PartKind::Image { url: url.into(), detail: None })
    }

    /// The text of a text or refusal part.
    #[must_use]
    pub fn as_text(&self) -> Option<&Text> {
        match &self.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => Some(text),
            _ => None,
        }
    }
}

/// The kinds of [`Part`] that clients send.
///
/// Parts may stand in a message of any role: the result of a tool that made a picture is a
/// [`Role::Tool`] message with an [`Image`](PartKind::Image) in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PartKind {
    /// `text`.
    Text(Text),
    /// `refusal`: an assistant's refusal, sent back.
    Refusal(Text),
    /// `image_url`.
    Image {
        /// An `https:` or `data:` URL.
        url: Text,
        /// `auto`, `low` or `high`.
        detail: Option<Text>,
    },
    /// `input_audio`.
    Audio {
        /// Base64, or a URL where the upstream takes one.
        data: Text,
        /// Such as `wav` or `mp3`.
        format: Option<Text>,
    },
    /// `file`, a document; at least one of `id` and `data` is there.
    File {
        /// An upload's id.
        id: Option<Text>,
        /// An `https:` or `data:` URL.
        data: Option<Text>,
        /// The file's name, or the document's title.
        name: Option<Text>,
    },
    /// `video_url`.
    Video {
        /// An `https:` or `data:` URL.
        url: Text,
    },
    /// A tool that a search among tools has found, by its name, in the search's result.
    ToolReference {
        /// The tool's name.
        name: Text,
    },
    /// A file that the upstream keeps, in the place of a part that held its data. No edge makes it:
    /// a layer that uploads does, right over the adapter.
    Uploaded(UploadedFile),
    /// Another kind, whole and as the client sent it, with its `type`.
    Other(Extra),
}

/// A tool call of an assistant message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ToolCall {
    /// The id that the tool message answers.
    pub id: Text,
    /// The function's name.
    pub name: Text,
    /// The arguments: JSON as a string, as the model or the client wrote it; not checked.
    pub arguments: Text,
    /// Unknown fields inside the `function` object.
    pub inner_extra: Extra,
    /// Fields of the call beside `id`, `type` and `function`.
    pub extra: Extra,
}

impl ToolCall {
    /// A call of function `name` with `arguments` (JSON text).
    pub fn new(id: impl Into<Text>, name: impl Into<Text>, arguments: impl Into<Text>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
            inner_extra: Extra::new(),
            extra: Extra::new(),
        }
    }
}

/// A tool that the request offers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Tool {
    /// A function that the client runs.
    Function(FunctionTool),
    /// Another kind, such as `web_search`: the whole JSON object.
    Other(Json),
}

impl Tool {
    /// The function, if it is one.
    #[must_use]
    pub fn as_function(&self) -> Option<&FunctionTool> {
        match self {
            Self::Function(function) => Some(function),
            Self::Other(_) => None,
        }
    }
}

/// A function that the client runs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FunctionTool {
    /// The name that calls use.
    pub name: Text,
    /// What it does, for the model.
    pub description: Option<Text>,
    /// The JSON Schema of the arguments, byte for byte as the client wrote it; `None` means that
    /// there are none.
    pub parameters: Option<Json>,
    /// Whether the arguments must follow the schema to the letter.
    pub strict: Option<bool>,
    /// `cache_control`: the tools up to this one are worth keeping in a cache.
    pub cache_control: Option<Json>,
    /// Fields of the function object beside these.
    pub extra: Extra,
    /// Fields of the tool beside `type`, `function` and `cache_control`.
    pub outer_extra: Extra,
}

impl FunctionTool {
    /// A function of this name and schema.
    pub fn new(name: impl Into<Text>, parameters: impl Into<Json>) -> Self {
        Self { parameters: Some(parameters.into()), ..Self::without_parameters(name) }
    }

    /// A function of this name that takes no arguments.
    pub fn without_parameters(name: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            description: None,
            parameters: None,
            strict: None,
            cache_control: None,
            extra: Extra::new(),
            outer_extra: Extra::new(),
        }
    }
}

/// Whether and which tool the model shall call.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No call.
    None,
    /// At least one call.
    Required,
    /// A call of this function.
    Function(Text),
    /// Another form, such as `allowed_tools`, or a function with more than its name: the whole
    /// JSON object.
    Other(Json),
}

impl ToolChoice {
    /// The function that must be called, in either form that names one.
    #[must_use]
    pub fn function(&self) -> Option<Text> {
        match self {
            Self::Function(name) => Some(name.clone()),
            Self::Other(choice) if choice.get("type")?.as_string()? == "function" => {
                Some(Text::from(&*choice.get("function")?.get("name")?.as_string()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_parts_is_joined_and_media_kept_apart() {
        let content = Content::Parts(vec![
            Part::new(PartKind::Text("a".into())),
            Part::image("https://example.org/a.png"),
            Part::new(PartKind::Text("b".into())),
        ]);
        assert_eq!(content.text(), "ab");
        assert_eq!(content.media().count(), 1);
    }

    #[test]
    fn text_of_one_part_shares_its_buffer() {
        let text = Text::from("only");
        let content = Content::Parts(vec![Part::new(PartKind::Text(text.clone()))]);
        assert_eq!(content.text().as_ptr(), text.as_ptr());
    }

    #[test]
    fn roles_go_there_and_back() {
        for role in
            [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool, Role::Function]
        {
            assert_eq!(Role::from_wire(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_wire("System"), None);
    }
}
