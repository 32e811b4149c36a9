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
    future::{Chains, Route},
    key::{AnswerChain, Key, KeyChain},
    layer::{OwnChats, SessionLayer},
    lease::Lease,
    store::{Record, SessionStore},
    wait::{bounded, detach},
};
use crate::{
    Error, Text,
    chat::{
        ChatEvent, ChatRequest, ChatStream, Conversation, Ending, FinishReason, Started, Tenant,
    },
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
            let polled = this.ending.poll_next(this.body.as_mut(), cx);
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
                    (event, Some(recorder)) => recorder.answer.push(event),
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
    /// Whether the chat's id has to be remembered before the client sees it.
    keeps_given: bool,
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
        })
    }

    /// Notes where the answer is; what is to be remembered before the client hears of it, if
    /// anything is.
    ///
    /// A new chat is the tenant's own from when its id is known, even if its first answer is never
    /// complete: the tenant may name it, and deletes it with its others.
    fn started(&mut self, started: &Started) -> Option<Write> {
        // Copied, for the ids may be slices of a buffer that would stay as long.
        let copy = |text: &Text| Text::from(text.as_str());
        self.started = started.conversation.as_ref().map(|conversation| Conversation {
            chat_id: copy(&conversation.chat_id),
            parent_id: conversation.parent_id.as_ref().map(copy),
            account: conversation.account.clone(),
        });
        self.response_id = started.response_id.as_ref().map(copy);
        if !std::mem::take(&mut self.keeps_given) {
            return None;
        }
        // Without the message: nobody goes on from half an answer.
        let place = Conversation { parent_id: None, ..self.started.clone()? };
        let key = Key::of_chat(&self.tenant, &place.chat_id);
        let record = Record::new(&self.tenant, place);
        let (store, limit) = (Arc::clone(&self.store), self.store_timeout);
        Some(Write(Some(Box::pin(async move {
            bounded("record", limit, store.record(&key, &record)).await;
        }))))
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
