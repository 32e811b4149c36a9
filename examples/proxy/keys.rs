//! The keys of a file: whose they are, and what each may do.
//!
//! The file holds a digest of each key and never the key itself, so that who reads it can ask for
//! nothing. The digest is a plain SHA-256: a key is 256 random bits, which nobody finds by trying, so
//! a hash that is slow on purpose would only make each request slower.

mod command;
mod file;
mod id;

use std::{fmt, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use tower_qwen::{Error, ErrorKind};

use super::config::Patterns;

pub(crate) use self::{command::Manage, id::KeyId};

/// The keys of a file, in its order.
#[derive(Clone)]
pub(crate) struct Keys {
    all: Arc<[Arc<Key>]>,
    file: PathBuf,
}

/// A key, of which the digest is known.
pub(crate) struct Key {
    /// What it is called in logs, metrics and the file; it stays when the key itself is replaced.
    pub(crate) id: KeyId,
    /// Whose it is, for people.
    pub(crate) name: String,
    digest: [u8; 32],
    /// Which models it may ask for.
    pub(crate) models: Patterns,
    /// How much it may ask for.
    pub(crate) limits: Limits,
    /// Whether it may see what is of all keys.
    pub(crate) is_admin: bool,
    is_revoked: bool,
    expires: Option<Timestamp>,
}

/// How much a key may ask for; `None` is as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many answers may be under way at once.
    pub(crate) streams: Option<usize>,
    /// How many requests may begin in a minute.
    pub(crate) requests_per_minute: Option<u64>,
    /// How many tokens, of prompts and answers, may be used in a minute.
    pub(crate) tokens_per_minute: Option<u64>,
    /// The same in a day of UTC.
    pub(crate) tokens_per_day: Option<u64>,
    /// The same in a month of UTC.
    pub(crate) tokens_per_month: Option<u64>,
}

impl Limits {
    /// Whether it has a budget of tokens.
    pub(crate) const fn have_budget(&self) -> bool {
        self.tokens_per_day.is_some() || self.tokens_per_month.is_some()
    }
}

impl Keys {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.all.iter()
    }

    /// Where they stand.
    pub(crate) fn file(&self) -> &std::path::Path {
        &self.file
    }
}

impl Key {
    /// Of which bytes the key is.
    pub(crate) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// # Errors
    ///
    /// An error of class [`ErrorKind::Auth`] where it is good no more.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Error> {
        if self.is_revoked {
            let error = Error::new(ErrorKind::Auth, "the API key was revoked; ask for a new one");
            return Err(error.with_code("api_key_revoked"));
        }
        if self.has_expired(now) {
            let error = Error::new(ErrorKind::Auth, "the API key has expired; ask for a new one");
            return Err(error.with_code("api_key_expired"));
        }
        Ok(())
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// No digest.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// No digests.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|key| key.id)).finish()
    }
}

#[cfg(test)]
mod tests;
