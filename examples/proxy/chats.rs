//! Deleting chats: upstream, and what is remembered of them (qwen-wire.md D11).

use std::{fmt, sync::Arc};

use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::Tenant,
    qwen::chats,
    session::{Key, SessionStore, StoreError, forget_chat, forget_tenant},
};

use super::{
    auth::ApiKeys,
    lanes::{DeleteChats, Lanes},
};

/// How chats of `upstream` are deleted.
pub(crate) fn deletion<U, B>(upstream: U) -> DeleteChats
where
    U: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    DeleteChats::new(service_fn(move |id: Option<String>| {
        let upstream = upstream.clone();
        async move {
            match id {
                Some(id) => chats::delete(upstream, &HeaderMap::new(), &id).await,
                None => chats::delete_all(upstream, &HeaderMap::new()).await,
            }
        }
    }))
}

/// Deletes chats of a tenant.
#[derive(Clone)]
pub(crate) struct Chats {
    lanes: Lanes,
    store: Arc<dyn SessionStore>,
    /// Whether other tenants may have chats in the same account.
    shared: bool,
}

impl fmt::Debug for Chats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chats").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Chats {
    pub(crate) fn new(lanes: Lanes, store: Arc<dyn SessionStore>, keys: &ApiKeys) -> Self {
        Self { lanes, store, shared: keys.len() > 1 }
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
    /// it must be known as the tenant's own; the sessions go first, so that nobody goes on in a
    /// chat that is gone.
    pub(crate) async fn delete(&self, tenant: &Tenant, id: &str) -> Result<(), Error> {
        let deletions = self.deletions()?;
        if self.shared {
            let known = self.store.find(&[Key::of_chat(tenant, id)]).await.map_err(failed)?;
            if known.is_none() {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("no chat `{id}` of this key is remembered here"),
                ));
            }
        }
        forget_chat(&*self.store, tenant, id).await.map_err(failed)?;
        let mut refused = None;
        for delete in deletions {
            match delete.oneshot(Some(id.to_owned())).await {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(refused.unwrap_or(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Deletes every chat of the accounts, which must be the tenant's alone.
    pub(crate) async fn delete_all(&self, tenant: &Tenant) -> Result<(), Error> {
        let deletions = self.deletions()?;
        if self.shared {
            return Err(Error::new(
                ErrorKind::Permission,
                "several keys share the upstream's account, so all of its chats are not one \
                 key's to delete; delete chats by their ids",
            ));
        }
        forget_tenant(&*self.store, tenant).await.map_err(failed)?;
        for delete in deletions {
            delete.oneshot(None).await?;
        }
        Ok(())
    }
}

fn failed(error: StoreError) -> Error {
    Error::new(ErrorKind::Overloaded, "the store of sessions did not answer").with_source(error)
}
