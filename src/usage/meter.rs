//! What has come of one request so far (the one place where it is settled).

use std::{fmt, sync::Arc};

use tokio::time::Instant;
use tracing::debug;

use super::settlement::{Counted, Outcome, Settlement};
use crate::{
    Error, Fate, Text,
    chat::{ChatEvent, Tenant, Usage},
    tokens::{self, TokenEstimator},
};

/// What is told of a settlement, at most once.
pub(super) enum Settle {
    Every(Arc<dyn Fn(Settlement) + Send + Sync>),
    One(Box<dyn FnOnce(Settlement) + Send>),
}

/// What was learnt of the lengths of texts.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    pub(super) prompts: TokenEstimator,
    pub(super) answers: TokenEstimator,
}

/// Measures one request, and settles it when it is dropped.
///
/// [`UsageLayer`](super::UsageLayer) makes one for each chat. One for something else comes from
/// [`UsageLayer::meter`](super::UsageLayer::meter); tell it what you see of the answer, and drop it
/// when that is over. What was never told to have [finished](Outcome::Finished) or failed counts as
/// [`Gone`](Outcome::Gone).
///
/// # Panics
///
/// Its drop does where the closure that is told does.
#[must_use = "a request is settled when its meter is dropped"]
pub struct Meter {
    settle: Option<Settle>,
    estimates: Arc<Estimates>,
    tenant: Option<Tenant>,
    model: Text,
    upstream: Option<Text>,
    /// What the prompt's lengths come to.
    prompt: u64,
    /// How many bytes the model has said.
    said: u64,
    usage: Option<Usage>,
    /// Whether an error says that nothing was paid for, as long as nothing came.
    is_free: bool,
    outcome: Outcome,
    begun: Instant,
    first_event: Option<Instant>,
}

impl Meter {
    pub(super) fn new(
        settle: Settle,
        estimates: Arc<Estimates>,
        upstream: Option<Text>,
        tenant: Option<Tenant>,
        model: Text,
        prompt: u64,
    ) -> Self {
        Self {
            settle: Some(settle),
            estimates,
            tenant,
            model,
            upstream,
            prompt,
            said: 0,
            usage: None,
            is_free: false,
            outcome: Outcome::Gone,
            begun: Instant::now(),
            first_event: None,
        }
    }

    /// Notes who answers.
    pub fn upstream(&mut self, name: impl Into<Text>) {
        self.upstream = Some(name.into());
    }

    /// Notes an event of an answer.
    #[inline]
    pub fn event(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Text(text)
            | ChatEvent::Reasoning(text)
            | ChatEvent::ToolArguments { json: text, .. } => self.said += text.len() as u64,
            ChatEvent::ToolCall { name, .. } => self.said += name.len() as u64,
            ChatEvent::Usage(usage) => self.usage = Some(*usage),
            ChatEvent::Finished(reason) => self.outcome = Outcome::Finished(*reason),
            _ => {}
        }
        if self.first_event.is_none() && event.is_content() {
            self.begins();
        }
    }

    /// Notes `bytes` more bytes of what a model has said, where there are no events of a chat.
    #[inline]
    pub fn said(&mut self, bytes: u64) {
        self.said += bytes;
        if self.first_event.is_none() {
            self.begins();
        }
    }

    /// Notes how many tokens the upstream has counted so far; the last counts stand.
    pub const fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// Notes how it has ended. Behind a finish reason an answer is complete, and stays so.
    pub const fn ended(&mut self, outcome: Outcome) {
        if !matches!(self.outcome, Outcome::Finished(_)) {
            self.outcome = outcome;
        }
    }

    /// Notes that it failed.
    pub fn failed(&mut self, error: &Error) {
        self.is_free = error.fate() != Fate::Abandoned;
        self.ended(Outcome::Failed(error.kind()));
    }

    #[cold]
    fn begins(&mut self) {
        self.first_event = Some(Instant::now());
    }

    /// Tells what it has come to; later calls do nothing.
    pub(super) fn settle(&mut self) {
        let Some(settle) = self.settle.take() else { return };
        let total = self.begun.elapsed();
        let (usage, counted) = self.counted();
        let settlement = Settlement {
            tenant: self.tenant,
            model: self.model.clone(),
            upstream: self.upstream.take(),
            usage,
            counted,
            outcome: self.outcome,
            first_event: self.first_event.map(|first| first.duration_since(self.begun)),
            total,
        };
        let (outcome, counted) = (settlement.outcome.as_str(), counted.as_str());
        debug!(
            outcome,
            counted,
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            "a request is settled"
        );
        metrics::counter!(
            "tower_qwen_usage_settled_total", "outcome" => outcome, "counted" => counted
        )
        .increment(1);
        for (kind, tokens) in
            [("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)]
        {
            metrics::counter!(
                "tower_qwen_usage_tokens_total", "kind" => kind, "counted" => counted
            )
            .increment(tokens);
        }
        match settle {
            Settle::Every(settle) => settle(settlement),
            Settle::One(settle) => settle(settlement),
        }
    }

    /// How many tokens it took, and who says so.
    fn counted(&self) -> (Usage, Counted) {
        let Estimates { prompts, answers } = &*self.estimates;
        let said = tokens::of_len(self.said);
        let estimated = || answers.corrected(&self.model, said);
        match self.usage {
            // Some say before the answer how long the prompt is, and only behind it the rest.
            Some(usage) if usage.completion_tokens == 0 && said > 0 => {
                let mut whole = Usage::new(usage.prompt_tokens, estimated());
                whole.cached_tokens = usage.cached_tokens;
                (whole, Counted::Estimated)
            }
            Some(usage) => {
                if matches!(self.outcome, Outcome::Finished(_)) {
                    prompts.learn(&self.model, self.prompt, usage.prompt_tokens);
                    answers.learn(&self.model, said, usage.completion_tokens);
                }
                (usage, Counted::Upstream)
            }
            None if self.is_free && self.first_event.is_none() => {
                (Usage::default(), Counted::Nothing)
            }
            None => {
                let prompt = prompts.corrected(&self.model, self.prompt);
                (Usage::new(prompt, estimated()), Counted::Estimated)
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle();
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("model", &self.model)
            .field("usage", &self.usage)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
