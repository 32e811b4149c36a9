//! Addresses and URLs.

use std::net::IpAddr;

use axum::http::{Uri, uri::Scheme};

use super::{ConfigError, error};

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8080;

pub(super) fn checked_address(address: String, option: &str) -> Result<String, ConfigError> {
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_one = host.parse::<std::net::Ipv4Addr>().is_ok()
            || host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
            || is_host_name(host);
        host_is_one && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    if valid {
        Ok(address)
    } else {
        error(format!("{option}: {address:?} is not HOST:PORT, such as 127.0.0.1:8080 or [::1]:0"))
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

pub(super) fn address_from_parts(
    host: Option<String>,
    port: Option<String>,
) -> Result<String, ConfigError> {
    let host = host.unwrap_or_else(|| DEFAULT_HOST.into());
    let port = match port {
        Some(port) => match port.parse::<u16>() {
            Ok(port) => port,
            Err(_) => return error(format!("PORT: {port:?} is not a port from 0 to 65535")),
        },
        None => DEFAULT_PORT,
    };
    let address = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(host)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    checked_address(address, "HOST")
}

/// # Errors
///
/// What is wrong with the URL that `option` gives.
pub(crate) fn parse_url(option: &str, url: &str) -> Result<Uri, ConfigError> {
    let wrong = |what: &str| error(format!("{option}: {what}"));
    // What is wrong is said without the URL where that may hold a password.
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("it is not a URL, such as https://chat.qwen.ai");
    };
    let Some(authority) = uri.authority() else {
        return wrong("it is not a full URL, such as https://chat.qwen.ai");
    };
    if authority.as_str().contains('@') {
        return wrong("it must hold no user name or password; use --token or --upstream-key");
    }
    if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
        return wrong(&format!("{url:?} is no URL that starts with http:// or https://"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return wrong(&format!("{url:?} names no host"));
    }
    if uri.query().is_some() || url.contains('#') {
        return wrong("it must end with its path, without a query or a fragment");
    }
    Ok(uri)
}

/// One of `--allow-host`.
///
/// # Errors
///
/// If it cannot be the name of a host.
pub(super) fn checked_host(name: &str) -> Result<String, ConfigError> {
    let name = name.trim();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if is_host_name(name) || bare.parse::<IpAddr>().is_ok() {
        return Ok(name.to_owned());
    }
    error(format!("--allow-host: {name:?} is no name or address of a host, without a port"))
}
