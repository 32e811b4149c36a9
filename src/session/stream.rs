use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tracing::debug;

use super::{
    future::{Lease, Route, bounded, detach},
    key::{AnswerChain, Key, KeyChain},
    layer::SessionLayer,
    store::{Record, SessionStore},
};
use crate::{
    Error,
    chat::{ChatEvent, ChatRequest, ChatStream, Conversation, FinishReason, Tenant, Text},
};

pin_project! {
    /// The body of [`Session`](super::Session)'s responses: the inner stream, observed.
    ///
    /// Every event passes as it is and when it comes, but for the last: the answer is recorded
    /// before [`ChatEvent::Finished`] passes, so whoever has seen the end of an answer can go on
    /// from it. A store in memory makes that no wait at all; another has the store's time limit,
    /// and is let finish in a task of its own if the stream is dropped meanwhile.
    ///
    /// An answer that failed, was cut, was dropped before its end, or was stopped by a content
    /// filter is not recorded: what upstream holds of it is not what the client has.
    pub struct SessionStream<B> {
        #[pin]
        body: B,
        recorder: Option<Box<Recorder>>,
        ending: Option<Ending>,
    }
}

impl<B> SessionStream<B> {
    pub(super) fn new(body: B, recorder: Recorder) -> Self {
        Self { body, recorder: Some(Box::new(recorder)), ending: None }
    }
}

impl<B: ChatStream> Stream for SessionStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(ending) = this.ending {
                ready!(ending.write.poll(cx));
                let finished = ChatEvent::Finished(ending.reason);
                *this.ending = None;
                return Poll::Ready(Some(Ok(finished)));
            }
            let polled = this.body.as_mut().poll_next(cx);
            match &polled {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(ChatEvent::Finished(reason)))) => {
                    let recorder = this.recorder.take();
                    if let Some(write) = recorder.and_then(|recorder| recorder.finish(*reason)) {
                        *this.ending = Some(Ending { write, reason: *reason });
                        continue;
                    }
                }
                Poll::Ready(Some(Ok(event))) => {
                    if let Some(recorder) = this.recorder {
                        recorder.observe(event);
                    }
                }
                // It broke off; the chat is free for another try.
                Poll::Ready(None | Some(Err(_))) => *this.recorder = None,
            }
            // Handed on where it lies.
            return polled;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.body.size_hint();
        let held = usize::from(self.ending.is_some());
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

/// The last event, held until the answer is recorded.
struct Ending {
    write: Write,
    reason: FinishReason,
}

/// The record of an answer on its way into the store; it gets there even if this is dropped.
struct Write(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Write {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(write) = &mut self.0 {
            ready!(write.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if let Some(write) = self.0.take() {
            detach(write);
        }
    }
}

/// What is remembered of a turn while its answer streams.
pub(super) struct Recorder {
    store: Arc<dyn SessionStore>,
    store_timeout: Duration,
    tenant: Tenant,
    answer: AnswerChain,
    /// The history within the chat that the client named.
    within: Option<(KeyChain, Conversation)>,
    asked: Option<Conversation>,
    started: Option<Conversation>,
    lease: Option<Lease>,
}

impl Recorder {
    pub(super) fn new(
        layer: &SessionLayer,
        chat: &ChatRequest,
        route: Route,
        lease: Option<Lease>,
    ) -> Self {
        Self {
            store: Arc::clone(&layer.store),
            store_timeout: layer.settings.store_timeout,
            tenant: chat.tenant,
            answer: route.history.answer(),
            within: route.within,
            asked: chat.conversation.clone(),
            started: None,
            lease,
        }
    }

    fn observe(&mut self, event: &ChatEvent) {
        if let ChatEvent::Started(conversation) = event {
            // Copied, for the ids may be slices of a buffer that would stay as long.
            let copy = |text: &Text| Text::from(text.as_str());
            self.started = Some(Conversation {
                chat_id: copy(&conversation.chat_id),
                parent_id: conversation.parent_id.as_ref().map(copy),
                account: conversation.account.clone(),
            });
        } else {
            self.answer.push(event);
        }
    }

    /// Records the answer; `None` where there is nothing to record.
    fn finish(self: Box<Self>, reason: FinishReason) -> Option<Write> {
        let Self { store, store_timeout, tenant, mut answer, within, asked, started, lease } =
            *self;
        let mut place = started?;
        place.parent_id.as_ref()?;
        if reason == FinishReason::ContentFilter {
            return None;
        }
        if let Some(asked) = asked
            && asked.chat_id == place.chat_id
        {
            place.account = place.account.or(asked.account);
        }
        if let Some((within, own)) = within
            && own.chat_id == place.chat_id
        {
            answer.rebase(within);
        }
        let key = answer.finish()?;
        let last = Key::of_chat(&tenant, &place.chat_id);
        let record = Record::new(&tenant, place);
        let chat = record.chat;
        Some(Write(Some(Box::pin(async move {
            let records = [(key, record.clone()), (last, record)];
            let claim = lease.as_ref().map(Lease::claim);
            if bounded("record", store_timeout, store.record(&records, claim)).await.is_some() {
                debug!(%chat, "the answer is recorded");
                if let Some(lease) = lease {
                    lease.released();
                }
            }
        }))))
    }
}
