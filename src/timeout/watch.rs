//! Which limit runs, and when it has run out.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::elapsed::Limit;
use crate::{
    Error,
    chat::ChatEvent,
    sse::{KeepAlive, KeepAliveTimer},
};

/// The limits of a layer; `None` is for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) first_event: Option<KeepAlive>,
    pub(super) idle: Option<KeepAlive>,
    pub(super) total: Option<KeepAlive>,
}

impl Limits {
    pub(super) const NONE: Self = Self { first_event: None, idle: None, total: None };

    /// That of the whole alone: of a picture or a film the first event is about the last.
    pub(super) const fn of_the_whole(self) -> Self {
        Self { total: self.total, ..Self::NONE }
    }
}

/// Measures one request, from its call to the end of its answer.
///
/// It is asked for the time only where there is nothing else to do, so nothing is measured of what is
/// ready at once. An event is a plain store.
#[derive(Debug)]
pub(super) struct Watch {
    /// Whether the first event has come, and so which limit `wait` is.
    has_begun: bool,
    wait: Option<KeepAliveTimer>,
    total: Option<KeepAliveTimer>,
    limits: Limits,
}

impl Watch {
    pub(super) fn new(limits: Limits) -> Self {
        let Limits { first_event, total, .. } = limits;
        let (wait, total) = (first_event.map(KeepAlive::timer), total.map(KeepAlive::timer));
        Self { has_begun: false, wait, total, limits }
    }

    /// Notes an event, which may be progress.
    #[inline]
    pub(super) fn event(&mut self, event: &ChatEvent) {
        if !is_progress(event) {
            return;
        }
        if !self.has_begun {
            self.begin();
        } else if let Some(wait) = &mut self.wait {
            Pin::new(wait).reset();
        }
    }

    #[cold]
    fn begin(&mut self) {
        self.has_begun = true;
        self.wait = self.limits.idle.map(KeepAlive::late_timer);
    }

    /// Is ready when a limit has run out; to be asked where nothing has come.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if let Some(wait) = &mut self.wait
            && Pin::new(wait).poll_quiet(cx).is_ready()
        {
            let limits = &self.limits;
            return Poll::Ready(match self.has_begun {
                true => given_up(Limit::Idle, limits.idle),
                false => given_up(Limit::FirstEvent, limits.first_event),
            });
        }
        self.poll_total(cx)
    }

    /// The same of the whole answer alone; to be asked now and then where something always comes.
    pub(super) fn poll_total(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match &mut self.total {
            Some(total) => {
                Pin::new(total).poll_quiet(cx).map(|()| given_up(Limit::Total, self.limits.total))
            }
            None => Poll::Pending,
        }
    }
}

/// The error of a limit that has run out, which is counted.
#[cold]
fn given_up(which: Limit, limit: Option<KeepAlive>) -> Error {
    let after = limit.map(KeepAlive::interval).unwrap_or_default();
    metrics::counter!("tower_qwen_timeouts_total", "limit" => which.as_str()).increment(1);
    tracing::debug!(limit = which.as_str(), ?after, "an answer is given up");
    which.error(after)
}

/// Whether a client sees anything of an event.
#[inline]
fn is_progress(event: &ChatEvent) -> bool {
    match event {
        ChatEvent::Text(text)
        | ChatEvent::Reasoning(text)
        | ChatEvent::ReasoningSignature(text)
        | ChatEvent::ToolArguments { json: text, .. } => !text.is_empty(),
        event => event.is_content(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_test::{assert_pending, task};

    use super::*;
    use crate::chat::{Extra, FinishReason, Started, Usage};

    const LIMITS: Limits = Limits {
        first_event: Some(KeepAlive::new(Duration::from_secs(1))),
        idle: Some(KeepAlive::new(Duration::from_secs(2))),
        total: Some(KeepAlive::new(Duration::from_secs(3))),
    };

    /// Nothing that comes touches a timer or the clock; a wait does, once.
    #[tokio::test(start_paused = true)]
    async fn an_event_reads_no_clock() {
        let mut watch = Watch::new(LIMITS);
        let is_untouched = |watch: &Watch| {
            let timers = [&watch.wait, &watch.total];
            timers.into_iter().flatten().all(KeepAliveTimer::is_untouched)
        };
        for _ in 0..1_000 {
            watch.event(&ChatEvent::Text("a".into()));
            assert!(watch.has_begun && is_untouched(&watch));
        }
        let mut task = task::spawn(());
        assert_pending!(task.enter(|cx, _| watch.poll(cx)));
        assert!(!is_untouched(&watch), "the test sees it");
    }

    #[test]
    fn what_a_client_does_not_see_is_no_progress() {
        let empty = || "".into();
        for event in [
            ChatEvent::Text(empty()),
            ChatEvent::Reasoning(empty()),
            ChatEvent::ReasoningSignature(empty()),
            ChatEvent::ToolArguments { index: 0, json: empty() },
            ChatEvent::Usage(Usage::new(1, 2)),
            ChatEvent::Started(Started::new().into()),
            ChatEvent::Resumed(Started::new().into()),
            ChatEvent::ServerFields(Extra::new()),
            ChatEvent::ChoiceFields(Extra::new()),
            ChatEvent::MessageFields(Extra::new()),
            ChatEvent::UsageFields(Extra::new()),
        ] {
            assert!(!is_progress(&event), "{event:?}");
        }
        for event in [
            ChatEvent::Text("a".into()),
            ChatEvent::Reasoning("a".into()),
            ChatEvent::ReasoningSignature("a".into()),
            ChatEvent::ToolCall { index: 0, id: "a".into(), name: "b".into() },
            ChatEvent::ToolArguments { index: 0, json: "{".into() },
            ChatEvent::Finished(FinishReason::Stop),
        ] {
            assert!(is_progress(&event), "{event:?}");
        }
    }
}
