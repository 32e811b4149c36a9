use std::{fs, path::Path, thread};

use clap::Parser;
use sha2::{Digest, Sha256};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    manage: Manage,
}

/// What `proxy keys` writes, on standard output and error.
fn keys(path: &Path, args: &[&str]) -> Result<(String, String), String> {
    let file = path.to_str().expect("UTF-8");
    let args = ["keys", "--file", file].into_iter().chain(args.iter().copied());
    let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    cli.manage.run(&mut out, &mut err)?;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ok((text(out), text(err)))
}

fn digest_of(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[test]
fn a_key_is_shown_once_and_kept_as_a_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.toml");
    let (out, err) = keys(
        &path,
        &[
            "add",
            "--id",
            "ann",
            "--name",
            "Ann \"A\" Smith",
            "--models",
            "qwen3-*,qwq-32b",
            "--streams",
            "2",
            "--requests-per-minute",
            "60",
            "--tokens-per-minute",
            "100000",
            "--tokens-per-day",
            "5000000",
            "--tokens-per-month",
            "0",
            "--expires",
            "2999-01-31",
            "--admin",
        ],
    )
    .expect("added");
    let key = out.trim_end();
    assert!(key.starts_with("sk-tq-") && key.len() == 6 + 43, "{key}");
    assert!(err.contains("ann") && !err.contains(key), "{err}");
    let text = fs::read_to_string(&path).expect("the file");
    assert!(!text.contains(key), "{text}");

    keys(&path, &["add"]).expect("another");
    let read = Keys::read(&path).expect("both");
    let [ann, other] = &*read.all else { panic!("{read:?}") };
    assert_eq!((ann.id.as_str(), ann.name.as_str()), ("ann", "Ann \"A\" Smith"));
    assert_eq!(*ann.digest(), digest_of(key));
    assert!(ann.is_admin && ann.models.fit("qwen3-max").is_some());
    assert!(ann.models.fit("other").is_none());
    let limits = Limits {
        streams: Some(2),
        requests_per_minute: Some(60),
        tokens_per_minute: Some(100_000),
        tokens_per_day: Some(5_000_000),
        tokens_per_month: Some(0),
    };
    assert_eq!(ann.limits, limits);
    assert_eq!((other.limits, other.is_admin), (Limits::default(), false));
    assert!(
        other.id.as_str().starts_with('k') && other.id.as_str().len() == 9,
        "{other:?}",
        other = other.id
    );
    let now = Timestamp::now();
    ann.check(now).expect("it is good");
    let end: Timestamp = "2999-01-31T00:00:00Z".parse().expect("a time");
    ann.check(end - jiff::SignedDuration::from_secs(1)).expect("until then");
    assert_eq!(ann.check(end).expect_err("its end").code(), Some("api_key_expired"));

    let (table, _) = keys(&path, &["list"]).expect("a list");
    assert!(table.contains("ann") && table.contains("60 requests a minute"), "{table}");
    assert!(!table.contains(&text[text.find("sha256").expect("one") + 10..][..20]), "{table}");
    let (json, _) = keys(&path, &["list", "--json"]).expect("a list");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json[0]["id"], &json[0]["tokens_per_month"]), (&"ann".into(), &0.into()));
}

#[cfg(unix)]
#[test]
fn the_file_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.toml");
    let mode = || fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
    keys(&path, &["add"]).expect("added");
    assert_eq!(mode(), 0o600);
    // A group that may read it goes on to, and others do not.
    for (before, after) in [(0o640, 0o640), (0o644, 0o600)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).expect("set");
        keys(&path, &["add"]).expect("added");
        assert_eq!(mode(), after, "{before:o}");
    }
}

#[test]
fn a_revoked_key_stays_and_all_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.toml");
    let text = format!(
        "# ours\n[[key]]\nid = \"a\" # the first\nsha256 = \"{}\"\n\n[[key]]\nsha256 = \"{}\"\nid = \"b\"",
        "0".repeat(64),
        "f".repeat(64)
    );
    fs::write(&path, &text).expect("written");
    for id in ["a", "b", "a"] {
        keys(&path, &["revoke", id]).expect("revoked");
    }
    let changed = fs::read_to_string(&path).expect("the file");
    assert_eq!(changed.replace("\nrevoked = true", ""), text);
    let read = Keys::read(&path).expect("both");
    for key in read.iter() {
        let refused = key.check(Timestamp::now()).expect_err("revoked");
        assert_eq!((refused.is_auth(), refused.code()), (true, Some("api_key_revoked")));
    }
    let unknown = keys(&path, &["revoke", "c"]).expect_err("no such key");
    assert!(unknown.ends_with("keys.toml: there is no key \"c\""), "{unknown}");
    let inline = format!("key = [{{id = \"a\", sha256 = \"{}\"}}]\n", "0".repeat(64));
    fs::write(&path, &inline).expect("written");
    let by_hand = keys(&path, &["revoke", "a"]).expect_err("no room");
    assert!(by_hand.contains("line 1: write `revoked = true` there by hand"), "{by_hand}");
    assert_eq!(fs::read_to_string(&path).expect("the file"), inline, "nothing has changed");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let zeros = "0".repeat(64);
    let key = |more: &str| format!("# keys\n[[key]]\nid = \"a\"\nsha256 = \"{zeros}\"\n{more}\n");
    let path = Path::new("keys.toml");
    for (text, reason) in [
        (key("colour = 1"), ", line 5: unknown field"),
        (key("streams = \"two\""), ", line 5: invalid type"),
        (key("streams = 0"), ", key on line 3: `streams` is 0"),
        (key("models = []"), ", key on line 3: `models` is empty"),
        (key("expires = \"tomorrow\""), ", key on line 3: `expires` is neither"),
        (key("name = \"a\\u0007\""), ", key on line 3: `name` holds a control"),
        (key("[[key]]\nid = \"a\"\nsha256 = \"00\""), ", key on line 6: `sha256` is not"),
        (format!("{}{}", key(""), key("")), ", line 8: two keys have the id a"),
        (
            format!("{}{}", key(""), key("").replace("\"a\"", "\"b\"")),
            ", line 8: b is the same key",
        ),
        (key("").replace("\"a\"", "\"a b\""), ", key on line 3: `id` is not"),
        ("[[key]]\nid = \"a\"".to_owned(), ", line 1: missing field `sha256`"),
    ] {
        let error = Keys::parse(&text, path).expect_err(reason);
        assert!(error.starts_with(reason), "{error}");
        assert!(!error.contains(&zeros), "nothing of the file is shown: {error}");
    }
    assert!(Keys::parse("", path).expect("no key").all.is_empty());
    let missing = Keys::read(Path::new("/nowhere/keys.toml")).expect_err("no file");
    assert!(missing.starts_with("cannot read /nowhere/keys.toml: "), "{missing}");
}

#[test]
fn who_adds_keys_at_the_same_time_loses_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.toml");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| keys(&path, &["add"]).expect("added"));
        }
    });
    assert_eq!(Keys::read(&path).expect("the file").all.len(), 8);
    let twice =
        keys(&path, &["add", "--id", "ann"]).and_then(|_| keys(&path, &["add", "--id", "ann"]));
    assert!(twice.expect_err("the same id").contains("two keys have the id ann"));
    assert_eq!(Keys::read(&path).expect("the file").all.len(), 9);
}
