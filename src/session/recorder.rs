//! What is remembered of an answer.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tracing::debug;

use super::{
    config::{Config, OwnChats},
    key::{AnswerChain, Key, KeyChain},
    lease::Lease,
    meaning::Digest,
    route::{Chains, Route},
    store::{Record, SessionStore},
    wait::{bounded, detach},
};
use crate::{
    Text,
    chat::{ChatEvent, ChatRequest, Conversation, FinishReason, Started, Tenant},
};

/// The record of an answer on its way into the store; it gets there even if this is dropped.
pub(super) struct Write(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Write {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
    /// A digest of the tools that the chat is told of with this turn or was told of before.
    tools: Digest,
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
        config: &Config,
        chat: &ChatRequest,
        route: Route,
        lease: Option<Lease>,
    ) -> Option<Self> {
        let Chains { tenant, tools, history, within } = route.chains?;
        Some(Self {
            store: Arc::clone(&config.store),
            store_timeout: config.settings.store_timeout,
            tenant,
            tools,
            answer: history.answer(),
            within,
            asked: chat.conversation().cloned(),
            started: None,
            response_id: None,
            lease,
            keeps_given: config.settings.own_chats == OwnChats::Known
                && chat.conversation().is_none(),
        })
    }

    /// Notes where the answer is; what is to be remembered before the client hears of it, if
    /// anything is.
    ///
    /// A new chat is the tenant's own from when its id is known, even if its first answer is never
    /// complete: the tenant may name it, and deletes it with its others.
    pub(super) fn started(&mut self, started: &Started) -> Option<Write> {
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

    /// Takes another event of the answer in.
    pub(super) fn push(&mut self, event: &ChatEvent) {
        self.answer.push(event);
    }

    /// Records the answer; `None` where there is nothing to record.
    pub(super) fn finish(self: Box<Self>, reason: FinishReason) -> Option<Write> {
        let Self {
            store,
            store_timeout,
            tenant,
            tools,
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
        record.told = Some(tools);
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
