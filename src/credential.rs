//! What identifies an account to an upstream, on its way to the HTTP client.

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What stands in the place of a secret.
const MASK: &str = "[redacted]";

/// The shortest value that is taken for a secret, in bytes. Shorter ones stand in words by chance.
const SHORTEST: usize = 8;

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

    /// `text` with the values of the credential masked, for what an upstream says that may repeat
    /// them.
    ///
    /// Values from 8 bytes on are: of `authorization` what stands behind the scheme, of `cookie`
    /// the value of each cookie, and of every other header but `user-agent` the whole value. They
    /// are found as they are, inside a JSON string, and encoded for a URL; so is the beginning of
    /// one that the text breaks off in.
    ///
    /// ```
    /// # use http::{HeaderValue, header};
    /// # use tower_qwen::CredentialHeaders;
    /// let key = HeaderValue::from_static("Bearer not-a-real-key");
    /// let credential = CredentialHeaders::new([(header::AUTHORIZATION, key)]);
    /// assert_eq!(credential.mask("bad key: not-a-real-key"), "bad key: [redacted]");
    /// ```
    #[must_use]
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        let mut forms: Vec<String> = self.secrets().flat_map(forms).collect();
        // One may be part of another.
        forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
        for form in &forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), MASK).into();
            }
        }
        let broken_off = |form: &String| {
            let ends = (SHORTEST..form.len()).rev();
            ends.filter_map(|end| form.get(..end)).find(|start| text.ends_with(start)).map(str::len)
        };
        if let Some(len) = forms.iter().filter_map(broken_off).max() {
            text = format!("{}{MASK}", &text[..text.len() - len]).into();
        }
        text
    }

    /// Every value that must not be shown.
    fn secrets(&self) -> impl Iterator<Item = String> {
        let values = self.0.iter().flat_map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            let parts: Vec<String> = match *name {
                // It is a browser's, and stands in its every request.
                header::USER_AGENT => Vec::new(),
                header::AUTHORIZATION => {
                    let (_, secret) = value.split_once(' ').unwrap_or(("", &value));
                    vec![secret.trim().to_owned()]
                }
                header::COOKIE => value
                    .split(';')
                    .filter_map(|pair| Some(pair.split_once('=')?.1.trim().to_owned()))
                    .collect(),
                _ => vec![value.trim().to_owned()],
            };
            parts
        });
        values.filter(|value| value.len() >= SHORTEST)
    }

    /// Whether both put the same on a request.
    #[cfg(feature = "auth")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// A secret as it is and as it is written into other texts.
fn forms(secret: String) -> Vec<String> {
    let escaped = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let slashes = escaped.replace('/', "\\/");
    let encoded = |upper: bool| -> String {
        let encode = |byte: u8| match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        };
        secret.bytes().map(encode).collect()
    };
    let mut forms = vec![encoded(true), encoded(false), escaped, slashes, secret];
    forms.dedup();
    forms
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
    fn its_values_are_masked_in_every_form() {
        let header = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let credential = CredentialHeaders::new([
            header("authorization", "Bearer the key/of\\all"),
            header("cookie", "token=jar-of+ann=; lang=en; cna=the-device"),
            header("bx-umidtoken", "umid-of-ann"),
            header("x-short", "short"),
            header("user-agent", "Mozilla/5.0"),
        ]);
        for (text, masked) in [
            ("the key/of\\all", "[redacted]"),
            ("no [the key/of\\all] here", "no [[redacted]] here"),
            (r#"{"said":"the key/of\\all"}"#, r#"{"said":"[redacted]"}"#),
            (r#"{"said":"the key\/of\\all"}"#, r#"{"said":"[redacted]"}"#),
            ("?key=the%20key%2Fof%5Call&x", "?key=[redacted]&x"),
            ("?key=the%20key%2fof%5call&x", "?key=[redacted]&x"),
            ("cookie: token=jar-of+ann=; lang=en", "cookie: token=[redacted]; lang=en"),
            ("jar-of%2Bann%3D umid-of-ann", "[redacted] [redacted]"),
            ("it broke off: the key/o", "it broke off: [redacted]"),
            ("short Mozilla/5.0 the ke", "short Mozilla/5.0 the ke"),
            ("", ""),
        ] {
            assert_eq!(credential.mask(text), masked);
        }
        // One value within another leaves nothing of either.
        let nested = CredentialHeaders::new([
            header("authorization", "Bearer abcdefghij"),
            header("cookie", "token=12abcdefghij34"),
        ]);
        assert_eq!(nested.mask("12abcdefghij34 abcdefghij"), "[redacted] [redacted]");
    }

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
