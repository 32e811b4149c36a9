use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    StoredCredential,
    disk::{blocking, file_error, replace},
    lock::{self, LockFile},
};
use crate::auth::{
    BoxFuture, Credential, CredentialProvider, RefreshError, RefreshErrorKind, Renewal, Secret,
    TokenClient,
    clock::{Clock, SharedClock},
};

/// The longest file that is taken for a credential.
const MAX_FILE: u64 = 1 << 20;
/// How often the file's time is looked at (B5).
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// What counts as fresh enough to be adopted instead of refreshed (B4).
const MARGIN: Duration = Duration::from_secs(30);

/// A login in a file that other processes read and refresh too: by default
/// `~/.qwen/oauth_creds.json`, shared with the qwen-code CLI (B4, B5).
///
/// Refresh tokens are good for one use, so two processes that refresh at the same time log the
/// user out. What prevents that is the protocol of B5: a refresh takes the lock file beside the
/// credential file (`….lock`; stale after 10 s without a sign of life), reads the file again, and
/// asks the token endpoint only if nobody else has put a newer login there. The answer is on disk
/// (temporary file of mode 0600, fsync, rename, fsync of the directory) before anybody gets it.
/// `resource_url` and the refresh token are kept where the endpoint leaves them out, and so is
/// every field that is not known.
///
/// A file that is gone does not end the session: what was read before stays in use, and the next
/// refresh writes the file again. A login that could not be written (a full disk) is kept in
/// memory, used, and written at the next occasion.
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
    /// `oauth_creds_work.json` (B4), else the name without its extension.
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
        let lock = self.lock().await?;
        let result = self.on_file(move |file| file.save(credential)).await;
        lock.release().await;
        result
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
                let lock = self.lock().await?;
                let saved = self.on_file(CredentialFile::save_unsaved).await;
                lock.release().await;
                saved?;
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

    /// `oauth_creds.lock` beside `oauth_creds.json` (B5).
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
        let text = match seen.map(|_| fs::read_to_string(&self.path)) {
            Some(Ok(text)) => Secret::from(text),
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unreadable(error));
            }
            _ => return Ok(state.newest().filter(|_| state.unsaved.is_some())),
        };
        let stored = StoredCredential::parse(text.expose()).map_err(|error| {
            RefreshError::new(RefreshErrorKind::File, "the credential file holds no credential")
                .with_source(error)
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
            // The file is gone: go on with what is in memory (B5).
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
    fn save(&self, credential: Credential) -> Result<(), RefreshError> {
        let mut state = self.lock_state();
        state.unsaved = None;
        state.stored = Some(StoredCredential::new(credential));
        self.write(&mut state)
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

    /// Makes the file's directory, for its owner alone (B4).
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
        replace(&self.path, text.expose().as_bytes()).map_err(unwritable)?;
        state.seen = self.fingerprint().map_err(unwritable)?;
        Ok(())
    }
}
