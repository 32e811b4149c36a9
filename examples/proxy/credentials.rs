//! Which accounts the proxy asks an upstream as: the files and tokens that it is told of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tower_qwen::auth::{
    AccountState, AccountStatus, Credential, CredentialKind, CredentialPool, CredentialPoolBuilder,
    OAuthFile, PoolError, StaticCredential, StoredCredential, TokenClient,
};

use super::files;

/// The name of the account whose token is given by itself, in no file.
pub(crate) const GIVEN: &str = "given";

/// How long before its end a credential is renewed in the background, at the earliest.
const AHEAD: Duration = Duration::from_secs(600);
/// The longest file that is taken for a credential; the library's own limit.
const LONGEST_FILE: u64 = 1 << 20;

/// The accounts of one upstream, checked. `Debug` shows no secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    files: Vec<LoginFile>,
    given: Option<Credential>,
}

/// A credential file, as it was when the proxy started.
#[derive(Clone, Debug)]
pub(crate) struct LoginFile {
    pub(crate) path: PathBuf,
    /// The account's name.
    pub(crate) name: String,
    pub(crate) credential: Credential,
    /// Whether other users of this machine can read it.
    pub(crate) is_exposed: bool,
}

/// The login of the qwen-code CLI on this machine, if somebody has signed in there.
pub(crate) fn discover() -> Option<PathBuf> {
    OAuthFile::default_path().ok().filter(|path| path.is_file())
}

impl Accounts {
    /// Reads the credential files at `paths`, each a file or a directory of them.
    ///
    /// # Errors
    ///
    /// What is wrong with the first that cannot be used, and what to do about it, in one line
    /// without a secret.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let mut accounts = Self::default();
        let mut seen = BTreeSet::new();
        for path in paths {
            let found = OAuthFile::discover(path)
                .map_err(|error| format!("{}: it cannot be read: {error}", path.display()))?;
            if found.is_empty() {
                return Err(format!(
                    "{}: no file in it ends in .json; make one with `proxy login --file {}`",
                    path.display(),
                    path.join("oauth_creds.json").display()
                ));
            }
            for file in found {
                // The same file by another name is the same account.
                let real = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
                if seen.insert(real) {
                    accounts.files.push(LoginFile::read(file)?);
                }
            }
        }
        accounts.check_for_twins()?;
        Ok(accounts)
    }

    /// The same with a credential that was given by itself.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn with_given(mut self, given: Option<Credential>) -> Result<Self, String> {
        self.given = given;
        self.check_for_twins()?;
        Ok(self)
    }

    /// Two accounts need two names and two logins: a refresh token is good for one of them.
    fn check_for_twins(&self) -> Result<(), String> {
        for (at, file) in self.files.iter().enumerate() {
            for other in &self.files[..at] {
                let (one, two) = (other.path.display(), file.path.display());
                if other.name == file.name {
                    return Err(format!(
                        "{one} and {two} are both named `{}`; rename one of them",
                        file.name
                    ));
                }
                let token = |file: &LoginFile| {
                    file.credential.refresh_token().map(|token| token.expose().to_owned())
                };
                if token(file).is_some_and(|own| token(other) == Some(own)) {
                    return Err(format!(
                        "{one} and {two} hold the same login, whose refresh token is good for \
                         one of them; leave one out"
                    ));
                }
            }
            if file.name == GIVEN && self.given.is_some() {
                return Err(format!(
                    "{}: `{GIVEN}` is the name of the token that is given by itself; rename the \
                     file",
                    file.path.display()
                ));
            }
        }
        Ok(())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.given.is_none()
    }

    /// The files.
    pub(crate) fn files(&self) -> &[LoginFile] {
        &self.files
    }

    /// Whether `test` holds for the kind of any credential.
    pub(crate) fn any(&self, test: impl Fn(CredentialKind) -> bool) -> bool {
        self.all().any(|(_, credential)| test(credential.kind()))
    }

    /// Name and credential of every account, as they were read.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Credential)> {
        self.given
            .iter()
            .map(|credential| (GIVEN, credential))
            .chain(self.files.iter().map(|file| (file.name.as_str(), &file.credential)))
    }

    /// The base URL of the API that the logins are for, such as
    /// `https://portal.qwen.ai/v1`; `None` if none of them says one.
    ///
    /// # Errors
    ///
    /// If they are for several: one upstream has one address.
    pub(crate) fn base_url(&self) -> Result<Option<String>, String> {
        let urls: BTreeSet<String> =
            self.all().filter_map(|(_, credential)| credential.base_url()).collect();
        if urls.len() > 1 {
            let urls: Vec<_> = urls.into_iter().collect();
            return Err(format!(
                "the logins are for several servers ({}); give each its own upstream",
                urls.join(", ")
            ));
        }
        Ok(urls.into_iter().next())
    }

    /// What a person should know about the files, a line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let exposed = self.files.iter().filter(|file| file.is_exposed).map(|file| {
            let path = file.path.display();
            format!("{path} can be read by other users of this machine; chmod 600 {path}")
        });
        let ended = self
            .given
            .as_ref()
            .and_then(Credential::expires_at)
            .filter(|end| *end <= SystemTime::now())
            .map(|_| "the token that was given has ended, and nothing renews it".to_owned());
        exposed.chain(ended).collect()
    }

    /// The pool of these accounts, which renews them through `client`; `None` if there is none.
    ///
    /// A recorder of metrics must be installed before.
    pub(crate) fn pool(&self, client: &TokenClient) -> Option<CredentialPool> {
        self.pool_from(CredentialPool::builder().refresh_ahead(AHEAD), client)
    }

    /// As [`pool`](Self::pool), with the settings of `builder`.
    pub(crate) fn pool_from(
        &self,
        mut builder: CredentialPoolBuilder,
        client: &TokenClient,
    ) -> Option<CredentialPool> {
        if self.is_empty() {
            return None;
        }
        if let Some(given) = &self.given {
            builder = builder.account(GIVEN, StaticCredential::new(given.clone()));
        }
        builder = builder.files(self.files.iter().map(|file| file.path.clone()), client);
        match builder.build() {
            Ok(pool) => Some(pool),
            Err(PoolError::Empty) => None,
            Err(error) => {
                unreachable!("names were checked to differ, and none is preferred: {error}")
            }
        }
    }
}

impl LoginFile {
    fn read(path: PathBuf) -> Result<Self, String> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("{shown}: there is no such file; make it with `proxy login --file {shown}`")
            }
            _ => format!("{shown}: it cannot be read: {error}"),
        };
        let metadata = fs::metadata(&path).map_err(failed)?;
        files::check(&metadata)
            .map_err(|error| format!("{shown}: it holds no credential: {error}"))?;
        if metadata.len() > LONGEST_FILE {
            return Err(format!("{shown}: it is too large to be a credential file"));
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        let stored = StoredCredential::parse(&text).map_err(|_| {
            format!(
                "{shown}: it holds no credential; make one with `proxy login --file {shown}`, or \
                 see docs/credentials.md for what such a file may hold"
            )
        })?;
        let name = OAuthFile::account_name(&path);
        if name.is_empty() {
            return Err(format!("{shown}: its name leaves no name for the account; rename it"));
        }
        Ok(Self {
            name,
            credential: stored.credential().clone(),
            is_exposed: is_exposed(&metadata),
            path,
        })
    }
}

#[cfg(unix)]
fn is_exposed(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_exposed(_: &fs::Metadata) -> bool {
    false
}

/// How the accounts of `pools` do together: for a page that anyone may read, so it has no name.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// How many accounts there are.
    accounts: usize,
    /// How many of them can be used now, or after a refresh that has not failed.
    usable: usize,
    /// How many are in each state.
    states: BTreeMap<&'static str, usize>,
    /// When the first access token ends, in seconds from now. It is renewed before that where it
    /// can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_expiry_in_s: Option<u64>,
}

impl Health {
    pub(crate) fn of<'a>(pools: impl IntoIterator<Item = &'a CredentialPool>) -> Self {
        let mut health =
            Self { accounts: 0, usable: 0, states: BTreeMap::new(), next_expiry_in_s: None };
        for account in pools.into_iter().flat_map(CredentialPool::accounts) {
            health.accounts += 1;
            health.usable += usize::from(is_usable(&account));
            *health.states.entry(account.status.as_str()).or_default() += 1;
            let expiry = account.expires_in.map(|left| left.as_secs());
            health.next_expiry_in_s = match (health.next_expiry_in_s, expiry) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        health
    }

    /// Whether there are accounts and none can be used.
    pub(crate) const fn is_bad(&self) -> bool {
        self.accounts > 0 && self.usable == 0
    }
}

/// Whether a request with the account may succeed, as far as one can tell without sending one.
pub(crate) fn is_usable(account: &AccountState) -> bool {
    match account.status {
        AccountStatus::NotLoaded | AccountStatus::Ready | AccountStatus::RateLimited => true,
        // Nothing renews a token that was given by itself.
        AccountStatus::Expired => account.name.as_str() != GIVEN,
        // Its token is used as long as it lives.
        AccountStatus::RefreshFailing => {
            account.kind.is_some() && account.expires_in.is_none_or(|left| !left.is_zero())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
