use super::*;

/// A JWT by its shape; nothing has ever signed it.
const JWT: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6ImRlbW8iLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtc2lnbmF0dXJl";

/// Parses without the environment that the test happens to run in.
fn options(args: &[&str]) -> Options {
    let command = Options::command().mut_args(|arg| arg.env(None::<&str>));
    let matches = command
        .try_get_matches_from(std::iter::once("proxy").chain(args.iter().copied()))
        .expect("valid arguments");
    Options::from_arg_matches(&matches).expect("valid arguments")
}

fn resolve_in(env: &[(&str, &str)], args: &[&str]) -> Result<Config, ConfigError> {
    options(args).resolve_with(|name| {
        env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
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
    match resolve(args).expect("valid").upstream {
        Upstream::Web { credentials: WebCredentials { token, umid_token, cookies }, .. } => {
            [token, umid_token, cookies]
                .map(|secret| secret.map(|secret| secret.expose_secret().to_owned()))
        }
        Upstream::Emulator { .. } => panic!("the emulator has no credentials"),
    }
}

#[test]
fn the_command_is_consistent() {
    Options::command().debug_assert();
}

#[test]
fn nothing_given_is_the_emulator_on_loopback() {
    let config = resolve(&[]).expect("valid");
    assert_eq!(config.listen, "127.0.0.1:8080");
    assert_eq!(config.upstream.name(), "emulator");
    assert_eq!(config.reason, "because no web credential is given");
    assert_eq!(config.log, "info");
    assert!(config.api_keys.is_empty());
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
    assert_eq!((&*config.listen, config.upstream.name()), ("127.0.0.1:8080", "emulator"));
    assert!(config.api_keys.is_empty());
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
}

#[test]
fn a_credential_chooses_the_web() {
    for args in [["--token", JWT], ["--token", "T2gA-device"], ["--cookies", "a=b"]] {
        let config = resolve(&args).expect("valid");
        assert_eq!(config.upstream.name(), "web", "{args:?}");
        assert_eq!(config.reason, "because a web credential is given");
    }
    let config = resolve(&["--upstream", "emulator", "--token", JWT]).expect("valid");
    assert_eq!(config.upstream.name(), "emulator");
    assert_eq!(resolve(&["--upstream", "web"]).expect("valid").upstream.name(), "web");
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
        config.expect("valid").upstream,
        Upstream::Web { base_url, .. } if base_url == "http://127.0.0.1:9/x"
    ));
}

#[test]
fn a_recording_is_for_the_emulator() {
    let file = file!();
    let file = std::path::Path::new(file);
    let file = if file.exists() { file.to_owned() } else { std::env::current_exe().expect("own") };
    let file = file.to_str().expect("UTF-8");
    let config = resolve(&["--replay", file, "--token", JWT]).expect("valid");
    assert_eq!(config.reason, "because --replay is given");
    assert!(matches!(config.upstream, Upstream::Emulator { recording: Some(r) } if !r.is_empty()));
    assert!(refusal(&["--replay", file, "--upstream", "web"]).starts_with("--replay: "));
    let missing = refusal(&["--replay", "no/such\nfile"]);
    assert!(missing.starts_with("--replay: cannot read no/such\\nfile: "), "{missing}");
}

#[test]
fn bad_log_filters_are_refused() {
    assert!(refusal(&["--log", "tower_qwen=loud"]).starts_with("--log: "));
}

#[test]
fn no_secret_is_in_debug() {
    let args = ["--token", JWT, "--cookies", "cna=cookie-secret", "--api-key", "client-secret"];
    let shown = format!("{:?}", options(&args)) + &format!("{:#?}", resolve(&args));
    for secret in ["eyJ", "cookie-secret", "client-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
