//! Files that are replaced in one step, off the runtime's threads.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write as _},
    path::Path,
};

use crate::auth::{RefreshError, RefreshErrorKind};

/// Runs blocking file work off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RefreshError> + Send + 'static,
) -> Result<T, RefreshError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(RefreshError::new(RefreshErrorKind::Aborted, "file work ended without a result")
                .with_source(error))
        }
    }
}

/// Replaces the file at `path` in one step: temporary file of mode 0600, fsync, rename, fsync of
/// the directory.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    // Behind a link the file itself is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_leftovers(dir, &temporary(name, ""));
    let aside = dir.join(temporary(name, &uuid::Uuid::new_v4().to_string()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&aside).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    });
    if let Err(error) = written {
        // What is left is removed before the next write at the latest.
        drop(fs::remove_file(&aside));
        return Err(error);
    }
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

/// `.oauth_creds.json.<id>.tmp`; with an empty id, what all such names begin with.
fn temporary(name: &OsStr, id: &str) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".");
    if !id.is_empty() {
        temporary.push(id);
        temporary.push(".tmp");
    }
    temporary
}

/// Removes the temporary files of processes that were killed while they wrote: they hold
/// secrets. Nobody else writes now, since the lock is held.
fn remove_leftovers(dir: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(prefix.as_encoded_bytes())
            && name.ends_with(b".tmp")
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(error = %error.kind(), "an old temporary credential file stays");
        }
    }
}

pub(super) fn file_error(message: &'static str, error: io::Error) -> RefreshError {
    RefreshError::new(RefreshErrorKind::File, message).with_source(error)
}
