use std::fs;

use tower_qwen::{chat::ReasoningEffort, qwen::compatible::Server};
use tower_qwen_emulator as emulator;

use super::{upstream::DASHSCOPE, *};

/// A JWT by its shape; nothing has ever signed it.
const JWT: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6ImRlbW8iLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtc2lnbmF0dXJl";

fn resolve_in(env: &[(&str, &str)], args: &[&str]) -> Result<Config, ConfigError> {
    resolve_with_login(env, args, None)
}

fn resolve_with_login(
    env: &[(&str, &str)],
    args: &[&str],
    login: Option<PathBuf>,
) -> Result<Config, ConfigError> {
    let env = |name: &str| {
        let found = env.iter().find(|(key, value)| *key == name && !value.is_empty());
        found.map(|(_, value)| (*value).to_owned())
    };
    Options::of(args).resolve_in(&Around { env: &env, login })
}

/// The only upstream.
fn only(config: Config) -> UpstreamConfig {
    let [upstream] = <[_; 1]>::try_from(config.upstreams).expect("one upstream");
    upstream
}

/// Its kind and why it is that.
fn chosen(env: &[(&str, &str)], args: &[&str]) -> (&'static str, &'static str) {
    let upstream = only(resolve_in(env, args).expect("valid"));
    (upstream.upstream.kind(), upstream.reason)
}

fn resolve(args: &[&str]) -> Result<Config, ConfigError> {
    resolve_in(&[], args)
}

fn refusal(args: &[&str]) -> String {
    let message = resolve(args).expect_err("invalid").to_string();
    assert!(!message.contains('\n'), "{message:?} has more than one line");
    message
}

/// Token, device token and cookies.
fn credentials(args: &[&str]) -> [Option<String>; 3] {
    match only(resolve(args).expect("valid")).upstream {
        Upstream::Web { credentials: WebCredentials { token, umid_token, cookies }, .. } => {
            [token, umid_token, cookies]
                .map(|secret| secret.map(|secret| secret.expose_secret().to_owned()))
        }
        other => panic!("{} has no credentials", other.kind()),
    }
}

#[test]
fn the_command_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn nothing_given_is_the_emulator_on_loopback() {
    let config = resolve(&[]).expect("valid");
    assert_eq!(config.listen, "127.0.0.1:8080");
    assert_eq!(config.log, "info");
    assert!(config.api_keys.is_empty());
    assert_eq!(config.sessions.ttl, Duration::from_secs(3600));
    let upstream = only(config);
    assert_eq!(upstream.name, "emulator");
    assert_eq!(
        (upstream.reason, upstream.tools),
        ("because no credential is given", Tools::Openai)
    );
    assert!(upstream.models.is_any());
}

#[test]
fn the_older_names_stand_in() {
    let env = [("HOST", "0.0.0.0"), ("PORT", "3000"), ("API_KEY", "a"), ("LOG_LEVEL", "debug")];
    let config = resolve_in(&env, &[]).expect("valid");
    assert_eq!((&*config.listen, &*config.log), ("0.0.0.0:3000", "debug"));
    assert!(!config.api_keys.is_empty());
    assert_eq!(resolve_in(&[("HOST", "::1")], &[]).expect("valid").listen, "[::1]:8080");
    assert_eq!(resolve_in(&[("PORT", "0")], &[]).expect("valid").listen, "127.0.0.1:0");

    let config = resolve_in(&env, &["--listen", "[::1]:1", "--log", "warn"]).expect("valid");
    assert_eq!((&*config.listen, &*config.log), ("[::1]:1", "warn"));
}

#[test]
fn an_empty_value_counts_as_none() {
    let args = ["--listen=", "--base-url=", "--token=", "--cookies=", "--api-key=", "--log="];
    let config = resolve_in(&[("HOST", ""), ("PORT", "")], &args).expect("valid");
    assert_eq!(config.listen, "127.0.0.1:8080");
    assert!(config.api_keys.is_empty());
    assert_eq!(only(config).upstream.kind(), "emulator");
}

#[test]
fn hosts_and_foreign_chats_are_allowed_by_name() {
    let config = resolve(&[]).expect("valid");
    assert_eq!((config.allow_hosts.len(), config.allow_foreign_chats), (0, false));
    let args = ["--allow-host", "proxy, 10.0.0.9,", "--allow-host", "[::2]"];
    let config = resolve(&[&args[..], &["--allow-foreign-chats"]].concat()).expect("valid");
    assert_eq!(config.allow_hosts, ["proxy", "10.0.0.9", "[::2]"]);
    assert!(config.allow_foreign_chats);
    let file = "allow-host = [\"qwen\"]\nallow-foreign-chats = true";
    let config = of_file(file, &[]).expect("valid");
    assert!(config.allow_hosts == ["qwen"] && config.allow_foreign_chats);
    let config = of_file(file, &["--allow-foreign-chats=false"]).expect("valid");
    assert!(!config.allow_foreign_chats, "what is given stands over the file");
    for name in ["proxy:8080", "http://proxy", "a b", "*"] {
        assert!(refusal(&["--allow-host", name]).starts_with("--allow-host: "), "{name}");
    }
}

#[test]
fn bad_addresses_are_refused() {
    for address in ["8080", "localhost", "localhost:", ":80", "::1:80", "a b:80", "h:65536", "h:+8"]
    {
        assert!(refusal(&["--listen", address]).starts_with("--listen: "), "{address}");
    }
    let error = resolve_in(&[("PORT", "http")], &[]).expect_err("no port");
    assert_eq!(error.to_string(), "PORT: \"http\" is not a port from 0 to 65535");
    let error = resolve_in(&[("HOST", "my host")], &[]).expect_err("no host");
    assert!(error.to_string().starts_with("HOST: "));
    assert_eq!(resolve(&["--listen", "localhost:80"]).expect("valid").listen, "localhost:80");
    for (listen, is_local) in [
        ("127.0.0.1:8080", true),
        ("127.3.2.1:8080", true),
        ("[::1]:8080", true),
        ("localhost:80", true),
        ("0.0.0.0:80", false),
        ("[::]:80", false),
        ("192.0.2.1:80", false),
        ("localhost.example.org:80", false),
    ] {
        assert_eq!(resolve(&["--listen", listen]).expect("valid").is_local(), is_local, "{listen}");
    }
}

#[test]
fn what_is_given_chooses_the_upstream() {
    let web = ("web", "because a web credential is given");
    for args in [["--token", JWT], ["--token", "T2gA-device"], ["--cookies", "a=b"]] {
        assert_eq!(chosen(&[], &args), web, "{args:?}");
    }
    let key = ("compatible", "because an API key is given");
    assert_eq!(chosen(&[], &["--upstream-key", "sk-demo"]), key);
    let dashscope = [("DASHSCOPE_API_KEY", "sk-demo")];
    assert_eq!(chosen(&dashscope, &[]), key);
    assert_eq!(chosen(&dashscope, &["--token", JWT]), web);
    let url = ("compatible", "because a base URL is given");
    assert_eq!(chosen(&[], &["--base-url", "http://127.0.0.1:8000/v1"]), url);

    let told = |kind| (kind, "as --upstream says");
    assert_eq!(chosen(&[], &["--upstream", "emulator", "--token", JWT]), told("emulator"));
    assert_eq!(chosen(&dashscope, &["--upstream", "web"]), told("web"));
    assert_eq!(chosen(&dashscope, &["--upstream", "compatible"]), told("compatible"));
}

#[test]
fn a_login_of_the_cli_is_taken_where_nothing_else_is_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("oauth_creds.json");
    let login = r#"{"access_token":"access-demo","refresh_token":"refresh-demo",
        "token_type":"Bearer","resource_url":"portal.qwen.ai","expiry_date":4102444800000}"#;
    fs::write(&path, login).expect("written");
    let resolve = |env: &[(&str, &str)], args: &[&str]| {
        resolve_with_login(env, args, Some(path.clone())).map(only)
    };
    let found = resolve(&[], &[]).expect("valid");
    assert_eq!(found.reason, "because qwen-code has signed in here");
    assert!(!found.accounts.is_empty());
    assert!(matches!(
        found.upstream,
        Upstream::Compatible { base_url, server: Server::Portal }
            if base_url == "https://portal.qwen.ai/v1"
    ));
    for (env, args) in [
        (&[][..], &["--upstream", "emulator"][..]),
        (&[], &["--emulate", "vllm"]),
        (&[], &["--token", JWT]),
        (&[], &["--base-url", "http://127.0.0.1:8000/v1"]),
        (&[("DASHSCOPE_API_KEY", "sk-demo")], &[]),
    ] {
        let other = resolve(env, args).expect("valid");
        let portal = matches!(other.upstream, Upstream::Compatible { server: Server::Portal, .. });
        assert!(!portal, "{args:?}");
    }
    fs::write(&path, "{}").expect("written");
    let error = resolve(&[], &[]).expect_err("it is broken").to_string();
    assert!(error.contains("oauth_creds.json") && error.contains("--upstream emulator"), "{error}");
}

/// Base URL, server and key.
fn api(env: &[(&str, &str)], args: &[&str]) -> (String, Server, Option<String>) {
    let UpstreamConfig { upstream, accounts, .. } = only(resolve_in(env, args).expect("valid"));
    let key = accounts.all().next().map(|(_, key)| key.access_token().expose().to_owned());
    match upstream {
        Upstream::Compatible { base_url, server } => (base_url.to_string(), server, key),
        other => panic!("{} is no API", other.kind()),
    }
}

#[test]
fn a_key_goes_where_it_belongs() {
    let env = [("DASHSCOPE_API_KEY", "sk-dashscope")];
    let key = || Some("sk-dashscope".to_owned());
    assert_eq!(api(&env, &[]), (DASHSCOPE.into(), Server::DashScope, key()));
    let intl = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1";
    assert_eq!(api(&env, &["--base-url", intl]), (intl.into(), Server::DashScope, key()));
    // Somebody else's server must not see it.
    let own = "http://127.0.0.1:8000/v1";
    assert_eq!(api(&env, &["--base-url", own]), (own.into(), Server::Generic, None));
    let args = ["--base-url", own, "--upstream-key", " sk-own\n", "--server", "vllm"];
    assert_eq!(api(&env, &args), (own.into(), Server::Vllm, Some("sk-own".into())));

    assert!(refusal(&["--upstream", "compatible"]).starts_with("--base-url: "));
    assert!(refusal(&["--upstream-key", "sk-sp-demo"]).starts_with("--base-url: "));
    let bad = refusal(&["--upstream-key", "two words"]);
    assert!(bad.starts_with("--upstream-key: ") && !bad.contains("words"), "{bad}");
    let ollama = ["--upstream-key", "k", "--server", "ollama"];
    assert!(refusal(&ollama).starts_with("--base-url: "));
}

#[test]
fn tools_of_its_own_has_only_an_api() {
    for tools in ["native", "rescue"] {
        assert!(refusal(&["--tools", tools]).starts_with("--tools: "));
        let args = ["--tools", tools, "--base-url", "http://127.0.0.1:1/v1"];
        only(resolve(&args).expect("valid"));
    }
    for tools in ["openai", "prompt", "xml", "off"] {
        resolve(&["--tools", tools]).expect("valid");
    }
}

#[test]
fn a_token_is_known_by_its_form() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(credentials(&["--token", JWT]), [some(JWT), None, None]);
    let padded = format!(" {JWT}\n");
    assert_eq!(credentials(&["--token", &padded]), [some(JWT), None, None]);
    assert_eq!(
        credentials(&["--token", "T2gA-device+token/==", "--cookies", "cna=x; acw_tc=y"]),
        [None, some("T2gA-device+token/=="), some("cna=x; acw_tc=y")]
    );
    // A jar that was copied whole holds the token; one that is given beside it is newer.
    let jar = format!("cna=x; token={JWT}");
    assert_eq!(credentials(&["--cookies", &jar]), [some(JWT), None, some(&jar)]);
    let old = "token=old; cna=x";
    assert_eq!(credentials(&["--cookies", old]), [None, None, some(old)]);
    assert_eq!(credentials(&["--cookies", old, "--token", JWT]), [some(JWT), None, some(old)]);
}

#[test]
fn malformed_tokens_are_refused_without_being_shown() {
    let cut = &JWT[..40];
    let four = format!("{JWT}.x");
    let garbled = JWT.replace('.', "!.");
    for token in [
        cut,
        &four,
        &garbled,
        "two words",
        "dotted\u{7f}",
        "tökén",
        "Bearer x",
        "bearer",
        "eyJ",
        "H4sIAAAA",
    ] {
        let message = refusal(&["--token", token]);
        assert!(message.starts_with("--token: "), "{message}");
        assert!(!message.contains(token), "{message} shows the token");
    }
}

#[test]
fn malformed_cookies_are_refused() {
    for cookies in ["token", "=x", "a=b;;c=d", "a=b\u{1}", "a=ö"] {
        assert!(refusal(&["--cookies", cookies]).starts_with("--cookies: "), "{cookies}");
    }
    assert_eq!(credentials(&["--cookies", "a=b; c=d;"])[2].as_deref(), Some("a=b; c=d;"));
}

#[test]
fn bad_base_urls_are_refused() {
    for url in [
        "chat.qwen.ai",
        "/v1",
        "ftp://chat.qwen.ai",
        "https://",
        "https://user:secret@chat.qwen.ai",
        "https://chat.qwen.ai/?a=b",
        "https://chat.qwen.ai/#a",
        "https://chat qwen",
    ] {
        let message = refusal(&["--base-url", url]);
        assert!(message.starts_with("--base-url: "), "{url}: {message}");
        assert!(!message.contains("secret"));
    }
    let config = resolve(&["--upstream", "web", "--base-url", "http://127.0.0.1:9/x"]);
    assert!(matches!(
        only(config.expect("valid")).upstream,
        Upstream::Web { base_url, .. } if base_url == "http://127.0.0.1:9/x"
    ));
}

#[test]
fn a_recording_is_for_the_emulator() {
    let file = file!();
    let file = std::path::Path::new(file);
    let file = if file.exists() { file.to_owned() } else { std::env::current_exe().expect("own") };
    let file = file.to_str().expect("UTF-8");
    let upstream = only(resolve(&["--replay", file, "--token", JWT]).expect("valid"));
    assert_eq!(upstream.reason, "because --replay is given");
    let read =
        matches!(upstream.upstream, Upstream::Emulator { recording: Some(r), .. } if !r.is_empty());
    assert!(read);
    assert!(refusal(&["--replay", file, "--upstream", "web"]).starts_with("--replay: "));
    let missing = refusal(&["--replay", "no/such\nfile"]);
    assert!(missing.starts_with("--replay: cannot read no/such\\nfile: "), "{missing}");
}

#[test]
fn the_emulator_imitates_what_is_asked_for() {
    let emulated = |args: &[&str]| match only(resolve(args).expect("valid")).upstream {
        Upstream::Emulator { emulated, .. } => emulated,
        other => panic!("{} is none", other.kind()),
    };
    assert_eq!(emulated(&[]), emulator::Kind::Web);
    for kind in emulator::Kind::ALL {
        assert_eq!(emulated(&["--emulate", kind.as_str()]), kind);
        let file = format!("[[upstream]]\nemulate = \"{}\"", kind.as_str());
        let of_file = only(of_file(&file, &[]).expect("valid"));
        assert!(
            matches!(of_file.upstream, Upstream::Emulator { emulated, .. } if emulated == kind)
        );
    }
    only(resolve(&["--emulate", "vllm", "--tools", "native"]).expect("it has tools"));
    let web = refusal(&["--emulate", "vllm", "--upstream", "web"]);
    assert!(web.starts_with("--emulate: "), "{web}");
    assert!(refusal(&["--emulate", "vllm", "--replay", "x"]).starts_with("--replay: "));
    let unknown = of_file("[[upstream]]\nemulate = \"gpt\"", &[]).expect_err("unknown");
    assert!(unknown.to_string().contains("line 2"), "{unknown}");
}

#[test]
fn bad_log_filters_are_refused() {
    assert!(refusal(&["--log", "tower_qwen=loud"]).starts_with("--log: "));
}

#[test]
fn no_secret_is_in_debug() {
    let web = ["--token", JWT, "--cookies", "cna=cookie-secret", "--api-key", "client-secret"];
    let api = ["--base-url", "http://127.0.0.1:1", "--upstream-key", "upstream-secret"];
    let mut shown = String::new();
    for args in [&web[..], &api] {
        shown += &format!("{:?} {:#?}", Options::of(args), resolve(args).expect("valid"));
    }
    for secret in ["eyJ", "cookie-secret", "client-secret", "upstream-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Resolves with a file of this text.
fn of_file(text: &str, args: &[&str]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("proxy.toml");
    fs::write(&path, text).expect("written");
    let file = path.to_str().expect("UTF-8");
    let args: Vec<_> = ["--config", file].into_iter().chain(args.iter().copied()).collect();
    resolve(&args)
}

const TWO: &str = r#"
listen = "127.0.0.1:9000"
api-key = "one,two"
session-ttl = 60
body-timeout = 20
write-timeout = 7

[[upstream]]
kind = "web"
cookies = "cna=x"
tools = "off"

[[upstream]]
name = "local"
models = ["qwen3-coder-*", "qwq-32b"]
base-url = "http://127.0.0.1:8000/v1"
server = "vllm"
"#;

#[test]
fn a_file_sets_all_of_it() {
    let config = of_file(TWO, &[]).expect("valid");
    assert_eq!((&*config.listen, config.api_keys.len()), ("127.0.0.1:9000", 2));
    assert_eq!(config.sessions.ttl, Duration::from_secs(60));
    let seconds = [config.body_timeout, config.write_timeout].map(|time| time.as_secs());
    assert_eq!(seconds, [20, 7]);
    let paces = config.upstreams.iter().map(|upstream| upstream.body_pace);
    assert!(paces.into_iter().all(|pace| pace == config.body_pace()));
    let [web, local] = &config.upstreams[..] else { panic!("two upstreams") };
    assert_eq!(
        (web.name.as_bytes(), web.tools, web.models.is_any()),
        (&b"web"[..], Tools::Off, true)
    );
    assert_eq!((local.name.as_bytes(), local.upstream.kind()), (&b"local"[..], "compatible"));
    assert_eq!(local.models.to_string(), "qwen3-coder-*, qwq-32b");

    // The command line stands over it, for the first upstream.
    let args = ["--listen", "127.0.0.1:1", "--tools", "xml", "--session-ttl", "5"];
    let config = of_file(TWO, &args).expect("valid");
    assert_eq!((&*config.listen, config.sessions.ttl.as_secs()), ("127.0.0.1:1", 5));
    let tools: Vec<_> = config.upstreams.iter().map(|upstream| upstream.tools).collect();
    assert_eq!(tools, [Tools::Xml, Tools::Openai]);
}

#[test]
fn paths_of_a_file_are_relative_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("answer.sse"), "data: x").expect("written");
    let path = folder.path().join("proxy.toml");
    fs::write(&path, "[[upstream]]\nreplay = \"answer.sse\"").expect("written");
    let upstream = only(resolve(&["--config", path.to_str().expect("UTF-8")]).expect("valid"));
    assert!(matches!(upstream.upstream, Upstream::Emulator { recording: Some(_), .. }));
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_line_and_without_its_text() {
    for (text, line, says) in [
        ("listen = \"127.0.0.1:1\"\nlisten-on = 5", "line 2", "listen-on"),
        ("[[upstream]]\nkinds = \"web\"", "line 2", "kinds"),
        ("[[upstream]]\n\ntoken = secret-value", "line 3", ""),
        ("[[upstream]]\ntools = \"magic\"", "line 2", "magic"),
        ("session-ttl = \"long\"", "line 1", "expected"),
        ("session-ttl = 0", "session-ttl", ""),
        ("body-timeout = 0", "body-timeout", "86400"),
        ("write-timeout = 90000", "write-timeout", "86400"),
        ("[[upstream]]\nname = \"a b\"", "upstream \"a b\"", "name"),
        ("[[upstream]]\nname = \"x\"\ntoken = \"Bearer secret-value\"", "\"x\"", "--token"),
        ("[[upstream]]\n[[upstream]]\nmodels = [\"m\"]", "upstream 2", "name"),
        ("[[upstream]]\n[[upstream]]\nname = \"x\"", "models", ""),
        ("[[upstream]]\nmodels = []", "models", ""),
    ] {
        let message = of_file(text, &[]).expect_err(text).to_string();
        assert!(message.contains(line) && message.contains(says), "{text}: {message}");
        assert!(!message.contains("secret-value") && !message.contains('\n'), "{message}");
    }
    let missing = refusal(&["--config", "no/such.toml"]);
    assert!(missing.starts_with("--config: cannot read no/such.toml: "), "{missing}");
}

/// A folder with a file of each name and text.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

const LOGIN: &str = r#"{"access_token":"at-secret","refresh_token":"rt-secret","token_type":"Bearer",
    "resource_url":"portal.qwen.ai","expiry_date":1893456000000}"#;
const SESSION: &str = r#"{"kind":"web","jwt":"session-secret"}"#;

/// The accounts' names.
fn names(args: &[&str]) -> Vec<String> {
    let upstream = only(resolve(args).expect("valid"));
    upstream.accounts.all().map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn credential_files_choose_the_upstream_and_its_address() {
    let folder = files(&[("login.json", LOGIN), ("web.json", SESSION), ("key.json", "sk-demo1")]);
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (login, web, key) = (path("login.json"), path("web.json"), path("key.json"));

    let args = ["--credentials", &login];
    assert_eq!(chosen(&[], &args), ("compatible", "because a login's file is given"));
    let of_portal =
        ("https://portal.qwen.ai/v1".to_owned(), Server::Portal, Some("at-secret".into()));
    assert_eq!(api(&[], &args), of_portal);
    // It is not DashScope's, so DashScope's key stays out of it.
    assert_eq!(api(&[("DASHSCOPE_API_KEY", "sk-dashscope")], &args), of_portal);

    assert_eq!(chosen(&[], &["--credentials", &web]), ("web", "because a session's file is given"));
    assert_eq!(api(&[], &["--credentials", &key]).0, DASHSCOPE);
    let both = refusal(&["--credentials", &login, "--credentials", &web]);
    assert!(both.starts_with("--credentials: some are sessions"), "{both}");
    let list = format!("{web},{login}");
    assert_eq!(names(&["--upstream", "web", "--credentials", &list]), ["web", "login"]);
    assert_eq!(names(&["--credentials", &web, "--token", JWT]), ["given", "web"]);
    assert_eq!(names(&["--upstream", "emulator", "--credentials", &web]), [""; 0]);
    let mixed = format!("{login},{key}");
    assert_eq!(names(&["--credentials", &mixed, "--base-url", "http://127.0.0.1:1/v1"]).len(), 2);

    let missing = refusal(&["--credentials", &path("none.json")]);
    assert!(
        missing.starts_with("--credentials: ") && missing.contains("no such file"),
        "{missing}"
    );
    let nobodys = refusal(&["--credentials", &web, "--cookies", "cna=x"]);
    assert!(nobodys.starts_with("--cookies: "), "{nobodys}");
    assert!(refusal(&["--token-url", "portal.qwen.ai"]).starts_with("--token-url: "));
    for args in [&args[..], &["--credentials", &web]] {
        assert!(!format!("{:?}", resolve(args).expect("valid")).contains("secret"));
    }
}

#[test]
fn a_file_names_credentials_beside_it() {
    let folder = files(&[
        ("a.json", LOGIN),
        ("b.json", SESSION),
        (
            "proxy.toml",
            "[[upstream]]\ncredentials = [\"a.json\"]\ntoken-url = \"http://127.0.0.1:1/token\"\n\
             [[upstream]]\nname = \"page\"\nmodels = [\"qwen3-*\"]\ncredentials = [\"b.json\"]",
        ),
    ]);
    let path = folder.path().join("proxy.toml");
    let config = resolve(&["--config", path.to_str().expect("UTF-8")]).expect("valid");
    let kinds: Vec<_> = config.upstreams.iter().map(|u| u.upstream.kind()).collect();
    assert_eq!(kinds, ["compatible", "web"]);
    let token_urls: Vec<_> =
        config.upstreams.iter().map(|u| u.token_url.as_ref().map(ToString::to_string)).collect();
    assert_eq!(token_urls, [Some("http://127.0.0.1:1/token".into()), None]);
}

#[test]
fn a_compressed_token_is_a_session() {
    // The vectors in docs/reference/qwen-wire.md#f2, the first two layouts.
    for (token, bearer) in [
        (
            "H4sIAAAAAAACA6tWKi1OLYrPTFGyUgAzdVNSc/N1DZV0FJSKU4uLM/Pz4kvys1PzQPIgAZh8LQBKCSUoOgAAAA==",
            "sess-demo-1",
        ),
        ("H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=", "aaa.bbb.ccc"),
    ] {
        let upstream =
            only(resolve(&["--token", token, "--cookies", "token=old; cna=x"]).expect("valid"));
        let (name, session) = upstream.accounts.all().next().expect("an account");
        assert_eq!((name, session.access_token().expose()), ("given", bearer));
        let jar = session.cookies().expect("a jar").expose();
        assert!(jar.contains(&format!("token={bearer}")) && jar.contains("cna=x"), "{jar}");
    }
}

/// A page of `docs/`.
fn page(name: &str) -> String {
    fs::read_to_string(format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))).expect("a page")
}

#[test]
fn the_files_in_the_documentation_are_valid() {
    for (name, section, expected) in [
        ("configuration.md", "## Several upstreams", &["web", "compatible"][..]),
        ("operating.md", "## Upstreams that stand in", &["web", "compatible", "compatible"]),
    ] {
        let page = page(name);
        let (_, section) = page.split_once(section).expect("the section");
        let (_, example) = section.split_once("```toml\n").expect("an example");
        let (example, _) = example.split_once("```").expect("its end");
        let config = of_file(example, &[]).expect("valid");
        let kinds: Vec<_> = config.upstreams.iter().map(|u| u.upstream.kind()).collect();
        assert_eq!(kinds, expected, "{name}");
        let stand_ins = &config.upstreams[0].stand_ins.all;
        assert_eq!(stand_ins.len(), expected.len() - 1, "{name}");
    }
}

#[test]
fn every_command_of_the_upstream_table_is_valid() {
    let page = page("upstreams.md");
    let (_, table) = page.split_once("## Commands").expect("the section");
    let (table, _) = table.split_once("## What each").expect("the next one");
    let mut seen = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let Some(command) = row.split('`').find(|code| code.split(' ').any(|word| word == "P"))
        else {
            continue;
        };
        if ["P login", "P --config proxy.toml"].contains(&command) {
            continue;
        }
        let (mut env, mut args) = (Vec::new(), Vec::new());
        for word in command.split(' ').filter(|word| *word != "P") {
            match word.split_once('=') {
                Some(("QWEN_TOKEN", _)) => args.extend(["--token", JWT]),
                Some(("QWEN_COOKIES", _)) => args.extend(["--cookies", "cna=x"]),
                Some(("QWEN_API_KEY", _)) => args.extend(["--upstream-key", "sk-sp-demo"]),
                Some(("DASHSCOPE_API_KEY", _)) => env.push(("DASHSCOPE_API_KEY", "sk-demo")),
                Some(other) => panic!("{other:?} is not known here"),
                None if word == "THE-URL-OF-THE-PLAN" => args.push("https://plan.example.com/v1"),
                None => args.push(word),
            }
        }
        let config = resolve_in(&env, &args).unwrap_or_else(|error| panic!("{command}: {error}"));
        let upstream = only(config).upstream;
        match &upstream {
            Upstream::Web { .. } => assert!(row.contains("chat.qwen.ai"), "{row}"),
            Upstream::Emulator { .. } => assert!(row.contains("emulat"), "{row}"),
            Upstream::Compatible { server, .. } => {
                let own = !row.contains("anything else");
                assert_eq!(*server != Server::Generic, own, "{row}");
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 13);
}

/// How long each kind of upstream is waited for, and that every limit is an option.
#[test]
fn how_long_an_upstream_is_waited_for() {
    let of = |args: &[&str]| {
        let Patience { first_event, idle, total, grace, linger, retries, resume, whole: _ } =
            only(resolve(args).expect("valid")).patience;
        let seconds = [first_event, idle, total, grace, linger].map(|limit| limit.as_secs());
        (seconds, [retries, resume])
    };
    let local = ([600, 300, 900, 2, 5], [2, 0]);
    let hosted = ([120, 120, 900, 2, 5], [2, 0]);
    let web = ([60, 120, 900, 2, 5], [2, 0]);
    assert_eq!(of(&[]), web);
    assert_eq!(of(&["--upstream", "web"]), web);
    for emulated in ["vllm", "sglang", "ollama", "llamacpp"] {
        assert_eq!(of(&["--emulate", emulated]), local, "{emulated}");
        let url = ["--base-url", "http://127.0.0.1:8000/v1", "--server", emulated];
        assert_eq!(of(&url), local, "{emulated}");
    }
    for emulated in ["dashscope", "portal"] {
        assert_eq!(of(&["--emulate", emulated]), hosted, "{emulated}");
    }
    assert_eq!(of(&["--upstream-key", "sk-demo"]), hosted);
    assert_eq!(of(&["--base-url", "http://127.0.0.1:8000/v1"]), local, "perhaps a machine at home");
    let set = [
        "--first-event-timeout=7",
        "--idle-timeout=8",
        "--total-timeout=300",
        "--grace=0",
        "--linger=0",
        "--retries=0",
        "--resume=3",
    ];
    assert_eq!(of(&set), ([7, 8, 300, 0, 0], [0, 3]));
    assert!(only(resolve(&set).expect("valid")).patience.retry().is_none());
    let whole = ["--emulate", "portal", "--retries=0", "--whole-after-timeout"];
    assert!(only(resolve(&whole).expect("valid")).patience.retry().is_some());
    let web = refusal(&["--upstream", "web", "--whole-after-timeout"]);
    assert!(web.starts_with("--whole-after-timeout: "), "{web}");
    assert!(only(resolve(&["--emulate", "vllm", "--send-trace"]).expect("valid")).sends_trace);
    assert!(refusal(&["--upstream", "web", "--send-trace"]).starts_with("--send-trace: "));
    let kept = ["--emulate", "dashscope", "--api", "responses", "--resume=1"];
    assert!(refusal(&kept).starts_with("--resume: "));
}

/// What the command line would refuse is refused in a file too.
#[test]
fn limits_of_time_in_a_file_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let path = file.to_str().expect("UTF-8");
    for (line, words) in [
        ("first-event-timeout = 0", "--first-event-timeout: it must be 1 to 86400 seconds"),
        ("idle-timeout = 0", "--idle-timeout: it must be 1 to 86400 seconds"),
        ("total-timeout = 86401", "--total-timeout: it must be 1 to 86400 seconds"),
        ("grace = 86401", "--grace: it must be 0 to 86400 seconds"),
        ("linger = 86401", "--linger: it must be 0 to 86400 seconds"),
        ("retries = 11", "--retries: it must be 0 to 10"),
        ("resume = 11", "--resume: it must be 0 to 10"),
    ] {
        fs::write(&file, format!("[[upstream]]\nkind = \"web\"\n{line}\n")).expect("written");
        let refused = refusal(&["--config", path]);
        assert!(refused.contains(words), "{refused}");
    }
    let text = "[[upstream]]\nkind = \"web\"\nidle-timeout = 5\nretries = 3\n";
    fs::write(&file, text).expect("written");
    let patience = only(resolve(&["--config", path]).expect("valid")).patience;
    assert_eq!((patience.idle, patience.retries), (Duration::from_secs(5), 3));
}

#[test]
fn what_a_high_effort_means() {
    let of = |args: &[&str]| only(resolve(args).expect("valid")).high_effort;
    let vllm = ["--emulate", "vllm", "--high-effort"];
    let with = |effort| of(&[&vllm[..], &[effort]].concat());
    assert_eq!(of(&vllm[..2]), None);
    assert_eq!(with("high"), None);
    assert_eq!(with("medium"), Some(ReasoningEffort::Medium));
    assert_eq!(with("low"), Some(ReasoningEffort::Low));
    let web = ["--upstream", "web", "--high-effort", "medium"];
    assert!(refusal(&web).starts_with("--high-effort: "), "{}", refusal(&web));
}

#[test]
fn only_dashscope_keeps_chats_behind_an_api() {
    let of = |args: &[&str]| only(resolve(args).expect("valid")).api;
    assert_eq!(of(&["--emulate", "dashscope"]), Api::Chat);
    assert_eq!(of(&["--emulate", "dashscope", "--api", "responses"]), Api::Responses);
    assert_eq!(of(&["--upstream-key", "sk-x", "--api", "responses"]), Api::Responses);
    let gateway = ["--base-url", "https://gateway.example/v1", "--api", "responses"];
    assert_eq!(of(&gateway), Api::Responses);
    for args in [
        &["--api", "responses"][..],
        &["--emulate", "vllm", "--api", "responses"],
        &["--base-url", "http://127.0.0.1:8000/v1", "--server", "vllm", "--api", "responses"],
    ] {
        assert!(refusal(args).starts_with("--api: "), "{}", refusal(args));
    }
}

#[test]
fn what_becomes_of_prompts() {
    let of = |args: &[&str]| only(resolve(args).expect("valid")).completions;
    for (args, completions) in [
        (&["--emulate", "vllm"][..], Completions::Auto),
        (&["--emulate", "vllm", "--completions", "fim"], Completions::Fim),
        (&["--emulate", "vllm", "--completions", "auto", "--tools", "off"], Completions::Raw),
        (&["--emulate", "vllm", "--completions", "chat", "--tools", "off"], Completions::Chat),
        (&["--upstream", "web", "--tools", "off"], Completions::Auto),
        (&["--upstream", "web", "--completions", "chat"], Completions::Chat),
    ] {
        assert_eq!(of(args), completions, "{args:?}");
    }
    for form in ["raw", "fim"] {
        let refusal = refusal(&["--upstream", "web", "--completions", form]);
        assert!(refusal.starts_with("--completions: "), "{refusal}");
    }
}

#[test]
fn other_names_come_from_the_command_line_or_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("proxy.toml");
    let with = |toml: &str, args: &[&str]| {
        fs::write(&path, toml).expect("written");
        let file = ["--config", path.to_str().expect("UTF-8")];
        resolve(&[&file[..], args].concat())
    };
    let toml = "[[alias]]\nname = \"claude-*\"\nmodel = \"qwen3.8-max\"\n\
                [[alias]]\nname = \"gpt-*\"\nmodel = \"qwen-plus\"\n";
    let names = |toml: &str, args: &[&str]| with(toml, args).expect("valid").names;
    let found = |names: &ModelNames, name: &str| names.resolve(name).map(|model| model.to_string());
    let of_file = names(toml, &[]);
    assert_eq!(found(&of_file, "claude-opus").as_deref(), Some("qwen3.8-max"));
    assert_eq!(found(&of_file, "gpt-5").as_deref(), Some("qwen-plus"));
    // As with every option the command line stands for the whole of it.
    let given = names(toml, &["--alias", "fast = qwen3.8-flash,a/b:c=x/y=z"]);
    assert_eq!(found(&given, "fast").as_deref(), Some("qwen3.8-flash"));
    assert_eq!(found(&given, "a/b:c").as_deref(), Some("x/y=z"));
    assert_eq!(found(&given, "gpt-5"), None);
    let claude = names("claude-models = true\n", &["--alias", "claude-*=m"]);
    assert_eq!(found(&claude, "claude-qwen3.8-max").as_deref(), Some("qwen3.8-max"));
    assert_eq!(found(&claude, "claude-Qwen/Qwen3-32B").as_deref(), Some("Qwen/Qwen3-32B"));
    assert_eq!(found(&claude, "claude-opus-4-5").as_deref(), Some("m"));
    assert_eq!(found(&names("", &[]), "claude-qwen3.8-max"), None);

    for (toml, words) in [
        (
            "[[alias]]\nname = \"a\"\nmodel = \"b\"\n[[alias]]\nname = \"a\"\nmodel = \"c\"\n",
            "--alias: number 2: `a` is there twice",
        ),
        (
            "[[alias]]\nname = \"a\"\nmodel = \"b\"\n[[alias]]\nname = \"b\"\nmodel = \"a\"\n",
            "--alias: number 2: `b` stands for `a`, which is itself another name",
        ),
        (
            "[[alias]]\nname = \"\"\nmodel = \"b\"\n",
            "--alias: number 1: the name of `` for `b` is empty",
        ),
        (
            "[[alias]]\nname = \"a*\"\nmodel = \"b\"\nlist = true\n",
            "--alias: number 1: `a*` is listed, and a name with a `*` cannot be",
        ),
        ("[[alias]]\nname = \"a\"\n", "line 1: missing field `model`"),
        ("[[alias]]\nname = \"a\"\nmodel = \"b\"\nlst = true\n", "line 4: unknown field `lst`"),
    ] {
        let error = with(toml, &[]).expect_err("a slip").to_string();
        assert!(error.contains(words), "{toml}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
