//! What the proxy is told: its options, their environment names, and what follows from them.

use std::{env, ffi::OsStr, fmt, fs, net::IpAddr, path::PathBuf, time::Duration};

use axum::http::{Uri, uri::Scheme};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::EnvFilter;

use super::auth::ApiKeys;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8080;
const DEFAULT_BASE_URL: &str = "https://chat.qwen.ai";
const DEFAULT_LOG: &str = "info";

/// An OpenAI-compatible proxy in front of Qwen.
#[derive(Debug, Parser)]
#[command(
    name = "proxy",
    version,
    after_help = "Environment names stand for options that are not given; an empty value counts \
                  as none. Prefer them for secrets: a command line can be seen by every user of \
                  the machine."
)]
pub(crate) struct Options {
    /// Where to listen, as HOST:PORT; port 0 takes a free one. Without it HOST and PORT are
    /// read, each by itself [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "QWEN_PROXY_LISTEN", hide_env_values = true)]
    listen: Option<String>,

    /// Who answers. `auto` takes `web` if a web credential is given, else the emulator
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        env = "QWEN_UPSTREAM",
        hide_env_values = true,
        default_value_t
    )]
    upstream: UpstreamChoice,

    /// The web upstream's origin [default: https://chat.qwen.ai]
    #[arg(long, value_name = "URL", env = "QWEN_BASE_URL", hide_env_values = true)]
    base_url: Option<String>,

    /// A credential of the web upstream: a JWT (`eyJ…`) is sent as bearer and as the cookie
    /// `token`, anything else as `bx-umidtoken` [default: none]
    #[arg(long, value_name = "TOKEN", env = "QWEN_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,

    /// Cookies for the web upstream, as a browser sends them: `name=value; name=value`
    /// [default: none]
    #[arg(long, value_name = "COOKIES", env = "QWEN_COOKIES", hide_env_values = true)]
    cookies: Option<SecretString>,

    /// The keys, separated by commas, of which clients must present one as `Authorization:
    /// Bearer` or `X-API-Key`. Without it API_KEY is read [default: none, any client is served]
    #[arg(long, value_name = "KEYS", env = "QWEN_PROXY_API_KEY", hide_env_values = true)]
    api_key: Option<SecretString>,

    /// How calls of tools reach the client
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        env = "QWEN_TOOLS",
        hide_env_values = true,
        default_value_t
    )]
    tools: Tools,

    /// How many seconds a conversation is remembered that nobody goes on with
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_SESSION_TTL",
        hide_env_values = true,
        default_value_t = 3600,
        value_parser = clap::value_parser!(u64).range(1..=31_536_000)
    )]
    session_ttl: u64,

    /// How many turns are remembered at most; beyond it the oldest are replayed when they go on
    #[arg(
        long,
        value_name = "TURNS",
        env = "QWEN_SESSION_CAPACITY",
        hide_env_values = true,
        default_value_t = 100_000
    )]
    session_capacity: u64,

    /// Remember conversations in this Redis, for several proxies that serve the same clients; a
    /// build with `--features redis` can [default: none, in memory]
    #[arg(long, value_name = "URL", env = "QWEN_REDIS_URL", hide_env_values = true)]
    redis: Option<SecretString>,

    /// Answer with this recorded event stream of the web upstream; for the emulator only
    /// [default: none]
    #[arg(long, value_name = "FILE", env = "QWEN_REPLAY", hide_env_values = true)]
    replay: Option<PathBuf>,

    /// What to log on standard error, such as `debug` or `tower_qwen=trace,info`. Without it
    /// LOG_LEVEL is read [default: info]
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", hide_env_values = true)]
    log: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum UpstreamChoice {
    /// `web` if a web credential is given, else the emulator
    #[default]
    Auto,
    /// An imitation of chat.qwen.ai inside this process
    Emulator,
    /// The web API of chat.qwen.ai
    Web,
}

/// How calls of tools reach the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tools {
    /// Tools are offered in the prompt, and calls become `tool_calls`
    #[default]
    Openai,
    /// Every reply is one XML tool call, for clients of that protocol (also at /xml/v1)
    Xml,
    /// The client's tools are not offered; what the model writes is passed on as it is
    Off,
}

/// Everything the proxy needs to know, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where to listen, as `HOST:PORT`.
    pub(crate) listen: String,
    /// Who answers.
    pub(crate) upstream: Upstream,
    /// Why it is this one: completes "upstream: web, …".
    pub(crate) reason: &'static str,
    /// The keys of clients.
    pub(crate) api_keys: ApiKeys,
    /// What becomes of tools.
    pub(crate) tools: Tools,
    /// How conversations are remembered.
    pub(crate) sessions: Sessions,
    /// What to log.
    pub(crate) log: String,
}

/// How conversations are remembered.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// For how long after their last use.
    pub(crate) ttl: Duration,
    /// How many turns, in memory.
    pub(crate) capacity: u64,
    /// Where, if not in memory; the URL may hold a password.
    pub(crate) redis: Option<SecretString>,
}

/// Who answers.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// The emulator, with the recording that it shall answer with.
    Emulator { recording: Option<Bytes> },
    /// chat.qwen.ai, or what stands in for it.
    Web { base_url: Uri, credentials: WebCredentials },
}

impl Upstream {
    /// The name that clients see in `x-qwen-upstream`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Emulator { .. } => "emulator",
            Self::Web { .. } => "web",
        }
    }
}

/// How the web upstream knows the user (qwen-wire.md A2). `Debug` shows none of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebCredentials {
    /// A JWT.
    pub(crate) token: Option<SecretString>,
    /// A device token.
    pub(crate) umid_token: Option<SecretString>,
    /// A cookie jar, as the header has it.
    pub(crate) cookies: Option<SecretString>,
}

impl WebCredentials {
    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.token.is_none() && self.umid_token.is_none() && self.cookies.is_none()
    }
}

/// What is wrong with the configuration, in one line that holds no secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name or a value given may hold a line break; the message stays one line.
        for c in self.0.chars() {
            match c {
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

fn error<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(message.into()))
}

impl Options {
    /// Reads the command line and the environment; ends the process where that is asked for
    /// (`--help`) or where they cannot be read.
    pub(crate) fn read() -> Self {
        let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
        let command = Self::command().mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(None::<&str>),
            _ => arg,
        });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Checks the options and works out what follows from them.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the first thing that is wrong.
    pub(crate) fn resolve(self) -> Result<Config, ConfigError> {
        self.resolve_with(|name| env::var(name).ok())
    }

    /// As [`resolve`](Self::resolve); `fallback` reads the environment names that are nobody's
    /// first.
    fn resolve_with(
        self,
        fallback: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let fallback = |name| fallback(name).filter(|value| !value.is_empty());
        let listen = match self.listen.filter(|listen| !listen.is_empty()) {
            Some(listen) => checked_address(listen, "--listen")?,
            None => address_from_parts(fallback("HOST"), fallback("PORT"))?,
        };
        let log = self.log.filter(|log| !log.is_empty());
        let log = log.or_else(|| fallback("LOG_LEVEL")).unwrap_or_else(|| DEFAULT_LOG.into());
        if let Err(reason) = EnvFilter::builder().parse(&log) {
            return error(format!("--log: {log:?} is not a log filter: {reason}"));
        }
        let api_keys = given(self.api_key).or_else(|| fallback("API_KEY").map(Into::into));
        let api_keys = match api_keys {
            Some(list) => ApiKeys::parse(list.expose_secret())
                .map_err(|reason| ConfigError(format!("--api-key: {reason}")))?,
            None => ApiKeys::default(),
        };

        let credentials = web_credentials(given(self.token), given(self.cookies))?;
        let base_url = self.base_url.filter(|url| !url.is_empty());
        let base_url = parse_base_url(base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let is_known = !credentials.is_empty();
        let (web, reason) = match (self.upstream, &self.replay, is_known) {
            (UpstreamChoice::Web, Some(_), _) => {
                return error("--replay: only the emulator replays; leave out --upstream web");
            }
            (UpstreamChoice::Web, None, _) => (true, "as --upstream says"),
            (UpstreamChoice::Emulator, ..) => (false, "as --upstream says"),
            (UpstreamChoice::Auto, Some(_), _) => (false, "because --replay is given"),
            (UpstreamChoice::Auto, None, true) => (true, "because a web credential is given"),
            (UpstreamChoice::Auto, None, false) => (false, "because no web credential is given"),
        };
        let upstream = if web {
            Upstream::Web { base_url, credentials }
        } else {
            Upstream::Emulator { recording: self.replay.map(read_recording).transpose()? }
        };
        let redis = given(self.redis);
        if redis.is_some() && cfg!(not(feature = "redis")) {
            return error("--redis: this build has no Redis in it; build it with --features redis");
        }
        let sessions = Sessions {
            ttl: Duration::from_secs(self.session_ttl),
            capacity: self.session_capacity,
            redis,
        };
        Ok(Config { listen, upstream, reason, api_keys, tools: self.tools, sessions, log })
    }
}

fn given(secret: Option<SecretString>) -> Option<SecretString> {
    secret.filter(|secret| !secret.expose_secret().is_empty())
}

fn checked_address(address: String, option: &str) -> Result<String, ConfigError> {
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

fn address_from_parts(host: Option<String>, port: Option<String>) -> Result<String, ConfigError> {
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

fn parse_base_url(url: &str) -> Result<Uri, ConfigError> {
    // What is wrong is said without the URL where that may hold a password.
    let Ok(uri) = url.parse::<Uri>() else {
        return error("--base-url: it is not a URL, such as https://chat.qwen.ai");
    };
    let Some(authority) = uri.authority() else {
        return error("--base-url: it is not a full URL, such as https://chat.qwen.ai");
    };
    if authority.as_str().contains('@') {
        return error("--base-url: it must hold no user name or password; use --token");
    }
    if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
        return error(format!(
            "--base-url: {url:?} is no URL that starts with http:// or https://"
        ));
    }
    if uri.host().is_none_or(str::is_empty) {
        return error(format!("--base-url: {url:?} names no host"));
    }
    if uri.query().is_some() || url.contains('#') {
        return error("--base-url: it must end with its path, without a query or a fragment");
    }
    Ok(uri)
}

/// What the token and the cookies are (A2).
fn web_credentials(
    token: Option<SecretString>,
    cookies: Option<SecretString>,
) -> Result<WebCredentials, ConfigError> {
    let mut credentials = WebCredentials::default();
    let trimmed = |secret: &SecretString| SecretString::from(secret.expose_secret().trim());
    if let Some(cookies) = cookies.as_ref().map(trimmed) {
        check_cookies(cookies.expose_secret())?;
        // Bearer and cookie go together (A2.2); a jar that was copied whole has the JWT in it.
        let jwt = cookie(cookies.expose_secret(), "token").filter(|jwt| check_jwt(jwt).is_ok());
        credentials.token = jwt.map(Into::into);
        credentials.cookies = Some(cookies);
    }
    if let Some(token) = token.as_ref().map(trimmed) {
        let text = token.expose_secret();
        if text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("bearer")) {
            return error("--token: it is malformed: leave out the word Bearer");
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return error(
                "--token: it is malformed: a token is one word of visible ASCII characters",
            );
        }
        if text.starts_with("H4sI") {
            return error("--token: a compressed token is not read here; give the JWT inside it");
        }
        if text.starts_with("eyJ") {
            check_jwt(text)?;
            credentials.token = Some(token);
        } else {
            credentials.umid_token = Some(token);
        }
    }
    Ok(credentials)
}

/// A JWT has three parts of base64url, the second of which is a JSON object (F1). Its signature
/// is for the upstream to check.
fn check_jwt(token: &str) -> Result<(), ConfigError> {
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return error(format!(
            "--token: it is malformed: a JWT has three parts between dots, this has {}; was it \
             copied whole?",
            parts.len()
        ));
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
    let is_object = |part: &str| {
        decode(part).is_some_and(|part| {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&part).is_ok()
        })
    };
    if !is_object(header) || !is_object(payload) || decode(signature).is_none_or(|s| s.is_empty()) {
        return error(
            "--token: it is malformed: it begins as a JWT and cannot be decoded as one; was it \
             copied whole?",
        );
    }
    Ok(())
}

fn check_cookies(cookies: &str) -> Result<(), ConfigError> {
    if !cookies.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return error("--cookies: they are malformed: they hold other than visible ASCII");
    }
    let all_pairs = cookies
        .trim_end_matches(';')
        .split(';')
        .all(|pair| pair.trim().split_once('=').is_some_and(|(name, _)| !name.is_empty()));
    if all_pairs { Ok(()) } else { error("--cookies: they are not `name=value; name=value`") }
}

fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    cookies.split(';').find_map(|pair| match pair.trim().split_once('=') {
        Some((key, value)) if key == name => Some(value),
        _ => None,
    })
}

fn read_recording(path: PathBuf) -> Result<Bytes, ConfigError> {
    match fs::read(&path) {
        Ok(recording) => Ok(recording.into()),
        Err(reason) => error(format!("--replay: cannot read {}: {reason}", path.display())),
    }
}

#[cfg(test)]
mod tests;
