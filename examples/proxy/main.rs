//! An OpenAI-compatible proxy in front of Qwen: the layers of the crate, stacked and served.
//!
//! `cargo run --release --example proxy -- --help` shows what can be set; [`stack`] is where the
//! layers are put together.

mod access;
mod accounts;
mod advice;
mod auth;
mod banner;
mod beside;
mod board;
mod chats;
mod check;
mod clients;
mod coding;
mod config;
mod credentials;
mod dashboard;
mod debug_stream;
mod files;
mod forms;
mod gate;
mod health;
mod hosts;
mod keys;
mod lanes;
mod launch;
mod login;
mod logs;
mod manual;
mod memory;
mod metrics;
mod models;
mod ollama;
mod otlp;
mod pass;
mod paths;
mod prompts;
mod ready;
mod reload;
mod routes;
mod server;
mod service;
mod settle;
mod shared;
mod shutdown;
mod sign_in;
mod stack;
mod stand_ins;
mod tokens;
mod trace;
mod trace_context;
mod unread;
mod words;

use std::{
    backtrace::Backtrace,
    fmt::Display,
    io::{self, IsTerminal, Write},
    panic,
    process::ExitCode,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use self::{
    accounts::List,
    config::{Cli, Command, Config, LogFormat, Options},
    gate::Gate,
    logs::Logs,
    otlp::Export,
    reload::Reload,
    routes::App,
    shutdown::Shutdown,
};

/// What is wrong is the user's to mend: the same code as clap's.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    memory::give_back();
    obey()
}

#[tokio::main]
async fn obey() -> ExitCode {
    let (options, command) = Cli::read();
    match command {
        None => serve(options).await,
        Some(Command::Check(options)) => check(*options).await,
        Some(Command::Login(login)) => match login.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(failure.message, failure.code),
        },
        Some(Command::Launch(launch)) => match launch.run().await {
            Ok(code) => ExitCode::from(code),
            Err(failure) => fail(failure.message, failure.code),
        },
        Some(Command::Keys(keys)) => match keys.run(io::stdout().lock(), io::stderr().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error, 1),
        },
        Some(Command::Accounts { options, list }) => accounts(*options, list).await,
        Some(Command::Health(health)) => match health.run().await {
            Ok(word) => {
                written(writeln!(io::stdout(), "{word}").map_err(|error| error.to_string()))
            }
            Err(failure) => fail(failure.message, failure.code),
        },
        Some(Command::Man(page)) => written(page.write(&mut io::stdout().lock(), &Cli::program())),
        Some(Command::Completions { shell }) => {
            written(manual::completions(&mut io::stdout().lock(), shell, &Cli::program()))
        }
    }
}

/// The code for what was written to standard output.
fn written(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, USAGE),
    }
}

async fn serve(options: Options) -> ExitCode {
    let given = match service::listener() {
        Ok(given) => given,
        Err(error) => {
            return fail(format!("LISTEN_FDS: the socket cannot be used: {error}"), USAGE);
        }
    };
    // Who may do what depends on who can connect.
    let options = match given.as_ref().map(std::net::TcpListener::local_addr).transpose() {
        Ok(None) => options,
        Ok(Some(address)) => options.listening_at(address),
        Err(error) => return fail(format!("LISTEN_FDS: cannot tell where it listens: {error}"), 1),
    };
    let config = match options.clone().resolve() {
        Ok(config) => config,
        Err(error) => return fail(error, USAGE),
    };
    // Before anything is built that counts.
    if config.metrics
        && let Err(error) = metrics::install()
    {
        return fail(error, 1);
    }
    let store = match stack::store(&config.sessions) {
        Ok(store) => store,
        Err(error) => return fail(error, USAGE),
    };
    let shutdown = Shutdown::default();
    let gate = match Gate::open(&config.keep) {
        Ok(gate) => gate,
        Err(error) => return fail(error, USAGE),
    };
    let (app, tokens) = match stack::app(&config, &store, &shutdown, &gate) {
        Ok(made) => made,
        Err(error) => return fail(error, USAGE),
    };
    let (app, current) = watch::channel(app);
    match run(Reload::new(options, config, store, shutdown, gate, app, tokens), given, current)
        .await
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, 1),
    }
}

async fn check(options: Options) -> ExitCode {
    let config = match options.resolve() {
        Ok(config) => config,
        Err(error) => return fail(error, USAGE),
    };
    let _written = log(&config, None);
    match check::run(io::stdout().lock(), &config).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error, USAGE),
    }
}

async fn accounts(options: Options, list: List) -> ExitCode {
    let config = match options.resolve() {
        Ok(config) => config,
        Err(error) => return fail(error, USAGE),
    };
    let _written = log(&config, None);
    match accounts::run(io::stdout().lock(), &config, list).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error, 1),
    }
}

/// Logs from now on, until what is given is dropped.
fn log(config: &Config, export: Option<Export>) -> Written {
    let format = config.log_format;
    let logs = Logs::to(io::stderr(), format);
    let logs = logs.expect("a thread for the log can be started");
    let writer = logs.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || writer.clone());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Pretty => lines.pretty().boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let filter = EnvFilter::new(&config.log);
    #[cfg(feature = "otlp")]
    if let Some(export) = &export {
        // What is exported is no matter of what is logged.
        let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
        registry.with(export.layer()).init();
    } else {
        tracing_subscriber::registry().with(lines).with(filter).init();
    }
    #[cfg(not(feature = "otlp"))]
    tracing_subscriber::registry().with(lines).with(filter).init();
    // A panic that is written to standard error could wait there for ever.
    panic::set_hook(Box::new(|panicked| {
        tracing::error!(backtrace = %Backtrace::capture(), "{panicked}");
    }));
    Written { logs, export }
}

/// The log, which is written to its end when this goes, and the spans, which are sent before that.
struct Written {
    logs: Logs,
    export: Option<Export>,
}

impl Drop for Written {
    fn drop(&mut self) {
        // The last spans are sent, and what became of them is in the log.
        self.export = None;
        self.logs.flush();
    }
}

/// The longest time to wait for a refresh at the end: the wait for its lock and for its answer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

async fn run(
    mut reload: Reload,
    given: Option<std::net::TcpListener>,
    app: watch::Receiver<App>,
) -> Result<(), String> {
    let config = reload.config();
    let export = config.otlp.as_deref().map(Export::to).transpose();
    let export = export.map_err(|error| format!("--otlp: {error}"))?;
    let Written { logs, .. } = &log(config, export);

    let no_signals = |error| format!("cannot wait for signals: {error}");
    let stop = server::stop_signal().map_err(no_signals)?;
    let hangup = server::reload_signal().map_err(no_signals)?;
    let listen = &config.listen;
    let listener = match given {
        Some(given) => TcpListener::from_std(given),
        None => TcpListener::bind(listen).await,
    };
    let listener = listener.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {listen}: it is in use; choose another with --listen")
        }
        _ => format!("cannot listen on {listen}: {error}"),
    })?;
    let (write_timeout, patience) = (config.write_timeout, config.shutdown);
    let shutdown = reload.shutdown().clone();
    let address =
        listener.local_addr().map_err(|error| format!("cannot tell where it listens: {error}"))?;
    let mut banner = Vec::new();
    banner::write(&mut banner, config, address)
        .map_err(|error| format!("cannot write to memory: {error}"))?;
    logs.say(banner);
    reload.tokens().load_in_background();
    service::tell(service::State::Ready);
    let gate = reload.gate().clone();
    let keeping = tokio::spawn({
        let gate = gate.clone();
        async move { gate.keep().await }
    });
    tokio::select! {
        () = server::serve(listener, app, write_timeout, shutdown, patience, stop) => {}
        never = reload.run(hangup) => match never {},
    }
    if tokio::time::timeout(SETTLE_TIMEOUT, reload.settled()).await.is_err() {
        tracing::error!("a refresh did not end; somebody may have to sign in again");
    }
    keeping.abort();
    gate.flush().await;
    Ok(())
}

fn fail(error: impl Display, code: u8) -> ExitCode {
    // Where standard error is closed there is nobody to tell; the code says it too.
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}
