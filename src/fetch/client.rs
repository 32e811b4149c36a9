use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, header};
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

use super::{
    address::is_public,
    policy::{FetchPolicy, Refused},
};
use crate::{Error, ErrorKind, qwen::client::tls};

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;

/// What fetches from the public Internet, and from nowhere else.
///
/// A name is looked up once, the addresses that are not public are left out, and the connection goes to
/// one that is left: between the check and the connection there is no second look. No proxy of the
/// environment is heeded, no cookie kept, no connection used twice, and redirects are followed by hand.
///
/// Clones share everything.
#[derive(Clone)]
pub struct FetchClient {
    guarded: Client,
    /// For the hosts that the operator has allowed.
    open: Client,
    policy: Arc<FetchPolicy>,
}

/// What was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// What its server says that it is, in small letters.
    pub(super) media_type: Option<String>,
}

/// Why nothing was.
#[derive(Debug)]
pub(super) enum Failed {
    Refused(Refused),
    /// The words are for a client.
    Broken(String),
    TooLarge(usize),
    TooSlow(Duration),
}

impl FetchClient {
    /// A client that keeps to `policy`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] where TLS cannot be set up.
    pub fn new(policy: FetchPolicy) -> Result<Self, Error> {
        Self::with_lookup(policy, |name| async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    /// The same, with names looked up by `lookup`, once for each connection. What it gives is checked
    /// all the same.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_lookup<F>(
        policy: FetchPolicy,
        lookup: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Result<Self, Error>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let lookup: Lookup = Arc::new(move |name| Box::pin(lookup(name)));
        let client = |guards| {
            let client = Client::builder()
                .retry(reqwest::retry::never())
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                // What unpacks itself has no size that is known before.
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT)
                .dns_resolver(Resolver { lookup: Arc::clone(&lookup), guards });
            tls::choose(client)?.build().map_err(|error| {
                Error::new(ErrorKind::Internal, "the HTTP client could not be set up")
                    .with_source(error.without_url())
            })
        };
        Ok(Self { guarded: client(true)?, open: client(false)?, policy: Arc::new(policy) })
    }

    pub(super) fn policy(&self) -> &FetchPolicy {
        &self.policy
    }

    /// Fetches what is at `url`, and takes its size off `left`.
    pub(super) async fn fetch(&self, url: &str, left: &AtomicUsize) -> Result<Fetched, Failed> {
        let deadline = self.policy.deadline;
        let fetching = async {
            let response = self.get(url).await?;
            self.read(response, left).await
        };
        let fetched = tokio::time::timeout(deadline, fetching).await;
        fetched.unwrap_or(Err(Failed::TooSlow(deadline)))
    }

    /// The response at the end of the redirects.
    async fn get(&self, url: &str) -> Result<Response, Failed> {
        let mut url = self.policy.check(url).map_err(Failed::Refused)?;
        let mut redirects = 0;
        loop {
            let response = self.send(&url).await?;
            let status = response.status();
            if !status.is_redirection() {
                return match status.is_success() {
                    true => Ok(response),
                    false => Err(Failed::Broken(format!("its server answered {status}"))),
                };
            }
            if redirects == self.policy.redirects {
                return Err(Failed::Broken(format!("it redirects more than {redirects} times")));
            }
            redirects += 1;
            let target = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let target = target.and_then(|target| url.join(target).ok());
            let target = target.ok_or(Failed::Refused(Refused::Malformed))?;
            self.policy.check_url(&target).map_err(Failed::Refused)?;
            url = target;
        }
    }

    async fn send(&self, url: &Url) -> Result<Response, Failed> {
        let client = match self.policy.is_allowed(url) {
            true => &self.open,
            false => &self.guarded,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let name = concat!("tower-qwen/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(name));
        client.get(url.clone()).headers(headers).send().await.map_err(|error| {
            if is_not_public(&error) {
                return Failed::Refused(Refused::NotPublic);
            }
            Failed::Broken(if error.is_timeout() {
                "its server took too long".to_owned()
            } else if error.is_connect() {
                "its server could not be reached".to_owned()
            } else {
                "its server broke off".to_owned()
            })
        })
    }

    async fn read(&self, mut response: Response, left: &AtomicUsize) -> Result<Fetched, Failed> {
        let limit = self.policy.max_bytes;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if header(header::CONTENT_ENCODING).is_some_and(|how| !how.eq_ignore_ascii_case("identity"))
        {
            return Err(Failed::Broken(
                "its server packs what it was asked for unpacked".to_owned(),
            ));
        }
        let media_type = header(header::CONTENT_TYPE)
            .and_then(|value| value.split(';').next())
            .map(|value| value.trim().to_ascii_lowercase())
            .filter(|value| value.contains('/'));
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Failed::TooLarge(limit));
        }
        let mut bytes = Vec::new();
        let broken = |_| Failed::Broken("its server broke off".to_owned());
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if chunk.len() > limit - bytes.len() {
                return Err(Failed::TooLarge(limit));
            }
            let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(chunk.len())
            });
            if taken.is_err() {
                return Err(Failed::TooLarge(self.policy.max_total));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched { bytes, media_type })
    }
}

impl fmt::Debug for FetchClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchClient").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Looks names up, and where it guards gives public addresses alone.
struct Resolver {
    lookup: Lookup,
    guards: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, guards) = ((self.lookup)(name.as_str().to_owned()), self.guards);
        Box::pin(async move {
            let mut found = found.await?;
            if guards {
                found.retain(|address| is_public(*address));
                if found.is_empty() {
                    return Err(NotPublic.into());
                }
            }
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// A name leads to no public address.
#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name leads to no public address")
    }
}

impl StdError for NotPublic {}

fn is_not_public(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is connected to is what the resolver gives: of what a name leads to, whatever is public.
    #[tokio::test]
    async fn of_the_addresses_of_a_name_the_public_ones_are_left() {
        let all = ["127.0.0.1", "8.8.8.8", "::1", "::ffff:8.8.4.4", "2606:4700:4700::1111"];
        let all = all.map(|address| address.parse::<IpAddr>().expect("an address"));
        let lookup: Lookup = Arc::new(move |_| Box::pin(std::future::ready(Ok(all.to_vec()))));
        for (guards, wanted) in [(true, vec![all[1], all[4]]), (false, all.to_vec())] {
            let resolver = Resolver { lookup: Arc::clone(&lookup), guards };
            let found = resolver.resolve("a.example".parse().expect("a name")).await;
            let found: Vec<_> = found.expect("some").map(|address| address.ip()).collect();
            assert_eq!(found, wanted);
        }
    }
}
