//! Deleting chats, upstream and what is remembered of them, and forgetting answers.

use std::{fmt, sync::Arc};

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body::Body;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_qwen::{
    AccountName, CredentialHeaders, Error, ErrorKind, FullBody,
    auth::{AccountPolicy, AuthRefreshLayer},
    chat::Tenant,
    qwen::chats,
    session::{
        Key, SessionStore, StoreError, forget_answer, forget_chat, forget_tenant, tenant_chats,
    },
};

use super::{
    clients::{Client, Clients},
    lanes::Lanes,
};

/// What is to be deleted: one chat by its id, or all of them.
#[derive(Clone, Debug)]
struct Deletion {
    id: Option<String>,
    /// Whose it is; anybody's if that is not known.
    account: Option<AccountName>,
    /// With what it is deleted; the upstream's own if there is none.
    credential: Option<CredentialHeaders>,
}

/// Sends each deletion with its account.
#[derive(Clone, Copy, Debug)]
struct ByOwner;

impl AccountPolicy<Deletion> for ByOwner {
    fn account<'a>(&self, request: &'a Request<Deletion>) -> Option<&'a AccountName> {
        request.body().account.as_ref()
    }

    fn authorize(
        &self,
        request: &mut Request<Deletion>,
        _: &AccountName,
        credential: CredentialHeaders,
    ) {
        request.body_mut().credential = Some(credential);
    }
}

/// Deletes chats in one upstream.
#[derive(Clone)]
pub(crate) struct DeleteChats {
    service: BoxCloneSyncService<Request<Deletion>, Response<()>, Error>,
    auth: Option<AuthRefreshLayer>,
}

impl DeleteChats {
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
    async fn one(&self, id: &str, account: Option<AccountName>) -> Result<(), Error> {
        let known = account.filter(|account| self.accounts().contains(&Some(account.clone())));
        let accounts = match known {
            Some(account) => vec![Some(account)],
            None => self.accounts(),
        };
        let mut refused = Ok(());
        for account in accounts {
            match self.send(Some(id), account).await {
                Ok(()) => return Ok(()),
                Err(error) => refused = weightier(refused, error),
            }
        }
        refused
    }

    /// Deletes every chat of every account.
    async fn all(&self) -> Result<(), Error> {
        for account in self.accounts() {
            self.send(None, account).await?;
        }
        Ok(())
    }

    async fn send(&self, id: Option<&str>, account: Option<AccountName>) -> Result<(), Error> {
        let deletion = Deletion { id: id.map(str::to_owned), account, credential: None };
        self.service.clone().oneshot(Request::new(deletion)).await.map(drop)
    }
}

/// How chats of `upstream` are deleted; through `auth`, so that each goes to its account, and a
/// refused credential is renewed.
pub(crate) fn deletion<U, B>(upstream: U, auth: Option<AuthRefreshLayer>) -> DeleteChats
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let delete = service_fn(move |request: Request<Deletion>| {
        let upstream = upstream.clone();
        async move {
            let Deletion { id, credential, .. } = request.into_body();
            match id {
                Some(id) => chats::delete(upstream, credential.as_ref(), &id).await,
                None => chats::delete_all(upstream, credential.as_ref()).await,
            }
            .map(Response::new)
        }
    });
    let service = match &auth {
        Some(auth) => BoxCloneSyncService::new(auth.clone().policy(ByOwner).layer(delete)),
        None => BoxCloneSyncService::new(delete),
    };
    DeleteChats { service, auth }
}

/// Deletes chats of a tenant.
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

    /// How to delete in each upstream that keeps chats.
    fn deletions(&self) -> Result<Vec<DeleteChats>, Error> {
        let all: Vec<_> = self.lanes.iter().filter_map(|lane| lane.chats.clone()).collect();
        if all.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "no upstream here keeps chats, so there is none to delete",
            ));
        }
        Ok(all)
    }

    /// Deletes the chat `id`, in whichever upstream it is. Where several keys share the account
    /// it must be known as the tenant's own.
    pub(crate) async fn delete(&self, client: Client, id: &str) -> Result<(), Error> {
        let deletions = self.deletions()?;
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        let known = self.store.find(&Key::of_chat(tenant, id)).await.map_err(failed)?;
        if self.clients.share_accounts_with(tenant) && known.is_none() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no chat `{id}` of this key is remembered here"),
            ));
        }
        let account = known.and_then(|record| record.conversation.account);
        self.delete_in(&deletions, tenant, id, account).await
    }

    /// Deletes the chat upstream and then what is remembered of it, so that a deletion which
    /// upstream refused can be tried again. Who goes on in it meanwhile finds it lost, and is
    /// answered in a new one.
    async fn delete_in(
        &self,
        deletions: &[DeleteChats],
        tenant: &Tenant,
        id: &str,
        account: Option<AccountName>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        for delete in deletions {
            match delete.one(id, account.clone()).await {
                Ok(()) => {
                    result = Ok(());
                    break;
                }
                Err(error) => result = weightier(result, error),
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
        let deletions = self.deletions()?;
        let tenant = &client.tenant.ok_or_else(nobodys)?;
        if self.clients.share_accounts_with(tenant) {
            let mut result = Ok(());
            for chat in tenant_chats(&*self.store, tenant).await.map_err(failed)? {
                match self.delete_in(&deletions, tenant, &chat.chat_id, chat.account).await {
                    Err(error) if !is_gone(&error) => result = weightier(result, error),
                    _ => {}
                }
            }
            return result;
        }
        for delete in deletions {
            delete.all().await?;
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

/// Of two refusals the one to report: one place may not have what another could not delete.
fn weightier(refused: Result<(), Error>, error: Error) -> Result<(), Error> {
    match refused {
        Err(first) if !is_gone(&first) => Err(first),
        _ => Err(error),
    }
}

/// The error of a client that could delete what is another's.
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
