//! The files that options name.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// Reads the value of an option that names a file.
pub(crate) fn named() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(at_home)
}

/// The path with the user's home in the place of a `~` that it begins with: no shell has read it in an
/// environment file, in a file of options or behind `=`.
pub(crate) fn at_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_where_no_shell_has_written_it() {
        let home = env::home_dir().expect("a home");
        for (given, meant) in [
            ("~/.qwen", home.join(".qwen")),
            ("~", home.join("")),
            ("~other/.qwen", "~other/.qwen".into()),
            ("a/~/b", "a/~/b".into()),
            ("/etc/x", "/etc/x".into()),
        ] {
            assert_eq!(at_home(given.into()), meant, "{given}");
        }
    }
}
