//! What the proxy is told: its options, their environment names, its file, and what follows from
//! them.

mod aliases;
mod bounds;
mod file;
mod options;
mod patience;
mod patterns;
mod stand_ins;
mod upstream;
mod url;
mod web;

use std::{
    env,
    ffi::OsStr,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use secrecy::{ExposeSecret, SecretString};
use tower_qwen::{edge::BodyPace, inspect, session::OwnChats};
use tracing_subscriber::EnvFilter;

use self::{
    options::{Settings, UpstreamSettings, UsageFailure},
    upstream::upstreams,
    url::{address_from_parts, checked_address, checked_host},
};
use super::{
    accounts::List,
    auth::ApiKeys,
    clients::Clients,
    credentials, files,
    gate::{Keep, Rules},
    health::Health,
    hosts::Hosts,
    keys::{Keys, Manage},
    launch::Launch,
    login::Login,
    manual::ManPage,
    shutdown,
};

#[cfg(feature = "redis")]
use super::gate::Url;

pub(crate) use self::{
    aliases::{ModelNames, fields, named},
    bounds::Bounds,
    options::{Api, Completions, DebugStream, LogFormat, Tools},
    patience::Patience,
    patterns::Patterns,
    stand_ins::{StandIn, StandIns},
    upstream::{Upstream, UpstreamConfig},
    url::parse_url,
    web::WebCredentials,
};

const DEFAULT_LOG: &str = "info";
const DEFAULT_TTL: u64 = 3600;
const DEFAULT_CAPACITY: u64 = 100_000;
const DEFAULT_BODY_TIMEOUT: u64 = 300;
const DEFAULT_WRITE_TIMEOUT: u64 = 60;
const DEFAULT_SHUTDOWN_TIMEOUT: u64 = 30;
const DEFAULT_QUEUE: usize = 100;
const DEFAULT_QUEUE_TIMEOUT: u64 = 10;

/// An OpenAI-compatible proxy in front of Qwen.
#[derive(Debug, Parser)]
#[command(
    name = "proxy",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Environment names stand for options that are not given, and the file of \
                  --config for those that are in neither; an empty value counts as none. Prefer \
                  them for secrets: a command line can be seen by every user of the machine."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What else the program can do than serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says what would be used, asks every upstream once, and ends
    Check(Box<Options>),
    /// Signs in with a browser, here or on any other device, and keeps the login in a file; `web`
    /// takes a session of chat.qwen.ai
    Login(Login),
    /// Starts a client with the settings that make it use a proxy that is running
    Launch(Launch),
    /// Makes, lists and revokes the keys of clients in a file
    Keys(Manage),
    /// Lists the accounts and whether they can be used; ends with code 1 where none can
    Accounts {
        #[command(flatten)]
        options: Box<Options>,
        #[command(flatten)]
        list: List,
    },
    /// Asks a proxy on this machine whether it is well; ends with code 1 where it is not
    Health(Health),
    /// Writes the manual page
    Man(ManPage),
    /// Writes the script that has a shell complete the command line
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// What the proxy serves with.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Read these options, and several upstreams, from this TOML file; it is read again on
    /// SIGHUP [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "QWEN_PROXY_CONFIG",
        hide_env_values = true,
        value_parser = files::named()
    )]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,

    #[command(flatten)]
    upstream: UpstreamSettings,
}

/// Everything the proxy needs to know, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Where to listen, as `HOST:PORT`.
    pub(crate) listen: String,
    /// Who answers: at least one.
    pub(crate) upstreams: Vec<UpstreamConfig>,
    /// The keys of clients.
    pub(crate) api_keys: ApiKeys,
    /// How conversations are remembered.
    pub(crate) sessions: Sessions,
    /// Whether clients may name chats that they were not given here.
    pub(crate) allow_foreign_chats: bool,
    /// Whether chats are opened that do not show up in the account's list.
    pub(crate) temporary_chats: bool,
    /// By which other names the proxy is asked.
    pub(crate) allow_hosts: Vec<String>,
    /// By which other names models are asked for.
    pub(crate) names: ModelNames,
    /// How much memory requests and answers may take.
    pub(crate) bounds: Bounds,
    /// How many answers may be under way.
    pub(crate) rules: Rules,
    /// Where what was used is kept.
    pub(crate) keep: Keep,
    /// Within which time the body of a request must be complete.
    pub(crate) body_timeout: Duration,
    /// For how long a client may take nothing of an answer.
    pub(crate) write_timeout: Duration,
    /// How long it takes for its end.
    pub(crate) shutdown: shutdown::Patience,
    /// What to log.
    pub(crate) log: String,
    /// How its lines look.
    pub(crate) log_format: LogFormat,
    /// What is logged of streams.
    pub(crate) debug_stream: DebugStream,
    /// Where spans are sent.
    pub(crate) otlp: Option<String>,
    /// Whether `/metrics` is served.
    pub(crate) metrics: bool,
    /// Whether they are by OpenTelemetry's conventions too.
    pub(crate) gen_ai_metrics: bool,
}

fn body_pace(timeout: Duration) -> BodyPace {
    BodyPace::new().total(timeout)
}

impl Config {
    /// How fast the bodies of requests must come.
    pub(crate) fn body_pace(&self) -> BodyPace {
        body_pace(self.body_timeout)
    }

    /// What tells clients from each other.
    pub(crate) fn clients(&self) -> Clients {
        Clients::new(self.api_keys.clone(), self.is_local())
    }

    /// By which names it is asked.
    pub(crate) fn hosts(&self) -> Hosts {
        Hosts::new(&self.listen, &self.allow_hosts)
    }

    /// Which chats a client may name.
    ///
    /// Without keys on loopback every program of this machine can be any client, and may delete
    /// all chats of the accounts; there is nobody to keep them from.
    pub(crate) fn own_chats(&self) -> OwnChats {
        if self.allow_foreign_chats || self.api_keys.is_empty() && self.is_local() {
            OwnChats::Any
        } else {
            OwnChats::Known
        }
    }

    /// Whether it listens where only this machine's own programs can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self.listen.parse::<SocketAddr>() {
            Ok(address) => address.ip().is_loopback(),
            // A name; RFC 6761, section 6.3, reserves this one.
            Err(_) => self
                .listen
                .rsplit_once(':')
                .is_some_and(|(host, _)| host.eq_ignore_ascii_case("localhost")),
        }
    }
}

/// How conversations are remembered.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    /// For how long after their last use.
    pub(crate) ttl: Duration,
    /// How many turns, in memory.
    pub(crate) capacity: u64,
    /// Where, if not in memory; the URL may hold a password.
    pub(crate) redis: Option<SecretString>,
}

impl PartialEq for Sessions {
    fn eq(&self, other: &Self) -> bool {
        let url =
            |sessions: &Self| sessions.redis.as_ref().map(|url| url.expose_secret().to_owned());
        (self.ttl, self.capacity, url(self)) == (other.ttl, other.capacity, url(other))
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

impl Cli {
    /// Reads the command line and the environment; ends the process where that is asked for
    /// (`--help`) or where they cannot be read.
    pub(crate) fn read() -> (Options, Option<Command>) {
        let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
        let cli = Self::without_env(is_empty)
            .try_get_matches()
            .and_then(|matches| Self::from_arg_matches(&matches));
        let Self { options, command } = cli.unwrap_or_else(|error| error.exit());
        (options, command)
    }

    /// The command line that is read.
    pub(crate) fn program() -> clap::Command {
        Self::command()
    }

    /// The command, which does not read the environment names that pass `test`.
    fn without_env(test: impl Fn(&OsStr) -> bool) -> clap::Command {
        let without = |command: clap::Command| {
            command.mut_args(|arg| match arg.get_env() {
                Some(name) if test(name) => arg.env(None::<&str>),
                _ => arg,
            })
        };
        without(Self::command()).mut_subcommands(without)
    }
}

/// The machine, as far as it decides anything.
struct Around<'a> {
    /// Its environment, without the names that are empty.
    env: &'a dyn Fn(&str) -> Option<String>,
    /// The login that another program has left.
    login: Option<PathBuf>,
}

/// Where to listen, from what was set and what the environment says else.
///
/// # Errors
///
/// What is wrong with it.
fn listen(
    set: Option<String>,
    fallback: impl Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    match set {
        Some(listen) => checked_address(listen, "--listen"),
        None => address_from_parts(fallback("HOST"), fallback("PORT")),
    }
}

/// Where a proxy listens by the environment alone.
///
/// # Errors
///
/// What is wrong with that.
pub(crate) fn default_listen() -> Result<String, ConfigError> {
    let env = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    listen(env("QWEN_PROXY_LISTEN"), env)
}

impl Options {
    /// Those of this command line, whatever the environment holds.
    #[cfg(test)]
    pub(crate) fn of(args: &[&str]) -> Self {
        let args = std::iter::once("proxy").chain(args.iter().copied());
        let matches = Cli::without_env(|_| true).try_get_matches_from(args);
        Cli::from_arg_matches(&matches.expect("valid arguments")).expect("valid arguments").options
    }

    /// The same, whose proxy listens at this address, whatever was set.
    pub(crate) fn listening_at(mut self, address: SocketAddr) -> Self {
        self.settings.listen = Some(address.to_string());
        self
    }

    /// The file that they name.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.config.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Checks the options and works out what follows from them; reads the files that they name.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the first thing that is wrong.
    pub(crate) fn resolve(self) -> Result<Config, ConfigError> {
        let env = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        self.resolve_in(&Around { env: &env, login: credentials::discover() })
    }

    /// As [`resolve`](Self::resolve), on another machine.
    fn resolve_in(self, around: &Around<'_>) -> Result<Config, ConfigError> {
        let fallback = around.env;
        let file = self.file().map(Path::to_owned);
        let read = file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let settings = self.settings.or(read);

        let bounds = Bounds::new(&settings);
        let listen = listen(settings.listen, fallback)?;
        let log = settings.log.or_else(|| fallback("LOG_LEVEL"));
        let log = log.unwrap_or_else(|| DEFAULT_LOG.into());
        if let Err(reason) = EnvFilter::builder().parse(&log) {
            return error(format!("--log: {log:?} is not a log filter: {reason}"));
        }
        let debug_stream = settings.debug_stream.unwrap_or_default();
        let log = match debug_stream {
            DebugStream::Off => log,
            _ => format!("{log},{}=trace", inspect::TARGET),
        };
        let api_keys = settings.api_key.or_else(|| fallback("API_KEY").map(Into::into));
        let api_keys = match api_keys {
            Some(list) => ApiKeys::parse(list.expose_secret())
                .map_err(|reason| ConfigError(format!("--api-key: {reason}")))?,
            None => ApiKeys::default(),
        };
        let filed = settings.keys_file.as_deref().map(Keys::read).transpose();
        let filed = filed.map_err(|reason| ConfigError(format!("--keys-file: {reason}")))?;
        let api_keys = api_keys.and(filed);
        if settings.otlp.is_some() && cfg!(not(feature = "otlp")) {
            return error("--otlp: this build exports nothing; build it with --features otlp");
        }
        if let Some(url) = &settings.otlp {
            parse_url("--otlp", url)?;
        }
        if settings.redis.is_some() && cfg!(not(feature = "redis")) {
            return error("--redis: this build has no Redis in it; build it with --features redis");
        }
        let sessions = Sessions {
            ttl: Duration::from_secs(settings.session_ttl.unwrap_or(DEFAULT_TTL)),
            capacity: settings.session_capacity.unwrap_or(DEFAULT_CAPACITY),
            redis: settings.redis,
        };
        let allow_hosts = settings.allow_host.unwrap_or_default();
        let allow_hosts =
            allow_hosts.iter().map(|name| checked_host(name)).collect::<Result<_, _>>()?;
        let names = ModelNames::new(settings.alias, settings.claude_models.unwrap_or_default())?;
        let names = names.virtual_models(settings.virtual_models.unwrap_or_default());
        let mut upstreams = upstreams(self.upstream, settings.upstream, around)?;
        let seconds = |given: Option<u64>, default| Duration::from_secs(given.unwrap_or(default));
        let body_timeout = seconds(settings.body_timeout, DEFAULT_BODY_TIMEOUT);
        let write_timeout = seconds(settings.write_timeout, DEFAULT_WRITE_TIMEOUT);
        let shutdown = shutdown::Patience {
            delay: seconds(settings.shutdown_delay, 0),
            timeout: seconds(settings.shutdown_timeout, DEFAULT_SHUTDOWN_TIMEOUT),
        };
        for upstream in &mut upstreams {
            upstream.body_pace = body_pace(body_timeout);
        }
        let rules = Rules {
            streams: settings.max_streams,
            queue: settings.max_queue.unwrap_or(DEFAULT_QUEUE),
            wait: seconds(settings.queue_timeout, DEFAULT_QUEUE_TIMEOUT),
            fail_closed: settings.usage_failure == Some(UsageFailure::Closed),
        };
        let keep = match settings.usage_db {
            #[cfg(feature = "redis")]
            None if sessions.redis.is_some() => {
                sessions.redis.clone().map_or(Keep::Memory, |url| Keep::Redis(Url(url)))
            }
            None => Keep::Memory,
            #[cfg(feature = "usage-db")]
            Some(path) => Keep::Db(path),
            #[cfg(not(feature = "usage-db"))]
            Some(_) => {
                return error(
                    "--usage-db: this build has no database in it; build it with --features usage-db",
                );
            }
        };
        let metrics = settings.metrics.unwrap_or_default();
        Ok(Config {
            file,
            listen,
            upstreams,
            api_keys,
            sessions,
            allow_foreign_chats: settings.allow_foreign_chats.unwrap_or_default(),
            temporary_chats: settings.temporary_chats.unwrap_or_default(),
            allow_hosts,
            names,
            bounds,
            rules,
            keep,
            body_timeout,
            write_timeout,
            shutdown,
            log,
            log_format: settings.log_format.unwrap_or_default(),
            debug_stream,
            metrics,
            otlp: settings.otlp,
            gen_ai_metrics: settings.gen_ai_metrics.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests;
