//! What the proxy says of itself when it starts.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use tower_qwen::auth::CredentialKind;

use tower_qwen::qwen::compatible::Server;
use tower_qwen_emulator::Kind;

use super::config::{Config, Tools, Upstream, UpstreamConfig};

/// Writes the banner: where it listens, who answers and why, and what to try.
///
/// The first line holds the address that was bound, for whoever asked for port 0.
///
/// # Errors
///
/// Those of `out`.
pub(crate) fn write(mut out: impl Write, config: &Config, address: SocketAddr) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "tower-qwen proxy {version} listens on http://{address}")?;
    settings(&mut out, config)?;
    if config.api_keys.is_empty() {
        let reach = if config.is_local() {
            "; those without a key of their own count as one, and share conversations"
        } else {
            " WHO CAN REACH IT; those without a key of their own have no lasting chats"
        };
        writeln!(out, "  clients: any{reach}; to ask for a key set QWEN_PROXY_API_KEY")?;
    } else {
        writeln!(out, "  clients: those with an API key")?;
    }
    if let Some(keys) = config.api_keys.filed() {
        writeln!(out, "    {} keys in {}", keys.iter().count(), keys.file().display())?;
        if keys.iter().any(|key| key.limits.have_budget()) {
            writeln!(out, "    what they have used of their budgets is {}", config.keep)?;
        }
    }
    let mut local = address;
    if address.ip().is_unspecified() {
        local.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let key = if config.api_keys.is_empty() { "" } else { " -H 'x-api-key: KEY'" };
    writeln!(out, "  try:")?;
    writeln!(
        out,
        "    curl -N http://{local}/v1/chat/completions -H 'content-type: application/json'{key} \
         -d '{{\"model\":\"{}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\
         \"content\":\"Hello\"}}]}}'",
        model(&config.upstreams[0]),
    )
}

/// A model that the upstream has, as far as that is known here.
fn model(config: &UpstreamConfig) -> String {
    if let Some(model) = config.models.first_exact() {
        return model.to_owned();
    }
    match &config.upstream {
        Upstream::Emulator { emulated, .. } => emulated.models().swap_remove(0),
        Upstream::Web { .. } => "qwen3-max".to_owned(),
        Upstream::Compatible { server: Server::DashScope, .. } => "qwen-plus".to_owned(),
        Upstream::Compatible { server: Server::Portal, .. } => "coder-model".to_owned(),
        Upstream::Compatible { .. } => "ONE-OF-ITS-MODELS".to_owned(),
    }
}

/// Writes who answers and why.
///
/// # Errors
///
/// Those of `out`.
pub(crate) fn settings(mut out: impl Write, config: &Config) -> io::Result<()> {
    if let Some(file) = &config.file {
        writeln!(out, "  configuration: {}", file.display())?;
    }
    for upstream in &config.upstreams {
        one(&mut out, upstream)?;
    }
    Ok(())
}

fn one(out: &mut impl Write, config: &UpstreamConfig) -> io::Result<()> {
    let kind = config.upstream.kind();
    let name = String::from_utf8_lossy(config.name.as_bytes());
    let named = if name == kind { String::new() } else { format!(" ({name})") };
    writeln!(out, "  upstream: {kind}{named}, {}", config.reason)?;
    match &config.upstream {
        Upstream::Emulator { emulated, recording } => {
            match recording {
                Some(recording) => {
                    writeln!(out, "    it replays {} recorded bytes", recording.len())?;
                }
                None => {
                    let of = match emulated {
                        Kind::Web => "chat.qwen.ai",
                        other => other.as_str(),
                    };
                    writeln!(out, "    it is an imitation of {of}: no model answers")?;
                }
            }
            writeln!(
                out,
                "    for chat.qwen.ai set QWEN_TOKEN or QWEN_COOKIES, for an API QWEN_BASE_URL \
                 or DASHSCOPE_API_KEY (see --help)"
            )?;
        }
        Upstream::Web { base_url, credentials, .. } => {
            writeln!(out, "    at {base_url}")?;
            if credentials.is_empty() && config.accounts.is_empty() {
                writeln!(
                    out,
                    "    without a credential; set QWEN_TOKEN, QWEN_COOKIES or QWEN_CREDENTIALS"
                )?;
            }
            if base_url.host() == Some("chat.qwen.ai")
                && config.accounts.any(|kind| kind == CredentialKind::OAuth)
            {
                writeln!(
                    out,
                    "    WARNING: logins are for the portal (--upstream compatible); this server \
                     takes sessions of its page"
                )?;
            }
            writeln!(out, "    for an imitation without a network: --upstream emulator")?;
        }
        Upstream::Compatible { base_url, server } => {
            let key = if config.accounts.is_empty() { "without a key, " } else { "" };
            writeln!(out, "    at {base_url}, {key}as {server:?}")?;
            if config.tools == Tools::Off {
                writeln!(out, "    chat passes byte by byte")?;
            }
        }
    }
    for (name, credential) in config.accounts.all() {
        writeln!(out, "    as {name} ({})", credential.kind())?;
    }
    for warning in config.accounts.warnings() {
        writeln!(out, "    WARNING: {warning}")?;
    }
    for stand_in in &config.stand_ins.all {
        let name = String::from_utf8_lossy(stand_in.name.as_bytes());
        let model = stand_in.model.as_deref().map(|model| format!(" with {model}"));
        writeln!(out, "    {name}{} stands in for it", model.unwrap_or_default())?;
    }
    if !config.models.is_any() {
        writeln!(out, "    for the models {}", config.models)?;
    }
    Ok(())
}
