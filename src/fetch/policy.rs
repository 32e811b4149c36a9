use std::{net::IpAddr, time::Duration};

use reqwest::Url;

use super::address::is_public;

/// The longest URL, in bytes.
const URL_LEN: usize = 8 * 1024;

/// From where, and how much, is fetched for clients: from public addresses, on the usual ports, a few
/// MiB at a time.
///
/// ```
/// use tower_qwen::fetch::FetchPolicy;
///
/// let policy = FetchPolicy::new().max_bytes(5 * 1024 * 1024).allow(["images.internal:8080"]);
/// # let _ = policy;
/// ```
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    pub(super) max_bytes: usize,
    pub(super) max_total: usize,
    pub(super) max_urls: usize,
    pub(super) deadline: Duration,
    pub(super) redirects: usize,
    /// Hosts in small letters, with their ports where these are not the usual ones.
    allowed: Vec<(String, Option<u16>)>,
}

/// Why a URL is not fetched. The words are for a client: they say nothing of what a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    TooLong,
    Malformed,
    Scheme,
    Credentials,
    Port,
    NotPublic,
}

impl Refused {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "it has more than 8 KiB",
            Self::Malformed => "it is malformed",
            Self::Scheme => "only http: and https: are fetched",
            Self::Credentials => "it holds a user or a password; leave them out",
            Self::Port => "only the ports 80 and 443 are asked",
            Self::NotPublic => {
                "its host is none of the public Internet; send the data itself, in a data: URL"
            }
        }
    }
}

impl FetchPolicy {
    /// Public addresses, the ports 80 and 443, 20 MiB at most and 32 MiB in a request, 8 URLs, 3
    /// redirects, 20 s.
    #[must_use]
    pub fn new() -> Self {
        Self {
            max_bytes: 20 * 1024 * 1024,
            max_total: 32 * 1024 * 1024,
            max_urls: 8,
            deadline: Duration::from_secs(20),
            redirects: 3,
            allowed: Vec::new(),
        }
    }

    /// The most bytes that are taken of one URL. Default: 20 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The most bytes that are taken for one request, of all its URLs. Default: 32 MiB.
    #[must_use]
    pub fn max_total(mut self, bytes: usize) -> Self {
        self.max_total = bytes;
        self
    }

    /// How many URLs of one request are fetched; one with more is refused. Default: 8.
    #[must_use]
    pub fn max_urls(mut self, count: usize) -> Self {
        self.max_urls = count;
        self
    }

    /// How long fetching one URL may take, with its redirects and all of its body. Default: 20 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many redirects are followed; each is checked as the URL itself. Default: 3.
    #[must_use]
    pub fn redirects(mut self, count: usize) -> Self {
        self.redirects = count;
        self
    }

    /// Hosts that are fetched from whatever their addresses are, as `HOST` or `HOST:PORT`: a store of
    /// images within the network. A client can have anything there be fetched, and learns what it is
    /// from the model. Default: none.
    #[must_use]
    pub fn allow<H: AsRef<str>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.allowed.extend(hosts.into_iter().map(|host| {
            let host = host.as_ref().trim().to_ascii_lowercase();
            match host.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
                // Not within an address of version 6.
                Some((name, Ok(port))) if !name.contains(':') || name.ends_with(']') => {
                    (name.to_owned(), Some(port))
                }
                _ => (host, None),
            }
        }));
        self
    }

    /// The URL that `text` is, if it may be fetched by what it says.
    ///
    /// The address behind a name is not known here; it is checked where it is connected to.
    pub(super) fn check(&self, text: &str) -> Result<Url, Refused> {
        if text.len() > URL_LEN {
            return Err(Refused::TooLong);
        }
        let url = Url::parse(text).map_err(|_| Refused::Malformed)?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// The same of a URL that was read already. Numbers in other bases, in fewer parts or in one have
    /// become addresses by then, as in a browser.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let host = url.host_str().ok_or(Refused::Malformed)?;
        if self.is_allowed(url) {
            return Ok(());
        }
        // `None` is the scheme's own.
        if !matches!(url.port(), None | Some(80 | 443)) {
            return Err(Refused::Port);
        }
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        match address {
            Some(address) if !is_public(address) => Err(Refused::NotPublic),
            _ => Ok(()),
        }
    }

    /// Whether the operator has allowed the host of `url`, whatever its address is.
    pub(super) fn is_allowed(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let port = url.port_or_known_default();
        self.allowed.iter().any(|(allowed, allowed_port)| {
            let is_port = match allowed_port {
                Some(allowed) => port == Some(*allowed),
                None => matches!(port, Some(80 | 443)),
            };
            is_port && allowed.eq_ignore_ascii_case(host)
        })
    }
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_text_of_a_url_gives_away_is_refused() {
        use Refused::*;

        let policy = FetchPolicy::new();
        let long = format!("https://a.example/{}", "x".repeat(9 * 1024));
        for (url, why) in [
            ("ftp://a.example/x", Scheme),
            ("file:///etc/passwd", Scheme),
            ("gopher://a.example/", Scheme),
            ("javascript:alert(1)", Scheme),
            ("//a.example/x", Malformed),
            ("a.example/x", Malformed),
            ("https://", Malformed),
            ("http://[::1", Malformed),
            ("http://1.2.3.4.5/", Malformed),
            (&long, TooLong),
            ("https://user@a.example/", Credentials),
            ("https://user:secret@a.example/", Credentials),
            ("https://a.example@127.0.0.1/", Credentials),
            ("https://a.example:8080/", Port),
            ("http://a.example:22/", Port),
            ("http://127.0.0.1/", NotPublic),
            // As a browser reads them: one number, octal, hexadecimal, fewer parts, and a mixture.
            ("http://2130706433/", NotPublic),
            ("http://017700000001/", NotPublic),
            ("http://0x7f000001/", NotPublic),
            ("http://0x7f.1/", NotPublic),
            ("http://0177.0.0.1/", NotPublic),
            ("http://127.1/", NotPublic),
            ("http://127.0.1/", NotPublic),
            ("http://0/", NotPublic),
            ("http://0x0a.0x00.0x00.0x01/", NotPublic),
            ("http://192.168.1/", NotPublic),
            // In other digits, percent-encoded, with a dot at the end.
            ("http://１２７.0.0.1/", NotPublic),
            ("http://①②⑦.⓪.⓪.①/", NotPublic),
            ("http://127%2e0%2e0%2e1/", NotPublic),
            ("http://127.0.0.1./", NotPublic),
            ("http:\\\\127.0.0.1\\x", NotPublic),
            ("http:127.0.0.1", NotPublic),
            ("http://169.254.169.254/latest/meta-data/", NotPublic),
            ("http://[::1]/", NotPublic),
            ("http://[::]/", NotPublic),
            ("http://[0:0:0:0:0:0:0:1]/", NotPublic),
            ("http://[::ffff:127.0.0.1]/", NotPublic),
            ("http://[::ffff:7f00:1]/", NotPublic),
            ("http://[::ffff:8.8.8.8]/", NotPublic),
            ("http://[64:ff9b::7f00:1]/", NotPublic),
            ("http://[2002:7f00:1::]/", NotPublic),
            ("http://[fd00::1]/", NotPublic),
            ("http://[fe80::1]/", NotPublic),
            ("http://255.255.255.255/", NotPublic),
        ] {
            assert_eq!(policy.check(url), Err(why), "{url}");
        }
    }

    #[test]
    fn public_urls_are_taken() {
        let policy = FetchPolicy::new();
        for url in [
            "https://a.example/x.png?y#z",
            "HTTP://A.EXAMPLE:80/",
            "https://a.example:443/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
        ] {
            assert!(policy.check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_allowed_is_that_host_and_port_alone() {
        let policy = FetchPolicy::new().allow(["127.0.0.1:8123", "Images.Internal", "[::1]:9000"]);
        for url in [
            "http://127.0.0.1:8123/a.png",
            "http://2130706433:8123/a.png",
            "https://images.internal/a.png",
            "https://images.internal./a.png",
            "http://[::1]:9000/",
        ] {
            assert!(policy.check(url).is_ok(), "{url}");
        }
        for url in [
            "http://127.0.0.1/",
            "http://127.0.0.1:8124/",
            "http://127.0.0.2:8123/",
            "https://images.internal:8080/",
            "https://x.images.internal:8080/",
            "http://[::1]/",
        ] {
            assert!(policy.check(url).is_err(), "{url}");
        }
    }
}
