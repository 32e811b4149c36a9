//! `proxy keys`: makes, lists and revokes the keys of a file.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{super::files, Key, KeyId, Keys, Limits, file};

/// What keys begin with, so that one that was leaked is known for what it is.
const PREFIX: &str = "sk-tq-";

/// What is done with the keys of a file.
#[derive(Debug, Args)]
pub(crate) struct Manage {
    /// The file of --keys-file
    #[arg(
        long,
        value_name = "FILE",
        env = "QWEN_KEYS_FILE",
        hide_env_values = true,
        value_parser = files::named()
    )]
    file: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a key, prints it once, and writes its digest to the file
    Add(Box<Add>),
    /// Lists the keys, none of which can be read from the file
    List {
        /// Print JSON, one array
        #[arg(long)]
        json: bool,
    },
    /// Revokes a key, which stays in the file as such
    Revoke {
        /// The key's id
        id: String,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// What logs, metrics and the file call it: letters, digits, `-` and `_` [default: a new word]
    #[arg(long)]
    id: Option<String>,
    /// Whose it is
    #[arg(long, default_value = "")]
    name: String,
    /// The models that it may ask for: names, or beginnings of names with a `*` behind them, separated
    /// by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// How many answers may be under way at once [default: any number]
    #[arg(long, value_name = "COUNT")]
    streams: Option<usize>,
    /// How many requests may begin in a minute [default: any number]
    #[arg(long, value_name = "COUNT")]
    requests_per_minute: Option<u64>,
    /// How many tokens may be used in a minute [default: any number]
    #[arg(long, value_name = "COUNT")]
    tokens_per_minute: Option<u64>,
    /// How many tokens may be used in a day of UTC [default: any number]
    #[arg(long, value_name = "COUNT")]
    tokens_per_day: Option<u64>,
    /// How many tokens may be used in a month of UTC [default: any number]
    #[arg(long, value_name = "COUNT")]
    tokens_per_month: Option<u64>,
    /// When it ends: a day of UTC (2027-01-31) or a time (2027-01-31T12:00:00Z) [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Let it see the usage of all keys
    #[arg(long)]
    admin: bool,
}

impl Manage {
    /// Does it; what it comes to is for `out`, what is to be known besides for `err`.
    ///
    /// # Errors
    ///
    /// What is wrong, in one line.
    pub(crate) fn run(self, mut out: impl Write, mut err: impl Write) -> Result<(), String> {
        let shown = |error: io::Error| format!("cannot write the result: {error}");
        let path = self.file;
        match self.action {
            Action::Add(add) => {
                let (key, id) = add.run(&path)?;
                writeln!(out, "{key}").and_then(|()| out.flush()).map_err(shown)?;
                let file = path.display();
                writeln!(
                    err,
                    "key {id} is in {file}; it is shown this once. A running proxy reads the file \
                     again on SIGHUP"
                )
                .map_err(shown)
            }
            Action::List { json } => {
                let keys = Keys::read(&path)?;
                let text = if json { as_json(&keys) } else { as_table(&keys) };
                out.write_all(text.as_bytes()).map_err(shown)
            }
            Action::Revoke { id } => {
                file::change(&path, |text| file::revoked(text, &id))?;
                writeln!(
                    err,
                    "key {id} is revoked; a running proxy lets it in until it reads the file again \
                     on SIGHUP"
                )
                .map_err(shown)
            }
        }
    }
}

impl Add {
    /// The new key and its id.
    fn run(&self, path: &Path) -> Result<(String, KeyId), String> {
        let mut random = [0; 36];
        getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
        let (secret, word) = random.split_at(32);
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let new_id = format!("k{}", hex(word));
        let id = self.id.as_deref().unwrap_or(&new_id);
        let id = KeyId::parse(id).ok_or("--id: it is not 1 to 24 letters, digits, `-` and `_`")?;
        let table = self.table(id, &Sha256::digest(&key));
        file::change(path, |text| {
            // What is wrong with the file is no matter of the new key.
            Keys::parse(text, path)?;
            let gap = if text.is_empty() || text.ends_with("\n\n") {
                ""
            } else if text.ends_with('\n') {
                "\n"
            } else {
                "\n\n"
            };
            let changed = format!("{text}{gap}{table}");
            Keys::parse(&changed, path)?;
            Ok(changed)
        })?;
        Ok((key, id))
    }

    fn table(&self, id: KeyId, digest: &[u8]) -> String {
        // JSON's strings and lists of them are TOML's as well.
        let mut table = format!("[[key]]\nid = \"{id}\"\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(table, "{name} = {value}");
        };
        if !self.name.is_empty() {
            line("name", &json!(self.name));
        }
        line("sha256", &json!(hex(digest)));
        let now = Timestamp::now().round(jiff::Unit::Second).unwrap_or_default();
        line("created", &json!(now.to_string()));
        if !self.models.is_empty() {
            line("models", &json!(self.models));
        }
        if let Some(streams) = self.streams {
            line("streams", &streams);
        }
        for (name, limit) in [
            ("requests-per-minute", self.requests_per_minute),
            ("tokens-per-minute", self.tokens_per_minute),
            ("tokens-per-day", self.tokens_per_day),
            ("tokens-per-month", self.tokens_per_month),
        ] {
            if let Some(limit) = limit {
                line(name, &limit);
            }
        }
        if let Some(expires) = &self.expires {
            line("expires", &json!(expires));
        }
        if self.admin {
            line("admin", &true);
        }
        table
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What a key may do at this time.
fn state(key: &Key) -> &'static str {
    if key.is_revoked {
        "revoked"
    } else if key.has_expired(Timestamp::now()) {
        "expired"
    } else {
        "good"
    }
}

fn as_json(keys: &Keys) -> String {
    let all: Vec<_> = keys
        .iter()
        .map(|key| {
            let limits = &key.limits;
            json!({
                "id": key.id.as_str(),
                "name": key.name,
                "state": state(key),
                "admin": key.is_admin,
                "models": if key.models.is_any() { "all".to_owned() } else { key.models.to_string() },
                "expires": key.expires.map(|end| end.to_string()),
                "streams": limits.streams,
                "requests_per_minute": limits.requests_per_minute,
                "tokens_per_minute": limits.tokens_per_minute,
                "tokens_per_day": limits.tokens_per_day,
                "tokens_per_month": limits.tokens_per_month,
            })
        })
        .collect();
    format!("{}\n", json!(all))
}

fn as_table(keys: &Keys) -> String {
    let mut text = String::new();
    for key in keys.iter() {
        let _ = write!(text, "{:<24} {:<8} {}", key.id, state(key), key.name);
        let mut more = Vec::new();
        if key.is_admin {
            more.push("admin".to_owned());
        }
        if !key.models.is_any() {
            more.push(format!("models {}", key.models));
        }
        let Limits {
            streams,
            requests_per_minute,
            tokens_per_minute,
            tokens_per_day,
            tokens_per_month,
        } = key.limits;
        for (limit, unit) in [
            (streams.map(|limit| limit as u64), "streams"),
            (requests_per_minute, "requests a minute"),
            (tokens_per_minute, "tokens a minute"),
            (tokens_per_day, "tokens a day"),
            (tokens_per_month, "tokens a month"),
        ] {
            if let Some(limit) = limit {
                more.push(format!("{limit} {unit}"));
            }
        }
        if let Some(end) = key.expires {
            more.push(format!("until {end}"));
        }
        if !more.is_empty() {
            let _ = write!(text, " ({})", more.join(", "));
        }
        text.push('\n');
    }
    text
}
