//! `proxy login`: signs in with a code that a person approves in a browser. `proxy login web` takes a
//! session that a browser has.

mod page;
mod pasted;
mod web;

use std::{
    fs,
    future::Future,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, SystemTime},
};

use axum::http::Uri;
use clap::{Args, Subcommand};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use tower_qwen::auth::{
    Credential, OAuthFile, StoredCredential, TokenClient,
    device::{DeviceError, DeviceLogin},
};

use self::web::WebLogin;
use super::{config::parse_url, files, server, sign_in};

/// What `proxy login` is asked for.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Login {
    #[command(subcommand)]
    other: Option<Other>,

    /// The file to write, readable by you alone; a login that it holds is replaced [default:
    /// ~/.qwen/oauth_creds.json, shared with the qwen-code CLI]
    #[arg(long, value_name = "FILE", value_parser = files::named())]
    file: Option<PathBuf>,

    /// The endpoint that grants tokens [default: Qwen's own]
    #[arg(long, value_name = "URL", env = "QWEN_TOKEN_URL", hide_env_values = true)]
    token_url: Option<String>,

    /// The endpoint that gives codes [default: beside the token endpoint]
    #[arg(long, value_name = "URL")]
    device_url: Option<String>,

    /// Do not draw the page's address as a QR code
    #[arg(long)]
    no_qr: bool,
}

/// What else than a login of OAuth can be had.
#[derive(Debug, Subcommand)]
enum Other {
    /// Takes a session of chat.qwen.ai, which a page on this machine has pasted into it, and keeps
    /// it in a file once that was confirmed here
    Web(WebLogin),
}

/// Why there is no login, and the code to end with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

/// What a shell gives for a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;
/// What is wrong is the user's to mend: the same code as clap's.
const USAGE: u8 = 2;

fn fail<T>(code: u8, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { message: message.into(), code })
}

impl Login {
    /// Signs in and writes the file, telling a person on standard error what to do.
    ///
    /// # Errors
    ///
    /// A [`Failure`]; then the file is as it was.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if let Some(Other::Web(web)) = self.other {
            return web.run().await;
        }
        let path = match self.file {
            Some(path) => path,
            None => OAuthFile::default_path()
                .or_else(|error| fail(USAGE, format!("--file: it must be given, since {error}")))?,
        };
        let parse = |option: &str, url: Option<String>| match url {
            Some(url) => {
                parse_url(option, &url).map(Some).or_else(|error| fail(USAGE, error.to_string()))
            }
            None => Ok(None),
        };
        let token_url = parse("--token-url", self.token_url)?;
        let device_url = parse("--device-url", self.device_url)?;
        let web = Uri::from_static("https://chat.qwen.ai");
        let client =
            sign_in::client(&web, token_url.as_ref()).or_else(|message| fail(1, message))?;
        let client = match device_url {
            Some(url) => client.device_url(url),
            None => client,
        };
        let err = io::stderr();
        let draw = !self.no_qr && err.is_terminal();
        // From here on, not from when it is first waited for. An interrupt that cannot be waited
        // for ends the process as it always does.
        let stop = server::stop_signal();
        let interrupt = async {
            match stop {
                Ok(stop) => stop.await,
                Err(_) => std::future::pending().await,
            }
        };
        sign_in(err, draw, &path, &client, interrupt).await
    }
}

/// The whole conversation, on `out`.
async fn sign_in(
    mut out: impl Write,
    draw: bool,
    path: &Path,
    client: &TokenClient,
    interrupt: impl Future<Output = ()>,
) -> Result<(), Failure> {
    // A login that cannot be kept is lost, so this is found out before anybody is asked.
    check_writable(path)?;
    let mut interrupt = pin!(interrupt);
    let said = |result: io::Result<()>| {
        result.or_else(|error| fail(1, format!("cannot write to standard error: {error}")))
    };
    let login = tokio::select! {
        login = DeviceLogin::start(client) => login,
        () = &mut interrupt => return fail(INTERRUPTED, "interrupted; nothing was written"),
    };
    let login = login
        .or_else(|error| fail(1, format!("the sign-in could not be started: {}", chain(&error))))?;
    said(invite(&mut out, draw, &login))?;

    let granted = tokio::select! {
        granted = login.wait() => granted,
        () = &mut interrupt => return fail(INTERRUPTED, "interrupted; nothing was written"),
    };
    let credential = match granted {
        Ok(credential) => credential,
        Err(error) => {
            let advice = match error {
                DeviceError::Expired => "; start again with `proxy login`",
                DeviceError::Denied => "; nothing was written",
                DeviceError::RateLimited => "; wait a few minutes and start again",
                _ => "",
            };
            return fail(1, format!("{}{advice}", chain(&error)));
        }
    };
    let file = OAuthFile::new(path, client.clone());
    if let Err(error) = file.save(credential.clone()).await {
        return fail(1, format!("signed in, but {}: {}", path.display(), chain(&error)));
    }
    said(conclude(&mut out, path, &credential))
}

/// What people who sign in expect, and do not get any more.
const FREE_TIER_ENDED: &str = "\
Qwen ended the free use of these logins on 15 April 2026. One without a plan can still be had, and is
refused with the first request. What else there is: a key of DashScope (docs/upstreams.md), or the
session of a browser at chat.qwen.ai (`proxy login web`).";

fn invite(out: &mut impl Write, draw: bool, login: &DeviceLogin) -> io::Result<()> {
    let url = login.verification_url();
    writeln!(out, "{FREE_TIER_ENDED}\n")?;
    writeln!(out, "To sign in, open this page in a browser on any device:\n\n  {url}\n")?;
    if draw {
        match drawing(url) {
            Some(code) => writeln!(out, "{code}\n")?,
            // No terminal is that wide.
            None => writeln!(out, "  (too long for a QR code)\n")?,
        }
    }
    writeln!(out, "and check that it shows the code\n\n  {}\n", login.user_code())?;
    writeln!(
        out,
        "Waiting for the approval for {}. Ctrl-C stops.",
        span(login.expires_in().max(Duration::from_secs(1)))
    )?;
    out.flush()
}

fn conclude(out: &mut impl Write, path: &Path, credential: &Credential) -> io::Result<()> {
    let left = credential
        .expires_at()
        .and_then(|end| end.duration_since(SystemTime::now()).ok())
        .map(|left| format!(" for {}", span(left)))
        .unwrap_or_default();
    let path = path.display();
    writeln!(out, "\nSigned in. The login is in {path}, which only you can read.")?;
    match credential.refresh_token() {
        Some(_) => writeln!(out, "Its token is good{left}; the proxy renews it.")?,
        None => writeln!(out, "Its token is good{left}, and cannot be renewed.")?,
    }
    writeln!(out, "Start the proxy with it:\n\n  proxy --credentials {path}")?;
    out.flush()
}

/// `url` as a QR code for a terminal, two modules to a character, black on white whatever the
/// terminal's colours are; `None` where it is too long for one.
fn drawing(url: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(url, EcLevel::L).ok()?;
    // To the crate what is printed is dark; here it is white on black.
    let code = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .quiet_zone(true)
        .build();
    let lines: Vec<_> = code.lines().map(|line| format!("\x1b[40;97m{line}\x1b[0m")).collect();
    Some(lines.join("\n"))
}

/// A span as a person says it.
pub(crate) fn span(span: Duration) -> String {
    // Rounded to the minute above, so that "15 minutes" is said of 899.9 seconds.
    let seconds = span.as_secs_f64().round() as u64;
    let many = |count: u64, unit: &str| match count {
        1 => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    };
    let (minutes, hours) = ((seconds + 30) / 60, (seconds + 1800) / 3600);
    match seconds {
        0..=119 => many(seconds, "second"),
        120..=7199 => many(minutes, "minute"),
        7200..=172_799 => many(hours, "hour"),
        _ => many((seconds + 43_200) / 86_400, "day"),
    }
}

/// Makes sure that the file can be written, without touching it.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    match files::read(path) {
        // Somebody's notes are not replaced by a slip of the finger.
        Ok(text)
            if StoredCredential::from_bytes(&text).is_err() && !text.trim_ascii().is_empty() =>
        {
            return fail(
                USAGE,
                format!("--file: {shown} is there and holds no credential; name another file"),
            );
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return fail(USAGE, format!("--file: {shown} cannot be read: {error}")),
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let probe = dir.join(format!(".proxy-login.{}.tmp", std::process::id()));
    builder
        .create(dir)
        .and_then(|()| fs::OpenOptions::new().write(true).create_new(true).open(&probe))
        .and_then(|_| fs::remove_file(&probe))
        .or_else(|error| fail(USAGE, format!("--file: {shown} cannot be written: {error}")))
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        line.push_str(": ");
        line.push_str(&error.to_string());
        next = error.source();
    }
    line
}

#[cfg(test)]
mod tests;
