use tower_layer::Layer;

use super::{reader::Reader, service::ToolCall};
use crate::{
    chat::{ChatRequest, Message, Role},
    tool::{
        prompt::{self, Format},
        schema::Toolset,
    },
};

/// Gives OpenAI tool calls to a chat service; see the [module](super).
#[derive(Clone, Debug, Default)]
pub struct ToolCallLayer {
    mode: Mode,
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    /// The upstream has no tools.
    #[default]
    Text,
    /// It has, and calls are only repaired.
    Native,
    /// It has, and its text is scanned as well.
    Rescue,
}

impl ToolCallLayer {
    /// For an upstream without tools: they are written into the prompt, and calls are read from
    /// the text.
    #[must_use]
    pub const fn new() -> Self {
        Self { mode: Mode::Text, format: None }
    }

    /// For an upstream with tools of its own: requests pass as they are, the form of calls is
    /// repaired.
    #[must_use]
    pub const fn native() -> Self {
        Self { mode: Mode::Native, format: None }
    }

    /// Whether calls that an upstream with tools of its own left in the text are found as well.
    /// Off by default. Without [`native`](ToolCallLayer::native) this changes nothing: there the
    /// text is always scanned.
    #[must_use]
    pub const fn rescue(mut self, rescue: bool) -> Self {
        self.mode = match self.mode {
            Mode::Text => Mode::Text,
            Mode::Native | Mode::Rescue if rescue => Mode::Rescue,
            Mode::Native | Mode::Rescue => Mode::Native,
        };
        self
    }

    /// The format that the prompt asks for and that the history is shown in, in place of the one
    /// that [`Format::for_model`] finds. What is read from answers does not depend on it.
    #[must_use]
    pub const fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Rewrites the request as far as the mode wants that; what reads the answer, if anything
    /// has to.
    pub(super) fn prepare(&self, request: &mut ChatRequest) -> Option<Box<Reader>> {
        let tools = if request.tools.is_empty() {
            Toolset::default()
        } else {
            Toolset::for_choice(request.tools.clone(), request.tool_choice.as_ref())
        };
        let reader = (!tools.is_empty()).then(|| {
            let scans = self.mode != Mode::Native;
            Box::new(Reader::new(tools, request.tool_choice.as_ref(), scans))
        });
        let declares = || request.tools.iter().any(|tool| tool.as_function().is_some());
        if self.mode == Mode::Text && (declares() || request.messages.iter().any(is_of_tools)) {
            let format = self.format.unwrap_or_else(|| Format::for_model(&request.model));
            let first_turn = request
                .conversation
                .as_ref()
                .is_none_or(|conversation| conversation.parent_id.is_none());
            prompt::rewrite(request, format, first_turn);
        }
        reader
    }
}

impl<S> Layer<S> for ToolCallLayer {
    type Service = ToolCall<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ToolCall::new(inner, self.clone())
    }
}

/// Whether an upstream without tools would not understand the message.
fn is_of_tools(message: &Message) -> bool {
    !message.tool_calls.is_empty() || matches!(message.role, Role::Tool | Role::Function)
}
