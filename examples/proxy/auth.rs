//! Which clients are served.

use std::{fmt, sync::Arc};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower_qwen::{Error, ErrorKind};

use super::keys::{Key, Keys};

/// The keys of which a client must present one; with none, any client is served.
///
/// Only digests are kept. They are of one length, so comparing them takes the same time whatever
/// is presented, and tells nothing of a key, its length included.
#[derive(Clone, Default)]
pub(crate) struct ApiKeys {
    /// Those of a list, which may do what they like.
    listed: Vec<[u8; 32]>,
    /// Those of a file, if there is one.
    filed: Option<Keys>,
}

/// A key that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// One of the list, by its place and its digest.
    Listed(usize, &'a [u8; 32]),
    /// One of the file.
    Filed(&'a Arc<Key>),
}

impl ApiKeys {
    /// Reads a list separated by commas; blanks around a key are not part of it.
    pub(crate) fn parse(list: &str) -> Result<Self, &'static str> {
        let keys = list.split(',').map(str::trim).filter(|key| !key.is_empty());
        let keys = keys
            .map(|key| {
                let presentable = key.bytes().all(|b| b.is_ascii_graphic());
                presentable.then(|| Sha256::digest(key).into())
            })
            .collect::<Option<Vec<_>>>()
            .ok_or("a key must be one word of visible ASCII characters")?;
        // A list of commas is a slip; it must not open the proxy to everyone.
        if keys.is_empty() {
            Err("it holds no key")
        } else {
            Ok(Self { listed: keys, filed: None })
        }
    }

    /// These and those of a file.
    pub(crate) fn and(self, filed: Option<Keys>) -> Self {
        Self { filed, ..self }
    }

    /// Those of the file, if there is one.
    pub(crate) const fn filed(&self) -> Option<&Keys> {
        self.filed.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.listed.len() + self.filed.iter().flat_map(Keys::iter).count()
    }

    /// Whether any client is served. A file without a key lets nobody in.
    pub(crate) const fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.filed.is_none()
    }

    /// The one of them that `key` is. Every key is looked at, in constant time.
    fn find(&self, key: &[u8]) -> Option<Found<'_>> {
        let presented: [u8; 32] = Sha256::digest(key).into();
        let is = |digest: &[u8; 32]| bool::from(digest.ct_eq(&presented));
        let listed = self.listed.iter().enumerate().fold(None, |found, (at, digest)| {
            if is(digest) { Some(Found::Listed(at, digest)) } else { found }
        });
        self.filed.iter().flat_map(Keys::iter).fold(listed, |found, key| {
            if is(key.digest()) { Some(Found::Filed(key)) } else { found }
        })
    }

    /// Whether `key` is one of them.
    pub(crate) fn have(&self, key: &str) -> bool {
        self.find(key.as_bytes()).is_some()
    }

    /// The key that lets these headers in; `None` where none is asked for. Of several that are
    /// presented the bearer's counts before the others.
    ///
    /// # Errors
    ///
    /// An error of class [`ErrorKind::Auth`] unless `headers` present one of the keys that is good.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Option<Found<'_>>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let named = |name: &str| headers.get(name).map(|value| value.as_bytes().trim_ascii());
        let presented = [bearer, named("x-api-key"), named("api-key")];
        let mut presented = presented.into_iter().flatten().peekable();
        if presented.peek().is_none() {
            return Err(Error::new(
                ErrorKind::Auth,
                "no API key was presented; send it as `Authorization: Bearer KEY`, \
                 `X-API-Key` or `api-key`",
            ));
        }
        // Each is looked at, whether or not one before it was right.
        let found = presented.fold(None, |found, key| {
            let key = self.find(key);
            found.or(key)
        });
        if let Some(Found::Filed(key)) = found {
            key.check(Timestamp::now())?;
        }
        found
            .map(Some)
            .ok_or_else(|| Error::new(ErrorKind::Auth, "the API key is not one of this proxy's"))
    }
}

/// The key in `Authorization`: behind `Bearer`, or by itself, as many a hand-written client has it. A
/// word that names a scheme is no key.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEMES: [&[u8]; 3] = [b"bearer", b"basic", b"digest"];
    let value = value.trim_ascii();
    match value.iter().position(u8::is_ascii_whitespace) {
        Some(end) => {
            value[..end].eq_ignore_ascii_case(b"bearer").then(|| value[end..].trim_ascii())
        }
        None if SCHEMES.iter().any(|scheme| value.eq_ignore_ascii_case(scheme)) => None,
        None => Some(value),
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &str, headers: &[(&'static str, &str)]) -> Result<(), Error> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        ApiKeys::parse(keys).expect("a valid list").check(&headers).map(drop)
    }

    #[test]
    fn either_header_will_do() {
        for headers in [
            &[("authorization", "Bearer two")][..],
            &[("authorization", "bearer  two ")],
            // Without a word for what it is.
            &[("authorization", "two")],
            &[("authorization", " two ")],
            &[("authorization", "sdk"), ("x-api-key", "two")],
            &[("x-api-key", "two")],
            &[("api-key", "two")],
            // What an SDK sends of itself does not spoil the key beside it.
            &[("authorization", "Bearer sdk"), ("x-api-key", "two")],
        ] {
            check("one, two", headers).expect("a known key");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for headers in [
            &[][..],
            &[("authorization", "tw")],
            &[("authorization", "two two")],
            &[("authorization", "two,one")],
            &[("authorization", "Basic two")],
            &[("authorization", "Token two")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer")],
            &[("authorization", "")],
            &[("authorization", "Bearer tw")],
            &[("authorization", "Bearer two,one")],
            &[("x-api-key", "")],
            &[("cookie", "two")],
        ] {
            assert!(check("one,two", headers).expect_err("no key").is_auth(), "{headers:?}");
        }
    }

    #[test]
    fn who_presents_none_is_told_how() {
        for headers in [&[][..], &[("authorization", "Bearer")], &[("authorization", "Basic two")]]
        {
            let told = check("one,two", headers).expect_err("no key").to_string();
            assert!(told.contains("Authorization: Bearer KEY"), "{headers:?}: {told}");
        }
    }

    #[test]
    fn a_list_without_a_key_is_a_mistake() {
        assert!(ApiKeys::parse(" , ,").is_err());
        assert!(ApiKeys::parse("two words").is_err());
    }

    #[test]
    fn without_keys_everyone_is_served() {
        assert!(ApiKeys::default().check(&HeaderMap::new()).expect("open").is_none());
    }
}
