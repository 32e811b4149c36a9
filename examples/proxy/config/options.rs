//! The options, as the command line, the environment and the file give them.

use std::path::PathBuf;

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error};
use tower_qwen_emulator as emulator;

use super::super::files;

/// What is set for the whole proxy.
///
/// A field is an option of the command line and a key of the file at the same time, so that
/// neither can fall behind the other.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Where to listen, as HOST:PORT; port 0 takes a free one. Without it HOST and PORT are
    /// read, each by itself [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "QWEN_PROXY_LISTEN", hide_env_values = true)]
    pub(super) listen: Option<String>,

    /// The keys, separated by commas, of which clients must present one as `Authorization:
    /// Bearer` or `X-API-Key`. Without it API_KEY is read [default: none, any client is served]
    #[arg(long, value_name = "KEYS", env = "QWEN_PROXY_API_KEY", hide_env_values = true)]
    pub(super) api_key: Option<SecretString>,

    /// A file of keys with names, limits and budgets, as `proxy keys` makes it, beside those of
    /// --api-key; it is read again on SIGHUP [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "QWEN_KEYS_FILE",
        hide_env_values = true,
        value_parser = files::named()
    )]
    pub(super) keys_file: Option<PathBuf>,

    /// Let clients go on in any chat whose id they send as `qwen_chat_id`. Otherwise it must be one
    /// that they were given here, but for a proxy without keys on loopback [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_ALLOW_FOREIGN_CHATS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) allow_foreign_chats: Option<bool>,

    /// Host names that a proxy without keys is asked by, separated by commas, beside those of
    /// loopback and the address that it listens on; such as its name in a network of containers
    /// [default: none]
    #[arg(
        long,
        value_name = "NAMES",
        env = "QWEN_PROXY_ALLOW_HOST",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(super) allow_host: Option<Vec<String>>,

    /// How many seconds a conversation is remembered that nobody goes on with [default: 3600]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_SESSION_TTL",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TTL)
    )]
    pub(super) session_ttl: Option<u64>,

    /// How many turns are remembered at most; beyond it the oldest are replayed when they go on
    /// [default: 100000]
    #[arg(long, value_name = "TURNS", env = "QWEN_SESSION_CAPACITY", hide_env_values = true)]
    pub(super) session_capacity: Option<u64>,

    /// Remember conversations in this Redis, for several proxies that serve the same clients; a
    /// build with `--features redis` can [default: none, in memory]
    #[arg(long, value_name = "URL", env = "QWEN_REDIS_URL", hide_env_values = true)]
    pub(super) redis: Option<SecretString>,

    /// How many messages a request may hold; one with more is answered with 400, as it is for
    /// the next four [default: 16384]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_MAX_MESSAGES",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_messages: Option<usize>,

    /// How many parts of content all messages of a request may hold [default: 32768]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_MAX_PARTS",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_parts: Option<usize>,

    /// How many tool calls all messages of a request may hold [default: 32768]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_MAX_CALLS",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_calls: Option<usize>,

    /// How many tools a request may offer [default: 4096]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_MAX_TOOLS",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_tools: Option<usize>,

    /// How deep lists and objects of a request may nest [default: 512]
    #[arg(
        long,
        value_name = "LEVELS",
        env = "QWEN_MAX_NESTING",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_nesting: Option<usize>,

    /// The largest answer that is given in one piece, in MiB; streams have no such limit
    /// [default: 64]
    #[arg(
        long,
        value_name = "MIB",
        env = "QWEN_MAX_ANSWER",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_answer: Option<usize>,

    /// How many MiB the bodies of all requests in work may take together; beyond it requests
    /// wait up to 10 seconds and are then answered with 503 [default: 256]
    #[arg(
        long,
        value_name = "MIB",
        env = "QWEN_MAX_BODIES",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_bodies: Option<usize>,

    /// How many answers may be under way at once; further requests wait for a place, and are answered
    /// with 503 where as many wait as may, or too long [default: any number]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_MAX_STREAMS",
        hide_env_values = true,
        value_parser = at_least_one
    )]
    pub(super) max_streams: Option<usize>,

    /// How many requests may wait for a place: of one key with a limit, and of all together; 0 for
    /// none [default: 100]
    #[arg(long, value_name = "COUNT", env = "QWEN_MAX_QUEUE", hide_env_values = true)]
    pub(super) max_queue: Option<usize>,

    /// How many seconds a request waits for a place [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_QUEUE_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) queue_timeout: Option<u64>,

    /// Keep what keys have used in this file, so that budgets outlive the process; a build with
    /// `--features usage-db` can [default: none, in memory]
    #[arg(
        long,
        value_name = "FILE",
        env = "QWEN_USAGE_DB",
        hide_env_values = true,
        value_parser = files::named()
    )]
    pub(super) usage_db: Option<PathBuf>,

    /// What becomes of keys with a budget while what they use cannot be written to --usage-db, such
    /// as on a full disk [default: open]
    #[arg(
        long,
        value_enum,
        value_name = "WAY",
        env = "QWEN_USAGE_FAILURE",
        hide_env_values = true
    )]
    pub(super) usage_failure: Option<UsageFailure>,

    /// Within how many seconds a request's body must be complete; and 32 KiB of it, or its end,
    /// must come every 30 s. A slower one is answered with 408 [default: 300]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_BODY_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) body_timeout: Option<u64>,

    /// How many seconds a client may take nothing of an answer that is there for it; then the
    /// answer is dropped, which ends the upstream's work. It does not end a wait for the upstream
    /// [default: 60]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_WRITE_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) write_timeout: Option<u64>,

    /// How many seconds the proxy goes on taking connections when it is told to stop and `/ready` says
    /// so, for a load balancer to see that [default: 0]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_SHUTDOWN_DELAY",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(..=MAX_TIMEOUT)
    )]
    pub(super) shutdown_delay: Option<u64>,

    /// How many seconds answers may go on then, before they end with an error [default: 30]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_SHUTDOWN_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(..=MAX_TIMEOUT)
    )]
    pub(super) shutdown_timeout: Option<u64>,

    /// What to log on standard error, such as `debug` or `tower_qwen=trace,info`. Without it
    /// LOG_LEVEL is read [default: info]
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", hide_env_values = true)]
    pub(super) log: Option<String>,

    /// How lines of the log look [default: text]
    #[arg(long, value_enum, value_name = "FORM", env = "QWEN_LOG_FORMAT", hide_env_values = true)]
    pub(super) log_format: Option<LogFormat>,

    /// Log what streams through: each event from the upstream, between the layers and to the client,
    /// with its size and time. `header` does so for requests that ask for it, by
    /// `x-qwen-debug-stream: events` [default: off]
    #[arg(
        long,
        value_enum,
        value_name = "VIEW",
        env = "QWEN_DEBUG_STREAM",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "events"
    )]
    pub(super) debug_stream: Option<DebugStream>,

    /// Send a span of each request and of each call of an upstream to this collector, by OTLP over
    /// HTTP; a build with `--features otlp` can [default: none]
    #[arg(long, value_name = "URL", env = "QWEN_OTLP", hide_env_values = true)]
    pub(super) otlp: Option<String>,

    /// Serve what the layers count at /metrics, for Prometheus, behind the API key [default:
    /// false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_METRICS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) metrics: Option<bool>,

    /// Count by OpenTelemetry's conventions for generative AI too (`gen_ai_*`), with --metrics
    /// [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_GEN_AI_METRICS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) gen_ai_metrics: Option<bool>,

    /// Other names for models, as NAME=MODEL, separated by commas; the first that fits counts. A
    /// `*` in NAME stands for any characters, and in MODEL for the same ones [default: none]
    #[arg(
        long,
        value_name = "NAMES",
        env = "QWEN_ALIAS",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = AliasSettings::parse
    )]
    pub(super) alias: Option<Vec<AliasSettings>>,

    /// List models to clients of the Anthropic API under names that begin with `claude-`, since
    /// Claude Code shows no others, and serve them under these names [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_CLAUDE_MODELS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) claude_models: Option<bool>,

    /// What names such as `qwen3-max-search` are where the catalogue has `qwen3-max` alone: `on`, the
    /// model asked in that way; `list`, the same, and listed among the models; `off`, nothing [default:
    /// on]
    #[arg(
        long,
        value_name = "WHEN",
        env = "QWEN_VIRTUAL_MODELS",
        hide_env_values = true,
        value_enum
    )]
    pub(super) virtual_models: Option<VirtualModels>,

    /// Open chats of chat.qwen.ai that do not show up in the account's list (`chat_mode: local`)
    /// [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_TEMPORARY_CHATS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) temporary_chats: Option<bool>,

    /// The upstreams of the file: its `[[upstream]]` tables.
    #[arg(skip)]
    pub(super) upstream: Vec<UpstreamSettings>,
}

/// What becomes of names that end in what a model is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VirtualModels {
    /// They are names like all others.
    Off,
    /// They are the models in front, asked in that way.
    #[default]
    On,
    /// The same, and they are listed.
    List,
}

/// Another name for a model: an `[[alias]]` table of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AliasSettings {
    /// The name that clients ask for.
    pub(super) name: String,
    /// The model that it stands for.
    pub(super) model: String,
    /// Whether it is among the models that are listed.
    #[serde(default)]
    pub(super) list: bool,
}

impl AliasSettings {
    /// # Errors
    ///
    /// For what is not NAME=MODEL.
    fn parse(text: &str) -> Result<Self, String> {
        let (name, model) = text.split_once('=').ok_or("it is not NAME=MODEL")?;
        Ok(Self { name: name.trim().to_owned(), model: model.trim().to_owned(), list: false })
    }
}

/// The longest time to remember a conversation, in seconds: a year.
pub(super) const MAX_TTL: u64 = 31_536_000;

/// The longest timeout, in seconds: a day.
pub(super) const MAX_TIMEOUT: u64 = 86_400;

/// The most tries that may follow the first.
pub(super) const MAX_RETRIES: i64 = 10;

/// What is set for one upstream.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UpstreamSettings {
    /// What the file calls it.
    #[arg(skip)]
    pub(super) name: Option<String>,

    /// The models that it is asked for: names, or beginnings of names with a `*` behind them.
    #[arg(skip)]
    pub(super) models: Option<Vec<String>>,

    /// Who answers. `auto` takes what a credential, a key or a base URL is given for, else the
    /// portal if qwen-code has signed in on this machine, else the emulator [default: auto]
    #[arg(
        id = "upstream",
        long = "upstream",
        value_enum,
        value_name = "KIND",
        env = "QWEN_UPSTREAM",
        hide_env_values = true
    )]
    pub(super) kind: Option<Kind>,

    /// Where the upstream is: an origin for `web`, for `compatible` the URL that ends in `/v1`
    /// [default: https://chat.qwen.ai, or DashScope with a key]
    #[arg(long, value_name = "URL", env = "QWEN_BASE_URL", hide_env_values = true)]
    pub(super) base_url: Option<String>,

    /// A credential of the web upstream: a JWT (`eyJ…`), or a compressed token with one in it
    /// (`H4sI…`), is sent as bearer and as the cookie `token`, anything else as `bx-umidtoken`
    /// [default: none]
    #[arg(long, value_name = "TOKEN", env = "QWEN_TOKEN", hide_env_values = true)]
    pub(super) token: Option<SecretString>,

    /// Cookies for the web upstream, as a browser sends them: `name=value; name=value`
    /// [default: none]
    #[arg(long, value_name = "COOKIES", env = "QWEN_COOKIES", hide_env_values = true)]
    pub(super) cookies: Option<SecretString>,

    /// Credential files, or folders of them (every *.json): logins of `proxy login` and of the
    /// qwen-code CLI, web sessions, keys. Each is an account; renewed tokens are written back
    /// [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "QWEN_CREDENTIALS",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = files::named()
    )]
    pub(super) credentials: Option<Vec<PathBuf>>,

    /// Where logins are renewed [default: Qwen's own endpoint]
    #[arg(long, value_name = "URL", env = "QWEN_TOKEN_URL", hide_env_values = true)]
    pub(super) token_url: Option<String>,

    /// Fetch what http: and https: URLs in messages name, from the public Internet alone, and give it
    /// to the upstream as data [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_FETCH_URLS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) fetch_urls: Option<bool>,

    /// Hosts that are fetched from although their addresses are not public or their ports not 80 or
    /// 443, as HOST or HOST:PORT, separated by commas [default: none]
    #[arg(
        long,
        value_name = "HOSTS",
        env = "QWEN_FETCH_ALLOW",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(super) fetch_allow: Option<Vec<String>>,

    /// Where files for the web upstream are put, in place of the host that it names for each: a
    /// gateway before the store [default: that host]
    #[arg(long, value_name = "URL", env = "QWEN_STORE_URL", hide_env_values = true)]
    pub(super) store_url: Option<String>,

    /// The API key of the compatible upstream. Without it DASHSCOPE_API_KEY is read [default:
    /// none]
    #[arg(long, value_name = "KEY", env = "QWEN_API_KEY", hide_env_values = true)]
    pub(super) upstream_key: Option<SecretString>,

    /// What kind of server the compatible upstream is [default: told from the host, else
    /// generic]
    #[arg(long, value_enum, value_name = "SERVER", env = "QWEN_SERVER", hide_env_values = true)]
    pub(super) server: Option<ServerKind>,

    /// Which API of a compatible upstream chats go to: `responses` is DashScope's that keeps them, so
    /// that a turn sends only what is new [default: chat]
    #[arg(long, value_enum, value_name = "API", env = "QWEN_API", hide_env_values = true)]
    pub(super) api: Option<Api>,

    /// What an effort of `high` means, which agents ask for with every request; `medium` is much
    /// faster with Qwen3.8. For compatible upstreams only [default: high]
    #[arg(
        long,
        value_enum,
        value_name = "EFFORT",
        env = "QWEN_HIGH_EFFORT",
        hide_env_values = true
    )]
    pub(super) high_effort: Option<Effort>,

    /// How many seconds the first event of an answer may take, from the request; also the head of
    /// any response of the upstream. Comments are no events [default: 60 for web, 120 for
    /// dashscope and portal, 600 for other servers, which may load a model first]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_FIRST_EVENT_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) first_event_timeout: Option<u64>,

    /// How many seconds each event behind the first may be waited for [default: 120 for web,
    /// dashscope and portal, 300 for other servers, which may write a whole call first]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_IDLE_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) idle_timeout: Option<u64>,

    /// How many seconds a whole answer may take, from the request [default: 900]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_TOTAL_TIMEOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) total_timeout: Option<u64>,

    /// For how many seconds token counts are awaited when the model has finished and the connection
    /// stays open [default: 2]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_GRACE",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(..=MAX_TIMEOUT)
    )]
    pub(super) grace: Option<u64>,

    /// Who is asked where this upstream cannot answer and nothing of an answer has come: names of
    /// other upstreams in the file, separated by commas, each as NAME or NAME:MODEL [default: none]
    #[arg(
        long,
        value_name = "NAMES",
        env = "QWEN_FALLBACK",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(super) fallback: Option<Vec<String>>,

    /// After how many seconds without the first event of an answer the next one of --fallback is
    /// asked in its place [default: never]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_FALLBACK_AFTER",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT)
    )]
    pub(super) fallback_after: Option<u64>,

    /// For how many seconds a chat goes on whose client is gone, so that the same client may ask again
    /// and have its answer; 0 cancels it at once [default: 5]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QWEN_LINGER",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(..=MAX_TIMEOUT)
    )]
    pub(super) linger: Option<u64>,

    /// How many more times a request is sent that is limited, finds the upstream overloaded, failed
    /// or out of reach, while nothing of an answer has come; 0 for none [default: 2]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_RETRIES",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(..=MAX_RETRIES)
    )]
    pub(super) retries: Option<u32>,

    /// How often an upstream is asked to go on with an answer that broke off in the middle of its text;
    /// 0 for never [default: 0]
    #[arg(
        long,
        value_name = "COUNT",
        env = "QWEN_RESUME",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(..=MAX_RETRIES)
    )]
    pub(super) resume: Option<u32>,

    /// Ask for an answer in one piece where the upstream says that its stream has timed out, once,
    /// for requests of up to 64 KiB; the client gets a stream all the same. For compatible upstreams
    /// only [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_WHOLE_AFTER_TIMEOUT",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) whole_after_timeout: Option<bool>,

    /// Send the trace context of each request (`traceparent`, `tracestate`), for a server of your own
    /// that records traces too. For compatible upstreams only [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "QWEN_SEND_TRACE",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) send_trace: Option<bool>,

    /// How calls of tools reach the client [default: openai]
    #[arg(long, value_enum, value_name = "FORM", env = "QWEN_TOOLS", hide_env_values = true)]
    pub(super) tools: Option<Tools>,

    /// What becomes of prompts (`POST /v1/completions`), which autocomplete sends; for compatible
    /// upstreams only [default: auto]
    #[arg(long, value_enum, value_name = "FORM", env = "QWEN_COMPLETIONS", hide_env_values = true)]
    pub(super) completions: Option<Completions>,

    /// Which upstream the emulator imitates [default: web]
    #[arg(
        long,
        value_name = "KIND",
        env = "QWEN_EMULATE",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(emulator::Kind::ALL.map(emulator::Kind::as_str))
            .map(|name| name.parse::<emulator::Kind>().expect("one of their names"))
    )]
    #[serde(deserialize_with = "emulated")]
    pub(super) emulate: Option<emulator::Kind>,

    /// Answer with this recorded event stream of the web upstream; for the emulator only
    /// [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "QWEN_REPLAY",
        hide_env_values = true,
        value_parser = files::named()
    )]
    pub(super) replay: Option<PathBuf>,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// One line each, for people
    #[default]
    Text,
    /// Several lines each, with colours on a terminal, for people who look for something
    Pretty,
    /// One JSON object a line, for programs; so is all else that is said on standard error
    Json,
}

/// What is logged of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DebugStream {
    /// Nothing
    #[default]
    Off,
    /// Of every request what comes, how large it is and when
    Events,
    /// The same with what is said: the log is then as confidential as the conversations
    Content,
    /// As `events`, of requests with the header `x-qwen-debug-stream: events`
    Header,
    /// The same, and as `content` of those with `x-qwen-debug-stream: content`
    HeaderContent,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Whichever is given a credential, else the emulator
    #[default]
    Auto,
    /// An imitation of an upstream inside this process
    Emulator,
    /// The web API of chat.qwen.ai
    Web,
    /// An OpenAI-compatible API: DashScope, vLLM, SGLang, Ollama, llama.cpp and others
    Compatible,
}

/// What kind of server a compatible upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub(crate) enum ServerKind {
    /// Any other
    Generic,
    /// DashScope, a coding plan, or a gateway in front of it
    DashScope,
    /// The portal that OAuth logins of qwen-code lead to
    Portal,
    /// vLLM
    Vllm,
    /// SGLang
    SgLang,
    /// Ollama
    Ollama,
    /// llama.cpp's server
    LlamaCpp,
    /// LM Studio
    LmStudio,
}

/// An API of a compatible upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Api {
    /// Chat completions, which keeps nothing
    #[default]
    Chat,
    /// DashScope's Responses, which keeps chats for seven days
    Responses,
}

/// What becomes of budgets that cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UsageFailure {
    /// They go on in memory
    Open,
    /// Keys that have one are answered with 503
    Closed,
}

/// How hard a model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Effort {
    /// A little
    Low,
    /// Some
    Medium,
    /// A lot
    High,
}

/// How calls of tools reach the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tools {
    /// As `tool_calls`, in the way that suits the upstream: `prompt` for web, `rescue` for
    /// compatible
    #[default]
    Openai,
    /// Tools are offered in the prompt, and calls in the text become `tool_calls`
    Prompt,
    /// The compatible upstream's own tools, their form repaired
    Native,
    /// The compatible upstream's own tools, and calls that it left in the text
    Rescue,
    /// Every reply is one XML tool call, for clients of that protocol (also at /xml/v1)
    Xml,
    /// No layer for tools: web is not offered them; compatible answers pass byte by byte
    Off,
}

/// What becomes of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Completions {
    /// By the server: they go to it as they are where it has the route. A `suffix` that it does not
    /// take is written into the prompt for models with `coder` in their name
    #[default]
    Auto,
    /// They go to the server byte by byte, with their `suffix`
    Raw,
    /// They go to the server, and a `suffix` is written into the prompt for any model
    Fim,
    /// Each is answered as a chat
    Chat,
}

impl Settings {
    /// These, and `other`'s where nothing is set here. Empty values count as not set.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            listen: text(self.listen).or(text(other.listen)),
            api_key: secret(self.api_key).or(secret(other.api_key)),
            keys_file: path(self.keys_file).or(path(other.keys_file)),
            allow_foreign_chats: self.allow_foreign_chats.or(other.allow_foreign_chats),
            allow_host: names(self.allow_host).or(names(other.allow_host)),
            session_ttl: self.session_ttl.or(other.session_ttl),
            session_capacity: self.session_capacity.or(other.session_capacity),
            max_messages: self.max_messages.or(other.max_messages),
            max_parts: self.max_parts.or(other.max_parts),
            max_calls: self.max_calls.or(other.max_calls),
            max_tools: self.max_tools.or(other.max_tools),
            max_nesting: self.max_nesting.or(other.max_nesting),
            max_answer: self.max_answer.or(other.max_answer),
            max_bodies: self.max_bodies.or(other.max_bodies),
            max_streams: self.max_streams.or(other.max_streams),
            max_queue: self.max_queue.or(other.max_queue),
            queue_timeout: self.queue_timeout.or(other.queue_timeout),
            usage_db: path(self.usage_db).or(path(other.usage_db)),
            usage_failure: self.usage_failure.or(other.usage_failure),
            redis: secret(self.redis).or(secret(other.redis)),
            body_timeout: self.body_timeout.or(other.body_timeout),
            write_timeout: self.write_timeout.or(other.write_timeout),
            shutdown_delay: self.shutdown_delay.or(other.shutdown_delay),
            shutdown_timeout: self.shutdown_timeout.or(other.shutdown_timeout),
            log: text(self.log).or(text(other.log)),
            log_format: self.log_format.or(other.log_format),
            debug_stream: self.debug_stream.or(other.debug_stream),
            otlp: text(self.otlp).or(text(other.otlp)),
            metrics: self.metrics.or(other.metrics),
            gen_ai_metrics: self.gen_ai_metrics.or(other.gen_ai_metrics),
            alias: self.alias.or(other.alias),
            claude_models: self.claude_models.or(other.claude_models),
            virtual_models: self.virtual_models.or(other.virtual_models),
            temporary_chats: self.temporary_chats.or(other.temporary_chats),
            upstream: if self.upstream.is_empty() { other.upstream } else { self.upstream },
        }
    }
}

impl UpstreamSettings {
    /// As [`Settings::or`].
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            name: text(self.name).or(text(other.name)),
            models: self.models.or(other.models),
            kind: self.kind.or(other.kind),
            base_url: text(self.base_url).or(text(other.base_url)),
            token: secret(self.token).or(secret(other.token)),
            cookies: secret(self.cookies).or(secret(other.cookies)),
            credentials: paths(self.credentials).or(paths(other.credentials)),
            token_url: text(self.token_url).or(text(other.token_url)),
            fetch_urls: self.fetch_urls.or(other.fetch_urls),
            fetch_allow: names(self.fetch_allow).or(names(other.fetch_allow)),
            store_url: text(self.store_url).or(text(other.store_url)),
            upstream_key: secret(self.upstream_key).or(secret(other.upstream_key)),
            server: self.server.or(other.server),
            api: self.api.or(other.api),
            high_effort: self.high_effort.or(other.high_effort),
            first_event_timeout: self.first_event_timeout.or(other.first_event_timeout),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            total_timeout: self.total_timeout.or(other.total_timeout),
            grace: self.grace.or(other.grace),
            fallback: names(self.fallback).or(names(other.fallback)),
            fallback_after: self.fallback_after.or(other.fallback_after),
            linger: self.linger.or(other.linger),
            retries: self.retries.or(other.retries),
            resume: self.resume.or(other.resume),
            whole_after_timeout: self.whole_after_timeout.or(other.whole_after_timeout),
            send_trace: self.send_trace.or(other.send_trace),
            tools: self.tools.or(other.tools),
            completions: self.completions.or(other.completions),
            emulate: self.emulate.or(other.emulate),
            replay: self.replay.or(other.replay),
        }
    }
}

/// # Errors
///
/// For what is no count, or none at all.
fn at_least_one(count: &str) -> Result<usize, String> {
    match count.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn names(names: Option<Vec<String>>) -> Option<Vec<String>> {
    let mut names = names?;
    names.retain(|name| !name.trim().is_empty());
    Some(names).filter(|names| !names.is_empty())
}

fn path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn paths(paths: Option<Vec<PathBuf>>) -> Option<Vec<PathBuf>> {
    let mut paths = paths?;
    paths.retain(|path| !path.as_os_str().is_empty());
    Some(paths).filter(|paths| !paths.is_empty())
}

pub(super) fn secret(secret: Option<SecretString>) -> Option<SecretString> {
    secret.filter(|secret| !secret.expose_secret().is_empty())
}

/// # Errors
///
/// For a name that none of them has.
fn emulated<'de, D: Deserializer<'de>>(value: D) -> Result<Option<emulator::Kind>, D::Error> {
    String::deserialize(value)?.parse().map(Some).map_err(D::Error::custom)
}
