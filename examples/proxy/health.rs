//! `proxy health`: whether a proxy that runs here is well, for containers without any other program.

use std::net::SocketAddr;

use axum::http::StatusCode;
use clap::Args;

use super::{
    config::{default_listen, parse_url},
    launch::get,
    login::Failure,
};

/// What `proxy health` is asked for.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Where the proxy is [default: where the environment says that it listens, on this machine]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,

    /// Ask whether requests are welcome (`/ready`), and not only whether it is alive (`/health`)
    #[arg(long)]
    ready: bool,
}

impl Health {
    /// Asks the proxy; gives what it says of itself.
    ///
    /// # Errors
    ///
    /// A [`Failure`] where it is not well.
    pub(crate) async fn run(self) -> Result<String, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure { message: error.to_string(), code: 2 };
        let url = match self.proxy {
            Some(url) => url,
            None => format!("http://{}", reached_at(&default_listen().map_err(|e| usage(&e))?)),
        };
        let url = parse_url("--proxy", &url).map_err(|error| usage(&error))?;
        let path = if self.ready { "/ready" } else { "/health" };
        let (status, said) = get(&url, None, path).await?;
        let word = said["status"].as_str().unwrap_or("no word of a proxy");
        let word = match said["reason"].as_str() {
            Some(reason) => format!("{word}: {reason}"),
            None => word.to_owned(),
        };
        if status == StatusCode::OK && said["status"].is_string() {
            return Ok(word);
        }
        Err(Failure { message: format!("{url} answers {path} with {status}, {word}"), code: 1 })
    }
}

/// The address by which who listens at `listen` is reached from this machine.
fn reached_at(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(address)) if address.ip().is_unspecified() => {
            format!("127.0.0.1:{}", address.port())
        }
        Ok(SocketAddr::V6(address)) if address.ip().is_unspecified() => {
            format!("[::1]:{}", address.port())
        }
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_reached_on_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.7:8080", "10.0.0.7:8080"),
            ("localhost:8080", "localhost:8080"),
        ] {
            assert_eq!(reached_at(listen), reached);
        }
    }
}
