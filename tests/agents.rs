//! Four coding agents, unmodified, complete a task of two tool calls through the proxy's program,
//! with the model upstream writing its calls as text in each form that models use: at
//! chat.qwen.ai, and behind APIs with their own tools, with tools in the prompt, and with rescue.
//!
//! They are the packages of `tests/clients/agents/package.json`:
//!
//! ```sh
//! cd tests/clients/agents && npm install --no-package-lock
//! ```
//!
//! Without them the tests say so and pass, except where `CI` is set. Neither needs a display, an
//! account or a network.

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;
#[path = "proxy/browser.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod browser;
#[path = "served/form.rs"]
mod form;
#[path = "served/proxied.rs"]
mod proxied;
mod traced;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use axum::Router;
use binary::Running;
use browser::Browser;
use form::Form;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, time::timeout};
use tower::{Layer, service_fn};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, FinishReason},
    responses::ResponsesLayer,
    sse::KeepAlive,
};
use tower_qwen_emulator::{Emulator, Kind};

/// Longer than an agent takes on a busy machine, shorter than one's patience.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the file holds that the agents write: markup, quotes, a closing tag, text beyond ASCII.
const CONTENT: &str =
    "<b class=\"x\">Grüße &amp; \u{1F30C}</b>\n    indented } { \\n\n</function>\n";

/// An agent: how it is started, and which calls write a file and read it.
struct Agent {
    program: &'static str,
    calls: fn(&str) -> [Call; 2],
}

/// The name of a tool, and its arguments.
type Call = (&'static str, Vec<(&'static str, Value)>);

const QWEN_CODE: Agent = Agent {
    program: "qwen",
    calls: |file| {
        [
            ("write_file", vec![("file_path", json!(file)), ("content", json!(CONTENT))]),
            ("read_file", vec![("file_path", json!(file))]),
        ]
    },
};

const OPENCODE: Agent = Agent {
    program: "opencode",
    calls: |file| {
        [
            ("write", vec![("filePath", json!(file)), ("content", json!(CONTENT))]),
            ("read", vec![("filePath", json!(file))]),
        ]
    },
};

const CLAUDE_CODE: Agent = Agent {
    program: "claude",
    calls: |file| {
        [
            ("Write", vec![("file_path", json!(file)), ("content", json!(CONTENT))]),
            ("Read", vec![("file_path", json!(file))]),
        ]
    },
};

/// It has a shell and no other tools for files.
const CODEX: Agent = Agent {
    program: "codex",
    calls: |file| {
        let write = format!("cat > '{file}' <<'END'\n{CONTENT}END\n");
        let read = format!("cat '{file}'");
        [write, read].map(|cmd| ("exec_command", vec![("cmd", json!(cmd))]))
    },
};

/// For a model that it knows it has a tool for files, whose input is a text of its own form.
const CODEX_WITH_PATCHES: Agent = Agent {
    program: "codex",
    calls: |file| {
        let lines = CONTENT.lines().map(|line| format!("+{line}\n"));
        let lines: String = lines.collect();
        let patch = format!("*** Begin Patch\n*** Add File: {file}\n{lines}*** End Patch\n");
        [
            ("apply_patch", vec![("input", json!(patch))]),
            ("exec_command", vec![("cmd", json!(format!("cat '{file}'")))]),
        ]
    },
};

/// A model that Codex knows.
const KNOWN_MODEL: &str = "gpt-5.5";

#[expect(clippy::print_stdout, reason = "whoever runs the tests shall know")]
fn installed(program: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients/agents/node_modules/.bin")
        .join(program);
    let found = path.exists();
    let required = env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(found || !required, "{program} must be installed here; see tests/agents.rs");
    if !found {
        println!("skipped: {program} is not installed; see tests/agents.rs");
    }
    found.then_some(path)
}

/// What the agents bring to the proxy.
const KEY: &str = "sk-demo-key";

/// What the model says when the task is done.
const END: &str = "All done.";

/// What the person says then.
const AGAIN: &str = "Thank you. Is there more to do?";

/// What it says before each call.
const LEAD: &str = "I call it.";

/// Where the model runs, and how it writes its calls.
#[derive(Clone, Copy, Debug)]
enum Upstream {
    /// chat.qwen.ai, which knows no tools: they are in the prompt.
    Web(Form),
    /// An API that has tools of its own, used in this way (`--tools`).
    Api(Kind, &'static str, Form),
}

/// Each way to have tools over an API. The servers' parsers find the whole blocks of the first
/// and see nothing in those that are to be rescued.
const APIS: [Upstream; 4] = [
    Upstream::Api(Kind::Vllm, "native", Form::Coder),
    Upstream::Api(Kind::DashScope, "prompt", Form::Hermes),
    Upstream::Api(Kind::SgLang, "rescue", Form::Bare),
    Upstream::Api(Kind::LlamaCpp, "rescue", Form::Tags),
];

/// The proxy in front of a model that does the task, a step a turn.
struct Served {
    proxy: Running,
    emulator: Emulator,
    marker: String,
    steps: [String; 2],
    upstream: Upstream,
}

/// What the model writes to call a tool.
fn step(form: Form, name: &str, arguments: &[(&str, Value)]) -> String {
    format!("{LEAD}\n\n{}", form.write(name, arguments))
}

async fn serve(agent: &Agent, upstream: Upstream, file: &str) -> Served {
    let (Upstream::Web(form) | Upstream::Api(_, _, form)) = upstream;
    let steps = (agent.calls)(file).map(|(name, arguments)| step(form, name, &arguments));
    serve_steps(upstream, steps).await
}

/// The same where the model does these steps.
async fn serve_steps(upstream: Upstream, steps: [String; 2]) -> Served {
    let marker = marker(upstream);
    let (model, asked) = (steps.clone(), marker.clone());
    let emulator = match upstream {
        Upstream::Web(_) => proxied::upstream(),
        Upstream::Api(kind, ..) => proxied::upstream().kind(kind).models([MODEL, KNOWN_MODEL]),
    };
    let emulator = emulator
        .answers(move |message, earlier| {
            let said = || earlier.iter().copied().chain([message]);
            if !said().any(|text| text.contains(&asked)) {
                // Agents also ask for titles and summaries.
                return Some("A short title".into());
            }
            // Each of our own calls stands on the path, and is followed by its result.
            let done = earlier.iter().filter(|text| text.starts_with(LEAD)).count();
            Some(model.get(done).cloned().unwrap_or_else(|| END.into()))
        })
        .piece_size(37)
        .build();
    let origin = proxied::serve(emulator.clone()).await;
    let proxy = proxied::start(match upstream {
        Upstream::Web(_) => proxied::command(&origin, KEY),
        Upstream::Api(kind, tools, _) => over_api(&origin, kind, tools),
    });
    Served { proxy: proxy.await, emulator, marker, steps, upstream }
}

/// The program with an API of `kind` at `origin`, and its tools as `tools` says.
fn over_api(origin: &str, kind: Kind, tools: &str) -> std::process::Command {
    let mut proxy = binary::command();
    proxy.args(["--base-url", &format!("{origin}/v1"), "--tools", tools]);
    proxy.args(["--server", kind.as_str(), "--upstream-key", proxied::TOKEN]);
    proxy.env("QWEN_PROXY_API_KEY", KEY).env("NO_PROXY", "127.0.0.1").env("RUST_LOG", "warn");
    proxy
}

/// The model that the agents ask for.
const MODEL: &str = "qwen3-coder-plus";

/// Words of the task by which its requests are known.
fn marker(upstream: Upstream) -> String {
    match upstream {
        Upstream::Web(form) => format!("task in {form:?}"),
        Upstream::Api(kind, tools, form) => {
            format!("task at {} by {tools} in {form:?}", kind.as_str())
        }
    }
}

impl Served {
    fn base(&self) -> String {
        format!("{}/v1", self.proxy.origin)
    }

    fn check(&self, told: &str) {
        match self.upstream {
            Upstream::Web(_) => self.check_chat(told),
            Upstream::Api(_, tools, _) => self.check_requests(tools, told),
        }
    }

    /// The requests of the task: the first call was sent back with its result, then the second,
    /// in the way that was asked for.
    fn check_requests(&self, tools: &str, told: &str) {
        let requests: Vec<Value> = self
            .emulator
            .requests()
            .into_iter()
            .map(|request| request.body)
            .filter(|body| body.to_string().contains(&self.marker))
            .collect();
        let last = requests.last().unwrap_or_else(|| panic!("no request: {told}"));
        let messages = last["messages"].as_array().expect("messages");
        let text = |message: &Value| message["content"].to_string();
        let native = |message: &&Value| message["tool_calls"].is_array();
        if tools == "prompt" {
            assert!(last.get("tools").is_none(), "{last}: {told}");
            let calls = messages.iter().filter(|message| {
                // The system's prompt shows the form as well.
                message["role"] == "assistant" && text(message).contains("<tool_call>")
            });
            assert_eq!(calls.count(), 2, "{last}: {told}");
            assert!(!messages.iter().any(|message| native(&message)), "{last}: {told}");
        } else {
            assert!(last["tools"].is_array(), "{last}: {told}");
            assert_eq!(messages.iter().filter(native).count(), 2, "{last}: {told}");
            let mut results = messages.iter().filter(|message| message["role"] == "tool");
            let shown = results.next_back().expect("two results");
            let line = CONTENT.lines().nth(1).expect("it has three");
            assert!(text(shown).contains(&line.replace('\\', "\\\\")), "{shown}: {told}");
        }
    }

    /// The task was one chat upstream: each call once, as it was written, and then the end.
    fn check_chat(&self, told: &str) {
        let chats = self.emulator.chats();
        let [chat] = &chats
            .iter()
            .filter(|chat| chat.messages.iter().any(|message| message.text == END))
            .collect::<Vec<_>>()[..]
        else {
            panic!("not one chat to the end, of {}: {told}", chats.len())
        };
        let (asked, answered): (Vec<_>, Vec<_>) =
            chat.messages.iter().partition(|message| message.role == "user");
        let answered: Vec<_> = answered.iter().map(|message| &*message.text).collect();
        assert_eq!(answered, [&*self.steps[0], &self.steps[1], END], "{told}");
        let [task, results @ ..] = &asked[..] else { panic!("{told}") };
        assert!(task.text.contains(&self.marker), "{told}");
        // What the second call read is what the first one wrote.
        let shown = CONTENT.lines().all(|line| results[1].text.contains(line));
        assert!(shown, "{}: {told}", results[1].text);
    }
}

impl Served {
    /// The next turn went to the same chat with nothing but what is new.
    fn check_again(&self, before: usize, output: &Output) {
        let said = String::from_utf8_lossy(&output.stdout);
        let told =
            format!("{:?}\n{said}\n{}", self.upstream, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains(END), "{told}");
        let requests = self.emulator.requests();
        let bodies: Vec<_> = requests[before..]
            .iter()
            .map(|request| request.body.to_string())
            .filter(|body| body.contains(AGAIN))
            .collect();
        let [body] = &bodies[..] else { panic!("{} requests: {told}", bodies.len()) };
        match self.upstream {
            Upstream::Web(_) => {
                assert!(!body.contains(&self.marker) && !body.contains(LEAD), "{body}: {told}");
                let chats = self.emulator.chats();
                let ends = chats.iter().filter(|chat| {
                    chat.messages.iter().any(|message| message.text.contains(AGAIN))
                });
                let [chat] = &ends.collect::<Vec<_>>()[..] else { panic!("{told}") };
                assert!(chat.messages[0].text.contains(&self.marker), "{told}");
            }
            // It keeps no chats, so it gets everything.
            Upstream::Api(..) => assert!(body.contains(&self.marker), "{body}: {told}"),
        }
    }
}

async fn run(mut command: Command, home: &Path) -> Output {
    command
        .current_dir(home)
        .env("HOME", home)
        // One of them believes it rather than the kernel.
        .env("PWD", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .env_remove("CI")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.expect("in time").expect("it can be started")
}

fn check(agent: &Agent, file: &Path, output: &Output, served: &Served) {
    let said = String::from_utf8_lossy(&output.stdout);
    let logged = String::from_utf8_lossy(&output.stderr);
    let told = format!("{} with {:?}\n{said}\n{logged}", agent.program, served.upstream);
    assert!(output.status.success(), "{told}");
    assert!(said.contains(END), "{told}");
    let written = fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(written, CONTENT, "{told}");
    served.check(&told);
}

async fn qwen_code(upstreams: impl IntoIterator<Item = Upstream>) {
    let Some(program) = installed(QWEN_CODE.program) else { return };
    for upstream in upstreams {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("note.txt");
        let served = serve(&QWEN_CODE, upstream, &file.display().to_string()).await;
        let mut command = Command::new(&program);
        command
            .args(["--auth-type", "openai", "-y", "-p", &format!("Do the {}.", served.marker)])
            .env("OPENAI_BASE_URL", served.base())
            .env("OPENAI_API_KEY", KEY)
            .env("OPENAI_MODEL", MODEL);
        let output = run(command, home.path()).await;
        check(&QWEN_CODE, &file, &output, &served);
    }
}

async fn opencode(upstreams: impl IntoIterator<Item = Upstream>) {
    let Some(program) = installed(OPENCODE.program) else { return };
    for upstream in upstreams {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("note.txt");
        let served = serve(&OPENCODE, upstream, &file.display().to_string()).await;
        let model = format!("proxy/{MODEL}");
        let settings: Value = json!({
            "$schema": "https://opencode.ai/config.json",
            "autoupdate": false,
            "share": "disabled",
            "model": model,
            "small_model": model,
            "permission": {"edit": "allow", "bash": "allow"},
            "provider": {"proxy": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "proxy",
                "options": {"baseURL": served.base(), "apiKey": KEY},
                "models": {(MODEL): {"name": "Qwen", "tool_call": true}},
            }},
        });
        fs::write(home.path().join("opencode.json"), settings.to_string()).expect("writable");
        let mut command = Command::new(&program);
        command.args(["run", &format!("Do the {}.", served.marker)]);
        let output = run(command, home.path()).await;
        check(&OPENCODE, &file, &output, &served);
    }
}

/// Claude Code with everything set that its guide says.
fn claude(program: &Path, served: &Served, prompt: &str, more: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-p", prompt, "--allowedTools", "Write,Read"]).args(more);
    command
        .env("ANTHROPIC_BASE_URL", &served.proxy.origin)
        .env("ANTHROPIC_AUTH_TOKEN", KEY)
        .env("ANTHROPIC_MODEL", MODEL)
        .env("ANTHROPIC_DEFAULT_HAIKU_MODEL", MODEL)
        .env_remove("ANTHROPIC_API_KEY");
    for switch in [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "DISABLE_AUTOUPDATER",
        "DISABLE_TELEMETRY",
        "DISABLE_ERROR_REPORTING",
    ] {
        command.env(switch, "1");
    }
    command
}

/// Claude Code speaks the Messages API. It does the task, and a second turn of the conversation.
async fn claude_code(upstreams: impl IntoIterator<Item = Upstream>) {
    let Some(program) = installed(CLAUDE_CODE.program) else { return };
    for upstream in upstreams {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("note.txt");
        let served = serve(&CLAUDE_CODE, upstream, &file.display().to_string()).await;
        let task = claude(&program, &served, &format!("Do the {}.", served.marker), &[]);
        let output = run(task, home.path()).await;
        check(&CLAUDE_CODE, &file, &output, &served);

        let asked = served.emulator.requests().len();
        let again = claude(&program, &served, AGAIN, &["--continue"]);
        let output = run(again, home.path()).await;
        served.check_again(asked, &output);
    }
}

/// Codex in a folder of its own, told to use the API at `base` and given up on after `idle`.
struct Codex {
    program: PathBuf,
    home: tempfile::TempDir,
    settings: PathBuf,
}

impl Codex {
    fn new(program: PathBuf, base: &str, model: &str, idle: Duration) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let settings = home.path().join("codex");
        fs::create_dir(&settings).expect("writable");
        let config = format!(
            r#"
model = "{model}"
model_provider = "qwen"
model_context_window = 262144
model_supports_reasoning_summaries = true
web_search = "disabled"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.qwen]
name = "Qwen"
base_url = "{base}"
wire_api = "responses"
env_key = "QWEN_PROXY_KEY"
request_max_retries = 0
stream_max_retries = 0
stream_idle_timeout_ms = {}
"#,
            idle.as_millis()
        );
        fs::write(settings.join("config.toml"), config).expect("writable");
        Self { program, home, settings }
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"])
            .args(args)
            .env("CODEX_HOME", &self.settings)
            .env("QWEN_PROXY_KEY", KEY);
        // It looks for news of itself, and does without.
        for proxy in ["HTTPS_PROXY", "https_proxy"] {
            command.env(proxy, "http://127.0.0.1:9");
        }
        run(command, self.home.path()).await
    }
}

/// Codex speaks the Responses API. It does the task, and a second turn of the conversation.
async fn codex(agent: &Agent, model: &str, upstreams: impl IntoIterator<Item = Upstream>) {
    let Some(program) = installed(agent.program) else { return };
    for upstream in upstreams {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("note.txt");
        let served = serve(agent, upstream, &file.display().to_string()).await;
        let codex = Codex::new(program.clone(), &served.base(), model, PATIENCE);
        let output = codex.run(&[&format!("Do the {}.", served.marker)]).await;
        check(agent, &file, &output, &served);

        let asked = served.emulator.requests().len();
        let output = codex.run(&["resume", "--last", AGAIN]).await;
        served.check_again(asked, &output);
    }
}

/// Codex gives up on a stream without events, for which it takes a stream of comments. An upstream
/// that is silent for longer, before its answer and in it, does not end the turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_waits_for_an_upstream_that_is_silent() {
    const IDLE: Duration = Duration::from_millis(1_500);
    const SILENCE: Duration = Duration::from_millis(4_000);
    let Some(program) = installed(CODEX.program) else { return };
    for (keep_alive, waits) in [(Some(KeepAlive::new(IDLE / 3)), true), (None, false)] {
        let silent = service_fn(|_: Request<ChatRequest>| async {
            tokio::time::sleep(SILENCE).await;
            let end = stream::once(async {
                tokio::time::sleep(SILENCE).await;
                Ok(ChatEvent::Finished(FinishReason::Stop))
            });
            let text = stream::iter([Ok(ChatEvent::Text(END.into()))]);
            Ok::<_, Error>(Response::new(text.chain(end).boxed()))
        });
        let edge = ResponsesLayer::new().keep_alive(keep_alive).layer(silent);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let app = Router::new().route_service("/v1/responses", edge);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let codex = Codex::new(program.clone(), &base, MODEL, IDLE);
        let output = codex.run(&["Are you there?"]).await;
        let said = String::from_utf8_lossy(&output.stdout);
        let told = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.success() && said.contains(END), waits, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_completes_a_task_in_every_form() {
    codex(&CODEX, MODEL, Form::ALL.map(Upstream::Web)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_completes_a_task_over_an_api() {
    codex(&CODEX, MODEL, APIS).await;
    codex(&CODEX_WITH_PATCHES, KNOWN_MODEL, APIS).await;
}

/// What two files say.
const TEXTS: [&str; 2] = ["What the first says.", "What the second says."];

/// Wherever tools can be.
const PLACES: [Upstream; 3] = [
    Upstream::Web(Form::Coder),
    Upstream::Api(Kind::Vllm, "native", Form::Coder),
    Upstream::Api(Kind::Vllm, "prompt", Form::Hermes),
];

/// A model that has `agent` read two files, which are in `folder`.
async fn serve_two_files(agent: &Agent, upstream: Upstream, folder: &Path) -> Served {
    let (Upstream::Web(form) | Upstream::Api(_, _, form)) = upstream;
    let files = ["first.txt", "second.txt"].map(|name| folder.join(name));
    for (file, text) in files.iter().zip(TEXTS) {
        fs::write(file, text).expect("writable");
    }
    let steps = files.map(|file| {
        let [_, (read, arguments)] = (agent.calls)(&file.display().to_string());
        step(form, read, &arguments)
    });
    serve_steps(upstream, steps).await
}

/// The model was told of both files, and its last word is the agent's.
fn check_two_files(served: &Served, output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let told = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(END), "{told}");
    let requests = served.emulator.requests();
    let asked: Vec<_> = requests.iter().map(|request| request.body.to_string()).collect();
    for text in TEXTS {
        assert!(asked.iter().any(|body| body.contains(text)), "{text}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_reads_two_files() {
    let Some(program) = installed(CLAUDE_CODE.program) else { return };
    for upstream in PLACES {
        let home = tempfile::tempdir().expect("a folder");
        let served = serve_two_files(&CLAUDE_CODE, upstream, home.path()).await;
        let task = claude(&program, &served, &format!("Do the {}.", served.marker), &[]);
        check_two_files(&served, &run(task, home.path()).await);

        let asked = served.emulator.requests().len();
        let again = claude(&program, &served, AGAIN, &["--continue"]);
        let output = run(again, home.path()).await;
        served.check_again(asked, &output);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_reads_two_files() {
    let Some(program) = installed(CODEX.program) else { return };
    for upstream in PLACES {
        let folder = tempfile::tempdir().expect("a folder");
        let served = serve_two_files(&CODEX, upstream, folder.path()).await;
        let codex = Codex::new(program.clone(), &served.base(), MODEL, PATIENCE);
        check_two_files(&served, &codex.run(&[&format!("Do the {}.", served.marker)]).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_completes_a_task_in_every_form() {
    claude_code(Form::ALL.map(Upstream::Web)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_completes_a_task_over_an_api() {
    claude_code(APIS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qwen_code_completes_a_task_in_every_form() {
    qwen_code(Form::ALL.map(Upstream::Web)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opencode_completes_a_task_in_every_form() {
    opencode(Form::ALL.map(Upstream::Web)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qwen_code_completes_a_task_over_an_api() {
    qwen_code(APIS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opencode_completes_a_task_over_an_api() {
    opencode(APIS).await;
}

/// What a newcomer is told and given to copy for a client, as the dashboard shows it.
fn copied(browser: &mut Browser, client: &str) -> (String, String) {
    let client = Value::from(client);
    browser.evaluate(&format!(
        "[...document.querySelectorAll('#clients button')].find(it => it.textContent === {client}).click()"
    ));
    let mut text = |id: &str| {
        let text = browser.evaluate(&format!("document.getElementById('{id}').textContent"));
        text.as_str().expect("the page has it").to_owned()
    };
    (text("howto"), text("snippet"))
}

/// Runs lines of a shell as somebody types them who has the agents on the path.
async fn typed(lines: &str, home: &Path) -> Output {
    let agents =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/agents/node_modules/.bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([agents].into_iter().chain(env::split_paths(&path)));
    let mut command = Command::new("bash");
    command.args(["-c", lines]).env("PATH", path.expect("no colon in it"));
    for name in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"] {
        command.env_remove(name);
    }
    // It looks for news of itself, and does without. Others would ask the proxy so too.
    if lines.contains(CODEX.program) {
        command.env("HTTPS_PROXY", "http://127.0.0.1:9");
    }
    run(command, home).await
}

/// Somebody who has nothing but the dashboard copies what it shows for a client, as it is, does what
/// stands above it, and is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_connects_with_what_the_dashboard_shows() {
    const SAY: &str = "'Is anybody there?'";
    let agents = [CLAUDE_CODE.program, CODEX.program, OPENCODE.program, QWEN_CODE.program];
    if !agents.into_iter().all(|program| installed(program).is_some()) {
        return;
    }
    let Some(mut browser) = Browser::start() else { return };
    let emulator = proxied::upstream().answers(|_, _| Some(END.into())).build();
    let origin = proxied::serve(emulator.clone()).await;
    let proxy = proxied::start(proxied::command(&origin, "")).await;
    assert_eq!(browser.open(&format!("{}/dashboard", proxy.origin)), None);
    browser.wait_for(&format!("ANTHROPIC_BASE_URL={}", proxy.origin));

    for client in ["Claude Code", "Codex", "OpenCode", "qwen-code", "curl"] {
        let (told, text) = copied(&mut browser, client);
        let home = tempfile::tempdir().expect("a folder");
        let project = home.path();
        // In a script an agent is given its task behind its command.
        let lines = match client {
            "Claude Code" | "qwen-code" => {
                assert_eq!(told, "In a shell, in the folder of your project:");
                format!("{text} -p {SAY}")
            }
            "Codex" => {
                assert!(told.starts_with("Put this into ~/.codex/config.toml"), "{told}");
                fs::create_dir(project.join(".codex")).expect("writable");
                fs::write(project.join(".codex/config.toml"), &text).expect("writable");
                let last = text.lines().last().and_then(|line| line.strip_prefix("# "));
                format!("{} exec --skip-git-repo-check {SAY}", last.expect("its command"))
            }
            "OpenCode" => {
                assert!(told.starts_with("Put this into opencode.json in the folder"), "{told}");
                fs::write(project.join("opencode.json"), &text).expect("writable");
                format!("opencode run {SAY}")
            }
            _ => text.clone(),
        };
        let output = typed(&lines, project).await;
        let said = String::from_utf8_lossy(&output.stdout);
        let logged = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client}: {text}\n{said}\n{logged}");
        // It comes to curl in pieces.
        let end = if client == "curl" { "[DONE]" } else { END };
        assert!(said.contains(end), "{client}: {text}\n{said}\n{logged}");
    }
}
