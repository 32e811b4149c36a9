//! One upstream: what its settings come to.

use std::path::PathBuf;

use axum::http::{HeaderValue, Uri};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tower_qwen::{
    auth::{Credential, CredentialKind},
    chat::ReasoningEffort,
    edge::BodyPace,
    fetch::{FetchClient, FetchPolicy},
    qwen::compatible::Server,
};
use tower_qwen_emulator as emulator;

use super::{
    super::{credentials::Accounts, files},
    Around, Completions, ConfigError, Patience, Patterns, StandIns, Tools, WebCredentials, error,
    options::{Api, Effort, Kind, ServerKind, UpstreamSettings, secret},
    patience, patterns, stand_ins,
    url::parse_url,
    web::web_credentials,
};

const WEB: &str = "https://chat.qwen.ai";
pub(super) const DASHSCOPE: &str = "https://dashscope.aliyuncs.com/compatible-mode/v1";

/// One of those who answer.
#[derive(Debug)]
pub(crate) struct UpstreamConfig {
    /// What clients see in `x-qwen-upstream`.
    pub(crate) name: HeaderValue,
    /// Which models it is asked for.
    pub(crate) models: Patterns,
    /// Who it is.
    pub(crate) upstream: Upstream,
    /// Why it is this one: completes "upstream: web, …".
    pub(crate) reason: &'static str,
    /// Which of its APIs chats go to, where it has several.
    pub(crate) api: Api,
    /// What an effort of `high` means, if something else.
    pub(crate) high_effort: Option<ReasoningEffort>,
    /// How long it is waited for, and how often it is asked.
    pub(crate) patience: Patience,
    /// Who is asked where it cannot answer.
    pub(crate) stand_ins: StandIns,
    /// What becomes of tools.
    pub(crate) tools: Tools,
    /// What becomes of prompts.
    pub(crate) completions: Completions,
    /// Whom it is asked as.
    pub(crate) accounts: Accounts,
    /// Where their logins are renewed, if not at Qwen's own endpoint.
    pub(crate) token_url: Option<Uri>,
    /// Whether it learns in which trace a request stands.
    pub(crate) sends_trace: bool,
    /// How fast the bodies of requests for it must come.
    pub(crate) body_pace: BodyPace,
    /// What fetches URLs in messages for it, if they are fetched.
    pub(crate) fetch: Option<FetchClient>,
}

impl UpstreamConfig {
    /// Its name, where that is no header.
    pub(crate) fn label(&self) -> String {
        String::from_utf8_lossy(self.name.as_bytes()).into_owned()
    }
}

/// Who answers.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// The emulator: what it imitates, and the recording that it shall answer with.
    Emulator { emulated: emulator::Kind, recording: Option<Bytes> },
    /// chat.qwen.ai, or what stands in for it.
    Web {
        base_url: Uri,
        credentials: WebCredentials,
        /// What stands before the store of its files, if anything does.
        store_url: Option<Uri>,
    },
    /// An OpenAI-compatible API.
    Compatible { base_url: Uri, server: Server },
}

impl Upstream {
    /// Whether it speaks the OpenAI API itself.
    pub(crate) fn is_api(&self) -> bool {
        match self {
            Self::Emulator { emulated, .. } => *emulated != emulator::Kind::Web,
            Self::Web { .. } => false,
            Self::Compatible { .. } => true,
        }
    }

    /// Whether its Responses API, if it has one, keeps what it answers. A gateway may well be one in
    /// front of DashScope.
    fn keeps_chats(&self) -> bool {
        match self {
            Self::Emulator { emulated, .. } => *emulated == emulator::Kind::DashScope,
            Self::Web { .. } => false,
            Self::Compatible { server, .. } => {
                matches!(server, Server::DashScope | Server::Generic)
            }
        }
    }

    /// What kind it is, in a word.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Emulator { .. } => "emulator",
            Self::Web { .. } => "web",
            Self::Compatible { .. } => "compatible",
        }
    }
}

/// Those of the file; what the command line and the environment say is about the first.
pub(super) fn upstreams(
    given: UpstreamSettings,
    of_file: Vec<UpstreamSettings>,
    around: &Around<'_>,
) -> Result<Vec<UpstreamConfig>, ConfigError> {
    let mut of_file = of_file.into_iter();
    let first = given.or(of_file.next().unwrap_or_default());
    let mut upstreams: Vec<UpstreamConfig> = Vec::new();
    let mut stand_ins = Vec::new();
    for (at, settings) in std::iter::once(first).chain(of_file).enumerate() {
        let label = match &settings.name {
            Some(name) => format!("upstream {name:?}"),
            None => format!("upstream {}", at + 1),
        };
        let alone = at == 0 && settings.name.is_none();
        let labelled = move |error: ConfigError| match alone {
            true => error,
            false => ConfigError(format!("{label}: {}", error.0)),
        };
        let asked = stand_ins::Asked::from(&settings);
        let upstream = upstream(settings, around).map_err(&labelled)?;
        if let Some(other) = upstreams.iter().position(|other| other.name == upstream.name) {
            let other = other + 1;
            let message =
                format!("its name is that of upstream {other}; give each a `name` of its own");
            return Err(labelled(ConfigError(message)));
        }
        upstreams.push(upstream);
        stand_ins.push((asked, labelled));
    }
    for (at, (asked, labelled)) in stand_ins.into_iter().enumerate() {
        upstreams[at].stand_ins = asked.resolve(at, &upstreams).map_err(labelled)?;
    }
    let stands_in = |at| {
        let mut all = upstreams.iter().flat_map(|upstream| &upstream.stand_ins.all);
        all.any(|stand_in| stand_in.upstream == at)
    };
    let patterns = upstreams.iter().enumerate();
    patterns::check(patterns.map(|(at, upstream)| (&upstream.models, stands_in(at))))?;
    Ok(upstreams)
}

fn upstream(
    settings: UpstreamSettings,
    around: &Around<'_>,
) -> Result<UpstreamConfig, ConfigError> {
    let patience = patience::Asked::from(&settings);
    let credentials = web_credentials(secret(settings.token), secret(settings.cookies))?;
    let base_url = settings.base_url.as_deref();
    let base_url = base_url.map(|url| parse_url("--base-url", url)).transpose()?;
    let token_url = settings.token_url.as_deref();
    let token_url = token_url.map(|url| parse_url("--token-url", url)).transpose()?;
    let store_url = settings.store_url.as_deref();
    let store_url = store_url.map(|url| parse_url("--store-url", url)).transpose()?;
    let kind = settings.kind.unwrap_or_default();
    let of_portal = settings.server == Some(ServerKind::Portal)
        || base_url.as_ref().is_some_and(|url| server_of(url) == Server::Portal);
    let nothing_given = settings.upstream_key.is_none()
        && settings.replay.is_none()
        && settings.emulate.is_none()
        && credentials.is_empty()
        && base_url.is_none()
        && (around.env)("DASHSCOPE_API_KEY").is_none();
    let (files, found) = match settings.credentials {
        Some(files) => (files, false),
        // Who asks for the portal by name has signed in for it.
        None if of_portal && settings.upstream_key.is_none() => {
            (around.login.clone().into_iter().collect(), false)
        }
        None if kind == Kind::Auto && nothing_given => {
            (around.login.clone().into_iter().collect(), around.login.is_some())
        }
        None => (Vec::new(), false),
    };
    let files = Accounts::read(&files).map_err(|error| match found {
        false => ConfigError(format!("--credentials: {error}")),
        true => ConfigError(format!("{error}; --upstream emulator does without it")),
    })?;
    let of_dashscope = base_url.as_ref().is_none_or(|url| server_of(url) == Server::DashScope);
    let key = match settings.upstream_key {
        Some(key) => Some(checked_key(key)?),
        None if !files.is_empty() => None,
        // It is DashScope's; no one else's server may see it.
        None if of_dashscope => (around.env)("DASHSCOPE_API_KEY").map(Into::into),
        None => None,
    };
    let (kind, reason) = match kind {
        Kind::Auto if settings.replay.is_some() => (Kind::Emulator, "because --replay is given"),
        Kind::Auto if settings.emulate.is_some() => (Kind::Emulator, "because --emulate is given"),
        Kind::Auto if !credentials.is_empty() => (Kind::Web, "because a web credential is given"),
        Kind::Auto if found => (Kind::Compatible, "because qwen-code has signed in here"),
        Kind::Auto if !files.is_empty() => kind_of(&files)?,
        Kind::Auto if key.is_some() => (Kind::Compatible, "because an API key is given"),
        Kind::Auto if base_url.is_some() => (Kind::Compatible, "because a base URL is given"),
        Kind::Auto => (Kind::Emulator, "because no credential is given"),
        kind => (kind, "as --upstream says"),
    };
    if settings.emulate.is_some() && kind != Kind::Emulator {
        return error("--emulate: only the emulator imitates; leave out the kind of upstream");
    }
    if settings.replay.is_some() && kind != Kind::Emulator {
        return error("--replay: only the emulator replays; leave out the kind of upstream");
    }
    let upstream = match kind {
        Kind::Auto | Kind::Emulator => {
            let emulated = settings.emulate.unwrap_or_default();
            if settings.replay.is_some() && emulated != emulator::Kind::Web {
                return error("--replay: a recording is of the web upstream; leave out --emulate");
            }
            let recording = settings.replay.map(read_recording).transpose()?;
            Upstream::Emulator { emulated, recording }
        }
        Kind::Web => Upstream::Web {
            base_url: base_url.unwrap_or(Uri::from_static(WEB)),
            credentials,
            store_url,
        },
        Kind::Compatible if store_url.is_some() => {
            return error("--store-url: only the web upstream has a store; leave it out");
        }
        Kind::Compatible => compatible(base_url, settings.server, key.as_ref(), &files)?,
    };
    if let Upstream::Web { credentials, .. } = &upstream
        && credentials.token.is_none()
        && credentials.cookies.is_some()
        && !files.is_empty()
    {
        return error(
            "--cookies: without the cookie `token` they are no account's, and there are others",
        );
    }
    let patience = Patience::new(patience, &upstream)?;
    let given = match &upstream {
        Upstream::Emulator { .. } => None,
        Upstream::Web { credentials, .. } => credentials.session()?,
        Upstream::Compatible { .. } => key.as_ref().map(api_key).transpose()?,
    };
    let accounts = match &upstream {
        Upstream::Emulator { .. } => Accounts::default(),
        _ => files.with_given(given).map_err(|e| ConfigError(format!("--credentials: {e}")))?,
    };
    let tools = settings.tools.unwrap_or_default();
    if matches!(tools, Tools::Native | Tools::Rescue) && !upstream.is_api() {
        return error(
            "--tools: the web upstream has no tools of its own; `openai` and `prompt` put them \
             into the prompt",
        );
    }
    let api = settings.api.unwrap_or_default();
    if api == Api::Responses && !upstream.keeps_chats() {
        return error("--api: only DashScope's `responses` keeps chats; leave it out");
    }
    if api == Api::Responses && patience.resume > 0 {
        return error(
            "--resume: an answer of DashScope's `responses` that broke off is in no chat; leave it or \
             --api responses out",
        );
    }
    let completions = match settings.completions.unwrap_or_default() {
        Completions::Raw | Completions::Fim if !upstream.is_api() => {
            return error(
                "--completions: the web upstream has no prompts; `chat` answers each as a chat",
            );
        }
        // Nothing is looked at there.
        Completions::Auto if tools == Tools::Off && upstream.is_api() => Completions::Raw,
        completions => completions,
    };
    let sends_trace = settings.send_trace.unwrap_or_default();
    if sends_trace && !upstream.is_api() {
        return error("--send-trace: the web upstream is a page's, and no page sends a trace");
    }
    let high_effort = match settings.high_effort {
        None | Some(Effort::High) => None,
        Some(_) if !upstream.is_api() => {
            return error("--high-effort: the web upstream only thinks or does not");
        }
        Some(Effort::Medium) => Some(ReasoningEffort::Medium),
        Some(Effort::Low) => Some(ReasoningEffort::Low),
    };
    let name = settings.name.as_deref().unwrap_or(upstream.kind());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let name = match HeaderValue::from_str(name) {
        Ok(value) if name.bytes().all(plain) => value,
        _ => return error("its name has other characters than letters, digits, `-`, `_` and `.`"),
    };
    let models = Patterns::parse(settings.models)?;
    let body_pace = BodyPace::new();
    let allowed = settings.fetch_allow.unwrap_or_default();
    let fetch = settings.fetch_urls.unwrap_or(false).then(|| FetchPolicy::new().allow(&allowed));
    let fetch = fetch.map(FetchClient::new).transpose();
    let fetch = fetch.map_err(|error| ConfigError(format!("--fetch-urls: {error}")))?;
    if fetch.is_none() && !allowed.is_empty() {
        return error("--fetch-allow: nothing is fetched without --fetch-urls");
    }
    if fetch.is_some() && tools == Tools::Off && upstream.is_api() {
        return error("--fetch-urls: with --tools off requests pass byte by byte; leave one out");
    }
    Ok(UpstreamConfig {
        name,
        models,
        upstream,
        reason,
        api,
        high_effort,
        patience,
        // They are known when all upstreams are.
        stand_ins: StandIns::default(),
        tools,
        completions,
        accounts,
        token_url,
        sends_trace,
        body_pace,
        fetch,
    })
}

/// What takes the credentials of these files.
fn kind_of(files: &Accounts) -> Result<(Kind, &'static str), ConfigError> {
    let web = |kind| kind == CredentialKind::Web;
    match (files.any(web), files.any(|kind| !web(kind))) {
        (true, true) => error(
            "--credentials: some are sessions of chat.qwen.ai and some are for an API; give each \
             kind an upstream of its own, in the file of --config",
        ),
        (true, false) => Ok((Kind::Web, "because a session's file is given")),
        (false, _) => Ok((Kind::Compatible, "because a login's file is given")),
    }
}

fn api_key(key: &SecretString) -> Result<Credential, ConfigError> {
    Credential::api_key(key.expose_secret())
        .or_else(|_| error("--upstream-key: it is malformed: it cannot be sent as a header"))
}

fn compatible(
    base_url: Option<Uri>,
    server: Option<ServerKind>,
    key: Option<&SecretString>,
    files: &Accounts,
) -> Result<Upstream, ConfigError> {
    let of_files = files.base_url().map_err(|e| ConfigError(format!("--credentials: {e}")))?;
    // A file of a key says as little of its server as a key does.
    let has_key = key.is_some() || files.any(|kind| kind == CredentialKind::ApiKey);
    let base_url = match base_url {
        Some(base_url) => base_url,
        None if of_files.is_some() => parse_url("--credentials", &of_files.unwrap_or_default())?,
        None if key.is_some_and(|key| key.expose_secret().starts_with("sk-sp-")) => {
            return error(
                "--base-url: the key is one of a coding plan, and these have a host of their \
                 own; give the URL that the plan's page names",
            );
        }
        None if has_key && server.is_none_or(|server| server == ServerKind::DashScope) => {
            Uri::from_static(DASHSCOPE)
        }
        None => {
            return error(
                "--base-url: a compatible upstream needs it, such as http://127.0.0.1:8000/v1",
            );
        }
    };
    let server = match server {
        Some(server) => server.into(),
        None if files.any(|kind| kind == CredentialKind::OAuth) => Server::Portal,
        None => server_of(&base_url),
    };
    Ok(Upstream::Compatible { base_url, server })
}

fn server_of(base_url: &Uri) -> Server {
    Server::from_host(base_url.host().unwrap_or_default())
}

fn checked_key(key: SecretString) -> Result<SecretString, ConfigError> {
    let text = key.expose_secret().trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return error("--upstream-key: it is malformed: a key is one word of visible ASCII");
    }
    Ok(text.into())
}

impl From<ServerKind> for Server {
    fn from(kind: ServerKind) -> Self {
        match kind {
            ServerKind::Generic => Self::Generic,
            ServerKind::DashScope => Self::DashScope,
            ServerKind::Portal => Self::Portal,
            ServerKind::Vllm => Self::Vllm,
            ServerKind::SgLang => Self::SgLang,
            ServerKind::Ollama => Self::Ollama,
            ServerKind::LlamaCpp => Self::LlamaCpp,
            ServerKind::LmStudio => Self::LmStudio,
        }
    }
}

fn read_recording(path: PathBuf) -> Result<Bytes, ConfigError> {
    match files::read(&path) {
        Ok(recording) => Ok(recording.into()),
        Err(reason) => error(format!("--replay: cannot read {}: {reason}", path.display())),
    }
}
