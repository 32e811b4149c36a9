//! The file of `--config`.

use std::path::{Path, PathBuf};

use super::{
    super::files,
    ConfigError, error,
    options::{MAX_TIMEOUT, MAX_TTL, Settings},
};

/// Reads the TOML file at `path`.
///
/// Paths in it are relative to its folder.
///
/// # Errors
///
/// With the line where something is wrong, and without that line's text: it may hold a secret.
pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let shown = path.display();
    let text = match files::read_text(path) {
        Ok(text) => text,
        Err(reason) => return error(format!("--config: cannot read {shown}: {reason}")),
    };
    let mut settings = parse(&text).map_err(|(line, reason)| {
        let at = line.map(|line| format!(", line {line}")).unwrap_or_default();
        ConfigError(format!("--config: {shown}{at}: {reason}"))
    })?;
    if settings.session_ttl.is_some_and(|ttl| !(1..=MAX_TTL).contains(&ttl)) {
        return error(format!("--config: {shown}: session-ttl is not from 1 to {MAX_TTL} seconds"));
    }
    for (key, given) in [
        ("body-timeout", settings.body_timeout),
        ("write-timeout", settings.write_timeout),
        ("queue-timeout", settings.queue_timeout),
    ] {
        if given.is_some_and(|given| !(1..=MAX_TIMEOUT).contains(&given)) {
            return error(format!(
                "--config: {shown}: {key} is not from 1 to {MAX_TIMEOUT} seconds"
            ));
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for path in [&mut settings.keys_file, &mut settings.usage_db].into_iter().flatten() {
        *path = folder.join(files::at_home(std::mem::take(path)));
    }
    for upstream in &mut settings.upstream {
        for path in upstream.paths() {
            *path = folder.join(files::at_home(std::mem::take(path)));
        }
    }
    Ok(settings)
}

/// # Errors
///
/// The line, from 1, and what is wrong there.
fn parse(text: &str) -> Result<Settings, (Option<usize>, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        // The error's `Display` would show the line.
        (line, error.message().to_owned())
    })
}

impl super::UpstreamSettings {
    /// Every path in it.
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.replay.iter_mut().chain(self.credentials.iter_mut().flatten())
    }
}
