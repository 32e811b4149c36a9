use std::{borrow::Cow, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    ChatType, Thinking,
    config::{Config, DEFAULT_IDLE_EVENTS},
    service::QwenWeb,
};
use crate::sse::KeepAlive;

/// Makes [`QwenWeb`]: chat over the wire of chat.qwen.ai.
///
/// All settings have the values of a signed-in browser; see the [module](super).
///
/// ```
/// use tower_qwen::qwen::web::{QwenWebLayer, Thinking};
///
/// let layer = QwenWebLayer::new().thinking(Thinking::Auto).title("From the proxy");
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct QwenWebLayer {
    config: Arc<Config>,
}

impl QwenWebLayer {
    /// How long the upstream may bring no event by default: 5 minutes. A picture or the plan of a
    /// long report takes a while.
    pub const DEFAULT_IDLE_EVENTS: Duration = DEFAULT_IDLE_EVENTS;

    /// The settings of a signed-in browser.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }

    /// The title of new chats. Default: `New Chat`, which upstream replaces with one of its own.
    #[must_use]
    pub fn title(self, title: impl Into<Cow<'static, str>>) -> Self {
        self.with(|config| config.title = title.into())
    }

    /// `chat_mode`: `normal` for an account, `guest` without one, `local` for chats that do not
    /// show up in the account's list. Default: `normal`.
    #[must_use]
    pub fn chat_mode(self, mode: impl Into<Cow<'static, str>>) -> Self {
        self.with(|config| config.chat_mode = mode.into())
    }

    /// The project that new chats belong to: its `custom_instruction` is the one real system
    /// prompt. Default: none.
    #[must_use]
    pub fn project(self, id: impl Into<Cow<'static, str>>) -> Self {
        self.with(|config| config.project_id = id.into())
    }

    /// What kind of answer is made. Default: [`ChatType::Text`].
    #[must_use]
    pub fn chat_type(self, chat_type: ChatType) -> Self {
        self.with(|config| config.chat_type = chat_type)
    }

    /// How much the model thinks where the request does not say it. Default:
    /// [`Thinking::Fast`], which gives the first token soonest.
    #[must_use]
    pub fn thinking(self, thinking: Thinking) -> Self {
        self.with(|config| config.thinking = thinking)
    }

    /// Whether the model may search the web on its own. A request may allow it for itself, with
    /// a tool of type `web_search`. Default: no.
    #[must_use]
    pub fn auto_search(self, allowed: bool) -> Self {
        self.with(|config| config.auto_search = allowed)
    }

    /// Whether upstream sends only what is new in each event. Where it does not, each event
    /// holds the whole text so far, and what was there before is taken off it. Set it to
    /// `false` only for deployments that ignore the flag: taking prefixes off a stream that *is*
    /// incremental would swallow repeated words. Default: `true`.
    #[must_use]
    pub fn incremental_output(self, incremental: bool) -> Self {
        self.with(|config| config.incremental = incremental)
    }

    /// Whether upstream is told to stop when an answer is dropped before its end; it would
    /// write on otherwise, and the chat be busy. Default: yes.
    #[must_use]
    pub fn stop_on_drop(self, stop: bool) -> Self {
        self.with(|config| config.stop_on_drop = stop)
    }

    /// Whether a chat is deleted that was opened for a turn which came to nothing before its
    /// response future resolved: the client left, or upstream refused the turn. Nobody knows the
    /// id of such a chat. It happens in the background, within 60 s, on the tokio runtime on which the
    /// future is dropped; a call that opens a chat is finished for it. Default: yes.
    #[must_use]
    pub fn delete_orphans(self, delete: bool) -> Self {
        self.with(|config| config.delete_orphans = delete)
    }

    /// For how many `bytes` of stream the response future waits for content. An answer that has
    /// begun by then is handed on as it is; one that has not is an error. Default: 256 KiB. For how
    /// long it waits is said by [`idle_events`](Self::idle_events).
    #[must_use]
    pub fn commit_limit(self, bytes: usize) -> Self {
        self.with(|config| config.commit_bytes = bytes)
    }

    /// For how long the upstream's stream may bring no event of the answer, before its first as
    /// well as between two; then it ends with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    /// Comments, blank lines and events with nothing in them do not count, whatever their number,
    /// and only waiting does. It may end by a 64th of the limit later. `None` is for ever. Default:
    /// [5 minutes](Self::DEFAULT_IDLE_EVENTS).
    ///
    /// It is for stacks without a [`TimeoutLayer`](crate::timeout::TimeoutLayer). Under one the limits of
    /// that layer hold, and this is none.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[must_use]
    pub fn idle_events(self, limit: Option<Duration>) -> Self {
        self.with(|config| config.progress.idle = limit.map(KeepAlive::new))
    }

    /// How many bytes the upstream's stream may bring without an event of the answer; then it ends
    /// with [`ErrorKind::Upstream`](crate::ErrorKind::Upstream). One event must fit in with its
    /// name. Default: 16 MiB, twice the largest event that is read.
    #[must_use]
    pub fn max_bytes_without_event(self, bytes: usize) -> Self {
        self.with(|config| config.progress.bytes = bytes)
    }

    /// For how long token counts, and the word that nothing more comes, are awaited when the model has
    /// finished. Then the answer ends, though the connection stays open, and whatever comments come:
    /// it is complete. [`Duration::ZERO`] takes only what has come by then. Default: 2 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.with(|config| config.grace = grace)
    }

    /// The largest answer in bytes that is read where upstream sends one JSON body instead of a
    /// stream. Default: 8 MiB.
    #[must_use]
    pub fn answer_limit(self, bytes: usize) -> Self {
        self.with(|config| config.answer_limit = bytes)
    }

    /// How often upstream is asked what a film is at; `None` is what its page does: every 10 s, and
    /// every 3 s where the film begins with a picture. Default: `None`.
    ///
    /// # Panics
    ///
    /// If the interval is zero.
    #[must_use]
    pub fn task_interval(self, interval: Option<Duration>) -> Self {
        assert!(interval.is_none_or(|it| !it.is_zero()), "a task is not asked about without end");
        self.with(|config| config.task_interval = interval)
    }

    /// How long a film may take; then the answer ends with
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), and upstream goes on with it, as it cannot be
    /// told to stop. Under a [`TimeoutLayer`](crate::timeout::TimeoutLayer) its limit on the whole
    /// holds as well. Default: 20 minutes.
    #[must_use]
    pub fn task_limit(self, limit: Duration) -> Self {
        self.with(|config| config.task_limit = limit)
    }

    /// How long a body that is not a stream is read for; what came until then is judged. Punish
    /// pages may never end. Default: 10 s.
    #[must_use]
    pub fn page_deadline(self, deadline: Duration) -> Self {
        self.with(|config| config.page_deadline = deadline)
    }
}

impl<S> Layer<S> for QwenWebLayer {
    type Service = QwenWeb<S>;

    fn layer(&self, inner: S) -> Self::Service {
        QwenWeb::over(inner, Arc::clone(&self.config))
    }
}

impl<S> QwenWeb<S> {
    service!(made by QwenWebLayer::new());
}
