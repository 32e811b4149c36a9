//! The files that options name.

use std::{fs, io, path::Path};

/// Reads a file whole.
///
/// # Errors
///
/// Those of the file, and at once where it is none but a pipe or a device: whoever opens a pipe
/// waits for its other end, and a device may have no end.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(&fs::metadata(path)?)?;
    fs::read(path)
}

/// The same for text.
///
/// # Errors
///
/// As [`read`], and where it is not UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    check(&fs::metadata(path)?)?;
    fs::read_to_string(path)
}

/// # Errors
///
/// If it is not of a regular file.
pub(crate) fn check(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::other("it is not a regular file"))
}
