use std::time::Duration;

use crate::Text;

/// One event of an event stream.
///
/// An event that comes out of a [`Decoder`](super::Decoder) shares the buffers that were pushed in.
/// So a small event keeps the whole piece of input alive that it was cut from. Copy the text out of
/// an event that you hold for long.
///
/// `None` says that the field was not there, where the WHATWG text says the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The event's type; `None` is `message`. A decoder never gives an empty one.
    pub event: Option<Text>,
    /// The data: the values of the `data` lines, joined with a line feed.
    pub data: Text,
    /// The *last event ID* when the event was dispatched. By the standard that is the id of the
    /// last event that had one. `None` if the stream never set any.
    pub id: Option<Text>,
    /// The reconnection time that this event's own block set.
    pub retry: Option<Duration>,
}

impl Event {
    /// An event with nothing but data.
    ///
    /// ```
    /// use tower_qwen::sse::Event;
    ///
    /// let event = Event::new("{}").with_event("delta");
    /// assert_eq!((event.name(), &*event.data), ("delta", "{}"));
    /// ```
    pub fn new(data: impl Into<Text>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Sets the type.
    #[must_use]
    pub fn with_event(mut self, event: impl Into<Text>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// Sets the id. Do not send one to OpenAI clients: openai-python remembers it,
    /// and then takes every comment for an event.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Text>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the reconnection time; the wire has whole milliseconds.
    #[must_use]
    pub const fn with_retry(mut self, retry: Duration) -> Self {
        self.retry = Some(retry);
        self
    }

    /// The type under which a browser would dispatch the event.
    #[must_use]
    pub fn name(&self) -> &str {
        self.event.as_deref().unwrap_or("message")
    }

    /// Whether the data is the terminal marker of OpenAI streams; like the official SDKs this
    /// only looks at how it begins.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.data.starts_with("[DONE]")
    }
}
