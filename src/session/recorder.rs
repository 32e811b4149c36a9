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
    past::Past,
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
    /// The id that the client has of the answer, and what it need not send again to go on from it.
    known_as: Option<(Text, Box<Past>)>,
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
        let known_as = chat.answer_id.clone().map(|id| {
            let model = Text::from(chat.model.as_str());
            let instructions = route.instructions;
            let scope = config.scope.clone();
            (id, Box::new(Past { model, instructions, scope, ..Past::default() }))
        });
        Some(Self {
            store: Arc::clone(&config.store),
            store_timeout: config.settings.store_timeout,
            tenant,
            tools,
            answer: history.answer(),
            within,
            asked: chat.conversation().cloned(),
            started: None,
            known_as,
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
        self.resumed(started);
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

    /// Notes where the answer goes on.
    pub(super) fn resumed(&mut self, started: &Started) {
        // Copied, for the ids may be slices of a buffer that would stay as long.
        let copy = |text: &Text| Text::from(text.as_str());
        self.started = started.conversation.as_ref().map(|conversation| Conversation {
            chat_id: copy(&conversation.chat_id),
            parent_id: conversation.parent_id.as_ref().map(copy),
            account: conversation.account.clone(),
        });
    }

    /// Takes another event of the answer in.
    pub(super) fn push(&mut self, event: &ChatEvent) {
        self.answer.push(event);
        if let Some((_, past)) = &mut self.known_as {
            past.push(event);
        }
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
            known_as,
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
        let key = answer.finish();
        let last = Key::of_chat(&tenant, &place.chat_id);
        let mut record = Record::new(&tenant, place);
        record.told = Some(tools);
        let chat = record.chat;
        let records = entries(&tenant, key, last, known_as, record)?;
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

/// The record under each key that the answer may be found by: its history, the id that the client
/// has of it, and its chat. `None` where neither of the first two is known.
fn entries(
    tenant: &Tenant,
    history: Option<Key>,
    last: Key,
    known_as: Option<(Text, Box<Past>)>,
    record: Record,
) -> Option<Vec<(Key, Record)>> {
    if history.is_none() && known_as.is_none() {
        return None;
    }
    let mut entries = Vec::with_capacity(3);
    entries.extend(history.map(|history| (history, record.clone())));
    if let Some((id, mut past)) = known_as {
        past.history = history.map(|history| history.digest());
        let known = Record { past: Some(past), ..record.clone() };
        entries.push((Key::of_answer(tenant, &id), known));
    }
    entries.push((last, record));
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_the_id_that_its_client_has() {
        let tenant = Tenant::from_digest([1; 32]);
        let record = Record::new(&tenant, Conversation::new("c").with_parent("p"));
        let [key, last] = ["k", "l"].map(|chat| Key::of_chat(&tenant, chat));
        let answer = Key::of_answer(&tenant, "resp-1");
        let known = || Some(("resp-1".into(), Box::<Past>::default()));
        let keys = |history, known_as| {
            let entries = entries(&tenant, history, last, known_as, record.clone())?;
            assert!(entries.iter().all(|(_, of)| of.conversation == record.conversation));
            for (at, of) in &entries {
                let history = of.past.as_ref().map(|past| past.history);
                let expected = (*at == answer).then(|| history_of(&entries, key));
                assert_eq!(history, expected);
            }
            Some(entries.into_iter().map(|(key, _)| key).collect::<Vec<Key>>())
        };
        assert_eq!(keys(Some(key), None), Some(vec![key, last]));
        assert_eq!(keys(Some(key), known()), Some(vec![key, answer, last]));
        // What the client makes of the answer is not known, but what it calls it is.
        assert_eq!(keys(None, known()), Some(vec![answer, last]));
        assert_eq!(keys(None, None), None);
        // An id is no chat's, and another tenant's is another.
        assert_ne!(answer, Key::of_chat(&tenant, "resp-1"));
        assert_ne!(answer, Key::of_answer(&Tenant::from_digest([8; 32]), "resp-1"));
    }

    fn history_of(entries: &[(Key, Record)], key: Key) -> Option<Digest> {
        entries.iter().any(|(of, _)| *of == key).then(|| key.digest())
    }
}
