//! Whether tokens are good, and newer ones for old: `/v1/validate`, `/v1/refresh` and what
//! `/health` says of the accounts.
//!
//! With a token in the request it is about that token. Without one it is about the proxy's own
//! accounts, whose tokens never leave it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, Uri, header::AUTHORIZATION},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_qwen::{
    Error, ErrorKind,
    auth::{
        AccountState, Credential, CredentialKind, CredentialPool, RefreshError, RefreshErrorKind,
        TokenClient, Validation,
    },
    edge::{BodyPace, read_body},
    openai::error_response,
};

use super::{
    accounts::unix_seconds,
    advice,
    clients::Clients,
    credentials::{self, Health},
};

/// The longest body that is read; compressed tokens have 16 KiB at most.
const LONGEST_BODY: usize = 64 * 1024;

/// The sign-in side of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    /// The upstream's name.
    pub(crate) upstream: String,
    /// Whether sessions of the web page are for it; otherwise keys are.
    pub(crate) takes_sessions: bool,
    /// Renews and validates.
    pub(crate) client: TokenClient,
    /// What only answers those whom it knows, for credentials that say nothing of themselves.
    pub(crate) models_url: Option<Uri>,
    /// The accounts that the proxy has there.
    pub(crate) pool: Option<CredentialPool>,
    /// Where each is kept, by its name; what was given by itself is in no file.
    pub(crate) files: BTreeMap<String, PathBuf>,
}

#[cfg(test)]
impl Desk {
    /// That of an upstream without accounts.
    pub(crate) fn unmanned() -> Self {
        let emulator = tower_qwen_emulator::Emulator::new();
        let client = super::sign_in::of_emulator(emulator);
        let upstream = "emulator".to_owned();
        Self {
            upstream,
            takes_sessions: true,
            client,
            models_url: None,
            pool: None,
            files: BTreeMap::new(),
        }
    }
}

/// The sign-in side of all upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    desks: Arc<[Desk]>,
    clients: Clients,
}

impl Tokens {
    pub(crate) fn new(desks: Vec<Desk>, clients: Clients) -> Self {
        Self { desks: desks.into(), clients }
    }

    fn pools(&self) -> impl Iterator<Item = &CredentialPool> {
        self.desks.iter().filter_map(|desk| desk.pool.as_ref())
    }

    /// How the accounts do; `None` if there is none.
    pub(crate) fn health(&self) -> Option<Health> {
        self.pools().next()?;
        Some(Health::of(self.pools()))
    }

    /// The accounts of every upstream with their states: for who runs the proxy.
    pub(crate) fn accounts(&self) -> Vec<Value> {
        let of = |desk: &Desk| {
            let accounts = desk.pool.as_ref().map(CredentialPool::accounts).unwrap_or_default();
            let row = |account: AccountState| {
                let is_usable = credentials::is_usable(&account);
                let file = desk.files.get(account.name.as_str()).map(PathBuf::as_path);
                let mut row = json!(account);
                row["advice"] = advice::on_account(&account, file).into();
                row["upstream"] = desk.upstream.as_str().into();
                row["usable"] = is_usable.into();
                row
            };
            accounts.into_iter().map(row).collect::<Vec<_>>()
        };
        self.desks.iter().flat_map(of).collect()
    }

    /// Loads every account and renews what has ended, so that the log tells of a dead login when
    /// the proxy starts and not with the first request.
    pub(crate) fn load_in_background(&self) {
        for pool in self.pools() {
            let pool = pool.clone();
            tokio::spawn(async move { pool.load().await });
        }
    }

    /// Waits until no refresh is in flight, which would be lost with the process.
    pub(crate) async fn settled(&self) {
        for pool in self.pools() {
            pool.settled().await;
        }
    }

    /// Where a token like this would be used.
    fn desk(&self, credential: &Credential) -> Result<&Desk, Error> {
        let session = credential.kind() == CredentialKind::Web;
        self.desks.iter().find(|desk| desk.takes_sessions == session).ok_or_else(|| {
            Error::invalid("token", "no upstream of this proxy takes a token of this kind")
        })
    }

    async fn validate(&self, asked: Asked) -> Result<Value, Error> {
        let Some(token) = asked.token else { return self.validate_own().await };
        let credential = Credential::parse(token.expose_secret()).map_err(|_| unknown())?;
        let desk = self.desk(&credential)?;
        let found = desk.client.validate(&credential, desk.models_url.as_ref()).await;
        let Validation { valid, asked, expires_at, .. } = found.map_err(not_asked)?;
        if !valid {
            return Err(unknown());
        }
        Ok(json!({
            "valid": true,
            "message": if asked { "the upstream takes the token" } else { "the token has not ended" },
            "asked": asked,
            "kind": credential.kind(),
            "expires_at": expires_at.and_then(unix_seconds),
        }))
    }

    async fn validate_own(&self) -> Result<Value, Error> {
        let accounts = self.each(None, async |desk, pool, name| {
            let credential = match pool.credential_of(name).await {
                Ok(credential) => credential,
                Err(error) => return json!({"valid": false, "message": error.message()}),
            };
            let found = desk.client.validate(&credential, desk.models_url.as_ref()).await;
            let expires_at = credential.expires_at().and_then(unix_seconds);
            match found {
                Ok(Validation { valid, asked, .. }) => json!({
                    "valid": valid, "asked": asked, "expires_at": expires_at,
                }),
                Err(error) => json!({
                    "valid": null, "message": error.to_string(), "expires_at": expires_at,
                }),
            }
        });
        let accounts = accounts.await?;
        let count =
            |valid: Value| accounts.iter().filter(|account| account["valid"] == valid).count();
        let (good, all) = (count(true.into()), accounts.len());
        Ok(json!({
            "valid": good > 0,
            "message": format!("{good} of {all} accounts are let in"),
            "accounts": accounts,
        }))
    }

    async fn refresh(&self, asked: Asked) -> Result<Value, Error> {
        let Some(token) = &asked.token else { return self.refresh_own(asked.account).await };
        let old = Credential::parse(token.expose_secret()).map_err(|_| unknown())?;
        let (client, old) = (self.desk(&old)?.client.clone(), old);
        // A client that hangs up must not cost a token that was bought.
        let task = tokio::spawn(async move { (client.refresh(&old).await, old) });
        let (renewed, old) = task.await.map_err(|error| {
            Error::new(ErrorKind::Internal, "the refresh ended without a result").with_source(error)
        })?;
        let (new, refreshed) = match renewed {
            Ok(new) => (new, true),
            Err(error) if error.kind() == RefreshErrorKind::Rejected => return Err(unknown()),
            // Where nothing renews it, its own word is all that there is to tell.
            Err(error) => match old.expires_at() {
                Some(end) if end <= SystemTime::now() => return Err(unknown()),
                None if error.kind() != RefreshErrorKind::NoRefreshToken => {
                    return Err(not_asked(error));
                }
                _ => (old, false),
            },
        };
        let mut answer = json!({
            "token": new.access_token().expose(),
            "expires_at": new.expires_at().and_then(unix_seconds),
            "refreshed": refreshed,
        });
        // It may have been good for this one refresh: the next one is for whoever has it.
        if let Some(token) = new.refresh_token().filter(|_| refreshed) {
            answer["refresh_token"] = token.expose().into();
        }
        Ok(answer)
    }

    async fn refresh_own(&self, only: Option<String>) -> Result<Value, Error> {
        let accounts = self.each(only.as_deref(), async |_, pool, name| {
            let renewed = pool.refresh(name).await;
            let credential = match &renewed {
                Ok(credential) => Ok(credential.clone()),
                Err(_) => pool.credential_of(name).await,
            };
            let expires_at = credential.ok().and_then(|credential| credential.expires_at());
            let mut account = json!({
                "refreshed": renewed.is_ok(), "expires_at": expires_at.and_then(unix_seconds),
            });
            if let Err(error) = renewed {
                account["message"] = error.message().into();
            }
            account
        });
        let accounts = accounts.await?;
        let ends = accounts.iter().filter_map(|account| account["expires_at"].as_u64());
        Ok(json!({
            "refreshed": accounts.iter().any(|account| account["refreshed"] == true),
            "expires_at": ends.min(),
            "accounts": accounts,
        }))
    }

    /// Does something with each account, or with `only` those of a name, and says whose result
    /// each is and how it does after.
    async fn each(
        &self,
        only: Option<&str>,
        ask: impl AsyncFn(&Desk, &CredentialPool, &str) -> Value,
    ) -> Result<Vec<Value>, Error> {
        // They are the operator's: their names, and when they are renewed, are not for everyone.
        if self.clients.are_strangers() {
            return Err(Error::new(
                ErrorKind::Permission,
                "without API keys the proxy's own accounts are for this machine only; send a \
                 token of your own",
            ));
        }
        let chosen: Vec<_> = self
            .desks
            .iter()
            .filter_map(|desk| Some((desk, desk.pool.as_ref()?)))
            .flat_map(|(desk, pool)| {
                let names = pool.accounts().into_iter().map(|account| account.name);
                names.map(move |name| (desk, pool, name))
            })
            .filter(|(.., name)| only.is_none_or(|only| name == only))
            .collect();
        if let (Some(only), true) = (only, chosen.is_empty()) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no account `{only}` here"),
            )
            .with_param("account"));
        }
        if chosen.is_empty() {
            return Err(Error::invalid(
                "token",
                "no token came with the request, and the proxy has no account of its own",
            ));
        }
        let asked = chosen.iter().map(async |(desk, pool, name)| {
            let mut result = json!({"upstream": desk.upstream, "name": name});
            if let Value::Object(found) = ask(desk, pool, name.as_str()).await {
                result.as_object_mut().expect("made as one").extend(found);
            }
            let state = pool.accounts().into_iter().find(|account| account.name == *name);
            if let Some(state) = state {
                result["kind"] = json!(state.kind);
                result["status"] = state.status.as_str().into();
                result["usable"] = credentials::is_usable(&state).into();
            }
            result
        });
        Ok(join_all(asked).await)
    }
}

/// What a request is about.
#[derive(Debug, Default)]
struct Asked {
    token: Option<SecretString>,
    account: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct TokenQuery {
    token: Option<String>,
}

#[derive(Default, Deserialize)]
struct TokenBody {
    token: Option<String>,
    account: Option<String>,
}

/// The token of the body, else of the query, else a bearer that can only be one. A bearer
/// that is one of the proxy's keys has let the client in, and is no more than that.
async fn asked(clients: &Clients, query: Option<String>, request: Request) -> Result<Asked, Error> {
    let bearer = bearer(request.headers()).filter(|token| !clients.have_key(token));
    let body = body(request).await?;
    let body: TokenBody = match body.trim_ascii() {
        [] => TokenBody::default(),
        // serde's message would repeat a value, which may be a token.
        body => serde_json::from_slice(body).map_err(|_| {
            Error::new(
                ErrorKind::InvalidRequest,
                "the body is not a JSON object whose `token` and `account` are strings",
            )
        })?,
    };
    let given = |token: Option<String>| token.filter(|token| !token.trim().is_empty());
    let token = given(body.token).or_else(|| given(query)).or(bearer);
    Ok(Asked { token: token.map(SecretString::from), account: given(body.account) })
}

async fn body(request: Request) -> Result<Bytes, Error> {
    let read = read_body(request.into_body(), LONGEST_BODY, Some(BodyPace::new())).await;
    read.map_err(|error| match error.kind() {
        ErrorKind::TooLarge => Error::new(ErrorKind::TooLarge, "the body is longer than any token"),
        _ => error,
    })
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer")
        && (token.starts_with("eyJ") || token.starts_with("H4sI")))
    .then(|| token.to_owned())
}

/// One answer for all that is wrong with a token: who tries them out learns nothing.
fn unknown() -> Error {
    Error::new(ErrorKind::Auth, "the token is not valid")
}

fn not_asked(error: RefreshError) -> Error {
    Error::new(ErrorKind::Upstream, "the upstream could not be asked about the token")
        .with_source(error)
}

/// `GET` and `POST /v1/validate`.
pub(crate) async fn validate(
    State(tokens): State<Tokens>,
    query: Result<Query<TokenQuery>, QueryRejection>,
    request: Request,
) -> Response {
    let found = async {
        let Query(query) = query
            .map_err(|_| Error::new(ErrorKind::InvalidRequest, "the query is not `token=…`"))?;
        tokens.validate(asked(&tokens.clients, query.token, request).await?).await
    };
    answer(found.await)
}

/// `POST /v1/refresh`. Not `GET`: a picture on anyone's page could ask for that.
pub(crate) async fn refresh(State(tokens): State<Tokens>, request: Request) -> Response {
    let found = async { tokens.refresh(asked(&tokens.clients, None, request).await?).await };
    answer(found.await)
}

fn answer(found: Result<Value, Error>) -> Response {
    match found {
        Ok(found) => Json(found).into_response(),
        Err(error) => error_response(&error).into_response(),
    }
}

#[cfg(test)]
mod tests;
