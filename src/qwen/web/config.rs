//! What an adapter is set to.

use std::{borrow::Cow, time::Duration};

use super::{ChatType, Thinking, making::Making};
use crate::{
    qwen::{
        answer::{Answer, GRACE, Pieces, Repairs, ThinkSplitter},
        task::Pace,
    },
    sse::{
        KeepAlive,
        progress::{self, Limits},
    },
};

/// How long the upstream may bring no event by default.
pub(super) const DEFAULT_IDLE_EVENTS: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) title: Cow<'static, str>,
    pub(super) chat_mode: Cow<'static, str>,
    pub(super) project_id: Cow<'static, str>,
    pub(super) chat_type: ChatType,
    pub(super) thinking: Thinking,
    pub(super) auto_search: bool,
    pub(super) incremental: bool,
    pub(super) stop_on_drop: bool,
    pub(super) delete_orphans: bool,
    pub(super) commit_bytes: usize,
    pub(super) progress: Limits,
    pub(super) grace: Duration,
    pub(super) answer_limit: usize,
    pub(super) page_deadline: Duration,
    /// `None`: what is usual for what is made.
    pub(super) task_interval: Option<Duration>,
    pub(super) task_limit: Duration,
}

impl Config {
    /// When a task for `making` is asked about.
    pub(super) fn pace(&self, making: &Making) -> Pace {
        let usual = match making.is_from_image() {
            true => Duration::from_secs(3),
            false => Duration::from_secs(10),
        };
        Pace { interval: self.task_interval.unwrap_or(usual), limit: self.task_limit }
    }

    /// What is known of an answer before it begins.
    pub(super) fn answer(&self) -> Answer {
        let pieces = if self.incremental { Pieces::incremental } else { Pieces::cumulative };
        let repairs = Repairs::new("tower_qwen_web_repairs_total");
        Answer::new(pieces, ThinkSplitter::off(), repairs)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            title: Cow::Borrowed("New Chat"),
            chat_mode: Cow::Borrowed("normal"),
            project_id: Cow::Borrowed(""),
            chat_type: ChatType::Text,
            thinking: Thinking::Fast,
            auto_search: false,
            incremental: true,
            stop_on_drop: true,
            delete_orphans: true,
            commit_bytes: 256 * 1024,
            progress: Limits {
                idle: Some(KeepAlive::new(DEFAULT_IDLE_EVENTS)),
                bytes: progress::DEFAULT_MAX_BYTES,
            },
            grace: GRACE,
            answer_limit: 8 * 1024 * 1024,
            page_deadline: Duration::from_secs(10),
            task_interval: None,
            task_limit: Duration::from_secs(1_200),
        }
    }
}
