use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::recorder::{Recorder, Write};
use crate::{
    Error,
    chat::{ChatEvent, ChatStream, Ending},
};

pin_project! {
    /// The body of [`Session`](super::Session)'s responses: the inner stream, observed.
    ///
    /// Every event passes as it is and when it comes, but for two. Before [`ChatEvent::Finished`]
    /// passes, the answer is recorded, so who has seen the end of an answer can go on from it. Before
    /// the id of a new chat passes with [`ChatEvent::Started`], the chat is recorded as the tenant's,
    /// where a tenant may name only its own. With a store in memory that is no wait. With another
    /// store it lasts no longer than the store's time limit. If the stream is dropped meanwhile, the
    /// record is finished in a task of its own.
    ///
    /// An answer that failed, was cut, was dropped before its end, or was stopped by a content
    /// filter is not recorded: what upstream holds of it is not what the client has.
    ///
    /// # Errors
    ///
    /// The inner stream's, and [`ErrorKind::Truncated`](crate::ErrorKind::Truncated) where it ends
    /// without [`ChatEvent::Finished`].
    pub struct SessionStream<B> {
        #[pin]
        body: B,
        ending: Ending,
        recorder: Option<Box<Recorder>>,
        held: Option<Box<Held>>,
    }
}

impl<B> SessionStream<B> {
    pub(super) fn new(body: B, recorder: Option<Recorder>) -> Self {
        Self { body, ending: Ending::new(), recorder: recorder.map(Box::new), held: None }
    }
}

impl<B: ChatStream> Stream for SessionStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(held) = this.held {
                ready!(held.write.poll(cx));
                return Poll::Ready(this.held.take().map(|held| Ok(held.event)));
            }
            if !ready!(this.ending.poll_goes_on(cx)) {
                return Poll::Ready(None);
            }
            let mut polled = this.body.as_mut().poll_next(cx);
            if !this.ending.passes(&mut polled) {
                continue;
            }
            match &polled {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(ChatEvent::Finished(reason)))) => {
                    let recorder = this.recorder.take();
                    if let Some(write) = recorder.and_then(|recorder| recorder.finish(*reason)) {
                        let event = ChatEvent::Finished(*reason);
                        *this.held = Some(Box::new(Held { write, event }));
                        continue;
                    }
                }
                Poll::Ready(Some(Ok(event))) => match (event, this.recorder.as_mut()) {
                    (_, None) => {}
                    (ChatEvent::Started(started), Some(recorder)) => {
                        if let Some(write) = recorder.started(started) {
                            let event = ChatEvent::Started(started.clone());
                            *this.held = Some(Box::new(Held { write, event }));
                            continue;
                        }
                    }
                    (ChatEvent::Resumed(started), Some(recorder)) => recorder.resumed(started),
                    (event, Some(recorder)) => recorder.push(event),
                },
                // It broke off; the chat is free for another try.
                Poll::Ready(None | Some(Err(_))) => *this.recorder = None,
            }
            // Handed on where it lies.
            return polled;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.ending.size_hint(self.body.size_hint());
        let held = usize::from(self.held.is_some());
        (least.saturating_add(held), most.and_then(|most| most.checked_add(held)))
    }
}

impl<B> fmt::Debug for SessionStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStream")
            .field("recording", &self.recorder.is_some())
            .finish_non_exhaustive()
    }
}

/// An event, held until what it tells is recorded.
struct Held {
    write: Write,
    event: ChatEvent,
}
