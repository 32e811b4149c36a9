use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tracing::debug;

use super::{
    future::{Chains, Route},
    key::{AnswerChain, Key, KeyChain},
    layer::{OwnChats, SessionLayer},
    lease::Lease,
    store::{Record, SessionStore},
    wait::{bounded, detach},
};
use crate::{
    Error, Text,
    chat::{ChatEvent, ChatRequest, ChatStream, Conversation, Ending, FinishReason, Tenant},
};

pin_project! {
    /// The body of [`Session`](super::Session)'s responses: the inner stream, observed.
    ///
    /// Every event but the last passes as it is and when it comes. Before
    /// [`ChatEvent::Finished`] passes, the answer is recorded, so who has seen the end of an answer
    /// can go on from it. With a store in memory that is no wait. With another store it lasts no
    /// longer than the store's time limit. If the stream is dropped meanwhile, the record is
    /// finished in a task of its own.
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
        last: Option<Last>,
    }
}

impl<B> SessionStream<B> {
    pub(super) fn new(body: B, recorder: Option<Recorder>) -> Self {
        Self { body, ending: Ending::new(), recorder: recorder.map(Box::new), last: None }
    }
}

impl<B: ChatStream> Stream for SessionStream<B> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(last) = this.last {
                ready!(last.write.poll(cx));
                let finished = ChatEvent::Finished(last.reason);
                *this.last = None;
                return Poll::Ready(Some(Ok(finished)));
            }
            let polled = this.ending.poll_next(this.body.as_mut(), cx);
            match &polled {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(ChatEvent::Finished(reason)))) => {
                    let recorder = this.recorder.take();
                    if let Some(write) = recorder.and_then(|recorder| recorder.finish(*reason)) {
                        *this.last = Some(Last { write, reason: *reason });
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
        let (least, most) = self.ending.size_hint(self.body.size_hint());
        let held = usize::from(self.last.is_some());
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
struct Last {
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
    /// What upstream itself calls the answer.
    response_id: Option<Text>,
    lease: Option<Lease>,
    /// Whether the chat's id has to be remembered even if its first answer is not.
    keeps_given: bool,
    given: Option<Given>,
}

/// A new chat whose id the client has seen, and whose first answer is not recorded yet.
///
/// Should that never be, the chat is the tenant's own all the same: it may name it, and deletes it
/// with its others.
struct Given {
    /// `None` once the answer is recorded.
    place: Option<Conversation>,
    store: Arc<dyn SessionStore>,
    store_timeout: Duration,
    tenant: Tenant,
}

impl Drop for Given {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let key = Key::of_chat(&self.tenant, &place.chat_id);
        let record = Record::new(&self.tenant, place);
        let (store, limit) = (Arc::clone(&self.store), self.store_timeout);
        let mut write = Write(Some(Box::pin(async move {
            bounded("record", limit, store.record(&key, &record)).await;
        })));
        // A store in memory has it at once; another is written to in a task of its own.
        let _ = write.poll(&mut Context::from_waker(Waker::noop()));
    }
}

impl Recorder {
    /// `None` where nothing may be recorded, for want of a tenant.
    pub(super) fn new(
        layer: &SessionLayer,
        chat: &ChatRequest,
        route: Route,
        lease: Option<Lease>,
    ) -> Option<Self> {
        let Chains { tenant, history, within } = route.chains?;
        Some(Self {
            store: Arc::clone(&layer.store),
            store_timeout: layer.settings.store_timeout,
            tenant,
            answer: history.answer(),
            within,
            asked: chat.conversation().cloned(),
            started: None,
            response_id: None,
            lease,
            keeps_given: layer.settings.own_chats == OwnChats::Known
                && chat.conversation().is_none(),
            given: None,
        })
    }

    fn observe(&mut self, event: &ChatEvent) {
        if let ChatEvent::Started(started) = event {
            // Copied, for the ids may be slices of a buffer that would stay as long.
            let copy = |text: &Text| Text::from(text.as_str());
            self.started = started.conversation.as_ref().map(|conversation| Conversation {
                chat_id: copy(&conversation.chat_id),
                parent_id: conversation.parent_id.as_ref().map(copy),
                account: conversation.account.clone(),
            });
            self.response_id = started.response_id.as_ref().map(copy);
            if self.keeps_given && self.given.is_none() {
                // Without the message: nobody goes on from half an answer.
                let place =
                    |place: &Conversation| Conversation { parent_id: None, ..place.clone() };
                self.given = self.started.as_ref().map(|started| Given {
                    place: Some(place(started)),
                    store: Arc::clone(&self.store),
                    store_timeout: self.store_timeout,
                    tenant: self.tenant,
                });
            }
        } else {
            self.answer.push(event);
        }
    }

    /// Records the answer; `None` where there is nothing to record.
    fn finish(self: Box<Self>, reason: FinishReason) -> Option<Write> {
        let Self {
            store,
            store_timeout,
            tenant,
            mut answer,
            within,
            asked,
            started,
            response_id,
            lease,
            keeps_given: _,
            mut given,
        } = *self;
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
        if let Some(given) = &mut given {
            given.place = None;
        }
        let last = Key::of_chat(&tenant, &place.chat_id);
        let mut record = Record::new(&tenant, place);
        record.response_id = response_id;
        let chat = record.chat;
        let records = entries(&tenant, [key, last], record);
        Some(Write(Some(Box::pin(async move {
            let claim = lease.as_ref().map(Lease::claim);
            if bounded("record", store_timeout, store.record_all(&records, claim)).await.is_some() {
                debug!(%chat, "the answer is recorded");
                if let Some(lease) = lease {
                    lease.released();
                }
            }
        }))))
    }
}

/// The record under each key that the answer may be found by: its history, its chat, and the id
/// that upstream gave it, if it did.
fn entries(tenant: &Tenant, [key, last]: [Key; 2], record: Record) -> Vec<(Key, Record)> {
    let response = record.response_id.as_ref().map(|id| Key::of_response(tenant, id));
    let mut entries = Vec::with_capacity(2 + usize::from(response.is_some()));
    entries.push((key, record.clone()));
    entries.extend(response.map(|response| (response, record.clone())));
    entries.push((last, record));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_the_id_that_upstream_gave_it() {
        let tenant = Tenant::from_digest([1; 32]);
        let mut record = Record::new(&tenant, Conversation::new("c").with_parent("p"));
        let [key, last] = ["k", "l"].map(|chat| Key::of_chat(&tenant, chat));
        let keys = |record: &Record| {
            let entries = entries(&tenant, [key, last], record.clone());
            assert!(entries.iter().all(|(_, of)| of == record));
            entries.into_iter().map(|(key, _)| key).collect::<Vec<Key>>()
        };
        assert_eq!(keys(&record), [key, last]);
        record.response_id = Some("resp-1".into());
        let response = Key::of_response(&tenant, "resp-1");
        assert_eq!(keys(&record), [key, response, last]);
        // An id is no chat's, and another tenant's is another.
        assert_ne!(response, Key::of_chat(&tenant, "resp-1"));
        assert_ne!(response, Key::of_response(&Tenant::from_digest([8; 32]), "resp-1"));
    }
}
