use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, header};

use super::{
    Secret,
    token::{self, InvalidToken, JwtClaims},
};
use crate::CredentialHeaders;

/// What a [`Credential`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CredentialKind {
    /// A static key, sent as a bearer token.
    ApiKey,
    /// A session of the chat.qwen.ai web page: bearer token, cookies, device headers.
    Web,
    /// An OAuth login: an access token that ends and a refresh token that replaces it (B).
    OAuth,
}

impl CredentialKind {
    /// The word that credential stores use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "apikey",
            Self::Web => "web",
            Self::OAuth => "oauth",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request must carry to be let in, ready to be put on it.
///
/// Immutable and cheap to clone. `Debug` shows the kind, the expiry and the names of the
/// headers; never a value.
///
/// ```
/// use tower_qwen::auth::{Credential, CredentialKind};
///
/// let key = Credential::api_key("sk-not-a-real-key")?;
/// assert_eq!(key.kind(), CredentialKind::ApiKey);
///
/// let session = Credential::web("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE4OTM0NTYwMDB9.c2ln")?
///     .with_cookies("cna=1; isg=2")?
///     .with_header("bx-umidtoken", "T2gA")?;
/// assert!(session.expires_at().is_some());
///
/// let shown = format!("{key:?} {session:?}");
/// assert!(!shown.contains("sk-") && !shown.contains("T2gA"));
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
#[derive(Clone)]
pub struct Credential {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: CredentialKind,
    /// What follows `Bearer`.
    access_token: Secret,
    refresh_token: Option<Secret>,
    expires_at: Option<SystemTime>,
    resource_url: Option<Arc<str>>,
    /// The whole jar, `token` included.
    cookies: Option<Secret>,
    /// Device and client headers, as given.
    extra: Vec<(HeaderName, HeaderValue)>,
    /// Everything that goes on a request; made of the fields above.
    headers: CredentialHeaders,
}

impl Credential {
    fn new(kind: CredentialKind, access_token: &str) -> Result<Self, InvalidToken> {
        let access_token = access_token.trim();
        if access_token.is_empty() {
            return Err(InvalidToken(()));
        }
        Inner {
            kind,
            access_token: Secret::from(access_token),
            refresh_token: None,
            expires_at: None,
            resource_url: None,
            cookies: None,
            extra: Vec::new(),
            headers: CredentialHeaders::new([]),
        }
        .finish()
    }

    /// A static key or any other opaque bearer token; it does not end.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where it is empty or has characters that no header may have.
    pub fn api_key(key: &str) -> Result<Self, InvalidToken> {
        Self::new(CredentialKind::ApiKey, key)
    }

    /// A session of the web page, by its JWT: sent as bearer token and as cookie `token`, since
    /// either alone is refused somewhere. The expiry is read from the token.
    ///
    /// A token that is no JWT is taken as an opaque one that does not end; use
    /// [`parse`](Credential::parse) for what a person typed.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where it is empty or has characters that no header may have.
    pub fn web(jwt: &str) -> Result<Self, InvalidToken> {
        let mut credential = Self::new(CredentialKind::Web, jwt)?;
        let inner = Arc::make_mut(&mut credential.inner);
        inner.expires_at = JwtClaims::read(jwt.trim()).ok().and_then(|claims| claims.expires_at);
        credential.with_cookie_pairs([("token".to_owned(), jwt.trim().to_owned())])
    }

    /// An OAuth login.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where the access token is empty or has characters that no header may
    /// have.
    pub fn oauth(
        access_token: &str,
        refresh_token: Option<&str>,
        expires_at: Option<SystemTime>,
    ) -> Result<Self, InvalidToken> {
        let login = Self::new(CredentialKind::OAuth, access_token)?.with_expires_at(expires_at);
        Ok(login.with_refresh_token(refresh_token.unwrap_or_default()))
    }

    /// A token as a person or a client writes it, told apart by how it begins: `eyJ` is a
    /// JWT, `H4sI` a compressed token in any of its three layouts, anything else a key.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`], without saying which step failed.
    ///
    /// ```
    /// use tower_qwen::auth::{Credential, CredentialKind};
    ///
    /// let token = "H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=";
    /// assert_eq!(Credential::parse(token)?.kind(), CredentialKind::Web);
    /// assert!(Credential::parse("H4sIAAAA").is_err());
    /// # Ok::<_, tower_qwen::auth::InvalidToken>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.starts_with("H4sI") {
            return Self::from_expanded(token::expand(text)?);
        }
        if text.starts_with("eyJ") {
            JwtClaims::read(text)?;
            return Self::web(text);
        }
        Self::api_key(text)
    }

    pub(super) fn from_expanded(expanded: token::Expanded) -> Result<Self, InvalidToken> {
        Self::web(expanded.jwt.expose())?.with_cookie_pairs(expanded.cookies)
    }

    /// Adds the cookies of a `cookie` header. A `token` cookie in it replaces the one that the
    /// session's JWT gave.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where they cannot stand in a header.
    pub fn with_cookies(self, cookies: &str) -> Result<Self, InvalidToken> {
        self.with_cookie_pairs(token::split_cookies(cookies))
    }

    pub(super) fn with_cookie_pairs(
        mut self,
        cookies: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, InvalidToken> {
        Arc::make_mut(&mut self.inner).set_cookies(cookies);
        self.rebuilt()
    }

    /// Adds a header that goes with the credential, such as `bx-umidtoken`, `bx-ua`, `bx-v` or
    /// `user-agent`, forwarded as it is. It is marked sensitive.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where name or value cannot stand in a header, or where the name is one
    /// that frames, routes or codes a message (`host`, `content-length`, `accept-encoding` and the
    /// like).
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, InvalidToken> {
        let name = HeaderName::try_from(name).map_err(|_| InvalidToken(()))?;
        let framing = [
            header::ACCEPT_ENCODING,
            header::CONTENT_ENCODING,
            header::EXPECT,
            header::TRAILER,
            HeaderName::from_static("keep-alive"),
            HeaderName::from_static("proxy-connection"),
            header::HOST,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
            header::UPGRADE,
            header::TE,
        ];
        if framing.contains(&name) {
            return Err(InvalidToken(()));
        }
        let value = sensitive(value)?;
        let inner = Arc::make_mut(&mut self.inner);
        inner.extra.retain(|(other, _)| *other != name);
        inner.extra.push((name, value));
        self.rebuilt()
    }

    /// Sets or forgets when the credential ends.
    #[must_use]
    pub fn with_expires_at(mut self, expires_at: Option<SystemTime>) -> Self {
        Arc::make_mut(&mut self.inner).expires_at = expires_at;
        self
    }

    /// Sets the host that the credential is for, as the token endpoint names it.
    #[must_use]
    pub fn with_resource_url(mut self, resource_url: &str) -> Self {
        Arc::make_mut(&mut self.inner).resource_url =
            Some(resource_url.trim()).filter(|url| !url.is_empty()).map(Arc::from);
        self
    }

    /// Sets the token that buys the next access token.
    #[must_use]
    pub fn with_refresh_token(mut self, refresh_token: &str) -> Self {
        Arc::make_mut(&mut self.inner).refresh_token =
            Some(refresh_token).filter(|token| !token.is_empty()).map(Secret::from);
        self
    }

    /// The same credential with another access token, ending at `expires_at`. With
    /// `session_cookie` the `token` cookie becomes the new token too.
    pub(super) fn with_access_token(
        mut self,
        access_token: &str,
        expires_at: Option<SystemTime>,
        session_cookie: bool,
    ) -> Result<Self, InvalidToken> {
        if access_token.trim().is_empty() {
            return Err(InvalidToken(()));
        }
        let inner = Arc::make_mut(&mut self.inner);
        inner.access_token = Secret::from(access_token.trim());
        inner.expires_at = expires_at;
        if session_cookie {
            inner.set_cookies([("token".to_owned(), access_token.trim().to_owned())]);
        }
        self.rebuilt()
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        self.inner.kind
    }

    /// What follows `Bearer`.
    #[must_use]
    pub fn access_token(&self) -> &Secret {
        &self.inner.access_token
    }

    /// The token that buys the next access token. It is often good for one use only: nothing
    /// but the credential's provider should spend it.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.inner.refresh_token.as_ref()
    }

    /// The cookies, as one header.
    #[must_use]
    pub fn cookies(&self) -> Option<&Secret> {
        self.inner.cookies.as_ref()
    }

    /// When it ends; `None` where that is not known, and it is used until refused.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.inner.expires_at
    }

    /// The host that it is for, as the token endpoint named it.
    #[must_use]
    pub fn resource_url(&self) -> Option<&str> {
        self.inner.resource_url.as_deref()
    }

    /// The base URL of the API that it is for: scheme added, `/v1` at the end. For OAuth
    /// without a `resource_url` that is the portal, since portal tokens are refused elsewhere;
    /// `None` for the other kinds.
    ///
    /// ```
    /// use tower_qwen::auth::Credential;
    ///
    /// let credential = Credential::oauth("at", None, None)?;
    /// assert_eq!(credential.base_url().as_deref(), Some("https://portal.qwen.ai/v1"));
    /// let credential = credential.with_resource_url("example.org/api/");
    /// assert_eq!(credential.base_url().as_deref(), Some("https://example.org/api/v1"));
    /// # Ok::<_, tower_qwen::auth::InvalidToken>(())
    /// ```
    #[must_use]
    pub fn base_url(&self) -> Option<String> {
        let url = match (self.resource_url(), self.kind()) {
            (Some(url), _) => url,
            (None, CredentialKind::OAuth) => "portal.qwen.ai",
            (None, _) => return None,
        };
        let scheme = if url.contains("://") { "" } else { "https://" };
        let url = url.trim_end_matches('/');
        let version = if url.ends_with("/v1") { "" } else { "/v1" };
        Some(format!("{scheme}{url}{version}"))
    }

    /// The headers of a request that is sent with it.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> &CredentialHeaders {
        &self.inner.headers
    }

    /// Whether it ends within `margin` from `now`.
    pub(super) fn ends_within(&self, margin: Duration, now: SystemTime) -> bool {
        self.inner.expires_at.is_some_and(|end| now.checked_add(margin).is_none_or(|at| at >= end))
    }

    /// Whether both would be seen as the same by an upstream.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
            || (self.inner.headers.is_same(&other.inner.headers)
                && self.refresh_token().map(Secret::expose)
                    == other.refresh_token().map(Secret::expose))
    }

    /// Whether it has this refresh token.
    pub(super) fn has_refresh_token(&self, token: &Secret) -> bool {
        self.refresh_token().is_some_and(|own| own.expose() == token.expose())
    }

    fn rebuilt(self) -> Result<Self, InvalidToken> {
        Arc::unwrap_or_clone(self.inner).finish()
    }
}

impl Inner {
    /// Puts cookies into the jar, each in place of an older one of its name.
    fn set_cookies(&mut self, cookies: impl IntoIterator<Item = (String, String)>) {
        let old = self.cookies.as_ref().map_or("", |cookies| cookies.expose());
        let mut jar: Vec<(String, String)> = Vec::new();
        let mut places = HashMap::new();
        let old = token::split_cookies(old);
        let named = old.into_iter().chain(cookies).filter(|(name, _)| !name.trim().is_empty());
        for (name, value) in named {
            let place = *places.entry(name.trim().to_owned()).or_insert(jar.len());
            match jar.get_mut(place) {
                Some(cookie) => cookie.1 = value,
                None => jar.push((name, value)),
            }
        }
        let jar: Vec<String> =
            jar.iter().map(|(name, value)| format!("{}={}", name.trim(), value.trim())).collect();
        self.cookies = Some(jar.join("; ")).filter(|jar| !jar.is_empty()).map(Secret::from);
    }

    fn finish(mut self) -> Result<Credential, InvalidToken> {
        let bearer = format!("Bearer {}", self.access_token.expose());
        let mut headers = vec![(header::AUTHORIZATION, sensitive(&bearer)?)];
        if let Some(cookies) = &self.cookies {
            headers.push((header::COOKIE, sensitive(cookies.expose())?));
        }
        for (name, value) in &self.extra {
            // A header of its own replaces the bearer form, for servers that want the key
            // elsewhere.
            headers.retain(|(other, _)| other != name);
            headers.push((name.clone(), value.clone()));
        }
        self.headers = CredentialHeaders::new(headers);
        Ok(Credential { inner: Arc::new(self) })
    }
}

fn sensitive(value: &str) -> Result<HeaderValue, InvalidToken> {
    let mut value = HeaderValue::from_str(value).map_err(|_| InvalidToken(()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&HeaderName> = self.inner.headers.names().collect();
        f.debug_struct("Credential")
            .field("kind", &self.inner.kind)
            .field("expires_at", &self.inner.expires_at)
            .field("resource_url", &self.inner.resource_url)
            .field("refreshable", &self.inner.refresh_token.is_some())
            .field("headers", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_session_is_sent_as_bearer_and_as_cookie() {
        let session = Credential::parse("H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=")
            .expect("the vector of layout b")
            .with_header("bx-ua", "fingerprint")
            .expect("a header");
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer client"));
        session.headers().apply(&mut headers);
        assert_eq!(headers[header::AUTHORIZATION], "Bearer aaa.bbb.ccc");
        assert_eq!(headers[header::COOKIE], "token=aaa.bbb.ccc; ssxmod_itna=itna-demo");
        assert_eq!(headers["bx-ua"], "fingerprint");
        assert!(headers.values().all(HeaderValue::is_sensitive));
    }

    #[test]
    fn a_token_that_could_split_a_header_is_refused() {
        for token in ["", "  ", "a\r\nhost: evil", "a\0b"] {
            assert!(Credential::api_key(token).is_err());
            assert!(Credential::oauth(token, None, None).is_err());
            assert!(Credential::web(token).is_err());
        }
        let key = Credential::api_key("k").expect("a key");
        assert!(key.clone().with_header("host", "evil").is_err());
        assert!(key.clone().with_header("a b", "c").is_err());
        assert!(key.with_cookies("a=b\r\nc=d").is_err());
    }

    #[test]
    fn base_urls_follow_the_rule() {
        let oauth = Credential::oauth("at", Some("rt"), None).expect("a login");
        for (given, expected) in [
            ("portal.qwen.ai", "https://portal.qwen.ai/v1"),
            ("https://portal.qwen.ai/v1/", "https://portal.qwen.ai/v1"),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x/v1"),
            (" ", "https://portal.qwen.ai/v1"),
        ] {
            let url = oauth.clone().with_resource_url(given).base_url();
            assert_eq!(url.as_deref(), Some(expected));
        }
        assert_eq!(Credential::api_key("k").expect("a key").base_url(), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let credential = Credential::oauth("secret-at", Some("secret-rt"), None)
            .expect("a login")
            .with_cookies("token=secret-cookie")
            .expect("cookies")
            .with_header("bx-umidtoken", "secret-device")
            .expect("a header");
        for shown in [format!("{credential:?}"), format!("{credential:#?}")] {
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn a_cookie_named_token_replaces_the_own() {
        let session = Credential::web("one").expect("opaque").with_cookies("token=two; a=b");
        let session = session.expect("cookies");
        assert_eq!(session.cookies().expect("a jar").expose(), "token=two; a=b");
    }

    #[test]
    fn as_many_cookies_as_fit_into_a_token_take_one_pass() {
        let cookies: Vec<String> = (0..50_000).map(|n| format!("{n}=v")).collect();
        let session = Credential::web("one").expect("opaque").with_cookies(&cookies.join("; "));
        let jar = session.expect("cookies");
        let jar = jar.cookies().expect("a jar").expose();
        assert_eq!(jar, format!("token=one; {}", cookies.join("; ")));
    }

    #[test]
    fn an_end_is_met_with_its_margin() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let credential = Credential::oauth("at", None, Some(end)).expect("a login");
        let margin = Duration::from_secs(30);
        assert!(!credential.ends_within(margin, end - Duration::from_millis(30_001)));
        assert!(credential.ends_within(margin, end - margin));
        assert!(credential.ends_within(Duration::ZERO, end));
        assert!(!credential.with_expires_at(None).ends_within(margin, end));
    }
}
