//! `proxy check`: what would be used, and whether it answers.

use std::io::{self, Write};

use super::{accounts, banner, config::Config, shutdown::Shutdown, stack};

/// Writes what `config` comes to, asks every upstream for its models, and whether it lets the
/// accounts in.
///
/// Gives whether all of them answered, and let at least one account in where there are any.
///
/// # Errors
///
/// If an upstream cannot be set up, or those of `out`.
pub(crate) async fn run(mut out: impl Write, config: &Config) -> Result<bool, String> {
    let failed = |error: io::Error| format!("cannot write to standard output: {error}");
    let store = stack::store(&config.sessions)?;
    let lanes = stack::lanes(config, &store, &Shutdown::default())?;
    banner::settings(&mut out, config).map_err(failed)?;
    let mut all = true;
    for lane in lanes.iter() {
        let name = String::from_utf8_lossy(lane.name.as_bytes());
        let said = match lane.models.list().await {
            Ok(list) => format!("{name} answers, with {} models", list.models.len()),
            Err(error) => {
                all = false;
                format!("{name} DOES NOT ANSWER as it should: {error}")
            }
        };
        writeln!(out, "{said}").map_err(failed)?;
        if let Some(pool) = &lane.desk.pool {
            // The question may have set off a refresh, whose answer must not be lost.
            pool.settled().await;
        }
    }
    // A list of models is no proof: some upstreams give it to anyone.
    let rows = accounts::all(config, true).await?;
    if !rows.is_empty() {
        accounts::write(&mut out, &rows, false).map_err(failed)?;
    }
    if let Some(name) = accounts::without_access(&rows) {
        all = false;
        writeln!(out, "{name} LETS NO ACCOUNT IN").map_err(failed)?;
    }
    Ok(all)
}
