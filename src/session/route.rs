//! The place that a history goes on from.

use tracing::debug;

use super::{
    config::Config,
    key::{Key, KeyChain, tools_digest},
    meaning::Digest,
    past,
    store::Found,
    wait::bounded,
};
use crate::{
    Error, ErrorKind,
    chat::{ChatRequest, Conversation, Destination, Message, Role, Tenant},
    offload::{is_large, offload},
};

/// How many prefixes of a history are looked up, the longest first. A turn goes on from the last
/// answer or from one not far before it; should it go on from before this many answers, it is
/// replayed.
const PREFIXES: usize = 1024;

/// Where a turn goes.
pub(super) struct Route {
    pub(super) destination: Destination,
    /// How many messages that has seen.
    pub(super) seen: usize,
    /// Whether the client named the chat itself.
    pub(super) own: bool,
    /// A digest of the tools that the place was told of, where that is known.
    pub(super) told: Option<Digest>,
    /// A digest of what the chat is instructed with. It is known where the client is to go on from
    /// the answer by its id.
    pub(super) instructions: Option<Digest>,
    /// What the answer is recorded under; `None` without a tenant.
    pub(super) chains: Option<Chains>,
}

/// The key chains of the whole history.
pub(super) struct Chains {
    pub(super) tenant: Tenant,
    /// A digest of the tools on offer.
    pub(super) tools: Digest,
    pub(super) history: KeyChain,
    /// The same within the chat that the client named.
    pub(super) within: Option<(KeyChain, Conversation)>,
}

impl Route {
    /// # Errors
    ///
    /// Where the runtime is shut down meanwhile.
    pub(super) async fn find(config: &Config, chat: &ChatRequest) -> Result<Self, Error> {
        let own = chat.conversation();
        let read = if chat.tenant.is_some() && is_large(chat) {
            let (chat, scope) = (chat.clone(), config.scope.clone());
            offload("session", move || Read::new(&chat, scope.as_deref())).await?
        } else {
            Read::new(chat, config.scope.as_deref())
        };
        let Read { chains, prefixes, answered, instructions } = read;
        let mut route = Self {
            destination: chat.destination.clone(),
            seen: chat.history.seen.len(),
            own: own.is_some(),
            told: None,
            instructions,
            chains,
        };

        let result = match (chat.tenant, own) {
            (None, None) => "no_tenant",
            (_, Some(own)) => {
                route.follow_within(config, &prefixes, chat, own, answered).await;
                "own"
            }
            (Some(_), None) => route.follow(config, &prefixes).await,
        };
        metrics::counter!("tower_qwen_session_lookups_total", "result" => result).increment(1);
        Ok(route)
    }

    /// Finds the place behind the answer that the client knows by `id`, and of whose history it
    /// sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConversationLost`] where this tenant knows no such answer. It is all the same
    /// whether anybody else does: the store is asked once, for a key of this tenant's own.
    pub(super) async fn behind(
        config: &Config,
        chat: &mut ChatRequest,
        id: &str,
    ) -> Result<Self, Error> {
        let counted = |result: &'static str| {
            metrics::counter!("tower_qwen_session_lookups_total", "result" => result).increment(1);
        };
        let lost = || {
            counted("unknown_answer");
            let message = "no answer with this id is remembered here; send the whole history";
            Error::new(ErrorKind::ConversationLost, message)
        };
        let tenant = chat.tenant.ok_or_else(lost)?;
        let key = Key::of_answer(&tenant, id);
        let found = bounded("find", config.settings.store_timeout, config.store.find(&key)).await;
        let Some(found) = found else {
            counted("error");
            return Err(store_is_away("where the answer is"));
        };
        let record = found.ok_or_else(lost)?;
        // One of another upstream's is none here.
        let past = record.past.filter(|past| past.scope == config.scope).ok_or_else(lost)?;
        counted("answer");
        debug!(chat = %record.chat, "the answer is known");

        let (count, given) = past::instructions(&chat.history.fresh);
        // An answer cannot follow one, so in front of one nothing is left out: then it is all sent
        // as a history of its own.
        let answers = chat.history.get(count).is_some_and(|next| next.role == Role::Assistant);
        let seen = if given == past.instructions && !answers { count } else { 0 };
        past.name_results(&mut chat.history.fresh);
        let chain = {
            let chain = past.chain(&tenant, chat);
            let fresh = chat.history.fresh.clone();
            let read = move || {
                let mut chain = chain;
                fresh.iter().skip(seen).for_each(|message| chain.push(message));
                chain
            };
            if is_large(chat) { offload("session", read).await? } else { read() }
        };
        Ok(Self {
            destination: record.conversation.into(),
            seen,
            own: true,
            told: record.told,
            instructions: given.or(past.instructions),
            chains: Some(Chains {
                tenant,
                tools: tools_digest(&chat.tools),
                history: chain,
                within: None,
            }),
        })
    }

    /// Finds the place that the history ends at; `prefixes` are the longest first.
    async fn follow(&mut self, config: &Config, prefixes: &[Prefix]) -> &'static str {
        self.seen = 0;
        if prefixes.is_empty() {
            return "first";
        }
        let keys: Vec<Key> = prefixes.iter().filter_map(Prefix::history).collect();
        let found = match look_up(config, &keys).await {
            Some(Some(found)) => found,
            Some(None) => return "miss",
            None => return "error",
        };
        let Some(prefix) = prefixes.get(found.index) else { return "error" };
        self.seen = prefix.seen;
        debug!(chat = %found.record.chat, seen = self.seen, "the history is known");
        self.told = found.record.told;
        self.destination = found.record.conversation.into();
        "hit"
    }

    /// Finds the place in the chat that the client named, which wins whatever is found; `answered`
    /// tells whether there is an answer among the messages.
    async fn follow_within(
        &mut self,
        config: &Config,
        mut prefixes: &[Prefix],
        chat: &ChatRequest,
        own: &Conversation,
        answered: bool,
    ) {
        let placed = own.parent_id.is_some();
        if placed {
            // The client says which answer it goes on from: what it has of it is seen.
            if self.seen == 0 {
                self.seen = prefixes.first().map_or(0, |prefix| prefix.seen);
            }
            if own.account.is_some() {
                return;
            }
            prefixes = &[];
        }
        let Some(tenant) = &chat.tenant else { return };
        let last = Key::of_chat(tenant, &own.chat_id);
        let keys: Vec<Key> = (prefixes.iter().filter_map(Prefix::within))
            .chain(prefixes.iter().filter_map(Prefix::history))
            .chain([last])
            .collect();
        let Some(Some(Found { index, record })) = look_up(config, &keys).await else { return };
        if record.conversation.chat_id != own.chat_id {
            return;
        }
        // Twice the prefixes, then the chat's last answer.
        if let Some(prefix) = prefixes.iter().chain(prefixes).nth(index) {
            self.seen = prefix.seen;
            self.told = record.told;
            self.destination = record.conversation.into();
        } else if !placed && !answered {
            // The messages are what is new in the chat, which has seen none of them.
            self.seen = 0;
            self.told = record.told;
            self.destination = record.conversation.into();
        } else {
            // Not where to go on, but whose chat it is: to others it does not exist.
            let account = own.account.clone().or(record.conversation.account);
            self.destination = Conversation { account, ..own.clone() }.into();
        }
    }
}

/// What is found in the history alone.
struct Read {
    chains: Option<Chains>,
    /// The longest first.
    prefixes: Vec<Prefix>,
    /// Whether there is an answer.
    answered: bool,
    instructions: Option<Digest>,
}

impl Read {
    fn new(chat: &ChatRequest, scope: Option<&str>) -> Self {
        let own = chat.conversation();
        let mut chains = chat.tenant.map(|tenant| Chains {
            tenant,
            tools: tools_digest(&chat.tools),
            history: KeyChain::new(&tenant, chat).within(scope),
            within: own
                .map(|own| (KeyChain::within_chat(&tenant, chat, &own.chat_id), own.clone())),
        });

        // An answer is what can be gone on from, with something that is not an answer.
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut answered = false;
        let mut messages = chat.history.iter().enumerate().peekable();
        while let Some((index, message)) = messages.next() {
            let keys = chains.as_mut().map(|chains| chains.push(message));
            if message.role != Role::Assistant {
                continue;
            }
            answered = true;
            if messages.peek().is_some_and(|(_, next)| next.role != Role::Assistant) {
                prefixes.push(Prefix { seen: index + 1, keys });
            }
        }
        prefixes.reverse();
        prefixes.truncate(PREFIXES);
        let instructions = match chat.answer_id {
            Some(_) => past::instructions(&chat.history.fresh).1,
            None => None,
        };
        Self { chains, prefixes, answered, instructions }
    }
}

impl Chains {
    /// Takes a message in; gives the keys of the history up to it.
    fn push(&mut self, message: &Message) -> (Key, Option<Key>) {
        let digest = self.history.message(message);
        self.history.link(&digest);
        let within = self.within.as_mut().map(|(within, _)| {
            within.link(&digest);
            within.key()
        });
        (self.history.key(), within)
    }
}

/// A part of the history that ends with an answer.
struct Prefix {
    seen: usize,
    /// Its key, and that within the chat that the client named.
    keys: Option<(Key, Option<Key>)>,
}

impl Prefix {
    fn history(&self) -> Option<Key> {
        self.keys.map(|(history, _)| history)
    }

    fn within(&self) -> Option<Key> {
        self.keys.and_then(|(_, within)| within)
    }
}

/// What a client is told whose request cannot do without the store.
pub(super) fn store_is_away(unknown: &str) -> Error {
    let message = format!("the store of sessions did not answer, so nobody can tell {unknown}");
    Error::new(ErrorKind::Overloaded, message)
}

async fn look_up(config: &Config, keys: &[Key]) -> Option<Option<Found>> {
    bounded("find", config.settings.store_timeout, config.store.find_first(keys)).await
}
