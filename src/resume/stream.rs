use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::thread::{Step, Thread};
use crate::{
    Error,
    chat::{ChatEvent, ChatRequest, ChatStream, Ending},
};

pin_project! {
    /// The answers of [`Resume`](super::Resume): those of the inner service, and what others say in
    /// place of the rest of one that broke off.
    ///
    /// Where an answer is gone on with in another place of its chat, [`ChatEvent::Resumed`] says so. The
    /// rest has no reasoning, and its sources have no range.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the stream that it reads, or the request for the next one. The stream of an
    /// answer that broke off is dropped before another is asked for.
    #[must_use = "streams do nothing unless polled"]
    pub struct ResumeStream<S, B> {
        #[pin]
        inner: Option<B>,
        ending: Ending,
        thread: Option<Box<Thread<S, B>>>,
    }
}

impl<S, B> ResumeStream<S, B> {
    pub(super) const fn new(inner: B, thread: Option<Box<Thread<S, B>>>) -> Self {
        Self { inner: Some(inner), ending: Ending::new(), thread }
    }
}

impl<S, B> Stream for ResumeStream<S, B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if !ready!(this.ending.poll_goes_on(cx)) {
                return Poll::Ready(None);
            }
            if let Some(thread) = this.thread.as_mut()
                && let Some(held) = thread.take_held()
            {
                return Poll::Ready(Some(Ok(held)));
            }
            let mut polled = match (this.inner.as_mut().as_pin_mut(), this.thread.as_mut()) {
                (Some(inner), _) => inner.poll_next(cx),
                (None, Some(thread)) => match thread.poll_asked(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(inner)) => {
                        this.inner.set(Some(inner));
                        continue;
                    }
                },
                (None, None) => return Poll::Ready(None),
            };
            if let (Poll::Ready(item), Some(thread)) = (&mut polled, this.thread.as_mut()) {
                match thread.read(item) {
                    Step::Passes => {}
                    Step::IsLeftOut => continue,
                    Step::IsOver => {
                        // Who is asked to go on may need what it has.
                        this.inner.set(None);
                        if thread.asks() {
                            continue;
                        }
                        *this.thread = None;
                    }
                }
            }
            if this.ending.passes(&mut polled) {
                return polled;
            }
        }
    }
}

impl<S, B> fmt::Debug for ResumeStream<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeStream")
            .field("ending", &self.ending)
            .field("may_resume", &self.thread.is_some())
            .finish_non_exhaustive()
    }
}
