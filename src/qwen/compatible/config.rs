//! What an adapter is set to.

use std::{sync::Arc, time::Duration};

use super::{
    METRIC,
    modes::{ContentMode, ThinkTags},
    server::Server,
};
use crate::{
    Text,
    chat::ReasoningEffort,
    qwen::answer::{Answer, GRACE, Pieces, Repairs, ThinkSplitter},
    sse::{
        KeepAlive,
        progress::{self, Limits},
    },
};

/// How long the upstream may bring no event by default.
pub(super) const DEFAULT_IDLE_EVENTS: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) think: ThinkTags,
    pub(super) content: Option<ContentMode>,
    pub(super) overrides: Arc<Overrides>,
    pub(super) progress: Limits,
    pub(super) grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            think: ThinkTags::default(),
            content: None,
            overrides: Arc::default(),
            progress: Limits {
                idle: Some(KeepAlive::new(DEFAULT_IDLE_EVENTS)),
                bytes: progress::DEFAULT_MAX_BYTES,
            },
            grace: GRACE,
        }
    }
}

/// How much the upstream's models give, and what is meant by an effort.
#[derive(Clone, Debug, Default)]
pub(in crate::qwen) struct Overrides {
    /// The upstream's names, and the most tokens that an answer may be asked to have.
    pub(in crate::qwen) limits: Vec<(Text, u64)>,
    /// The efforts that clients ask for, and those that are meant by them.
    pub(in crate::qwen) efforts: Vec<(ReasoningEffort, ReasoningEffort)>,
}

impl Config {
    /// What is known of an answer before it begins.
    pub(super) fn answer(&self) -> Answer {
        let pieces = match self.content.unwrap_or(self.server.content()) {
            ContentMode::Incremental => Pieces::incremental,
            ContentMode::Cumulative => Pieces::cumulative,
            ContentMode::Auto => Pieces::undecided,
        };
        let think = match self.think {
            ThinkTags::Leading => ThinkSplitter::new(),
            ThinkTags::Opened => ThinkSplitter::inside(),
            ThinkTags::Ignore => ThinkSplitter::off(),
        };
        Answer::new(pieces, think, Repairs::new(METRIC))
    }
}

impl Overrides {
    /// The effort that is meant by the one that a client asks for.
    pub(in crate::qwen) fn effort<'a>(&'a self, asked: &'a ReasoningEffort) -> &'a ReasoningEffort {
        let known = self.efforts.iter().rfind(|(effort, _)| effort == asked);
        known.map_or(asked, |(_, meant)| meant)
    }

    /// The most tokens that may be asked of the upstream's `model`.
    pub(super) fn max_tokens(&self, model: &str, server: Server) -> Option<u64> {
        let known = self.limits.iter().rfind(|(name, _)| *name == *model);
        known.map(|&(_, limit)| limit).or_else(|| server.max_tokens(model))
    }
}
