//! What identifies an account to an upstream, on its way to the HTTP client.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers of a credential: what an HTTP request must carry to be let in as one account.
///
/// A layer that knows credentials puts it into
/// [`ChatRequest::credential`](crate::chat::ChatRequest::credential), and the adapter puts it on
/// every HTTP request that it makes. So nobody has to tell from a header whose it is. A
/// `Credential` of the module `auth` has one ready, and
/// [`new`](CredentialHeaders::new) makes one of any headers.
///
/// Immutable and cheap to clone. Every value is marked sensitive, and `Debug` shows the names of
/// the headers only.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header};
/// use tower_qwen::CredentialHeaders;
///
/// let key = HeaderValue::from_static("Bearer sk-not-a-real-key");
/// let credential = CredentialHeaders::new([(header::AUTHORIZATION, key)]);
/// let mut headers = HeaderMap::new();
/// credential.apply(&mut headers);
/// assert_eq!(headers["authorization"], "Bearer sk-not-a-real-key");
/// assert_eq!(format!("{credential:?}"), r#"CredentialHeaders(["authorization"])"#);
/// ```
#[derive(Clone)]
pub struct CredentialHeaders(Arc<[(HeaderName, HeaderValue)]>);

impl CredentialHeaders {
    /// A credential of these headers. Of several with one name the last counts.
    ///
    /// Give it what identifies an account and its browser, such as `authorization`, `cookie`,
    /// `bx-umidtoken` or a `user-agent`. What frames or routes a request (`content-length`,
    /// `host`) does not belong here: it would take the place of what the adapter writes.
    pub fn new(headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        let headers = headers.into_iter().map(|(name, mut value)| {
            value.set_sensitive(true);
            (name, value)
        });
        Self(headers.collect())
    }

    /// Puts the credential on `headers`, in place of what stands there under the same names.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &*self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// The names of the headers.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Whether both put the same on a request.
    #[cfg(feature = "auth")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl fmt::Debug for CredentialHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Names<'a>(&'a CredentialHeaders);
        impl fmt::Debug for Names<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.names()).finish()
            }
        }
        f.debug_tuple("CredentialHeaders").field(&Names(self)).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn it_takes_the_place_of_what_is_there_and_of_nothing_else() {
        let credential = CredentialHeaders::new([
            (header::AUTHORIZATION, HeaderValue::from_static("secret-1")),
            (header::COOKIE, HeaderValue::from_static("first")),
            (header::COOKIE, HeaderValue::from_static("secret-2")),
        ]);
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        credential.apply(&mut headers);
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["authorization"], "secret-1");
        assert_eq!(headers["cookie"], "secret-2");
        assert!(headers["authorization"].is_sensitive() && headers["cookie"].is_sensitive());
        for shown in [format!("{credential:?}"), format!("{credential:#?}")] {
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
