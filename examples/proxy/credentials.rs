//! Which accounts the proxy asks an upstream as: the files and tokens that it is told of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretSlice};
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
    /// The files that are left out, and why.
    left_out: Vec<(PathBuf, String)>,
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
    /// What stands among its headers and is not sent.
    headers_left_out: Vec<String>,
}

/// The login of the qwen-code CLI on this machine, if somebody has signed in there.
pub(crate) fn discover() -> Option<PathBuf> {
    OAuthFile::default_path().ok().filter(|path| path.is_file())
}

impl Accounts {
    /// Reads the credential files at `paths`, each a file or a directory of them.
    ///
    /// Those that cannot be used are left out, as long as there is one that can; so are, of a
    /// directory, those that would be an account that there is already.
    ///
    /// # Errors
    ///
    /// What is wrong with the first where none can be used, or with two that were named and are one
    /// account; and what to do about it, in one line without a secret.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let mut accounts = Self::default();
        let mut seen = BTreeSet::new();
        let mut first = None;
        for path in paths {
            let found = match OAuthFile::discover(path) {
                Ok(found) => found,
                Err(error) => {
                    let unusable = Unusable::new(path, format!("it cannot be read: {error}"), "");
                    first.get_or_insert_with(|| unusable.to_string());
                    accounts.left_out.push((path.clone(), unusable.reason));
                    continue;
                }
            };
            if found.is_empty() {
                let file = path.join("oauth_creds.json");
                let advice = format!("make one with `proxy login --file {}`", file.display());
                let unusable = Unusable::new(path, "no file in it ends in .json", &advice);
                first.get_or_insert_with(|| unusable.to_string());
                accounts.left_out.push((path.clone(), unusable.reason));
            }
            for file in found {
                // The same file by another name is the same account.
                let real = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
                if !seen.insert(real) {
                    continue;
                }
                let is_named = file == *path;
                let read =
                    LoginFile::read(file).and_then(|file| match file.twin(&accounts.files) {
                        Some(twin) if !is_named => {
                            let same = if twin.name == file.name { "name" } else { "login" };
                            let reason =
                                format!("it has the same {same} as {}", twin.path.display());
                            Err(Unusable::new(&file.path, reason, ""))
                        }
                        _ => Ok(file),
                    });
                match read {
                    Ok(file) => accounts.files.push(file),
                    Err(unusable) => {
                        first.get_or_insert_with(|| unusable.to_string());
                        accounts.left_out.push((unusable.path, unusable.reason));
                    }
                }
            }
        }
        if let (Some(first), true) = (first, accounts.files.is_empty()) {
            let others = accounts.left_out.len() - 1;
            return Err(match others {
                0 => first,
                _ => format!("{first} (and {others} more that cannot be used)"),
            });
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

    fn check_for_twins(&self) -> Result<(), String> {
        for (at, file) in self.files.iter().enumerate() {
            if let Some(other) = file.twin(&self.files[..at]) {
                let (one, two) = (other.path.display(), file.path.display());
                return Err(if other.name == file.name {
                    format!("{one} and {two} are both named `{}`; rename one of them", file.name)
                } else {
                    format!(
                        "{one} and {two} hold the same login, whose refresh token is good for \
                         one of them; leave one out"
                    )
                });
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
        let headers = self.files.iter().filter_map(LoginFile::headers_left_out);
        exposed.chain(headers).chain(ended).chain(self.left_out()).collect()
    }

    /// Which files are left out, in one line.
    fn left_out(&self) -> Option<String> {
        let files = self.left_out.iter();
        let files: Vec<_> =
            files.map(|(path, reason)| format!("{} ({reason})", path.display())).collect();
        (!files.is_empty()).then(|| format!("no account is made of {}", files.join(", ")))
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

/// A file that is no account.
#[derive(Debug)]
struct Unusable {
    path: PathBuf,
    reason: String,
    /// What to do about it; it may be empty.
    advice: String,
}

impl Unusable {
    fn new(path: &Path, reason: impl Into<String>, advice: &str) -> Self {
        Self { path: path.to_owned(), reason: reason.into(), advice: advice.to_owned() }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl LoginFile {
    /// The account's name and where it is kept.
    pub(crate) fn place(&self) -> (String, PathBuf) {
        (self.name.clone(), self.path.clone())
    }

    /// The one of `others` beside which this cannot be an account: two accounts need two names and
    /// two logins, for a refresh token is good for one of them.
    fn twin<'a>(&self, others: &'a [Self]) -> Option<&'a Self> {
        let token =
            |file: &Self| file.credential.refresh_token().map(|token| token.expose().to_owned());
        let own = token(self);
        others.iter().find(|other| other.name == self.name || own.is_some() && token(other) == own)
    }

    fn read(path: PathBuf) -> Result<Self, Unusable> {
        let made = format!("make it with `proxy login --file {}`", path.display());
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Unusable::new(&path, "there is no such file", &made),
            _ => Unusable::new(&path, format!("it cannot be read: {error}"), ""),
        };
        let metadata = fs::metadata(&path).map_err(failed)?;
        let no_credential = "it holds no credential";
        files::check(&metadata)
            .map_err(|error| Unusable::new(&path, format!("{no_credential}: {error}"), ""))?;
        if metadata.len() > LONGEST_FILE {
            return Err(Unusable::new(&path, "it is too large to be a credential file", ""));
        }
        let contents = SecretSlice::from(fs::read(&path).map_err(failed)?);
        let stored = StoredCredential::from_bytes(contents.expose_secret()).map_err(|_| {
            let advice =
                format!("{made}, or see docs/credentials.md for what such a file may hold");
            Unusable::new(&path, no_credential, &advice)
        })?;
        let name = OAuthFile::account_name(&path);
        if name.is_empty() {
            let reason = "its name leaves no name for the account";
            return Err(Unusable::new(&path, reason, "rename it"));
        }
        Ok(Self {
            name,
            credential: stored.credential().clone(),
            is_exposed: is_exposed(&metadata),
            headers_left_out: stored.headers_left_out().to_vec(),
            path,
        })
    }

    /// Which of its headers are not sent, in one line.
    fn headers_left_out(&self) -> Option<String> {
        // A name that can be none may be anything, so it is not shown.
        let is_shown = |name: &&String| {
            let name = name.strip_prefix(':').unwrap_or(name);
            (1..=40).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let shown: Vec<&str> =
            self.headers_left_out.iter().filter(is_shown).map(String::as_str).collect();
        let others = self.headers_left_out.len() - shown.len();
        let others = (others > 0).then(|| format!("{others} that can be no headers"));
        let names: Vec<String> = shown.into_iter().map(str::to_owned).chain(others).collect();
        (!names.is_empty()).then(|| {
            format!(
                "of the headers in {} these do not go with a login and are not sent: {}",
                self.path.display(),
                names.join(", ")
            )
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
