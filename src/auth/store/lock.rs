//! The lock file that is shared with the qwen-code CLI, by the [protocol][sharing] that it keeps to.
//!
//! [sharing]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#b5

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::disk::{self, blocking, file_error};
use crate::auth::{RefreshError, RefreshErrorKind};

/// How old a lock must be to be taken from its holder.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 20;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A lock file that is held.
///
/// While it is held its modification time is renewed, so that a refresh that takes longer than
/// the staleness does not lose it. A process that is killed leaves it behind, and the next one
/// takes it when it is stale.
///
/// The time can fall behind although the holder lives: it got no processor, or the disk was busy.
/// So the holder also has the operating system's lock on the file, which ends with the process,
/// and a file that is so locked is not stale whatever its time says. The CLI knows nothing of
/// that, and neither do some network file systems; there the time decides alone. It does on
/// Windows too, whose locks keep everybody, the holder among them, from reading the file.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    id: String,
    /// Open, and with it locked, for as long as the lock is held.
    _file: File,
    heartbeat: tokio::task::JoinHandle<()>,
    released: bool,
}

impl LockFile {
    /// Takes the lock at `path`: 20 attempts, 100 ms apart and then 1.5 times longer each time,
    /// up to 2 s.
    pub(super) async fn acquire(path: &Path, stale_after: Duration) -> Result<Self, RefreshError> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut wait = FIRST_WAIT;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(wait).await;
                wait = wait.mul_f64(1.5).min(LONGEST_WAIT);
            }
            let (lock, own) = (path.to_owned(), id.clone());
            // A future that is dropped here may leave the lock behind. That takes the end of the
            // runtime, and the staleness heals it.
            let taken = blocking(move || {
                take(&lock, &own, stale_after)
                    .map_err(|error| file_error("the lock file could not be made", error))
            })
            .await?;
            if let Some(file) = taken {
                let heartbeat = tokio::spawn(beat(path.to_owned(), id.clone(), stale_after / 4));
                return Ok(Self {
                    path: path.to_owned(),
                    id,
                    _file: file,
                    heartbeat,
                    released: false,
                });
            }
        }
        Err(RefreshError::new(
            RefreshErrorKind::LockTimeout,
            "another process held the credential's lock for too long",
        ))
    }

    /// Whether the lock is still this holder's. It is not where the process slept for longer
    /// than the staleness.
    pub(super) async fn is_held(&self) -> bool {
        for pause in [Duration::from_millis(50), Duration::ZERO] {
            let (path, id) = (self.path.clone(), self.id.clone());
            match tokio::task::spawn_blocking(move || fs::read_to_string(path).map(|own| own == id))
                .await
            {
                Ok(Ok(own)) => return own,
                // Someone who took a stale lock may have moved this one by mistake, and is
                // about to put it back.
                _ => tokio::time::sleep(pause).await,
            }
        }
        false
    }

    /// Gives the lock back.
    pub(super) async fn release(mut self) {
        self.released = true;
        let (path, id) = (self.path.clone(), self.id.clone());
        if tokio::task::spawn_blocking(move || remove_own(&path, &id)).await.is_err() {
            tracing::warn!("a credential's lock file could not be removed");
        }
    }
}

impl Drop for LockFile {
    /// For refreshes that are cut off by the end of the runtime; one small file operation.
    fn drop(&mut self) {
        self.heartbeat.abort();
        if !self.released {
            remove_own(&self.path, &self.id);
        }
    }
}

/// Creates the lock, after clearing a stale one out of the way; `None` if somebody holds it.
fn take(path: &Path, id: &str, stale_after: Duration) -> io::Result<Option<File>> {
    if let Some(file) = create(path, id)? {
        return Ok(Some(file));
    }
    match is_stale(path, stale_after) {
        Ok(true) => clear(path, id, stale_after)?,
        Ok(false) => return Ok(None),
        // Given back just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    create(path, id)
}

fn create(path: &Path, id: &str) -> io::Result<Option<File>> {
    match disk::create(path) {
        Ok(mut file) => {
            #[cfg(unix)]
            if let Err(error) = file.try_lock() {
                // Nobody else looks at a file this new; the file system has no such locks.
                tracing::debug!(%error, "a credential's lock file is held by its time alone");
            }
            let written = file.write_all(id.as_bytes());
            if written.is_err() {
                // A lock that does not say whose it is could never be given back.
                fs::remove_file(path)?;
            }
            written.map(|()| Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the lock's time is far from now, on either side, since a clock may have been set back;
/// and no living process of this crate has it.
fn is_stale(path: &Path, stale_after: Duration) -> io::Result<bool> {
    // Whoever opens a pipe waits for its other end. Some programs lock with a folder.
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("the lock is neither a file nor a folder"));
    }
    let file = File::open(path)?;
    let modified = file.metadata()?.modified()?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_else(|ahead| ahead.duration());
    #[cfg(unix)]
    if age > stale_after {
        // The look is a shared lock of a moment; it cannot keep the file's owner, who has his
        // already.
        return Ok(!matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)));
    }
    Ok(age > stale_after)
}

/// Moves a stale lock away and deletes it: only one process can move it.
fn clear(path: &Path, id: &str, stale_after: Duration) -> io::Result<()> {
    let aside = path.with_extension(format!("lock.{id}"));
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // Between the look and the move another process may have cleared the stale lock and made its
    // own. That one is fresh, and goes back where it was, unless a third already made another.
    if !is_stale(&aside, stale_after)? {
        tracing::debug!("moved a fresh credential lock by mistake; putting it back");
        match fs::hard_link(&aside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    } else {
        tracing::info!("took a credential lock that its holder left behind");
    }
    fs::remove_file(&aside)
}

fn remove_own(path: &Path, id: &str) {
    if fs::read_to_string(path).is_ok_and(|own| own == id)
        && let Err(error) = fs::remove_file(path)
    {
        tracing::warn!(error = %error.kind(), "a credential's lock file could not be removed");
    }
}

/// Renews the lock's time as long as it is this holder's.
async fn beat(path: PathBuf, id: String, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let (path, id) = (path.clone(), id.clone());
        let renewed = tokio::task::spawn_blocking(move || -> io::Result<bool> {
            if fs::read_to_string(&path)? != id {
                return Ok(false);
            }
            File::options().write(true).open(&path)?.set_modified(SystemTime::now())?;
            Ok(true)
        })
        .await;
        // An error is not the end: someone may have moved the file by mistake, and is about to
        // put it back.
        if matches!(renewed, Ok(Ok(false))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory for the test")
    }

    fn age(path: &Path, by: Duration) {
        let file = File::options().write(true).open(path).expect("there");
        file.set_modified(SystemTime::now() - by).expect("a time");
    }

    #[tokio::test]
    async fn only_one_holds_it_and_it_goes_with_its_holder() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        let lock = LockFile::acquire(&path, STALE_AFTER).await.expect("free");
        assert!(lock.is_held().await);
        assert!(take(&path, "other", STALE_AFTER).expect("a look").is_none());
        lock.release().await;
        assert!(!path.exists());
        let lock = LockFile::acquire(&path, STALE_AFTER).await.expect("free again");
        drop(lock);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_lock_is_taken_and_its_former_holder_knows() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        let slept = LockFile::acquire(&path, STALE_AFTER).await.expect("free");
        // As on a file system without locks, or where the holder is another program.
        #[cfg(unix)]
        slept._file.unlock().expect("it was locked");
        age(&path, Duration::from_secs(11));
        let lock = LockFile::acquire(&path, STALE_AFTER).await.expect("stale");
        assert!(lock.is_held().await);
        assert!(!slept.is_held().await);
        // What the former holder gives back is not the new one's.
        slept.release().await;
        assert!(lock.is_held().await);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_living_holder_keeps_its_lock_however_old_it_looks() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        let starved = LockFile::acquire(&path, STALE_AFTER).await.expect("free");
        age(&path, Duration::from_secs(3600));
        assert!(take(&path, "other", STALE_AFTER).expect("a look").is_none());
        // Another has moved it, having looked before it was locked.
        clear(&path, "thief", STALE_AFTER).expect("moved and put back");
        assert!(starved.is_held().await);
        drop(starved);
        assert!(take(&path, "other", STALE_AFTER).expect("free").is_some());
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_taken() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        fs::write(&path, "its id").expect("written");
        age(&path, Duration::from_secs(11));
        assert!(take(&path, "other", STALE_AFTER).expect("stale").is_some());
    }

    #[tokio::test]
    async fn a_fresh_lock_that_was_moved_by_mistake_goes_back() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        let lock = LockFile::acquire(&path, STALE_AFTER).await.expect("free");
        clear(&path, "thief", STALE_AFTER).expect("moved and put back");
        assert!(lock.is_held().await);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_held_lock_ends() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        fs::write(&path, "someone").expect("written");
        let started = tokio::time::Instant::now();
        let error = LockFile::acquire(&path, Duration::from_secs(3600)).await.expect_err("held");
        assert_eq!(error.kind(), RefreshErrorKind::LockTimeout);
        let waited = started.elapsed();
        assert!(waited > Duration::from_secs(25) && waited < Duration::from_secs(35), "{waited:?}");
    }

    #[tokio::test]
    async fn a_holder_renews_the_time() {
        let dir = dir();
        let path = dir.path().join("creds.lock");
        let stale_after = Duration::from_millis(40);
        let lock = LockFile::acquire(&path, stale_after).await.expect("free");
        age(&path, Duration::from_secs(60));
        let renewed = async {
            while is_stale(&path, Duration::from_secs(30)).expect("there") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("a heartbeat");
        lock.release().await;
    }
}
