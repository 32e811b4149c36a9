//! The file of `--keys-file`: a table `[[key]]` for each.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;
use toml::Spanned;

use super::{
    super::{config::Patterns, files},
    Key, KeyId, Keys, Limits,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    key: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    id: Spanned<String>,
    #[serde(default)]
    name: String,
    sha256: Spanned<String>,
    models: Option<Vec<String>>,
    streams: Option<usize>,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    tokens_per_day: Option<u64>,
    tokens_per_month: Option<u64>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    revoked: bool,
    expires: Option<Spanned<String>>,
    /// When it was made, for people.
    #[serde(default, rename = "created")]
    _created: String,
}

impl Keys {
    /// Reads the keys in the file at `path`.
    ///
    /// # Errors
    ///
    /// What is wrong in one line: with the line of the file, and without its text.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text =
            files::read_text(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        Self::parse(&text, path).map_err(|error| format!("{shown}{error}"))
    }

    /// The keys in `text`, the file at `path`.
    ///
    /// # Errors
    ///
    /// As those of [`read`](Self::read), to be put behind the name of the file.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, String> {
        let mut all: Vec<Arc<Key>> = Vec::new();
        for table in tables(text)? {
            let at = line(text, table.id.span().start);
            let key = table.key().map_err(|reason| format!(", key on line {at}: {reason}"))?;
            if all.iter().any(|other| other.id == key.id) {
                return Err(format!(", line {at}: two keys have the id {}", key.id));
            }
            if all.iter().any(|other| other.digest == key.digest) {
                return Err(format!(", line {at}: {} is the same key as one before it", key.id));
            }
            all.push(Arc::new(key));
        }
        Ok(Self { all: all.into(), file: path.to_owned() })
    }
}

/// # Errors
///
/// What is wrong, behind a line's number.
fn tables(text: &str) -> Result<Vec<Table>, String> {
    let tables: Tables = toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map(|span| format!(", line {}", line(text, span.start)));
        // The error's `Display` would show the line.
        format!("{}: {}", at.unwrap_or_default(), error.message())
    })?;
    Ok(tables.key)
}

fn line(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

impl Table {
    /// # Errors
    ///
    /// What is wrong with it.
    fn key(self) -> Result<Key, String> {
        let id = KeyId::parse(self.id.get_ref())
            .ok_or("`id` is not 1 to 24 letters, digits, `-` and `_`")?;
        if self.name.chars().any(char::is_control) {
            return Err("`name` holds a control character".to_owned());
        }
        let digest = digest(self.sha256.get_ref())
            .ok_or("`sha256` is not the 64 hexadecimal digits of a key's SHA-256")?;
        let models = Patterns::parse(self.models).map_err(|error| error.to_string())?;
        for (name, limit) in [
            ("streams", self.streams.map(|limit| limit as u64)),
            ("requests-per-minute", self.requests_per_minute),
            ("tokens-per-minute", self.tokens_per_minute),
        ] {
            if limit == Some(0) {
                return Err(format!("`{name}` is 0, so it could ask for nothing; revoke the key"));
            }
        }
        let expires = match &self.expires {
            None => None,
            Some(text) => Some(moment(text.get_ref()).ok_or(
                "`expires` is neither a day such as \"2027-01-31\" nor a time such as \
                 \"2027-01-31T12:00:00Z\"",
            )?),
        };
        Ok(Key {
            id,
            name: self.name,
            digest,
            models,
            limits: Limits {
                streams: self.streams,
                requests_per_minute: self.requests_per_minute,
                tokens_per_minute: self.tokens_per_minute,
                tokens_per_day: self.tokens_per_day,
                tokens_per_month: self.tokens_per_month,
            },
            is_admin: self.admin,
            is_revoked: self.revoked,
            expires,
        })
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// A time, or the beginning of a day in UTC.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let of_day = |day: Date| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp());
    text.parse().ok().or_else(|| text.parse().ok().and_then(of_day))
}

/// `text` with the key `id` revoked; the rest stays as it is.
///
/// # Errors
///
/// If there is no such key, or it stands in a form that has to be changed by hand.
pub(super) fn revoked(text: &str, id: &str) -> Result<String, String> {
    let found = tables(text)?.into_iter().find(|table| table.id.get_ref() == id);
    let Some(table) = found else { return Err(format!(": there is no key {id:?}")) };
    if table.revoked {
        return Ok(text.to_owned());
    }
    // Behind the line with the id there is room in every form but a table on one line.
    let from = table.id.span().end;
    let end = text[from..].find('\n').map_or(text.len(), |len| from + len);
    let changed = format!("{}\nrevoked = true{}", &text[..end], &text[end..]);
    let is_revoked = tables(&changed)
        .is_ok_and(|all| all.iter().any(|table| table.id.get_ref() == id && table.revoked));
    if !is_revoked {
        let at = line(text, from);
        return Err(format!(", line {at}: write `revoked = true` there by hand"));
    }
    Ok(changed)
}

/// Changes the file at `path`, which nobody else changes meanwhile, and which others find as it was or
/// as it is then: with mode 0600, unless the file that is there is closed to others already.
///
/// # Errors
///
/// Those of the file, and of `change`.
pub(super) fn change(
    path: &Path,
    change: impl FnOnce(&str) -> Result<String, String>,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
    // Behind a link the file itself is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let _lock = lock(path).map_err(failed)?;
    let text = match files::read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let changed = change(&text).map_err(|error| format!("{}{error}", path.display()))?;
    replace(path, changed.as_bytes()).map_err(failed)
}

/// Keeps others from changing the file at `path`. The lock is a file beside it, for the file itself is
/// replaced.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path.with_file_name(name))?;
    file.lock()?;
    Ok(file)
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Its mode is 0600.
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(contents)?;
    #[cfg(unix)]
    if let Ok(old) = fs::metadata(path) {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let new = aside.as_file().metadata()?;
        // Whoever runs the proxy must still be able to read it.
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(aside.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        if old.mode() & 0o007 == 0 {
            aside.as_file().set_permissions(fs::Permissions::from_mode(old.mode() & 0o770))?;
        }
    }
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}
