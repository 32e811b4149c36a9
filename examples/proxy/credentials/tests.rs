use std::path::Path;

use tempfile::TempDir;
use tower_qwen::auth::RefreshErrorKind;

use super::*;

const OAUTH: &str = r#"{"access_token":"at-secret","refresh_token":"rt-secret","token_type":"Bearer",
    "resource_url":"portal.qwen.ai","expiry_date":1893456000000}"#;
const WEB: &str = r#"{"kind":"web","jwt":"eyJ-secret","cookies":{"cna":"1"}}"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        write(&folder.path().join(name), text);
    }
    folder
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("own file");
    }
}

fn refusal(paths: &[PathBuf]) -> String {
    let message = Accounts::read(paths).expect_err("unusable");
    assert!(!message.contains("secret"), "{message}");
    message
}

#[test]
fn files_and_folders_become_accounts() {
    let other = OAUTH.replace("-secret", "-2");
    let files = [
        ("oauth_creds.json", OAUTH),
        ("oauth_creds_work.json", &other),
        ("notes.txt", "no credential"),
        (".hidden.json", "{}"),
    ];
    let folder = folder(&files);
    let accounts = Accounts::read(&[folder.path().to_owned()]).expect("two files");
    let names: Vec<_> = accounts.all().map(|(name, _)| name).collect();
    assert_eq!(names, ["default", "work"]);
    assert_eq!(accounts.base_url().expect("one"), Some("https://portal.qwen.ai/v1".into()));
    assert_eq!(accounts.warnings(), [""; 0]);
    assert!(!format!("{accounts:?}").contains("secret"));

    // The same file by two ways is one account.
    let twice = [folder.path().join("oauth_creds.json"), folder.path().to_owned()];
    assert_eq!(Accounts::read(&twice).expect("read").all().count(), 2);
}

#[test]
fn what_cannot_be_used_is_said_with_what_to_do() {
    let twins =
        [("a.json", OAUTH), ("b.json", OAUTH), ("c.json", "{}"), ("d.json", "[\"secret\"]")];
    let folder = folder(&twins);
    let file = |name: &str| folder.path().join(name);

    let missing = refusal(&[file("none.json")]);
    assert!(
        missing.contains("no such file") && missing.contains("proxy login --file"),
        "{missing}"
    );
    let same = refusal(&[file("a.json"), file("b.json")]);
    assert!(same.contains("hold the same login"), "{same}");
    for none in ["c.json", "d.json"] {
        assert!(refusal(&[file(none)]).contains("holds no credential"), "{none}");
    }
    fs::create_dir(file("empty")).expect("a folder");
    assert!(refusal(&[file("empty")]).contains("no file in it ends in .json"));

    fs::create_dir(file("other")).expect("a folder");
    write(&file("other").join("a.json"), &OAUTH.replace("-secret", "-2"));
    let same_name = refusal(&[file("a.json"), file("other").join("a.json")]);
    assert!(same_name.contains("both named `a`"), "{same_name}");

    write(&file("given.json"), OAUTH);
    let given = Credential::api_key("sk-1").expect("a key");
    let accounts = Accounts::read(&[file("given.json")]).expect("read").with_given(Some(given));
    assert!(accounts.expect_err("two of one name").contains("rename the file"));
}

/// Credential files as they are found: each row is a folder, which accounts it makes and what is
/// named in the one warning.
#[test]
fn the_logins_of_a_folder_are_used_and_the_rest_is_named() {
    let other = OAUTH.replace("-secret", "-2");
    let marked = format!("\u{feff}{OAUTH}");
    let settings = r#"{"security":{"auth":{"selectedType":"qwen-oauth"}},"$version":3}"#;
    let mcp = r#"[{"serverName":"x","token":{"accessToken":"secret"}}]"#;
    let large = " ".repeat(2 << 20);
    for (kind, files, accounts, left_out) in [
        (
            "of qwen-code",
            &[
                ("oauth_creds.json", OAUTH),
                ("settings.json", settings),
                ("mcp-oauth-tokens.json", mcp),
                ("trustedFolders.json", "{}"),
                ("settings.json.orig", settings),
                ("installation_id", "7b0c"),
            ][..],
            &["default"][..],
            &["settings.json", "mcp-oauth-tokens.json", "trustedFolders.json"][..],
        ),
        ("alone", &[("oauth_creds.json", OAUTH)], &["default"], &[]),
        ("a mark", &[("oauth_creds.json", &*marked), ("b.json", &*other)], &["b", "default"], &[]),
        ("an empty one", &[("a.json", ""), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("half of one", &[("a.json", &OAUTH[..40]), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("a large one", &[("a.json", &*large), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("a null", &[("a.json", "null"), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("a number", &[("a.json", "5"), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("a long one", &[("a.json", "1234567890"), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("a word", &[("a.json", "secret"), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("no ASCII", &[("a.json", "Schlüssel"), ("b.json", OAUTH)], &["b"], &["a.json"]),
        ("a key", &[("a.json", "sk-secret"), ("b.json", OAUTH)], &["a", "b"], &[]),
        ("a copy", &[("a copy.json", OAUTH), ("b.json", OAUTH)], &["a copy"], &["b.json"]),
        (
            "no name",
            &[("oauth_creds_.json", OAUTH), ("oauth_creds_ann.json", &*other)],
            &["ann"],
            &["oauth_creds_.json"],
        ),
        (
            "one name",
            &[("oauth_creds.json", OAUTH), ("default.json", &*other)],
            &["default"],
            &["oauth_creds.json"],
        ),
    ] {
        let folder = folder(files);
        let read = Accounts::read(&[folder.path().to_owned()]).expect(kind);
        let names: Vec<_> = read.all().map(|(name, _)| name).collect();
        assert_eq!(names, accounts, "{kind}");
        let warnings = read.warnings();
        assert_eq!(warnings.len(), usize::from(!left_out.is_empty()), "{kind}: {warnings:?}");
        for name in left_out {
            assert!(warnings[0].contains(&format!("{name} (it")), "{kind}: {warnings:?}");
        }
        assert!(!warnings.concat().contains("secret"), "{kind}: {warnings:?}");
        // The same beside a file that is named and cannot be used.
        let missing = folder.path().join("missing.json");
        let read = Accounts::read(&[missing, folder.path().to_owned()]).expect(kind);
        assert_eq!(read.all().count(), accounts.len(), "{kind}");
        assert!(read.warnings()[0].contains("missing.json (there is no such file)"), "{kind}");
    }
}

/// A session file whose headers were copied from a browser is used, and what is not sent of them is
/// named in one warning.
#[test]
fn headers_that_are_not_sent_are_named() {
    for (headers, named) in [
        (r#"{"bx-v":"2"}"#, None),
        (
            r#"{"host":"chat.qwen.ai","content-length":"5","bx-v":"2"}"#,
            Some("content-length, host"),
        ),
        (r#"{":authority":"secret","connection":"secret"}"#, Some(":authority, connection")),
        (r#"{"host":"secret","a secret":"x","":"y"}"#, Some("host, 2 that can be no headers")),
    ] {
        let file = format!(r#"{{"kind":"web","jwt":"a-jwt","headers":{headers}}}"#);
        let folder = folder(&[("ann.json", &file)]);
        let read = Accounts::read(&[folder.path().join("ann.json")]).expect("used");
        assert_eq!(read.all().map(|(name, _)| name).collect::<Vec<_>>(), ["ann"], "{headers}");
        let warnings = read.warnings();
        assert_eq!(warnings.len(), usize::from(named.is_some()), "{headers}: {warnings:?}");
        if let Some(named) = named {
            assert!(warnings[0].ends_with(&format!("not sent: {named}")), "{warnings:?}");
        }
        assert!(!warnings.concat().contains("secret"), "{warnings:?}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_stops_no_other() {
    let folder = folder(&[("b.json", OAUTH)]);
    let path = |name: &str| folder.path().join(name);
    let pipe = std::process::Command::new("mkfifo").arg(path("pipe.json")).status();
    assert!(pipe.expect("mkfifo").success());
    std::os::unix::fs::symlink("nowhere", path("link.json")).expect("a link");
    fs::create_dir(path("a.json")).expect("a folder");
    let named = ["pipe.json", "link.json", "b.json"].map(path);
    for paths in [&[folder.path().to_owned()][..], &named] {
        let read = Accounts::read(paths).expect("one of them");
        assert_eq!(read.all().map(|(name, _)| name).collect::<Vec<_>>(), ["b"], "{paths:?}");
    }
}

#[test]
fn logins_for_several_servers_need_several_upstreams() {
    let other = OAUTH.replace("-secret", "-2").replace("portal.qwen.ai", "example.org");
    let folder = folder(&[("a.json", OAUTH), ("b.json", &other), ("c.json", WEB)]);
    let accounts = Accounts::read(&[folder.path().to_owned()]).expect("three");
    let error = accounts.base_url().expect_err("two servers");
    assert!(error.contains("https://example.org/v1, https://portal.qwen.ai/v1"), "{error}");
    assert!(accounts.any(|kind| kind == CredentialKind::Web));
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder(&[("a.json", OAUTH)]);
    let path = folder.path().join("a.json");
    for (mode, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
        let warnings = Accounts::read(std::slice::from_ref(&path)).expect("read").warnings();
        assert_eq!(!warnings.is_empty(), warned, "{mode:o}: {warnings:?}");
    }
}

#[test]
fn a_token_that_has_ended_and_that_nothing_renews_is_warned_about() {
    let ended = Credential::parse("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.c2ln");
    let accounts = Accounts::default().with_given(Some(ended.expect("a session"))).expect("alone");
    assert!(accounts.warnings()[0].contains("has ended"));
}

#[tokio::test]
async fn the_state_is_told_without_names_and_secrets() {
    let folder = folder(&[("oauth_creds_ann.json", OAUTH), ("dead.json", &ended())]);
    let accounts = Accounts::read(&[folder.path().to_owned()]).expect("two");
    let rejecting = TokenClient::new(tower::service_fn(async |_| {
        let body = http_body_util::Full::from(r#"{"error":"invalid_grant"}"#);
        let response = axum::http::Response::builder().status(400).body(body);
        Ok::<_, std::convert::Infallible>(response.expect("a response"))
    }));
    let pool = accounts.pool(&rejecting).expect("two accounts");
    let fresh = Health::of([&pool]);
    assert_eq!((fresh.accounts, fresh.usable, fresh.is_bad()), (2, 2, false));

    pool.load().await;
    let error = pool.refresh("dead").await.expect_err("rejected");
    assert!(error.is_auth(), "{error:?} {:?}", RefreshErrorKind::Rejected);
    let health = serde_json::to_value(Health::of([&pool])).expect("JSON");
    assert_eq!(health["states"], serde_json::json!({"ready": 1, "sign_in_again": 1}));
    assert_eq!((&health["accounts"], &health["usable"]), (&2.into(), &1.into()));
    // The dead one ended long ago.
    assert_eq!(health["next_expiry_in_s"], 0);
    let shown = health.to_string();
    assert!(!shown.contains("ann") && !shown.contains("secret"), "{shown}");
}

fn ended() -> String {
    OAUTH.replace("-secret", "-old-secret").replace("1893456000000", "1700000000000")
}
