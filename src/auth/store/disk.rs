//! Files that are replaced in one step, off the runtime's threads.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretSlice};

use super::StoredCredential;
use crate::auth::{RefreshError, RefreshErrorKind};

/// The longest file that is taken for a credential.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// What stands in a file: overwritten in memory when it is dropped.
pub(super) type Contents = SecretSlice<u8>;

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

/// Replaces the file at `path`: temporary file of mode 0600, fsync, `rename`, fsync of the
/// directory. Where there can be no other file in its place it is written itself.
pub(super) fn replace(
    path: &Path,
    contents: &[u8],
    rename: impl Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    // Behind a link the file itself is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (dir, name) = place(path)?;
    let aside = dir.join(temporary(name, &uuid::Uuid::new_v4().to_string()));
    let written = create(&aside).and_then(|mut file| {
        file.write_all(contents)?;
        let may_replace = take_after(&file, path)?;
        file.sync_all()?;
        // Older ones go when this one is there, since one of them may be all that is left of a login.
        remove_leftovers(dir, name, &aside);
        let renamed = if may_replace { rename(&aside, path) } else { Err(refused()) };
        match renamed {
            Err(error) if is_of_the_place(&error) => {
                tracing::debug!(cause = %error.kind(), "a credential file is written in place");
                sync_dir(dir)?;
                write_in_place(path, contents)?;
                fs::remove_file(&aside)
            }
            renamed => renamed,
        }
    });
    if let Err(error) = written {
        // It is all that is left where the write in place was cut off, until the next write.
        let left = fs::read(path).map(Contents::from);
        let is_cut =
            left.is_ok_and(|left| StoredCredential::from_bytes(left.expose_secret()).is_err());
        if !is_cut {
            drop(fs::remove_file(&aside));
        }
        return Err(error);
    }
    sync_dir(dir)
}

/// Makes a file where there is none, for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives `file` the owner and the mode of the one at `path`; `false` where that cannot be, so that
/// the other must stay.
#[cfg(unix)]
fn take_after(file: &fs::File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let old = match fs::metadata(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let new = file.metadata()?;
    let is_own = old.uid() == new.uid();
    if (old.uid(), old.gid()) != (new.uid(), new.gid())
        && fchown(file, Some(old.uid()), Some(old.gid())).is_err()
        // The group alone is no reason.
        && !is_own
    {
        return Ok(false);
    }
    let mode = old.mode() & 0o777;
    // What everybody can read of one's own is closed, and becomes no more writable by that.
    let is_kept = !is_own || mode & 0o007 == 0;
    let mode = if is_kept { mode } else { mode & 0o700 | 0o400 };
    // The new file is closed already.
    Ok(file.set_permissions(fs::Permissions::from_mode(mode)).is_ok() || !is_kept)
}

#[cfg(not(unix))]
fn take_after(_: &fs::File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

fn refused() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

/// Whether another file is refused in this place, so that the one that is there may still be
/// written: it is a mount point, or somebody else's in a directory such as `/tmp`.
fn is_of_the_place(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ResourceBusy
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::PermissionDenied
    )
}

/// Writes over the file at `path`.
///
/// Whoever reads meanwhile finds the old text or the new: what is written is never shorter than what
/// was there, and white space behind JSON is cut off when the rest is on disk.
fn write_in_place(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    let old = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let len = old.min(MAX_FILE as usize).max(contents.len());
    let mut padded = Vec::with_capacity(len);
    padded.extend_from_slice(contents);
    padded.resize(len, b' ');
    file.write_all(Contents::from(padded).expose_secret())?;
    file.sync_all()?;
    file.set_len(contents.len() as u64)?;
    file.sync_all()
}

/// The login that was about to be written over the file at `path` when that was cut off.
pub(super) fn cut_off(path: &Path) -> Option<StoredCredential> {
    let path = fs::canonicalize(path).ok()?;
    let (dir, name) = place(&path).ok()?;
    let found = leftovers(dir, name).filter_map(|aside| {
        let modified = fs::metadata(&aside).and_then(|metadata| metadata.modified()).ok()?;
        let contents = Contents::from(fs::read(&aside).ok()?);
        let stored = StoredCredential::from_bytes(contents.expose_secret()).ok()?;
        Some((modified, stored))
    });
    let (_, newest) = found.max_by_key(|(modified, _)| *modified)?;
    tracing::warn!("a credential file was cut off; what was about to be written is beside it");
    Some(newest)
}

/// Makes sure that what was done to the names in `dir` is on disk.
fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// The directory and the name of the file at `path`.
fn place(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((dir, name))
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

/// The temporary files of the file `name` in `dir`.
fn leftovers(dir: &Path, name: &OsStr) -> impl Iterator<Item = PathBuf> + use<> {
    let prefix = temporary(name, "");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        (name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(b".tmp"))
            .then(|| entry.path())
    })
}

/// Removes the temporary files of processes that were killed while they wrote, but for `own`: they
/// hold secrets. Nobody else writes now, since the lock is held.
fn remove_leftovers(dir: &Path, name: &OsStr, own: &Path) {
    for leftover in leftovers(dir, name).filter(|leftover| leftover != own) {
        if let Err(error) = fs::remove_file(leftover) {
            tracing::warn!(error = %error.kind(), "an old temporary credential file stays");
        }
    }
}

pub(super) fn file_error(message: &'static str, error: io::Error) -> RefreshError {
    RefreshError::new(RefreshErrorKind::File, message).with_source(error)
}
