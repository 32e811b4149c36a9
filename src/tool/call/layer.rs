use super::reader::Reader;
use crate::{
    chat::ChatRequest,
    tool::{Dialect, history::is_of_tools, prompt, schema::Toolset},
};

/// Gives OpenAI tool calls to a chat service; see the [module](super).
#[derive(Clone, Debug)]
pub struct ToolCallLayer {
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// The upstream has no tools. The dialect is the model's own, unless one is given.
    Prompted(Option<Dialect>),
    /// It has, and calls are only repaired.
    Native,
    /// It has, and its text is scanned as well.
    Rescue,
}

impl ToolCallLayer {
    /// For an upstream without tools: they are written into the prompt, and calls are read from
    /// the text.
    #[must_use]
    pub const fn prompted() -> Self {
        Self { mode: Mode::Prompted(None) }
    }

    /// Like [`prompted`](ToolCallLayer::prompted), with the dialect that the prompt asks for and
    /// that the history is shown in, in place of the one that [`Dialect::for_model`] finds. What is
    /// read from answers does not depend on it.
    #[must_use]
    pub const fn prompted_in(dialect: Dialect) -> Self {
        Self { mode: Mode::Prompted(Some(dialect)) }
    }

    /// For an upstream with tools of its own: requests pass as they are, the form of calls is
    /// repaired.
    #[must_use]
    pub const fn native() -> Self {
        Self { mode: Mode::Native }
    }

    /// For an upstream with tools of its own whose parser leaves calls in the text: like
    /// [`native`](ToolCallLayer::native), and these calls are found as well.
    #[must_use]
    pub const fn native_with_rescue() -> Self {
        Self { mode: Mode::Rescue }
    }

    /// Rewrites the request as far as the mode wants that; what reads the answer, if anything
    /// has to.
    pub(super) fn prepare(&self, request: &mut ChatRequest) -> Option<Box<Reader>> {
        let tools = if request.tools.is_empty() {
            Toolset::default()
        } else {
            Toolset::new(request.tools.clone())
        };
        let choice = request.tool_choice.as_ref();
        let callable = tools.for_choice(choice);
        let reader = (!callable.is_empty())
            .then(|| Box::new(Reader::new(callable, choice, self.mode != Mode::Native)));
        request.has_calls_in_text |= reader.is_some() && self.mode != Mode::Native;
        if let Mode::Prompted(dialect) = self.mode
            && self.rewrites(request)
        {
            let dialect = dialect.unwrap_or_else(|| Dialect::for_model(&request.model));
            // The first of a chat: a new one, or one that the client has just opened.
            let first_turn = request.conversation().is_none_or(|place| place.parent_id.is_none());
            prompt::rewrite_with(request, &tools, dialect, first_turn);
        }
        reader
    }

    /// Whether the history has to be rewritten.
    pub(super) fn rewrites(&self, request: &ChatRequest) -> bool {
        let declares = || request.tools.iter().any(|tool| tool.as_function().is_some());
        matches!(self.mode, Mode::Prompted(_))
            && (request.tools_changed || declares() || request.history.iter().any(is_of_tools))
    }
}
