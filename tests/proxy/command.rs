//! The program's command line: what it says and how it ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use crate::binary::{Running, command};

/// Runs it to its end and gives the exit code and standard error, which must be one line.
fn refusal(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut child =
        command().args(args).envs(env.iter().copied()).spawn().expect("the proxy can be started");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut error = String::new();
    stderr.read_line(&mut error).expect("UTF-8");
    if !error.starts_with("error: ") {
        // It serves, and would go on doing so.
        child.kill().expect("it is running");
    }
    let code = child.wait().expect("it was started").code();
    stderr.read_to_string(&mut error).expect("UTF-8");
    assert!(error.starts_with("error: "), "{args:?} {env:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    (code, error)
}

/// One request over a connection of its own; gives the whole response.
pub(crate) fn exchange(origin: &str, head: &str, body: &str) -> String {
    let address = origin.strip_prefix("http://").expect("an origin");
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    let length = body.len();
    write!(
        stream,
        "{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("the proxy reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("UTF-8");
    response
}

#[test]
fn what_is_wrong_is_one_line_and_a_code() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("bound").to_string();
    let (code, error) = refusal(&["--listen", &taken], &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        error,
        format!("error: cannot listen on {taken}: it is in use; choose another with --listen\n")
    );

    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 10] = [
        (&["--base-url", "chat.qwen.ai"], &[], "--base-url: \"chat.qwen.ai\" is no URL that"),
        (&[], &[("QWEN_BASE_URL", "ftp://x")], "--base-url: \"ftp://x\" is no URL that"),
        (&["--token", "eyJhbGciOiJIUzI1NiJ9.e30"], &[], "--token: it is malformed: a JWT has"),
        (&[], &[("QWEN_TOKEN", "two words")], "--token: it is malformed: a token is one word"),
        (&["--replay", "no-such-file.sse"], &[], "--replay: cannot read no-such-file.sse: "),
        (&["--replay", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], &[], "--replay: "),
        (&[], &[("PORT", "http")], "PORT: \"http\" is not a port"),
        (&["--credentials", "no-such.json"], &[], "--credentials: no-such.json: there is no such"),
        (
            &["login", "--token-url", "portal.qwen.ai"],
            &[],
            "--token-url: \"portal.qwen.ai\" is no URL that",
        ),
        (&[], &[("QWEN_CREDENTIALS", "/dev/null")], "--credentials: /dev/null: it holds no"),
    ];
    for (args, env, message) in cases {
        let (code, error) = refusal(args, env);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.starts_with(&format!("error: {message}")), "{error}");
    }
}

#[test]
fn it_says_who_answers_and_why() {
    let proxy = Running::start(command());
    assert!(proxy.banner.contains("upstream: emulator, because no credential is given"));
    assert!(proxy.banner.contains("QWEN_TOKEN"), "{}", proxy.banner);
    let health = exchange(&proxy.origin, "GET /health HTTP/1.1", "");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains("\r\nx-qwen-upstream: emulator\r\n"), "{health}");

    let mut vllm = command();
    vllm.args(["--emulate", "vllm"]);
    let vllm = Running::start(vllm);
    assert!(vllm.banner.contains("Qwen/Qwen3"), "it has other models: {}", vllm.banner);

    let mut web = command();
    web.env("QWEN_TOKEN", "a-device-token").args(["--base-url", "http://127.0.0.1:9"]);
    let web = Running::start(web);
    assert!(web.banner.contains("upstream: web, because a web credential is given"));
    assert!(web.banner.contains("http://127.0.0.1:9"), "{}", web.banner);
    let health = exchange(&web.origin, "GET /health HTTP/1.1", "");
    assert!(health.contains("\r\nx-qwen-upstream: web\r\n"), "{health}");
}

#[test]
fn the_environment_sets_what_options_do() {
    let mut keyed = command();
    keyed.env("API_KEY", "sk-demo").env("LOG_LEVEL", "debug").env("QWEN_UPSTREAM", "emulator");
    // As compose files do for what is not set.
    keyed.env("QWEN_TOOLS", "").env("QWEN_TOKEN", "").env("QWEN_REPLAY", "");
    let proxy = Running::start(keyed);
    assert!(proxy.banner.contains("as --upstream says"), "{}", proxy.banner);
    let closed = exchange(&proxy.origin, "GET /v1/models HTTP/1.1", "");
    assert!(closed.starts_with("HTTP/1.1 401"), "{closed}");
    let head = "GET /v1/models HTTP/1.1\r\nx-api-key: sk-demo";
    let open = exchange(&proxy.origin, head, "");
    assert!(open.starts_with("HTTP/1.1 200"), "{open}");
}

#[cfg(unix)]
#[test]
fn it_ends_in_good_order_when_told_to() {
    for signal in ["-INT", "-TERM"] {
        let mut talking = command();
        talking.args(["--log", "info"]);
        let (code, log) = Running::start(talking).stop(signal);
        assert_eq!(code, Some(0), "{signal}: {log}");
        assert!(log.contains("stopping"), "{signal}: {log}");
    }
}

#[cfg(unix)]
#[test]
fn asked_twice_it_ends_at_once() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut talking = command();
        talking.args(["--log", "info"]);
        let proxy = Running::start(talking);
        // An answer that takes longer than anybody would wait.
        let address = proxy.origin.strip_prefix("http://").expect("an origin");
        let mut stream = TcpStream::connect(address).expect("the proxy listens");
        let body = r#"{"model":"qwen3-max","stream":true,"messages":[{"role":"user","content":"emulate:slow=10000 emulate:say=one two three four five six"}]}"#;
        let length = body.len();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: \
             application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("the proxy reads");
        stream.read_exact(&mut [0; 12]).expect("it is being answered");
        proxy.signal("-TERM");
        proxy.wait_for_log("stopping");
        assert_eq!(proxy.stop(signal).0, Some(code), "{signal}");
    }
}

/// Whoever opens a pipe waits for its other end.
#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_where_a_file_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let pipe = pipe.to_str().expect("UTF-8");
    for file in [pipe, "/dev/zero"] {
        for option in ["--config", "--credentials", "--replay"] {
            let (code, error) = refusal(&[option, file], &[]);
            assert_eq!(code, Some(2), "{error}");
            assert!(error.contains(option) && error.contains("not a regular file"), "{error}");
        }
        let (code, error) = refusal(&["login", "--file", file], &[]);
        assert!(code == Some(2) && error.contains("not a regular file"), "{error}");
    }
    let null = folder.path().join("null.json");
    std::fs::write(&null, "null\n").expect("written");
    let (code, error) = refusal(&["--credentials", null.to_str().expect("UTF-8")], &[]);
    assert!(code == Some(2) && error.contains("it holds no credential"), "{error}");
}

#[test]
fn no_secret_of_a_client_is_logged() {
    let mut talking = command();
    talking.args(["--log", "trace"]).env("QWEN_PROXY_API_KEY", "sk-of-the-proxy");
    let proxy = Running::start(talking);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-of-the-proxy\r\n\
                cookie: secret-cookie\r\ncontent-type: application/json";
    let body = r#"{"model":"qwen3-max","messages":[{"role":"user","content":"private words"}]}"#;
    let answer = exchange(&proxy.origin, head, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, log) = proxy.stop("-TERM");
    assert!(log.contains("/v1/chat/completions"), "{log}");
    for secret in ["sk-of-the-proxy", "secret-cookie"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[test]
fn help_shows_every_option_with_its_environment_name_and_default() {
    let output = command().arg("--help").stdout(Stdio::piped()).output().expect("it runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    let options = help.split("\n  -").skip(1);
    for option in
        options.filter(|option| !option.contains("--help") && !option.contains("--version"))
    {
        assert!(option.contains("[default: "), "no default: {option}");
        assert!(option.contains("[env: "), "no name: {option}");
    }
}

/// `launch` gives a client its settings and its arguments, and ends as the client does.
#[test]
#[cfg(unix)]
fn a_client_is_started_with_the_settings_of_a_proxy_that_runs() {
    use std::{fs, os::unix::fs::PermissionsExt};

    let folder = tempfile::tempdir().expect("a folder");
    let client = folder.path().join("claude");
    let script = "#!/bin/sh\necho \"$ANTHROPIC_BASE_URL $ANTHROPIC_MODEL ${ANTHROPIC_API_KEY-none} $*\"\nexit 7\n";
    fs::write(&client, script).expect("writable");
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).expect("ours");

    let proxy = Running::start(command());
    let output = command()
        .args(["launch", "claude", "--proxy", &proxy.origin, "--model", "qwen3-max"])
        .args(["--", "-p", "Hi there"])
        .env("PATH", folder.path())
        .env("ANTHROPIC_API_KEY", "another's")
        .stdout(Stdio::piped())
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), format!("{} qwen3-max none -p Hi there", proxy.origin));
    assert_eq!(output.status.code(), Some(7));

    let (code, error) =
        refusal(&["launch", "claude", "--proxy", &proxy.origin], &[("PATH", "/nowhere")]);
    assert_eq!(code, Some(127), "{error}");
    let (code, error) = refusal(&["launch", "claude", "--proxy", "http://127.0.0.1:1"], &[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("no proxy answers at http://127.0.0.1:1"), "{error}");
}
