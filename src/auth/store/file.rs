use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use secrecy::ExposeSecret;

use super::{
    StoredCredential,
    disk::{Contents, MAX_FILE, blocking, cut_off, file_error, replace},
    lock::{self, LockFile},
};
use crate::auth::{
    BoxFuture, Credential, CredentialProvider, InvalidToken, RefreshError, RefreshErrorKind,
    Renewal, Secret, TokenClient,
    clock::{Clock, SharedClock},
};

/// How often the file's time is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// What counts as fresh enough to be adopted instead of refreshed.
const MARGIN: Duration = Duration::from_secs(30);

/// A login in a file that other processes read and refresh too: by default
/// `~/.qwen/oauth_creds.json`, shared with the qwen-code CLI.
///
/// Refresh tokens are good for one use, so two processes that refresh at the same time log the
/// user out. What prevents that is the [protocol][sharing] of the CLI: a refresh takes the lock file beside the
/// credential file (`….lock`; stale after 10 s without a sign of life), reads the file again, and
/// asks the token endpoint only if nobody else has put a newer login there. The answer is on disk
/// (temporary file of mode 0600, fsync, rename, fsync of the directory) before anybody gets it.
/// A file that another user owns, as where root renews a user's login, keeps its owner and mode; one
/// of one's own that everybody can read is closed to others (0644 becomes 0600, 0444 becomes 0400),
/// and another mode stays.
///
/// Where the file cannot be replaced, it is written in place: a file that is mounted by itself into
/// a container, or whose owner cannot be given to another. The new login is on disk beside it until
/// that is done, and is read from there should the write have been cut off.
/// What the endpoint leaves out, `resource_url` and often the refresh token, stays as it was, and
/// so does every field that is not known.
///
/// A file that is gone does not end the session: what was read before stays in use, and the next
/// refresh writes the file again. A login that could not be written (a full disk) stays in
/// memory, is used, and is written at the next occasion.
///
/// # What cannot be promised
///
/// A process that dies after the endpoint has answered and before the new refresh token is on
/// disk takes that token with it. No client can close this window; it is the time of one small
/// write. Endpoints that accept the previous refresh token until the new one is used close it.
///
/// ```no_run
/// use http::Request;
/// use tower_qwen::{FullBody, auth::{AuthRefreshLayer, OAuthFile, TokenClient}};
/// # async fn send(_: Request<FullBody>) -> Result<http::Response<FullBody>, std::io::Error> { std::future::pending().await }
///
/// # fn main() -> Result<(), std::io::Error> {
/// // Any HTTP client service will do.
/// let client = TokenClient::new(tower::service_fn(send));
/// let layer = AuthRefreshLayer::new(OAuthFile::new(OAuthFile::default_path()?, client));
/// # Ok(())
/// # }
/// ```
///
/// [sharing]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#b5
#[derive(Clone, Debug)]
pub struct OAuthFile {
    file: Arc<CredentialFile>,
    client: TokenClient,
    clock: SharedClock,
    stale_after: Duration,
}

/// The file itself; everything about it blocks.
#[derive(Debug)]
struct CredentialFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the file looked like when it was last read or written.
    seen: Option<Fingerprint>,
    /// What the file says, or would say if it could be written.
    stored: Option<StoredCredential>,
    /// The refresh token that was spent for [`stored`](State::stored), where that is not on disk.
    unsaved: Option<Secret>,
}

impl State {
    fn newest(&self) -> Option<Credential> {
        self.stored.as_ref().map(|stored| stored.credential().clone())
    }
}

/// Tells whether a file has been replaced or written. The inode helps where two writes fall into
/// one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl OAuthFile {
    /// The login in the file at `path`, refreshed through `client`.
    pub fn new(path: impl Into<PathBuf>, client: TokenClient) -> Self {
        let path = path.into();
        Self {
            file: Arc::new(CredentialFile { path, state: Mutex::default() }),
            client,
            clock: SharedClock::SYSTEM,
            stale_after: lock::STALE_AFTER,
        }
    }

    /// `~/.qwen/oauth_creds.json` of this user.
    ///
    /// # Errors
    ///
    /// Where the user has no home directory.
    pub fn default_path() -> io::Result<PathBuf> {
        let home = std::env::home_dir()
            .filter(|home| !home.as_os_str().is_empty())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no home directory"))?;
        Ok(home.join(".qwen").join("oauth_creds.json"))
    }

    /// The account's name that goes with a file's: `default` for `oauth_creds.json`, `work` for
    /// `oauth_creds_work.json`, else the name without its extension.
    ///
    /// ```
    /// use tower_qwen::auth::OAuthFile;
    ///
    /// assert_eq!(OAuthFile::account_name("/home/me/.qwen/oauth_creds.json"), "default");
    /// assert_eq!(OAuthFile::account_name("oauth_creds_work.json"), "work");
    /// assert_eq!(OAuthFile::account_name("alice.json"), "alice");
    /// ```
    #[must_use]
    pub fn account_name(path: impl AsRef<Path>) -> String {
        let stem = path.as_ref().file_stem().unwrap_or_default().to_string_lossy();
        match stem.strip_prefix("oauth_creds") {
            Some("") => "default".to_owned(),
            Some(rest) => rest.trim_start_matches('_').to_owned(),
            None => stem.into_owned(),
        }
    }

    /// Measures expiry with `clock`.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    pub(in crate::auth) fn with_shared_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// The credential files at `path`: itself, or every `.json` file of a directory, in the order
    /// of their names.
    ///
    /// Blocks; it is meant for start-up.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be read. A file that does not exist is no error: somebody may
    /// sign in later.
    pub fn discover(path: impl Into<PathBuf>) -> io::Result<Vec<PathBuf>> {
        let path = path.into();
        if !path.is_dir() {
            return Ok(vec![path]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            // Files in the making begin with a dot.
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
            if path.extension().is_some_and(|extension| extension == "json")
                && !hidden
                && path.is_file()
            {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Takes a lock from its holder after `stale_after` without a sign of life; 10 s unless set,
    /// which is what the qwen-code CLI uses. All who share the file should agree.
    #[must_use]
    pub fn stale_lock_after(mut self, stale_after: Duration) -> Self {
        self.stale_after = stale_after;
        self
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Puts a new login into the file, in place of the old one: what signing in ends with.
    /// Takes the lock, so that no refresh of the old login writes over it.
    ///
    /// # Errors
    ///
    /// Where the lock cannot be had or the file cannot be written.
    pub async fn save(&self, credential: Credential) -> Result<(), RefreshError> {
        self.on_locked(move |file| file.save(StoredCredential::new(credential))).await
    }

    /// Puts a new login into the file as [`save`](Self::save) does, and keeps what the file says
    /// beside the old one: device headers, and fields that are not known here. Of the old login's
    /// tokens, cookies and end nothing is kept, and of a file with a login of another kind, a bare
    /// token or something else, nothing at all.
    ///
    /// # Errors
    ///
    /// Where the lock cannot be had or the file cannot be read or written.
    ///
    /// ```
    /// use tower_qwen::auth::{Credential, OAuthFile, TokenClient};
    /// # use tower_qwen_emulator::Emulator;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (emulator, folder) = (Emulator::new(), tempfile::tempdir()?);
    /// # let path = folder.path().join("session.json");
    /// std::fs::write(&path, r#"{"kind": "web", "jwt": "eyJ.e30.old", "label": "work"}"#)?;
    /// let file = OAuthFile::new(&path, TokenClient::new(emulator));
    /// file.merge(Credential::web("eyJ.e30.new")?).await?;
    /// let text = std::fs::read_to_string(&path)?;
    /// assert!(text.contains("work") && text.contains("new") && !text.contains("old"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn merge(&self, credential: Credential) -> Result<(), RefreshError> {
        self.on_locked(move |file| file.merge(credential)).await
    }

    async fn lock(&self) -> Result<LockFile, RefreshError> {
        self.on_file(CredentialFile::make_dir).await?;
        LockFile::acquire(&self.file.lock_path(), self.stale_after).await
    }

    /// Does something with the file, which blocks, off the runtime's threads.
    async fn on_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CredentialFile) -> Result<T, RefreshError> + Send + 'static,
    ) -> Result<T, RefreshError> {
        let file = Arc::clone(&self.file);
        blocking(move || work(&file)).await
    }

    /// The same under the lock.
    async fn on_locked(
        &self,
        work: impl FnOnce(&CredentialFile) -> Result<(), RefreshError> + Send + 'static,
    ) -> Result<(), RefreshError> {
        let lock = self.lock().await?;
        let result = self.on_file(work).await;
        lock.release().await;
        result
    }

    /// The refresh proper, under the lock.
    async fn refresh_locked(
        &self,
        lock: &LockFile,
        current: Credential,
    ) -> Result<Renewal, RefreshError> {
        let now = self.clock.now();
        let newest = self.on_file(move |file| file.newest(&current, now)).await?;
        let basis = match newest {
            Newest::Adopt(credential) => return Ok(Renewal::adopted(credential)),
            Newest::Refresh(credential) => credential,
        };
        // Whoever was suspended between taking the lock and here may have lost it.
        if !lock.is_held().await {
            return Err(RefreshError::new(
                RefreshErrorKind::LockTimeout,
                "the credential's lock was lost before the refresh",
            ));
        }
        let granted = self.client.refresh(&basis).await?;
        self.on_file(move |file| Ok(Renewal::granted(file.keep(&basis, granted)))).await
    }
}

impl CredentialProvider for OAuthFile {
    fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
        Box::pin(self.on_file(CredentialFile::load))
    }

    fn refresh(&self, current: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
        Box::pin(async {
            let lock = self.lock().await?;
            let result = self.refresh_locked(&lock, current).await;
            lock.release().await;
            result
        })
    }

    fn reload(
        &self,
        current: Credential,
    ) -> BoxFuture<'_, Result<Option<Credential>, RefreshError>> {
        Box::pin(async {
            if self.file.lock_state().unsaved.is_some() {
                self.on_locked(CredentialFile::save_unsaved).await?;
            }
            self.on_file(move |file| file.changed(&current)).await
        })
    }

    fn reload_interval(&self) -> Option<Duration> {
        Some(RELOAD_INTERVAL)
    }
}

enum Newest {
    Adopt(Credential),
    Refresh(Credential),
}

impl CredentialFile {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `oauth_creds.lock` beside `oauth_creds.json`.
    fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    fn fingerprint(&self) -> io::Result<Option<Fingerprint>> {
        match fs::metadata(&self.path) {
            // Whoever opens a pipe waits for its other end, and a device may have no end.
            Ok(metadata) if !metadata.is_file() => {
                Err(io::Error::other("it is not a regular file"))
            }
            Ok(metadata) => {
                #[cfg(unix)]
                let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
                #[cfg(not(unix))]
                let inode = 0;
                let modified = metadata.modified().ok();
                Ok(Some(Fingerprint { modified, len: metadata.len(), inode }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the file into the state, and gives back the newest login that is known: what the file
    /// says, or one of ours that could not be written yet. `None` if there is neither; what was
    /// read before stays in the state then.
    fn read(&self, state: &mut State) -> Result<Option<Credential>, RefreshError> {
        let unreadable = |error| file_error("the credential file could not be read", error);
        // The look comes before the read: a write between the two shows at the next look.
        let seen = self.fingerprint().map_err(unreadable)?;
        if seen.is_some_and(|seen| seen.len > MAX_FILE) {
            return Err(RefreshError::new(
                RefreshErrorKind::File,
                "the credential file is too large to be one",
            ));
        }
        let stored = match seen.map(|_| self.stored()) {
            Some(Ok(stored)) => stored,
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unreadable(error));
            }
            _ => return Ok(state.newest().filter(|_| state.unsaved.is_some())),
        };
        let stored = stored.or_else(|error| {
            cut_off(&self.path).ok_or_else(|| {
                let message = "the credential file holds no credential";
                RefreshError::new(RefreshErrorKind::File, message).with_source(error)
            })
        })?;
        state.seen = seen;
        // A login of ours that is not on disk is newer than the file, unless somebody has put a
        // third one there in the meantime.
        let is_older = |spent| stored.credential().has_refresh_token(spent);
        if !state.unsaved.as_ref().is_some_and(is_older) {
            state.stored = Some(stored);
            state.unsaved = None;
        }
        Ok(state.newest())
    }

    /// What the file says.
    fn stored(&self) -> io::Result<Result<StoredCredential, InvalidToken>> {
        let bytes = Contents::from(fs::read(&self.path)?);
        Ok(StoredCredential::from_bytes(bytes.expose_secret()))
    }

    fn load(&self) -> Result<Credential, RefreshError> {
        self.read(&mut self.lock_state())?.ok_or_else(|| {
            RefreshError::new(RefreshErrorKind::Missing, "the credential file does not exist")
        })
    }

    /// What the file says if that is not `current`.
    fn changed(&self, current: &Credential) -> Result<Option<Credential>, RefreshError> {
        let mut state = self.lock_state();
        if state.unsaved.is_some() {
            return Ok(None);
        }
        let seen = self
            .fingerprint()
            .map_err(|error| file_error("the credential file could not be looked at", error))?;
        if seen.is_none() || seen == state.seen {
            return Ok(None);
        }
        Ok(self.read(&mut state)?.filter(|credential| !credential.is_same(current)))
    }

    /// Under the lock: what to use, or what to refresh, instead of `used`.
    fn newest(&self, used: &Credential, now: SystemTime) -> Result<Newest, RefreshError> {
        let mut state = self.lock_state();
        let newest = self.read(&mut state)?;
        Ok(match newest {
            Some(newest) if !newest.is_same(used) && !newest.ends_within(MARGIN, now) => {
                tracing::debug!("another process has refreshed the credential file already");
                Newest::Adopt(newest)
            }
            // The file's refresh token is the newest even where its access token has ended.
            Some(newest) => Newest::Refresh(newest),
            // The file is gone: go on with what is in memory.
            None => Newest::Refresh(used.clone()),
        })
    }

    /// Under the lock: stores what was granted for `basis`, and gives back what is now to be used.
    fn keep(&self, basis: &Credential, granted: Credential) -> Credential {
        let mut state = self.lock_state();
        // Somebody may have signed in anew without taking the lock, while the endpoint answered.
        // The login that ends later is the later one.
        if let Ok(Some(other)) = self.read(&mut state)
            && !other.is_same(basis)
            && other.expires_at() > granted.expires_at()
        {
            return other;
        }
        state.stored = Some(match state.stored.take() {
            Some(previous) if previous.is_writable() => previous.with(granted.clone()),
            _ => StoredCredential::new(granted.clone()),
        });
        state.unsaved = None;
        if let Err(error) = self.write(&mut state) {
            tracing::error!(
                error = %error, cause = ?error.kind(),
                "a refreshed login could not be written; it is kept in memory until it can",
            );
            state.unsaved =
                Some(basis.refresh_token().cloned().unwrap_or_else(|| Secret::from(String::new())));
        }
        granted
    }

    /// Under the lock: puts a new login in place of any other.
    fn save(&self, stored: StoredCredential) -> Result<(), RefreshError> {
        let mut state = self.lock_state();
        state.unsaved = None;
        state.stored = Some(stored);
        self.write(&mut state)
    }

    /// Under the lock: the same, with what else the file says.
    fn merge(&self, credential: Credential) -> Result<(), RefreshError> {
        let unreadable = |error| file_error("the credential file could not be read", error);
        let seen = self.fingerprint().map_err(unreadable)?;
        let old = match seen.filter(|seen| seen.len <= MAX_FILE) {
            Some(_) => self.stored().map_err(unreadable)?.ok(),
            None => None,
        };
        self.save(match old {
            Some(old) => old.replaced(credential),
            None => StoredCredential::new(credential),
        })
    }

    /// Under the lock: another try at what could not be written.
    fn save_unsaved(&self) -> Result<(), RefreshError> {
        let mut state = self.lock_state();
        self.read(&mut state)?;
        if state.unsaved.is_some() {
            self.write(&mut state)?;
            state.unsaved = None;
            tracing::info!("a refreshed login that could not be written before is on disk now");
        }
        Ok(())
    }

    /// Makes the file's directory, for its owner alone.
    fn make_dir(&self) -> Result<(), RefreshError> {
        let Some(dir) = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()) else {
            return Ok(());
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(dir)
            .map_err(|error| file_error("the credential file's directory could not be made", error))
    }

    /// Writes what the state holds, so that any moment's crash leaves the old file or the new.
    fn write(&self, state: &mut State) -> Result<(), RefreshError> {
        let unwritable = |error| file_error("the credential file could not be written", error);
        let Some(text) = state.stored.as_ref().and_then(StoredCredential::to_json) else {
            return Err(RefreshError::new(
                RefreshErrorKind::File,
                "the credential file is in a form that is only read",
            ));
        };
        self.make_dir()?;
        replace(&self.path, text.expose().as_bytes(), |from, to| fs::rename(from, to))
            .map_err(unwritable)?;
        state.seen = self.fingerprint().map_err(unwritable)?;
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    const OLD: &str = r#"{"access_token":"old","refresh_token":"old","padding":"0123456789"}"#;
    const NEW: &str = r#"{"access_token":"new","refresh_token":"new"}"#;
    const LONG: &str =
        r#"{"access_token":"new","refresh_token":"new","padding":"0123456789 0123456789"}"#;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a folder");
        entries
            .map(|entry| entry.expect("a name").file_name().into_string().expect("UTF-8"))
            .collect()
    }

    /// Credential files: where another file is refused in its place, it is written itself, and any
    /// other failure leaves it as it was.
    #[test]
    fn a_file_that_cannot_be_replaced_is_written_in_place() {
        for (kind, error, in_place) in [
            ("a mount point", io::ErrorKind::ResourceBusy, true),
            ("another file system", io::ErrorKind::CrossesDevices, true),
            ("a sticky directory", io::ErrorKind::PermissionDenied, true),
            ("a full disk", io::ErrorKind::StorageFull, false),
            ("a read-only file system", io::ErrorKind::ReadOnlyFilesystem, false),
        ] {
            for contents in [NEW, LONG] {
                let dir = tempfile::tempdir().expect("a folder");
                let path = dir.path().join("login.json");
                fs::write(&path, OLD).expect("written");
                let before = fs::metadata(&path).expect("there").ino();
                let written = replace(&path, contents.as_bytes(), |aside, _| {
                    // What is about to be written is safe before the file is touched.
                    assert_eq!(fs::read_to_string(aside).expect("there"), contents, "{kind}");
                    Err(error.into())
                });
                assert_eq!(written.is_ok(), in_place, "{kind}: {written:?}");
                let now = if in_place { contents } else { OLD };
                assert_eq!(fs::read_to_string(&path).expect("there"), now, "{kind}");
                assert_eq!(fs::metadata(&path).expect("there").ino(), before, "{kind}");
                assert_eq!(names(dir.path()), ["login.json"], "{kind}: nothing is left beside it");
            }
        }
    }

    /// Credential files: a write in place that was cut off loses nothing.
    #[test]
    fn what_was_about_to_be_written_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("login.json");
        let aside = dir.path().join(".login.json.a.tmp");
        for (kind, file, beside, found) in [
            ("cut in the middle", &OLD[..20], Some(NEW), Some("new")),
            ("empty", "", Some(NEW), Some("new")),
            ("nothing beside it", "", None, None),
            ("neither is whole", &OLD[..20], Some(&NEW[..20]), None),
            ("the file is whole", OLD, Some(NEW), Some("old")),
        ] {
            fs::write(&path, file).expect("written");
            match beside {
                Some(beside) => fs::write(&aside, beside).expect("written"),
                None => drop(fs::remove_file(&aside)),
            }
            let login = CredentialFile { path: path.clone(), state: Mutex::default() };
            let read = login.read(&mut State::default()).ok().flatten();
            let token = read.as_ref().map(|credential| credential.access_token().expose());
            assert_eq!(token, found, "{kind}");
        }
        // What is left is removed when there is something newer.
        fs::write(&aside, NEW).expect("written");
        replace(&path, LONG.as_bytes(), |from, to| fs::rename(from, to)).expect("replaced");
        assert_eq!(names(dir.path()), ["login.json"]);
    }

    /// Credential files: whose it is and who may read it. Only root can give files away, so others
    /// try the rows of their own alone.
    #[test]
    fn owner_and_mode_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("login.json");
        let own = (
            fs::metadata(dir.path()).expect("there").uid(),
            fs::metadata(dir.path()).expect("there").gid(),
        );
        for (kind, owner, mode, then) in [
            ("own", own, 0o600, 0o600),
            ("own, of the group", own, 0o640, 0o640),
            ("own, shared with the group", own, 0o660, 0o660),
            ("own, only read", own, 0o400, 0o400),
            ("own, only read, of the group", own, 0o440, 0o440),
            ("own, open to all", own, 0o644, 0o600),
            ("own, only read, open to all", own, 0o444, 0o400),
            ("own, open to others alone", own, 0o604, 0o600),
            ("a user's", (1234, 5678), 0o600, 0o600),
            ("a user's, of the group", (1234, 5678), 0o640, 0o640),
            ("a user's, open to all", (1234, 5678), 0o644, 0o644),
            ("a user's, only read", (1234, 5678), 0o400, 0o400),
            ("a user's, only read, open to all", (1234, 5678), 0o444, 0o444),
            ("a user's, only read, of one's own group", (1234, own.1), 0o444, 0o444),
            ("a user's, of one's own group", (1234, own.1), 0o600, 0o600),
        ] {
            drop(fs::remove_file(&path));
            fs::write(&path, OLD).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
            if std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).is_err() {
                assert_ne!(own.0, 0, "{kind}: root may");
                continue;
            }
            replace(&path, NEW.as_bytes(), |from, to| fs::rename(from, to)).expect("replaced");
            let now = fs::metadata(&path).expect("there");
            assert_eq!((now.uid(), now.gid()), owner, "{kind}");
            assert_eq!(now.mode() & 0o777, then, "{kind}");
            assert_eq!(fs::read_to_string(&path).expect("there"), NEW, "{kind}");
        }
    }
}
