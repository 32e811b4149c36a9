//! Who a client is: one answer for the edges, the sessions, deletions and logs.

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_TYPE, COOKIE, ORIGIN, REFERER},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tower_qwen::{Error, chat::Tenant, edge, openai::error_response};

use super::{
    auth::{ApiKeys, Found},
    keys::{Key, KeyId, Keys},
    trace,
};

/// What tells clients from each other.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    keys: ApiKeys,
    /// Whether only this machine's own programs can connect.
    local: bool,
}

/// Who sent a request; among the request's extensions from [`identify`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// `None` where nobody can tell.
    pub(crate) tenant: Option<Tenant>,
    who: Who,
}

/// What a client is called in the log; it tells nothing of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Whoever has this one of the keys that are asked for, counted from 1.
    Key(usize),
    /// Whoever has the key of the file that is called so.
    Filed(KeyId),
    /// Whoever has the key that was presented and not asked for.
    Presented,
    /// The one tenant of this machine.
    Local,
    Nobody,
}

impl Clients {
    pub(crate) const fn new(keys: ApiKeys, local: bool) -> Self {
        Self { keys, local }
    }

    /// Who sends a request with these headers:
    ///
    /// - where keys are asked for, whoever has the key that matched, and what else stands in the
    ///   headers does not matter;
    /// - where none are, whoever has what the client presents as a key;
    /// - or else, where the proxy listens on loopback only, the one tenant of this machine;
    /// - or else nobody knows.
    ///
    /// # Errors
    ///
    /// An error of class [`ErrorKind::Auth`](tower_qwen::ErrorKind::Auth) without a key that is
    /// asked for.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Client, Error> {
        match self.keys.check(headers)? {
            Some(Found::Listed(at, key)) => {
                return Ok(Client { tenant: Some(tenant_of("key", key)), who: Who::Key(at + 1) });
            }
            // Not the key itself: another one with the id goes on with the conversations.
            Some(Found::Filed(key)) => {
                let tenant = Some(tenant_of("id", key.id.as_str().as_bytes()));
                return Ok(Client { tenant, who: Who::Filed(key.id) });
            }
            None => {}
        }
        let (tenant, who) = match edge::tenant(headers) {
            Some(tenant) => (Some(tenant), Who::Presented),
            None => match self.local_tenant() {
                Some(tenant) => (Some(tenant), Who::Local),
                None => (None, Who::Nobody),
            },
        };
        Ok(Client { tenant, who })
    }

    /// Whose requests are those without a key, if that is anybody's.
    pub(crate) fn local_tenant(&self) -> Option<Tenant> {
        (self.keys.is_empty() && self.local).then(|| tenant_of("local", &[]))
    }

    /// Whether no key is asked for.
    pub(crate) const fn are_all_let_in(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether `key` is one of those that are asked for.
    pub(crate) fn have_key(&self, key: &str) -> bool {
        self.keys.have(key)
    }

    /// The keys of the file.
    pub(crate) fn filed(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.filed().into_iter().flat_map(Keys::iter)
    }

    /// The key of the file that `client` has.
    pub(crate) fn key_of(&self, client: Client) -> Option<&Arc<Key>> {
        let Who::Filed(id) = client.who else { return None };
        self.filed().find(|key| key.id == id)
    }

    /// Whether anybody may come who can reach the proxy from elsewhere.
    pub(crate) const fn are_strangers(&self) -> bool {
        self.keys.is_empty() && !self.local
    }

    /// Whether other tenants may have chats in the accounts that `tenant` uses.
    pub(crate) fn share_accounts_with(&self, tenant: &Tenant) -> bool {
        match self.keys.len() {
            // Who brings a key that nobody asked for is a tenant among others.
            0 => self.local_tenant() != Some(*tenant),
            keys => keys > 1,
        }
    }
}

impl Client {
    /// Who sent the request, for the edges.
    pub(crate) fn tenant_of(parts: &Parts) -> Option<Tenant> {
        parts.extensions.get::<Self>()?.tenant
    }
}

impl Client {
    /// In which account it is entered what it uses.
    pub(crate) fn account(self) -> KeyId {
        match self.who {
            Who::Key(at) => KeyId::listed(at),
            Who::Filed(id) => id,
            Who::Presented | Who::Local | Who::Nobody => KeyId::others(),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Key(at) => write!(f, "key {at}"),
            Who::Filed(id) => write!(f, "key {id}"),
            Who::Presented => f.write_str("a key of its own"),
            Who::Local => f.write_str("local"),
            Who::Nobody => f.write_str("unknown"),
        }
    }
}

fn tenant_of(kind: &str, id: &[u8]) -> Tenant {
    let digest =
        Sha256::new().chain_update("tower-qwen proxy ").chain_update(kind).chain_update(b"\0");
    Tenant::from_digest(digest.chain_update(id).finalize().into())
}

/// Has a body of plain text read as the JSON that it must be: `fetch` of JavaScript calls every text
/// so, unless it is told. A page of somebody else can send plain text to this machine and needs
/// nobody's leave for that, so this is for clients with a key, which such a page has not got, and for
/// what no page has sent.
fn take_text_for_json(headers: &mut HeaderMap) {
    let is_text = headers.get(CONTENT_TYPE).is_some_and(|value| {
        let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/plain")
    });
    if is_text {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
}

/// Whether a browser says that a page has sent this. Every POST of a page has an origin, be it `null`
/// ([Fetch, 3.2](https://fetch.spec.whatwg.org/#origin-header)); the others are for old browsers.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    [ORIGIN, REFERER, COOKIE, SEC_FETCH_SITE].iter().any(|name| headers.contains_key(name))
}

/// Lets through who may come in, and notes who it is.
pub(crate) async fn identify(
    State(clients): State<Clients>,
    mut request: Request,
    next: Next,
) -> Response {
    match clients.identify(request.headers()) {
        Ok(client) => {
            trace::note_client(request.extensions(), client);
            request.extensions_mut().insert(client);
            if let Some(key) = clients.key_of(client) {
                request.extensions_mut().insert(Arc::clone(key));
            }
            let has_key = matches!(client.who, Who::Key(_) | Who::Filed(_));
            if has_key || !is_of_a_page(request.headers()) {
                take_text_for_json(request.headers_mut());
            }
            next.run(request).await
        }
        Err(error) => error_response(&error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        parsed.collect()
    }

    fn tenant(clients: &Clients, given: &[(&'static str, &str)]) -> Option<Tenant> {
        clients.identify(&headers(given)).expect("let in").tenant
    }

    /// The four cases.
    #[test]
    fn the_tenant_is_who_was_let_in() {
        let keys = |list| ApiKeys::parse(list).expect("a list");
        let (ann, bob) = (("x-api-key", "ann-1"), ("x-api-key", "bob-1"));
        let sdk = ("authorization", "Bearer placeholder");

        for local in [true, false] {
            let clients = Clients::new(keys("ann-1,bob-1"), local);
            let [of_ann, of_bob] = [ann, bob].map(|key| tenant(&clients, &[sdk, key]));
            assert!(of_ann.is_some());
            assert_ne!(of_ann, of_bob, "what an SDK sends of itself does not make them one");
            assert_eq!(of_ann, tenant(&clients, &[ann]), "nor does it matter");
            assert_eq!(of_ann, tenant(&clients, &[("authorization", "Bearer ann-1")]));
            assert_eq!(
                of_ann,
                tenant(&clients, &[("authorization", "Bearer ann-1"), ("api-key", "x")])
            );
            assert!(clients.identify(&headers(&[sdk])).expect_err("no key").is_auth());
        }

        let local = Clients::new(ApiKeys::default(), true);
        let open = Clients::new(ApiKeys::default(), false);
        for clients in [&local, &open] {
            assert!(tenant(clients, &[ann]).is_some());
            assert_ne!(
                tenant(clients, &[ann]),
                tenant(clients, &[bob]),
                "presented, not asked for"
            );
            assert_ne!(tenant(clients, &[ann]), tenant(clients, &[]));
        }
        assert!(tenant(&local, &[]).is_some());
        assert_eq!(tenant(&local, &[]), local.local_tenant());
        assert_eq!(tenant(&open, &[]), None, "nobody knows");
    }

    #[test]
    fn accounts_are_shared_where_there_is_somebody_else() {
        let keys = |list| ApiKeys::parse(list).expect("a list");
        let share = |clients: &Clients, given: &[(&'static str, &str)]| {
            clients.share_accounts_with(&tenant(clients, given).expect("somebody"))
        };
        let ann = [("x-api-key", "ann-1")];
        assert!(!share(&Clients::new(keys("ann-1"), true), &ann));
        assert!(share(&Clients::new(keys("ann-1,bob-1"), true), &ann));
        assert!(!share(&Clients::new(ApiKeys::default(), true), &[]));
        assert!(share(&Clients::new(ApiKeys::default(), true), &ann));
        assert!(share(&Clients::new(ApiKeys::default(), false), &ann));
    }
}
