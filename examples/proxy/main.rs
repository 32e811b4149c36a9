//! An OpenAI-compatible proxy in front of Qwen: the layers of the crate, stacked and served.
//!
//! `cargo run --release --example proxy -- --help` shows what can be set; [`stack`] is where the
//! layers are put together.

mod auth;
mod banner;
mod chats;
mod config;
mod models;
mod routes;
mod server;
mod stack;

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use axum::Router;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use self::config::{Config, Options};

/// What is wrong is the user's to mend: the same code as clap's.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Options::read().resolve() {
        Ok(config) => config,
        Err(error) => return fail(error, USAGE),
    };
    let router = match stack::router(&config) {
        Ok(router) => router,
        Err(error) => return fail(error, USAGE),
    };
    match run(&config, router).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, 1),
    }
}

async fn run(config: &Config, router: Router) -> Result<(), String> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();

    let stop =
        server::stop_signal().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let listen = &config.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {listen}: it is in use; choose another with --listen")
        }
        _ => format!("cannot listen on {listen}: {error}"),
    })?;
    let address =
        listener.local_addr().map_err(|error| format!("cannot tell where it listens: {error}"))?;
    banner::write(io::stderr().lock(), config, address)
        .map_err(|error| format!("cannot write to standard error: {error}"))?;
    server::serve(listener, router, stop).await;
    Ok(())
}

fn fail(error: impl Display, code: u8) -> ExitCode {
    // Where standard error is closed there is nobody to tell; the code says it too.
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}
