//! `proxy accounts`: who the proxy would ask the upstream as.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::Serialize;
use tower_qwen::auth::{
    AccountStatus, Credential, CredentialKind, CredentialPool, CredentialPoolBuilder, TokenClient,
};

use super::{
    config::{Config, Upstream},
    credentials::{self, Accounts},
    login::span,
    sign_in, stack,
};

/// What `proxy accounts` is asked for.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct List {
    /// Renew what has ended, and ask the upstream whether it lets each account in. Without it
    /// only the files are read
    #[arg(long)]
    pub(crate) check: bool,

    /// Print JSON, one array
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is told of an account: nothing secret.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The upstream that it is for.
    upstream: String,
    name: String,
    kind: CredentialKind,
    /// When its access token ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip)]
    expires_in: Option<Duration>,
    state: &'static str,
    usable: bool,
    /// Where it is kept.
    source: String,
}

impl Row {
    /// Reads the account `name` of `accounts` as it is, without asking anybody.
    fn as_read(upstream: &str, name: &str, credential: &Credential, source: String) -> Self {
        let now = SystemTime::now();
        let left = credential.expires_at().map(|end| end.duration_since(now).unwrap_or_default());
        let ended = left.is_some_and(|left| left.is_zero());
        // A session in a file is renewed with its cookies, a login with its token.
        let renewable = match credential.kind() {
            CredentialKind::OAuth => credential.refresh_token().is_some(),
            CredentialKind::Web => name != credentials::GIVEN,
            _ => false,
        };
        let (state, usable) = match (ended, renewable) {
            (false, _) => (AccountStatus::Ready.as_str(), true),
            (true, true) => (AccountStatus::Expired.as_str(), true),
            (true, false) => (AccountStatus::SignInAgain.as_str(), false),
        };
        Self {
            upstream: upstream.to_owned(),
            name: name.to_owned(),
            kind: credential.kind(),
            expires_at: credential.expires_at().and_then(unix_seconds),
            expires_in: left,
            state,
            usable,
            source,
        }
    }

    /// What became of it when it was loaded, renewed if need be, and tried.
    async fn ask(
        &mut self,
        pool: &CredentialPool,
        client: &TokenClient,
        models_url: Option<&axum::http::Uri>,
    ) {
        if let Ok(credential) = pool.credential_of(&self.name).await {
            self.expires_at = credential.expires_at().and_then(unix_seconds);
            self.expires_in = credential
                .expires_at()
                .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
            (self.state, self.usable) = match client.validate(&credential, models_url).await {
                Ok(found) if found.valid => (AccountStatus::Ready.as_str(), true),
                Ok(_) => (AccountStatus::Refused.as_str(), false),
                // Nobody said that it is bad.
                Err(_) => ("unknown", true),
            };
        } else if let Some(account) =
            pool.accounts().into_iter().find(|account| account.name == *self.name)
        {
            self.state = account.status.as_str();
            self.usable = false;
        }
    }
}

pub(crate) fn unix_seconds(moment: SystemTime) -> Option<u64> {
    moment.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Lists the accounts of every upstream of `config`; gives whether any can be used.
///
/// # Errors
///
/// If an upstream's sign-in cannot be set up, or if `out` cannot be written to.
pub(crate) async fn run(out: impl Write, config: &Config, list: List) -> Result<bool, String> {
    let all = all(config, list.check).await?;
    write(out, &all, list.json)
        .map_err(|error| format!("cannot write to standard output: {error}"))?;
    Ok(any_usable(&all))
}

/// The accounts of every upstream of `config`; with `check` they are renewed if need be, and
/// tried.
///
/// # Errors
///
/// If an upstream's sign-in cannot be set up.
pub(crate) async fn all(config: &Config, check: bool) -> Result<Vec<Row>, String> {
    let mut all = Vec::new();
    for upstream in &config.upstreams {
        let name = String::from_utf8_lossy(upstream.name.as_bytes());
        let client = stack::token_client(upstream)?;
        let models_url = match &upstream.upstream {
            Upstream::Emulator { .. } => None,
            Upstream::Web { base_url, .. } => Some(sign_in::at(base_url, sign_in::USER_PATH)?),
            Upstream::Compatible { base_url, .. } => Some(sign_in::at(base_url, "/models")?),
        };
        let check = check.then_some((&client, models_url.as_ref()));
        all.extend(rows(&name, &upstream.accounts, check).await);
    }
    Ok(all)
}

/// The accounts of the upstream named `upstream`; with a client they are loaded and tried.
pub(crate) async fn rows(
    upstream: &str,
    accounts: &Accounts,
    check: Option<(&TokenClient, Option<&axum::http::Uri>)>,
) -> Vec<Row> {
    let mut rows: Vec<_> = accounts
        .all()
        .map(|(name, credential)| {
            let file = accounts.files().iter().find(|file| file.name == name);
            let source = match file {
                Some(file) => file.path.display().to_string(),
                None => "an option or the environment".to_owned(),
            };
            Row::as_read(upstream, name, credential, source)
        })
        .collect();
    if let Some((client, models_url)) = check
        && let Some(pool) = accounts.pool_from(builder(), client)
    {
        for row in &mut rows {
            row.ask(&pool, client, models_url).await;
        }
        // A refresh that is under way may hold the only valid token.
        pool.settled().await;
    }
    rows
}

/// Nothing is renewed before it has to be.
fn builder() -> CredentialPoolBuilder {
    CredentialPool::builder()
}

/// The first upstream that has accounts, and none of them can be used.
pub(crate) fn without_access(rows: &[Row]) -> Option<&str> {
    let of = |name: &str| rows.iter().filter(move |row| row.upstream == name).any(|row| row.usable);
    rows.iter().map(|row| &*row.upstream).find(|name| !of(name))
}

/// Whether any account can be used.
pub(crate) fn any_usable(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.usable)
}

/// Writes `rows` as a table, or as JSON.
///
/// # Errors
///
/// Those of `out`.
pub(crate) fn write(mut out: impl Write, rows: &[Row], json: bool) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut out, rows)?;
        return writeln!(out);
    }
    if rows.is_empty() {
        return writeln!(out, "There is no account. Sign in with `proxy login`.");
    }
    let head = ["UPSTREAM", "ACCOUNT", "KIND", "EXPIRES IN", "STATE", "SOURCE"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.upstream.clone(),
            row.name.clone(),
            row.kind.to_string(),
            match row.expires_in {
                None => "-".to_owned(),
                Some(left) if left.is_zero() => "ended".to_owned(),
                Some(left) => span(left),
            },
            row.state.replace('_', " "),
            row.source.clone(),
        ]
        // A file's name may hold anything; a terminal would obey it.
        .map(|cell| cell.chars().flat_map(printable).collect())
    }));
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn printable(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests;
