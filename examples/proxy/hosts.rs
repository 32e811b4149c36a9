//! By which names the proxy is asked.
//!
//! A page on the web can have its own host name lead to this machine after it was loaded (DNS
//! rebinding). What its scripts then ask for is of the page's own origin, so neither CORS nor
//! `Origin` keeps them from reading it; only the name in `Host` tells.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{header::HOST, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_qwen::{Error, ErrorKind, openai::error_response};

/// The names that a proxy without keys answers to, beside those of loopback.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    names: Arc<BTreeSet<String>>,
    /// Whether it listens on every address of the machine, so that each is its own. An address
    /// cannot be made to lead elsewhere, so it need not be known which these are.
    any_address: bool,
}

impl Hosts {
    /// Those of `listen`, which is `HOST:PORT`, and the names in `allowed`.
    pub(crate) fn new(listen: &str, allowed: &[String]) -> Self {
        let own = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
        let own = plain(own);
        let any_address = own.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let names = allowed.iter().map(|name| plain(name)).chain([own]).collect();
        Self { names: Arc::new(names), any_address }
    }

    /// Whether `host`, which has no port, is one of them.
    fn have(&self, host: &str) -> bool {
        let host = plain(host);
        is_loopback(&host)
            || self.names.contains(&host)
            || self.any_address && host.parse::<IpAddr>().is_ok()
    }

    /// Whether every name that the request gives is one of them. Browsers always give one, so a
    /// request without is no page's; HTTP/1.0 and simple probes ask like that.
    fn allow(&self, request: &Request) -> bool {
        let of_uri = request.uri().authority().map(|authority| self.have(authority.host()));
        let of_head = request.headers().get_all(HOST).iter().map(|value| {
            let authority = value.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            authority.is_some_and(|authority| self.have(authority.host()))
        });
        of_uri.into_iter().chain(of_head).all(|is_own| is_own)
    }
}

/// The name in one spelling: without brackets, the dot of the root, and large letters.
fn plain(host: &str) -> String {
    let host = host.trim().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    host.to_ascii_lowercase()
}

/// Whether only this machine is ever called so.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = plain(host);
    let is_own = |ip: IpAddr| ip.to_canonical().is_loopback();
    // RFC 6761, section 6.3.
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(is_own)
}

/// Refuses what is asked under another name.
pub(crate) async fn own_names_only(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Response {
    if hosts.allow(&request) {
        return next.run(request).await;
    }
    let error = Error::new(
        ErrorKind::Permission,
        "a proxy that asks for no API key answers only to names of this machine; give it others \
         with --allow-host, or keys with --api-key",
    );
    error_response(&error.with_code("host_not_allowed")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(uri: &str, hosts: &[&str]) -> Request {
        let request = Request::get(uri);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        request.body(Body::empty()).expect("a request")
    }

    #[test]
    fn only_names_of_the_machine_and_those_that_are_given_count() {
        let local = Hosts::new("127.0.0.1:8080", &[]);
        let named = Hosts::new("192.168.1.5:80", &["Qwen".to_owned(), "10.0.0.9".to_owned()]);
        let every = [Hosts::new("0.0.0.0:8080", &[]), Hosts::new("[::]:8080", &[])];
        let yes = [
            "localhost",
            "LOCALHOST:1",
            "a.localhost:80",
            "localhost.",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ];
        let no = [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.nip.io",
            "example.org:8080",
            "",
            "evil@localhost@example.org",
            "a b",
            "localhost, example.org",
        ];
        for hosts in [&local, &named, &every[0], &every[1]] {
            assert!(hosts.allow(&asked("/", &[])), "no browser's");
            for host in yes {
                assert!(hosts.allow(&asked("/", &[host])), "{host}");
                let http2 = format!("http://{host}/");
                assert!(hosts.allow(&asked(&http2, &[])), "{host}");
            }
            for host in no {
                assert!(!hosts.allow(&asked("/", &[host])), "{host}");
                assert!(!hosts.allow(&asked("/", &["localhost", host])), "{host} beside another");
                assert!(!hosts.allow(&asked("http://localhost/", &[host])), "{host}");
            }
            assert!(!hosts.allow(&asked("http://example.org/", &["localhost"])));
        }
        for (host, [of_local, of_named, of_every]) in [
            ("192.168.1.5", [false, true, true]),
            ("qwen:8080", [false, true, false]),
            ("10.0.0.9:1", [false, true, true]),
            ("203.0.113.7", [false, false, true]),
            ("[2001:db8::1]:80", [false, false, true]),
        ] {
            assert_eq!(local.allow(&asked("/", &[host])), of_local, "{host}");
            assert_eq!(named.allow(&asked("/", &[host])), of_named, "{host}");
            for hosts in &every {
                assert_eq!(hosts.allow(&asked("/", &[host])), of_every, "{host}");
            }
        }
    }
}
