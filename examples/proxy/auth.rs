//! Which clients are served.

use std::{fmt, time::Duration};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Version,
        header::{AUTHORIZATION, CONNECTION},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::time::timeout;
use tower_qwen::{Error, ErrorKind, openai::error_response};

/// The keys of which a client must present one; with none, any client is served.
///
/// Only digests are kept. They are of one length, so comparing them takes the same time whatever
/// is presented, and tells nothing of a key, its length included.
#[derive(Clone, Default)]
pub(crate) struct ApiKeys(Vec<[u8; 32]>);

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
        if keys.is_empty() { Err("it holds no key") } else { Ok(Self(keys)) }
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether any client is served.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` is one of them. Every key is looked at, in constant time.
    fn contain(&self, key: &[u8]) -> Choice {
        let presented: [u8; 32] = Sha256::digest(key).into();
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&presented))
    }

    /// Whether `key` is one of them.
    pub(crate) fn have(&self, key: &str) -> bool {
        self.contain(key.as_bytes()).into()
    }

    /// # Errors
    ///
    /// An error of class [`ErrorKind::Auth`] unless `headers` present one of the keys.
    fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
        });
        let named = headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii());
        let mut presented = [bearer, named].into_iter().flatten().peekable();
        if presented.peek().is_none() {
            return Err(Error::new(
                ErrorKind::Auth,
                "no API key was presented; send it as `Authorization: Bearer KEY` or `X-API-Key`",
            ));
        }
        if presented.fold(Choice::from(0), |found, key| found | self.contain(key)).into() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Auth, "the API key is not one of this proxy's"))
        }
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

/// Lets through who presents a key.
pub(crate) async fn require_key(
    State(keys): State<ApiKeys>,
    request: Request,
    next: Next,
) -> Response {
    match keys.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse_unread(request, &error).await,
    }
}

/// How much of an unwanted body is read.
const DRAINED: usize = 256 * 1024;

/// Refuses `request` before its body was read.
///
/// The server closes a connection on which a body was left unread, and a client that reuses it
/// for its next request finds it closed. So a body of the usual size is read; over a larger or a
/// slower one the client is told that the connection ends.
pub(crate) async fn refuse_unread(request: Request, error: &Error) -> Response {
    let version = request.version();
    let drained = drain(request).await;
    let mut response = error_response(error).into_response();
    if !drained && version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body that nobody wants; `false` where it was too large or too slow.
pub(crate) async fn drain(request: Request) -> bool {
    let body = Limited::new(request.into_body(), DRAINED).collect();
    timeout(Duration::from_secs(1), body).await.is_ok_and(|read| read.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &str, headers: &[(&'static str, &str)]) -> Result<(), Error> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        ApiKeys::parse(keys).expect("a valid list").check(&headers)
    }

    #[test]
    fn either_header_will_do() {
        for headers in [
            &[("authorization", "Bearer two")][..],
            &[("authorization", "bearer  two ")],
            &[("x-api-key", "two")],
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
            &[("authorization", "two")],
            &[("authorization", "Basic two")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer tw")],
            &[("authorization", "Bearer two,one")],
            &[("x-api-key", "")],
            &[("cookie", "two")],
        ] {
            assert!(check("one,two", headers).expect_err("no key").is_auth(), "{headers:?}");
        }
    }

    #[test]
    fn a_list_without_a_key_is_a_mistake() {
        assert!(ApiKeys::parse(" , ,").is_err());
        assert!(ApiKeys::parse("two words").is_err());
    }

    #[test]
    fn without_keys_everyone_is_served() {
        ApiKeys::default().check(&HeaderMap::new()).expect("open");
    }
}
