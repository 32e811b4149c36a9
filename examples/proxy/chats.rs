//! Chats that an upstream keeps: listing, reading and deleting them, and forgetting answers.

use std::{collections::HashSet, fmt, sync::Arc};

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body::Body;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_qwen::{
    AccountName, CredentialHeaders, Error, ErrorKind, FullBody,
    auth::{AccountPolicy, AuthRefreshLayer},
    chat::Tenant,
    qwen::chats::{self, ChatRecord, ChatSummary},
    session::{
        Key, SessionStore, StoreError, forget_answer, forget_chat, forget_tenant, tenant_chats,
    },
};

use super::{
    clients::{Client, Clients},
    lanes::{Lane, Lanes},
};

/// What is asked of the chats of an account.
#[derive(Clone, Debug)]
enum What {
    /// To delete one, or all.
    Delete(Option<String>),
    /// A page of the list.
    List(u32),
    /// One with its messages.
    Get(String),
}

/// What is told of them.
enum Told {
    Deleted,
    List(Vec<ChatSummary>),
    Record(Box<ChatRecord>),
}

/// A call about chats.
#[derive(Clone, Debug)]
struct Call {
    what: What,
    /// Whose they are; anybody's if that is not known.
    account: Option<AccountName>,
    /// With what it is asked; the upstream's own if there is none.
    credential: Option<CredentialHeaders>,
}

/// Sends each call with its account.
#[derive(Clone, Copy, Debug)]
struct ByOwner;

impl AccountPolicy<Call> for ByOwner {
    fn account<'a>(&self, request: &'a Request<Call>) -> Option<&'a AccountName> {
        request.body().account.as_ref()
    }

    fn authorize(
        &self,
        request: &mut Request<Call>,
        _: &AccountName,
        credential: CredentialHeaders,
    ) {
        request.body_mut().credential = Some(credential);
    }
}

/// The chats that one upstream keeps.
#[derive(Clone)]
pub(crate) struct KeptChats {
    service: BoxCloneSyncService<Request<Call>, Response<Told>, Error>,
    auth: Option<AuthRefreshLayer>,
}

impl KeptChats {
    /// The accounts that there are, each by its name; one without a name where none is known.
    fn accounts(&self) -> Vec<Option<AccountName>> {
        match &self.auth {
            None => vec![None],
            Some(auth) => {
                let accounts = auth.pool().accounts().into_iter();
                accounts.map(|account| Some(account.name)).collect()
            }
        }
    }

    /// Deletes the chat `id`, which is `account`'s; without one each account is tried.
    async fn delete(&self, id: &str, account: Option<AccountName>) -> Result<(), Error> {
        self.of_owner(What::Delete(Some(id.to_owned())), account).await.map(drop)
    }

    /// Deletes every chat of every account.
    async fn delete_all(&self) -> Result<(), Error> {
        for account in self.accounts() {
            self.send(What::Delete(None), account).await?;
        }
        Ok(())
    }

    /// A page of the chats of `account`.
    async fn list(
        &self,
        page: u32,
        account: Option<AccountName>,
    ) -> Result<Vec<ChatSummary>, Error> {
        match self.send(What::List(page), account).await? {
            Told::List(chats) => Ok(chats),
            _ => Err(Error::new(ErrorKind::Internal, "a list was asked for")),
        }
    }

    /// The chat `id` with its messages.
    async fn get(&self, id: &str, account: Option<AccountName>) -> Result<ChatRecord, Error> {
        match self.of_owner(What::Get(id.to_owned()), account).await? {
            Told::Record(record) => Ok(*record),
            _ => Err(Error::new(ErrorKind::Internal, "a record was asked for")),
        }
    }

    /// Asks `account` about a chat of its own; without one each account is tried.
    async fn of_owner(&self, what: What, account: Option<AccountName>) -> Result<Told, Error> {
        let known = account.filter(|account| self.accounts().contains(&Some(account.clone())));
        let accounts = match known {
            Some(account) => vec![Some(account)],
            None => self.accounts(),
        };
        let mut refused = None;
        for account in accounts {
            match self.send(what.clone(), account).await {
                Ok(told) => return Ok(told),
                Err(error) => refused = Some(weightier(refused, error)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::new(ErrorKind::Auth, "there is no account")))
    }

    async fn send(&self, what: What, account: Option<AccountName>) -> Result<Told, Error> {
        let call = Call { what, account, credential: None };
        self.service.clone().oneshot(Request::new(call)).await.map(Response::into_body)
    }
}

/// The chats of `upstream`; through `auth`, so that each call goes to its account, and a refused
/// credential is renewed.
pub(crate) fn kept<U, B>(upstream: U, auth: Option<AuthRefreshLayer>) -> KeptChats
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let ask = service_fn(move |request: Request<Call>| {
        let upstream = upstream.clone();
        async move {
            let Call { what, credential, .. } = request.into_body();
            let credential = credential.as_ref();
            let told = match what {
                What::Delete(Some(id)) => {
                    chats::delete(upstream, credential, &id).await.map(|()| Told::Deleted)
                }
                What::Delete(None) => {
                    chats::delete_all(upstream, credential).await.map(|()| Told::Deleted)
                }
                What::List(page) => chats::list(upstream, credential, page).await.map(Told::List),
                What::Get(id) => {
                    let record = chats::get(upstream, credential, &id).await;
                    record.map(|record| Told::Record(Box::new(record)))
                }
            };
            told.map(Response::new)
        }
    });
    let service = match &auth {
        Some(auth) => BoxCloneSyncService::new(auth.clone().policy(ByOwner).layer(ask)),
        None => BoxCloneSyncService::new(ask),
    };
    KeptChats { service, auth }
}

/// A chat in a list, with the name of its upstream.
pub(crate) type Listed = (String, ChatSummary);

/// The chats of a tenant.
#[derive(Clone)]
pub(crate) struct Chats {
    lanes: Lanes,
    store: Arc<dyn SessionStore>,
    clients: Clients,
}

impl fmt::Debug for Chats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chats").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl Chats {
    pub(crate) fn new(lanes: Lanes, store: Arc<dyn SessionStore>, clients: Clients) -> Self {
        Self { lanes, store, clients }
    }

    /// Each upstream that keeps chats, with its name.
    fn kept(&self) -> Result<Vec<(String, KeptChats)>, Error> {
        let named = |lane: &Lane| {
            let name = String::from_utf8_lossy(lane.name.as_bytes()).into_owned();
            lane.chats.clone().map(|chats| (name, chats))
        };
        let all: Vec<_> = self.lanes.iter().filter_map(named).collect();
        if all.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "no upstream here keeps chats; chat.qwen.ai does",
            ));
        }
        Ok(all)
    }

    /// Whether the client may see no chats but those that it was given here.
    fn is_confined(&self, client: Client, tenant: &Tenant) -> bool {
        let is_admin = self.clients.key_of(client).is_some_and(|key| key.is_admin);
        !is_admin && self.clients.share_accounts_with(tenant)
    }

    /// A page of the chats of the accounts, counted from 1, in the order of the upstreams and their
    /// accounts. Where others have chats there too, those of them that are remembered as the
    /// tenant's own.
    pub(crate) async fn list(&self, client: Client, page: u32) -> Result<Vec<Listed>, Error> {
        let kept = self.kept()?;
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        let own = match self.is_confined(client, tenant) {
            false => None,
            true => {
                let own = tenant_chats(&*self.store, tenant).await.map_err(failed)?;
                Some(own.into_iter().map(|chat| chat.chat_id).collect::<HashSet<_>>())
            }
        };
        if own.as_ref().is_some_and(HashSet::is_empty) {
            return Ok(Vec::new());
        }
        let is_seen = |chat: &ChatSummary| own.as_ref().is_none_or(|own| own.contains(&chat.id));
        let mut all = Vec::new();
        for (name, chats) in kept {
            for account in chats.accounts() {
                let page = chats.list(page, account).await?.into_iter();
                all.extend(page.filter(is_seen).map(|chat| (name.clone(), chat)));
            }
        }
        Ok(all)
    }

    /// The chat `id` with its messages, in whichever upstream it is. Where others have chats there
    /// too it must be known as the tenant's own.
    pub(crate) async fn get(&self, client: Client, id: &str) -> Result<ChatRecord, Error> {
        let kept = self.kept()?;
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        let known = self.store.find(&Key::of_chat(tenant, id)).await.map_err(failed)?;
        if known.is_none() && self.is_confined(client, tenant) {
            return Err(no_chat(id));
        }
        let account = known.and_then(|record| record.conversation.account);
        let mut refused = None;
        for (_, chats) in kept {
            match chats.get(id, account.clone()).await {
                Ok(record) => return Ok(record),
                Err(error) => refused = Some(weightier(refused, error)),
            }
        }
        Err(refused.unwrap_or_else(|| no_chat(id)))
    }

    /// Deletes the chat `id`, in whichever upstream it is. Where several keys share the account
    /// it must be known as the tenant's own.
    pub(crate) async fn delete(&self, client: Client, id: &str) -> Result<(), Error> {
        let kept = self.kept()?;
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        let known = self.store.find(&Key::of_chat(tenant, id)).await.map_err(failed)?;
        if self.clients.share_accounts_with(tenant) && known.is_none() {
            return Err(no_chat(id));
        }
        let account = known.and_then(|record| record.conversation.account);
        self.delete_in(&kept, tenant, id, account).await
    }

    /// Deletes the chat upstream and then what is remembered of it, so that a deletion which
    /// upstream refused can be tried again. Who goes on in it meanwhile finds it lost, and is
    /// answered in a new one.
    async fn delete_in(
        &self,
        kept: &[(String, KeptChats)],
        tenant: &Tenant,
        id: &str,
        account: Option<AccountName>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        for (_, chats) in kept {
            match chats.delete(id, account.clone()).await {
                Ok(()) => {
                    result = Ok(());
                    break;
                }
                Err(error) => result = Err(weightier(result.err(), error)),
            }
        }
        if result.as_ref().err().is_none_or(is_gone) {
            forget_chat(&*self.store, tenant, id).await.map_err(failed)?;
        }
        result
    }

    /// Deletes every chat of the accounts; where others have chats there too, the tenant's own,
    /// as far as they are remembered.
    pub(crate) async fn delete_all(&self, client: Client) -> Result<(), Error> {
        let kept = self.kept()?;
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        if self.clients.share_accounts_with(tenant) {
            let mut result = Ok(());
            for chat in tenant_chats(&*self.store, tenant).await.map_err(failed)? {
                match self.delete_in(&kept, tenant, &chat.chat_id, chat.account).await {
                    Err(error) if !is_gone(&error) => {
                        result = Err(weightier(result.err(), error));
                    }
                    _ => {}
                }
            }
            return result;
        }
        for (_, chats) in kept {
            chats.delete_all().await?;
        }
        forget_tenant(&*self.store, tenant).await.map_err(failed)
    }

    /// Forgets the answer that the client knows by `id`. Its chat stays: others go on in it from
    /// other answers.
    pub(crate) async fn forget_answer(&self, client: Client, id: &str) -> Result<(), Error> {
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        match forget_answer(&*self.store, tenant, id).await.map_err(failed)? {
            true => Ok(()),
            false => Err(no_response(id)),
        }
    }
}

/// The error of an answer that this client does not know by `id`, whoever else may.
pub(crate) fn no_response(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("Response with id '{id}' not found."))
}

/// Whether upstream has no such chat. An account that cannot be asked right now may have it.
fn is_gone(error: &Error) -> bool {
    error.is_conversation_lost()
}

/// Of two refusals the one to report: one place may not have what another could not do.
fn weightier(refused: Option<Error>, error: Error) -> Error {
    refused.filter(|first| !is_gone(first)).unwrap_or(error)
}

/// The error of a chat that this client does not know, whoever else may.
fn no_chat(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no chat `{id}` of this key is remembered here"))
}

/// The error of a client that could see or delete what is another's.
fn nobodys() -> Error {
    Error::new(
        ErrorKind::Permission,
        "without a key nobody can tell whose chats these are; present one as `Authorization: \
         Bearer KEY`",
    )
}

fn failed(error: StoreError) -> Error {
    Error::new(ErrorKind::Overloaded, "the store of sessions did not answer").with_source(error)
}
