use std::sync::Arc;

use super::{Vocabulary, automaton::Automaton};
use crate::{Text, chat::ChatRequest};

/// Makes every reply one XML tool call (see the [module](super)).
///
/// Use it for clients of the XML protocol only; to any other client the completion is noise.
#[derive(Clone, Debug)]
pub struct ToolWrapLayer {
    pub(super) config: Config,
}

/// What the service needs to begin a reply. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Config {
    vocabulary: Option<Arc<Vocabulary>>,
    fallback: Arc<Vocabulary>,
    lead_window: usize,
}

impl ToolWrapLayer {
    /// A layer that reads the vocabulary from each request and holds nothing back.
    #[must_use]
    pub fn new() -> Self {
        let fallback = Arc::new(Vocabulary::default());
        Self { config: Config { vocabulary: None, fallback, lead_window: 0 } }
    }

    /// Uses these names instead of those in the client's system prompt.
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.config.vocabulary = Some(Arc::new(vocabulary));
        self
    }

    /// Keeps the first `bytes` of visible text back, 0 by default, so that a reply that ends
    /// within them is not shown twice.
    ///
    /// Every reply starts later by that much text. Use it where short answers are common and
    /// the repetition disturbs; a line, some 100 bytes, is a good size.
    #[must_use]
    pub fn lead_window(mut self, bytes: usize) -> Self {
        self.config.lead_window = bytes;
        self
    }
}

impl Default for ToolWrapLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    pub(super) fn automaton(&self, request: &ChatRequest) -> Automaton {
        let vocabulary = match &self.vocabulary {
            Some(vocabulary) => Arc::clone(vocabulary),
            None => self.read(request),
        };
        Automaton::new(vocabulary).lead_window(self.lead_window)
    }

    fn read(&self, request: &ChatRequest) -> Arc<Vocabulary> {
        // Mostly seen ones: a client sends its prompt at the start.
        let instructions: Vec<Text> = request
            .history
            .iter()
            .filter(|message| message.role.is_instruction())
            .map(|message| message.text())
            .filter(|text| !text.is_empty())
            .collect();
        match instructions.as_slice() {
            [] => Arc::clone(&self.fallback),
            [only] => Arc::new(Vocabulary::from_prompt(only)),
            several => Arc::new(Vocabulary::from_prompt(&several.join("\n"))),
        }
    }
}
