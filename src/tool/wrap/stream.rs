use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{
    automaton::Automaton,
    outcome::{End, Outcome},
};
use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending, FinishReason},
};

pin_project! {
    /// The body of [`ToolWrap`](super::ToolWrap)'s responses: the inner stream with its text
    /// turned into exactly one call for the client.
    ///
    /// Events other than text pass at once. After the call is complete the inner stream is still
    /// read to its end, for its usage and its last event, and its text dropped. The finish reason
    /// is the inner stream's, but never `tool_calls`, of which the client knows nothing.
    ///
    /// # Errors
    ///
    /// The inner stream's, and [`ErrorKind::Truncated`](crate::ErrorKind::Truncated) where that ends
    /// without [`Finished`](ChatEvent::Finished). The `Err` item comes out behind the text that was
    /// held, and nothing is completed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner stream, and with it the upstream's work.
    #[derive(Debug)]
    pub struct ToolWrapStream<B> {
        #[pin]
        inner: B,
        ending: Ending,
        automaton: Automaton,
        queue: VecDeque<ChatEvent>,
        // What comes out when the queue is empty.
        last: Option<Result<ChatEvent, Error>>,
        // The index of the upstream's own call that became the reply's.
        native: Option<u32>,
    }
}

impl<B> ToolWrapStream<B> {
    /// Wraps the text of `inner` with `automaton`.
    #[doc(hidden)]
    pub fn new(inner: B, automaton: Automaton) -> Self {
        Self {
            inner,
            ending: Ending::new(),
            automaton,
            queue: VecDeque::new(),
            last: None,
            native: None,
        }
    }
}

impl<B: ChatStream> Stream for ToolWrapStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(event) = this.queue.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(last) = this.last.take() {
                return Poll::Ready(Some(last));
            }
            match ready!(this.ending.poll_next(this.inner.as_mut(), cx)) {
                Some(Ok(ChatEvent::Text(text))) => this.automaton.push(&text, this.queue),
                Some(Ok(ChatEvent::ToolCall { index, name, .. })) => {
                    if this.automaton.native_call(&name, this.queue) {
                        *this.native = Some(index);
                    } else {
                        tracing::debug!("dropped a native tool call of an XML client's reply");
                    }
                }
                Some(Ok(ChatEvent::ToolArguments { index, json })) => {
                    if *this.native == Some(index) {
                        this.automaton.native_arguments(&json, this.queue);
                    }
                }
                Some(Ok(ChatEvent::Finished(reason))) => {
                    let (end, reason) = match reason {
                        FinishReason::Stop | FinishReason::ToolCalls => {
                            (End::Complete, FinishReason::Stop)
                        }
                        cut => (End::Cut, cut),
                    };
                    report(this.automaton.finish(end, this.queue));
                    *this.last = Some(Ok(ChatEvent::Finished(reason)));
                }
                Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                Some(Err(error)) => {
                    this.automaton.abort(this.queue);
                    *this.last = Some(Err(error));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

fn report(outcome: Outcome) {
    tracing::debug!(outcome = outcome.as_str(), "wrapped a reply for an XML client");
    metrics::counter!("tower_qwen_tool_wrap_total", "outcome" => outcome.as_str()).increment(1);
}
