use std::{fs, path::PathBuf};

use tower_qwen_emulator::{Emulator, OAuthAccount};

use super::*;
use crate::proxy::sign_in;

fn login(access: &str, refresh: &str, millis: u64) -> String {
    format!(
        r#"{{"access_token":"{access}","refresh_token":"{refresh}","token_type":"Bearer",
            "expiry_date":{millis}}}"#
    )
}

/// Year 2100, and long ago.
const LATER: u64 = 4_102_444_800_000;
const BEFORE: u64 = 1_700_000_000_000;

fn accounts(files: &[(&str, String)]) -> (tempfile::TempDir, Accounts) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let accounts = Accounts::read(&[PathBuf::from(folder.path())]).expect("credentials");
    (folder, accounts)
}

fn shown(rows: &[Row], json: bool) -> String {
    let mut out = Vec::new();
    write(&mut out, rows, json).expect("into memory");
    String::from_utf8(out).expect("UTF-8")
}

#[tokio::test]
async fn the_table_tells_who_and_how_without_a_secret() {
    let (_folder, accounts) = accounts(&[
        ("oauth_creds.json", login("secret-a", "secret-b", LATER)),
        ("oauth_creds_old.json", login("secret-c", "secret-d", BEFORE)),
        ("oauth_creds_spent.json", login("secret-e", "", BEFORE)),
        ("web.json", r#"{"kind":"web","jwt":"secret-f","cookies":{"cna":"secret-g"}}"#.to_owned()),
        ("key.json", r#"{"kind":"apikey","api_key":"secret-h"}"#.to_owned()),
    ]);
    let rows = rows("main", &accounts, None).await;
    let table = shown(&rows, false);
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let cell = |name: &str| {
        let line = lines.iter().find(|line| line.contains(&name)).expect(name);
        line.iter().filter(|cell| !cell.is_empty()).copied().collect::<Vec<_>>()
    };
    assert_eq!(&cell("ACCOUNT")[..5], ["UPSTREAM", "ACCOUNT", "KIND", "EXPIRES IN", "STATE"]);
    assert_eq!(&cell("default")[..3], ["main", "default", "oauth"]);
    assert!(cell("default")[3].ends_with(" days") && cell("default")[4] == "ready");
    assert_eq!(&cell("old")[2..5], ["oauth", "ended", "expired"]);
    assert_eq!(&cell("spent")[2..5], ["oauth", "ended", "sign in again"]);
    assert_eq!(&cell("key")[2..5], ["apikey", "-", "ready"]);
    assert_eq!(&cell("web")[1..5], ["web", "web", "-", "ready"]);
    let json: serde_json::Value = serde_json::from_str(&shown(&rows, true)).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(5));
    let spent = json.as_array().expect("rows").iter().find(|row| row["name"] == "spent");
    assert_eq!(spent.expect("listed")["usable"], false);
    for text in [table, json.to_string(), format!("{rows:?}")] {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn the_code_tells_whether_any_can_be_used() {
    let (_folder, dead) = accounts(&[("a.json", login("at", "", BEFORE))]);
    assert!(!any_usable(&rows("web", &dead, None).await));
    assert!(!any_usable(&rows("web", &Accounts::default(), None).await));
    let (_folder, one) =
        accounts(&[("a.json", login("at", "", BEFORE)), ("b.json", login("at", "rt", BEFORE))]);
    assert!(any_usable(&rows("web", &one, None).await));
    assert!(shown(&[], false).contains("proxy login"));
    assert_eq!(shown(&[], true), "[]\n");
}

#[tokio::test]
async fn a_check_renews_what_has_ended_and_asks_about_the_rest() {
    let emulator = Emulator::builder()
        .require_credentials(true)
        .oauth_account(OAuthAccount::new("ann", "rt-ann"))
        .build();
    let client = sign_in::of_emulator(emulator.clone());
    let user_url = axum::http::Uri::from_static("http://emulator/api/v1/auths/");
    let (folder, accounts) = accounts(&[
        ("ann.json", login("at-old", "rt-ann", BEFORE)),
        ("bob.json", login("at-bob", "rt-bob", BEFORE)),
        ("eve.json", login("at-unknown", "rt-eve", LATER)),
    ]);
    let rows = rows("web", &accounts, Some((&client, Some(&user_url)))).await;
    let states: Vec<_> = rows.iter().map(|row| (row.state, row.usable)).collect();
    assert_eq!(states, [("ready", true), ("sign_in_again", false), ("refused", false)]);
    assert!(rows[0].expires_in.is_some_and(|left| left > Duration::from_secs(20_000)));
    // The new login is on disk; the old refresh token has been spent.
    let kept = fs::read_to_string(folder.path().join("ann.json")).expect("there");
    assert!(!kept.contains("rt-ann") && !kept.contains("at-old"), "{kept}");
}

#[test]
fn a_table_stays_a_table_whatever_a_file_is_named() {
    let row = Row {
        upstream: "web".into(),
        name: "a\x1b[2Jb".into(),
        kind: CredentialKind::OAuth,
        expires_at: None,
        expires_in: None,
        state: "ready",
        usable: true,
        source: "x\ny".into(),
    };
    let table = shown(&[row], false);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(!table.contains('\x1b'));
}
