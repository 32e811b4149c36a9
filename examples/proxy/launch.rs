//! `proxy launch`: starts a client with the settings that make it use the proxy.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, ErrorKind, Write},
    process::{Command, ExitStatus},
    time::Duration,
};

use axum::http::{Request, StatusCode, Uri, header::AUTHORIZATION};
use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_qwen::{FullBody, qwen::client::QwenUpstream};

use super::{config::parse_url, login::Failure};

/// What `proxy launch` is asked for.
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// Which client
    #[arg(value_enum)]
    client: Client,

    /// The model that it shall ask for [default: the first of the proxy's]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// Where the proxy is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    proxy: String,

    /// The key of the proxy, where it asks for one; of several in QWEN_PROXY_API_KEY the first
    #[arg(long, value_name = "KEY", env = "QWEN_PROXY_API_KEY", hide_env_values = true)]
    key: Option<SecretString>,

    /// What the client itself is told
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// A client that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Claude Code
    Claude,
    /// Codex
    Codex,
}

impl Client {
    const fn program(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Claude => "@anthropic-ai/claude-code",
            Self::Codex => "@openai/codex",
        }
    }
}

/// How long the proxy may take to say which models it has.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a shell gives for a program that is not there.
const NOT_FOUND: u8 = 127;
/// What is wrong is the user's to mend: the same code as clap's.
const USAGE: u8 = 2;

fn fail<T>(code: u8, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { message: message.into(), code })
}

/// What the proxy says of a model.
#[derive(Debug, PartialEq, Eq)]
struct Model {
    id: String,
    /// How many tokens it takes, where that is known.
    window: Option<u64>,
}

impl Launch {
    /// Starts the client and waits for it; the code that it ends with.
    ///
    /// # Errors
    ///
    /// A [`Failure`], where it was not started.
    pub(crate) async fn run(self) -> Result<u8, Failure> {
        let url =
            parse_url("--proxy", &self.proxy).or_else(|error| fail(USAGE, error.to_string()))?;
        let key = self.key.as_ref().and_then(|keys| {
            let first = keys.expose_secret().split(',').map(str::trim).find(|key| !key.is_empty());
            first.map(|key| SecretString::from(key.to_owned()))
        });
        let models = models(&url, key.as_ref()).await?;
        let mut model = choose(&models, self.model.as_deref())?;
        if model.window.is_none() {
            model.window = window(&url, key.as_ref(), &model.id).await;
        }
        let mut command = Command::new(self.client.program());
        match self.client {
            Client::Claude => for_claude(&mut command, &url, key.as_ref(), &model),
            Client::Codex => for_codex(&mut command, &url, key.as_ref(), &model),
        }
        command.args(&self.args);
        let status = command.spawn().map(|mut child| {
            // Nobody may be there to read it, and the client runs all the same.
            let _ = writeln!(io::stderr(), "{} asks {url} for {}", self.client.program(), model.id);
            // The terminal is the client's, and so is what Ctrl-C means there.
            tokio::task::spawn_blocking(move || child.wait())
        });
        let status = match status {
            Ok(waiting) => waiting.await.unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(error) => Err(error),
        };
        match status {
            Ok(status) => Ok(code(status)),
            Err(error) if error.kind() == ErrorKind::NotFound => fail(
                NOT_FOUND,
                format!(
                    "{} is not installed, or not on PATH; install it with `npm install -g {}`",
                    self.client.program(),
                    self.client.package()
                ),
            ),
            Err(error) => fail(1, format!("{} cannot be started: {error}", self.client.program())),
        }
    }
}

/// The settings of Claude Code; `docs/clients/claude-code.md` says why each.
fn for_claude(command: &mut Command, url: &Uri, key: Option<&SecretString>, model: &Model) {
    let base = url.to_string();
    command
        .env("ANTHROPIC_BASE_URL", base.trim_end_matches('/'))
        .env("ANTHROPIC_AUTH_TOKEN", key.map_or("unused", |key| key.expose_secret()))
        .env_remove("ANTHROPIC_API_KEY")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    for name in [
        "ANTHROPIC_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "CLAUDE_CODE_SUBAGENT_MODEL",
    ] {
        command.env(name, &model.id);
    }
    // It takes an unknown model for one of a million tokens, and would compact too late.
    const WINDOW: &str = "CLAUDE_CODE_MAX_CONTEXT_TOKENS";
    if let Some(window) = model.window
        && env::var_os(WINDOW).is_none_or(|own| own == OsStr::new(""))
    {
        command.env(WINDOW, window.to_string());
    }
}

/// The settings of Codex, beside those of its own file; `docs/clients/codex.md` says why each.
fn for_codex(command: &mut Command, url: &Uri, key: Option<&SecretString>, model: &Model) {
    const KEY: &str = "QWEN_PROXY_KEY";
    let base = format!("{}/v1", url.to_string().trim_end_matches('/'));
    // Strings of JSON are strings of TOML.
    let text = |text: &str| Value::from(text).to_string();
    let window = model.window.map(|window| window.to_string());
    let settings = [
        ("model", Some(text(&model.id))),
        ("model_provider", Some(text("qwen"))),
        ("model_context_window", window),
        ("model_supports_reasoning_summaries", Some("true".to_owned())),
        ("web_search", Some(text("disabled"))),
        ("model_providers.qwen.name", Some(text("Qwen"))),
        ("model_providers.qwen.base_url", Some(text(&base))),
        ("model_providers.qwen.wire_api", Some(text("responses"))),
        ("model_providers.qwen.env_key", Some(text(KEY))),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            command.args(["-c", &format!("{name}={value}")]);
        }
    }
    command.env(KEY, key.map_or("unused", |key| key.expose_secret()));
}

/// What the proxy offers.
async fn models(url: &Uri, key: Option<&SecretString>) -> Result<Vec<Model>, Failure> {
    let (status, json) = get(url, key, "/v1/models").await?;
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED if key.is_some() => {
            return fail(USAGE, "the key is not one of the proxy's; give another with --key");
        }
        StatusCode::UNAUTHORIZED => {
            return fail(
                USAGE,
                "the proxy asks for a key: give it with --key or QWEN_PROXY_API_KEY",
            );
        }
        status => {
            let said = json["error"]["message"].as_str().unwrap_or("it gives no reason");
            return fail(1, format!("the proxy has no list of models ({status}): {said}"));
        }
    }
    match json["data"].as_array() {
        Some(list) => Ok(list.iter().filter_map(model).collect()),
        None => fail(1, unreachable_at(url, "what is there is no proxy of this kind")),
    }
}

/// The window of a model that is in no list, as that of an alias is not.
async fn window(url: &Uri, key: Option<&SecretString>, id: &str) -> Option<u64> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    if !id.bytes().all(is_plain) {
        return None;
    }
    let (status, json) = get(url, key, &format!("/v1/models/{id}")).await.ok()?;
    if status == StatusCode::OK { model(&json)?.window } else { None }
}

/// What the proxy answers at `path`.
///
/// # Errors
///
/// A [`Failure`] where nobody answers.
pub(crate) async fn get(
    url: &Uri,
    key: Option<&SecretString>,
    path: &str,
) -> Result<(StatusCode, Value), Failure> {
    let client = QwenUpstream::builder(url.to_string().trim_end_matches('/'))
        .build()
        .or_else(|error| fail(1, error.to_string()))?;
    let mut request = Request::get(path);
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    }
    let request = request
        .body(FullBody::default())
        .or_else(|_| fail(USAGE, "--key: it holds what no header may"))?;
    let asked = async {
        let response = client.oneshot(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((status, body.to_bytes()))
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok((status, body))) => Ok((status, serde_json::from_slice(&body).unwrap_or_default())),
        Ok(Err(why)) => fail(1, unreachable_at(url, &why)),
        Err(_) => {
            let why = format!("nothing came for {} s", PATIENCE.as_secs());
            fail(1, unreachable_at(url, &why))
        }
    }
}

fn unreachable_at(url: &Uri, why: &str) -> String {
    format!(
        "no proxy answers at {url}: {why}; start it with `proxy`, or say where it is with --proxy"
    )
}

/// A model as a list of OpenAI's form has it, with the window under any of the names that servers
/// give it.
fn model(entry: &Value) -> Option<Model> {
    const WINDOWS: [&str; 6] = [
        "max_input_tokens",
        "max_model_len",
        "context_length",
        "context_window",
        "max_context_length",
        "n_ctx",
    ];
    let inside = ["info", "meta"].map(|name| &entry[name]);
    let inner = &entry["info"]["meta"];
    let window = [entry, inner].into_iter().chain(inside).find_map(|object| {
        WINDOWS.iter().find_map(|name| object[*name].as_u64().filter(|tokens| *tokens > 0))
    });
    Some(Model { id: entry["id"].as_str()?.to_owned(), window })
}

fn choose(models: &[Model], wanted: Option<&str>) -> Result<Model, Failure> {
    match wanted {
        // The proxy knows best which names it takes: an alias is in no list.
        Some(id) => {
            let window = models.iter().find(|model| model.id == id).and_then(|model| model.window);
            Ok(Model { id: id.to_owned(), window })
        }
        None => match models.first() {
            Some(first) => Ok(Model { id: first.id.clone(), window: first.window }),
            None => fail(USAGE, "the proxy lists no model; say which with --model"),
        },
    }
}

/// The code of a program, as a shell gives it.
fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(1);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_is_found_under_every_name() {
        for entry in [
            json!({"id": "m", "max_model_len": 4096}),
            json!({"id": "m", "meta": {"n_ctx": 4096}}),
            json!({"id": "m", "info": {"meta": {"max_context_length": 4096}}}),
            json!({"id": "m", "context_length": 4096, "max_tokens": 7}),
        ] {
            assert_eq!(
                model(&entry),
                Some(Model { id: "m".into(), window: Some(4096) }),
                "{entry}"
            );
        }
        let none = Some(Model { id: "m".into(), window: None });
        assert_eq!(model(&json!({"id": "m", "context_length": 0})), none);
        assert_eq!(model(&json!({"context_length": 9})), None);
    }

    #[test]
    fn the_first_model_is_asked_for_unless_one_is_named() {
        let models =
            [Model { id: "a".into(), window: None }, Model { id: "b".into(), window: Some(9) }];
        assert_eq!(choose(&models, None).map(|model| model.id), Ok("a".into()));
        assert_eq!(choose(&models, Some("b")).map(|model| model.window), Ok(Some(9)));
        assert_eq!(choose(&models, Some("claude-x")).map(|model| model.id), Ok("claude-x".into()));
        assert_eq!(choose(&[], None).map_err(|failure| failure.code), Err(USAGE));
    }

    #[test]
    fn claude_code_gets_what_its_guide_says() {
        let mut command = Command::new("claude");
        let url = Uri::from_static("http://127.0.0.1:8080");
        let model = Model { id: "qwen3-max".into(), window: Some(262_144) };
        let key = SecretString::from("k".to_owned());
        for_claude(&mut command, &url, Some(&key), &model);
        let set = |name: &str| {
            let found = command.get_envs().find(|(own, _)| *own == OsStr::new(name));
            found.and_then(|(_, value)| value).map(|value| value.to_string_lossy().into_owned())
        };
        assert_eq!(set("ANTHROPIC_BASE_URL").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(set("ANTHROPIC_AUTH_TOKEN").as_deref(), Some("k"));
        assert_eq!(set("ANTHROPIC_API_KEY"), None);
        assert_eq!(set("ANTHROPIC_DEFAULT_HAIKU_MODEL").as_deref(), Some("qwen3-max"));
        let guide = include_str!("../../docs/clients/claude-code.md");
        for (name, _) in command.get_envs() {
            let name = name.to_string_lossy();
            assert!(guide.contains(&*name), "the guide does not say {name}");
        }
    }

    #[test]
    fn codex_gets_what_its_guide_says() {
        let mut command = Command::new("codex");
        let url = Uri::from_static("http://127.0.0.1:8080");
        let model = Model { id: "qwen3-coder-plus".into(), window: Some(262_144) };
        for_codex(&mut command, &url, None, &model);
        let guide = include_str!("../../docs/clients/codex.md");
        let file = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let file: toml::Table = file.expect("a file").parse().expect("TOML");
        let mut settings = toml::Table::new();
        for setting in command.get_args().filter(|argument| *argument != OsStr::new("-c")) {
            let setting: toml::Table =
                setting.to_string_lossy().parse().expect("a setting is a line of TOML");
            merge(&mut settings, setting);
        }
        assert_eq!(settings, file);
        let mut envs = command.get_envs();
        assert_eq!(envs.next(), Some((OsStr::new("QWEN_PROXY_KEY"), Some(OsStr::new("unused")))));
    }

    fn merge(into: &mut toml::Table, from: toml::Table) {
        for (name, value) in from {
            match (into.get_mut(&name), value) {
                (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
                (_, value) => drop(into.insert(name, value)),
            }
        }
    }
}
