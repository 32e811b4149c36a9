//! What the edges make of the head of a request: whether it can be served, and whose it is.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header, request::Parts};
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, chat::Tenant};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// What a client proves itself with. It is for this edge; what upstream gets is the business of
/// the layers below. So is every `bx-*`, which belongs to a session of the web page: beside another
/// session's cookies it would only give that one away.
const CREDENTIALS: [HeaderName; 5] =
    [header::AUTHORIZATION, X_API_KEY, API_KEY, header::PROXY_AUTHORIZATION, header::COOKIE];

/// Takes off what was for this edge.
pub(crate) fn strip_credentials(headers: &mut HeaderMap) {
    for name in CREDENTIALS {
        headers.remove(name);
    }
    let of_session: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("bx-")).cloned().collect();
    for name in of_session {
        headers.remove(name);
    }
}

/// Checks what the edges check of a request before they read its body.
///
/// It is for the routes around them that take the same requests, such as one that passes them on
/// unread. A body may be called `application/json`, what `curl -d` calls it, or nothing. `text/plain`
/// is refused: any page's form can send that to a server on the reader's own machine, without asking
/// first whether it may ([Fetch, 2.2.2](https://fetch.spec.whatwg.org/#cors-safelisted-request-header)).
///
/// # Errors
///
/// [`MethodNotAllowed`](ErrorKind::MethodNotAllowed) for another method than POST;
/// [`UnsupportedMediaType`](ErrorKind::UnsupportedMediaType) for a coding that nobody has decoded,
/// and for another content type.
///
/// ```
/// use tower_qwen::{ErrorKind, edge};
///
/// let request = http::Request::post("/v1/completions").header("content-type", "text/plain");
/// let (head, ()) = request.body(())?.into_parts();
/// let error = edge::acceptable(&head).expect_err("a page may have sent it");
/// assert_eq!(error.kind(), ErrorKind::UnsupportedMediaType);
/// # Ok::<_, http::Error>(())
/// ```
pub fn acceptable(parts: &Parts) -> Result<(), Error> {
    acceptable_as(parts, false)
}

/// The same, where a body may be a form with files as well (`multipart/form-data`).
pub(crate) fn acceptable_as(parts: &Parts, form: bool) -> Result<(), Error> {
    if parts.method != Method::POST {
        return Err(Error::new(
            ErrorKind::MethodNotAllowed,
            format!("{} is not served here; use POST", parts.method),
        ));
    }
    if let Some(coding) = coding(&parts.headers) {
        return Err(Error::new(
            ErrorKind::UnsupportedMediaType,
            format!("the content coding `{coding}` is not read here; send the body as it is"),
        ));
    }
    let media_type = parts.headers.get(header::CONTENT_TYPE).map(|value| {
        let value = value.to_str().unwrap_or("(unreadable)");
        value.split(';').next().unwrap_or_default().trim()
    });
    match media_type {
        // Hand-written clients forget it; what else would it be.
        None => Ok(()),
        Some(json) if json.eq_ignore_ascii_case("application/json") => Ok(()),
        // The default of `curl -d`; the body will tell.
        Some(form) if form.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Ok(()),
        Some(files) if form && files.eq_ignore_ascii_case("multipart/form-data") => Ok(()),
        Some(other) => Err(Error::new(
            ErrorKind::UnsupportedMediaType,
            format!("the content type `{other}` is not read here; send application/json"),
        )),
    }
}

/// The coding of a body that nobody has decoded on the way here, as tower-http's
/// `RequestDecompression` does.
fn coding(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = codings.map(|coding| String::from_utf8_lossy(coding.as_bytes()));
    codings.find(|coding| !["", "identity"].contains(&coding.trim().to_ascii_lowercase().as_str()))
}

/// Says whose request has these headers: the digest of the key, wherever the client put it
/// (`authorization`, `x-api-key`, `api-key`). `None` where there is no key.
///
/// The edges do this for their own requests, unless their layers' `tenant` says otherwise. The
/// function is for the routes around them that must mean the same tenant.
#[must_use]
pub fn tenant(headers: &HeaderMap) -> Option<Tenant> {
    let key = headers
        .get(header::AUTHORIZATION)
        .map(|value| {
            let value = value.as_bytes();
            match value.split_first_chunk::<7>() {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key,
                _ => value,
            }
        })
        .or_else(|| headers.get(X_API_KEY).map(|value| value.as_bytes()))
        .or_else(|| headers.get(API_KEY).map(|value| value.as_bytes()))
        .map(<[u8]>::trim_ascii)
        .filter(|key| !key.is_empty());
    key.map(|key| Tenant::from_digest(Sha256::digest(key).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant_of(name: &'static str, value: &'static str) -> Option<Tenant> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header value"));
        tenant(&headers)
    }

    #[test]
    fn a_key_is_the_same_tenant_wherever_it_stands() {
        let bearer = tenant_of("authorization", "Bearer sk-demo");
        assert_eq!(bearer, tenant_of("authorization", "bearer  sk-demo"));
        assert_eq!(bearer, tenant_of("x-api-key", "sk-demo"));
        assert_ne!(bearer, tenant_of("x-api-key", "sk-other"));
        assert!(bearer.is_some());
    }

    #[test]
    fn no_key_is_no_tenant() {
        assert_eq!(tenant(&HeaderMap::new()), None);
        assert_eq!(tenant_of("authorization", "Bearer "), None);
    }
}
