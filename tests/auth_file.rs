//! The credential file that other processes share: what is written, kept, adopted and never lost.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod traced;

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::service_fn;
use tower_qwen::{
    FullBody,
    auth::{
        AccountStatus, Credential, CredentialPool, CredentialProvider, OAuthFile, RefreshErrorKind,
        TokenClient,
    },
};

#[tokio::test]
async fn a_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("oauth_creds.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let endpoint = Endpoint::new(|| {});
    for path in [pipe, PathBuf::from("/dev/zero")] {
        let file = OAuthFile::new(path, endpoint.client());
        let refused = file.load().await.unwrap_err();
        assert_eq!(refused.kind(), RefreshErrorKind::File, "{refused}");
    }
}

const NOW: u64 = 1_790_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A token endpoint that counts, and does `before` it answers.
#[derive(Clone)]
struct Endpoint {
    asked: Arc<Mutex<Vec<String>>>,
    serial: Arc<AtomicU32>,
    before: Arc<dyn Fn() + Send + Sync>,
}

impl Endpoint {
    fn new(before: impl Fn() + Send + Sync + 'static) -> Self {
        Self { asked: Arc::default(), serial: Arc::default(), before: Arc::new(before) }
    }

    fn client(&self) -> TokenClient {
        let endpoint = self.clone();
        TokenClient::new(service_fn(move |request: Request<FullBody>| {
            let endpoint = endpoint.clone();
            async move {
                let form = request.into_body().collect().await.unwrap().to_bytes();
                let form = String::from_utf8(form.to_vec()).unwrap();
                let token = form.split('&').find_map(|pair| pair.strip_prefix("refresh_token="));
                endpoint.asked.lock().unwrap().push(token.unwrap().to_owned());
                (endpoint.before)();
                let serial = endpoint.serial.fetch_add(1, Ordering::SeqCst) + 1;
                let answer = json!({"access_token": format!("at-{serial}"),
                    "refresh_token": format!("rt-{serial}"), "expires_in": 21600});
                Ok::<_, Infallible>(Response::new(FullBody::from(answer.to_string())))
            }
        }))
        .clock(now)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn login(access: &str, refresh: &str, ends_in: i64) -> Value {
    json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer",
        "resource_url": "portal.qwen.ai", "id_token": "kept",
        "expiry_date": (NOW as i64 + ends_in) * 1000})
}

fn write(path: &Path, value: &Value) {
    let aside = path.with_extension("other");
    fs::write(&aside, value.to_string()).unwrap();
    fs::rename(aside, path).unwrap();
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    traced::on();
    dir.path().join("qwen").join("oauth_creds.json")
}

fn made(dir: &tempfile::TempDir, value: &Value) -> PathBuf {
    traced::on();
    let path = file(dir);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(&path, value);
    path
}

fn access(credential: &Credential) -> &str {
    credential.access_token().expose()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_refresh_is_on_disk_before_anybody_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", -10));
    // What a process left that was killed while it wrote.
    let leftover = path.with_file_name(".oauth_creds.json.dead.tmp");
    fs::write(&leftover, "secret").unwrap();
    let endpoint = Endpoint::new({
        let lock = path.with_extension("lock");
        move || assert_eq!(fs::read_to_string(&lock).unwrap().len(), 36, "the lock holds a UUID")
    });
    let provider = OAuthFile::new(&path, endpoint.client()).clock(now);
    let old = provider.load().await.unwrap();
    let renewal = provider.refresh(old).await.unwrap();
    assert!(!renewal.adopted);
    assert_eq!(access(&renewal.credential), "at-1");
    assert_eq!(renewal.credential.resource_url(), Some("portal.qwen.ai"));
    assert_eq!(read(&path), login("at-1", "rt-1", 21_600), "the rest of the file is kept");
    assert!(fs::read_to_string(&path).unwrap().contains("\n  \""), "pretty");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(endpoint.asked(), ["rt-0"]);
    assert_eq!(names(&path), ["oauth_creds.json"], "no lock and no temporary file is left");
}

#[tokio::test]
async fn what_another_process_refreshed_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", -10));
    let endpoint = Endpoint::new(|| ());
    let provider = OAuthFile::new(&path, endpoint.client()).clock(now);
    let old = provider.load().await.unwrap();
    write(&path, &login("other-at", "other-rt", 3600));
    let renewal = provider.refresh(old.clone()).await.unwrap();
    assert!(renewal.adopted);
    assert_eq!(access(&renewal.credential), "other-at");
    assert!(endpoint.asked().is_empty());
    // Where what is there has ended as well, its refresh token is the one to use.
    write(&path, &login("third-at", "third-rt", 29));
    let renewal = provider.refresh(renewal.credential).await.unwrap();
    assert_eq!(endpoint.asked(), ["third-rt"]);
    assert_eq!(access(&renewal.credential), "at-1");
}

#[tokio::test]
async fn a_changed_file_is_seen_and_an_unchanged_one_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", 3600));
    let provider = OAuthFile::new(&path, Endpoint::new(|| ()).client()).clock(now);
    let first = provider.load().await.unwrap();
    assert!(provider.reload(first.clone()).await.unwrap().is_none());
    write(&path, &login("at-9", "rt-9", 3600));
    let second = provider.reload(first).await.unwrap().expect("changed");
    assert_eq!(access(&second), "at-9");
    assert!(provider.reload(second.clone()).await.unwrap().is_none());
    // Half of a file, as one that is not written atomically has for a moment, is no news.
    fs::write(&path, "{\"access_token\":").unwrap();
    let error = provider.reload(second.clone()).await.expect_err("not JSON");
    assert_eq!(error.kind(), RefreshErrorKind::File);
    write(&path, &login("at-10", "rt-10", 3600));
    assert_eq!(access(&provider.reload(second).await.unwrap().expect("whole now")), "at-10");
}

#[tokio::test]
async fn a_file_that_is_gone_does_not_end_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", -10));
    let endpoint = Endpoint::new(|| ());
    let provider = OAuthFile::new(&path, endpoint.client()).clock(now);
    let old = provider.load().await.unwrap();
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert!(provider.reload(old.clone()).await.unwrap().is_none());
    let renewal = provider.refresh(old).await.unwrap();
    assert_eq!(access(&renewal.credential), "at-1");
    assert_eq!(read(&path)["id_token"], "kept");
    let mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the directory is its owner's alone");
}

#[tokio::test]
async fn who_signs_in_during_a_refresh_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", -10));
    let endpoint = Endpoint::new({
        let path = path.clone();
        // A program that does not know of the lock.
        move || write(&path, &login("signed-in", "signed-in-rt", 99_999))
    });
    let provider = OAuthFile::new(&path, endpoint.client()).clock(now);
    let old = provider.load().await.unwrap();
    let renewal = provider.refresh(old).await.unwrap();
    assert_eq!(access(&renewal.credential), "signed-in");
    assert_eq!(read(&path)["refresh_token"], "signed-in-rt");
}

#[tokio::test]
async fn a_login_that_cannot_be_written_is_used_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", -10));
    let (real, away) = (path.parent().unwrap().to_owned(), dir.path().join("away"));
    let broken = Arc::new(AtomicU32::new(1));
    let endpoint = Endpoint::new({
        let (real, away, broken) = (real.clone(), away.clone(), Arc::clone(&broken));
        // While the endpoint answers, the directory becomes something nothing can be written to.
        move || {
            if broken.swap(0, Ordering::SeqCst) == 1 {
                fs::rename(&real, &away).unwrap();
                fs::write(&real, "").unwrap();
            }
        }
    });
    let provider = OAuthFile::new(&path, endpoint.client()).clock(now);
    let old = provider.load().await.unwrap();
    let renewal = provider.refresh(old).await.unwrap();
    assert_eq!(access(&renewal.credential), "at-1", "granted, and used");
    // The disk is back, with the old login and its spent refresh token, and the lock that could
    // not be removed.
    fs::remove_file(&real).unwrap();
    fs::rename(&away, &real).unwrap();
    assert_eq!(read(&path)["refresh_token"], "rt-0");
    fs::remove_file(path.with_extension("lock")).unwrap();
    assert!(provider.reload(renewal.credential.clone()).await.unwrap().is_none());
    assert_eq!(read(&path), login("at-1", "rt-1", 21_600));

    // Should a refresh come first, it uses the token in memory, not the spent one.
    broken.store(1, Ordering::SeqCst);
    let renewal = provider.refresh(renewal.credential).await.unwrap();
    fs::remove_file(&real).unwrap();
    fs::rename(&away, &real).unwrap();
    fs::remove_file(path.with_extension("lock")).unwrap();
    provider.refresh(renewal.credential).await.unwrap();
    assert_eq!(endpoint.asked(), ["rt-0", "rt-1", "rt-2"]);
    assert_eq!(read(&path)["refresh_token"], "rt-3");
}

#[tokio::test]
async fn behind_a_link_the_file_itself_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", -10));
    let link = dir.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let provider = OAuthFile::new(&link, Endpoint::new(|| ()).client()).clock(now);
    let old = provider.load().await.unwrap();
    provider.refresh(old).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(read(&path)["refresh_token"], "rt-1");
}

#[tokio::test]
async fn signing_in_makes_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir);
    let provider = OAuthFile::new(&path, Endpoint::new(|| ()).client()).clock(now);
    let error = provider.load().await.expect_err("nobody has signed in");
    assert_eq!(error.kind(), RefreshErrorKind::Missing);
    let end = now() + Duration::from_secs(3600);
    let new = Credential::oauth("at", Some("rt"), Some(end)).unwrap();
    provider.save(new.with_resource_url("portal.qwen.ai")).await.unwrap();
    assert_eq!(
        read(&path),
        json!({"access_token": "at", "refresh_token": "rt", "token_type": "Bearer",
            "resource_url": "portal.qwen.ai", "expiry_date": (NOW + 3600) * 1000})
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(access(&provider.load().await.unwrap()), "at");
}

#[tokio::test]
async fn a_directory_of_files_is_a_pool() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(&dir, &login("at-0", "rt-0", 3600));
    let dir = path.parent().unwrap();
    fs::write(dir.join("oauth_creds_work.json"), login("w", "rt-0", 60).to_string()).unwrap();
    fs::write(dir.join("bad.json"), "{}").unwrap();
    fs::write(dir.join(".hidden.json"), "{}").unwrap();
    fs::write(dir.join("notes.txt"), "").unwrap();
    let files = OAuthFile::discover(dir).unwrap();
    let client = Endpoint::new(|| ()).client();
    let pool = CredentialPool::builder().clock(now).files(files, &client).build().unwrap();
    let states: Vec<_> = pool
        .load()
        .await
        .into_iter()
        .map(|state| (state.name.to_string(), state.status, state.expires_in))
        .collect();
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(
        states,
        [
            ("bad".to_owned(), AccountStatus::RefreshFailing, None),
            ("default".to_owned(), AccountStatus::Ready, seconds(3600)),
            ("work".to_owned(), AccountStatus::Ready, seconds(60)),
        ]
    );
    let missing = dir.join("later.json");
    assert_eq!(OAuthFile::discover(&missing).unwrap(), [missing]);
}
