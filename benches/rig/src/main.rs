//! What the proxy costs on sockets: CPU an event and a request, added latency, memory a stream, beside
//! plain hyper and nginx in the same run.
//!
//! The upstream and each rival are processes of their own on loopback; the load is this one. CPU is what
//! the kernel counts for a process (`/proc`, so Linux only). The rivals take turns in every round, and
//! ratios are those within a round, so that what else the machine does counts for all; of the rounds the
//! median is told. Everything is bounded in time and count.
//!
//! ```sh
//! cargo run --release -p tower-qwen-rig              # builds the proxy; some five minutes
//! cargo run --release -p tower-qwen-rig -- --quick   # to see that it works
//! ```

#![allow(clippy::print_stdout, reason = "a bench reports")]

mod load;
mod report;
mod rival;
mod serve;
mod upstream;
mod wire;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser;

use self::{
    load::Load,
    report::{Sample, Table},
    rival::{Kind, Process, Stack},
    wire::Order,
};

/// The variable that says which role of the rig a process has.
const ROLE: &str = "TOWER_QWEN_RIG_ROLE";
/// The variable that says where the upstream of a pass-through is.
const TO: &str = "TOWER_QWEN_RIG_TO";

/// What the proxy costs, beside plain hyper and nginx in the same run
#[derive(Debug, Parser)]
struct Options {
    /// Only to see that it works
    #[arg(long)]
    quick: bool,
    /// The proxy [default: the release build of this repository, built if need be]
    #[arg(long, value_name = "PROGRAM")]
    proxy: Option<PathBuf>,
    /// Another build of it, to compare
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// nginx; what is not there is left out
    #[arg(long, value_name = "PROGRAM", default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// How many rounds there are
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
    /// Only rivals whose name begins so; hyper is always there
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// How much is done.
struct Extent {
    rounds: usize,
    /// At 50 a second.
    paced: u32,
    /// At full speed.
    full: u32,
    /// Of small requests, a connection.
    requests: usize,
    /// How often the first event is waited for.
    firsts: usize,
    idle: usize,
}

fn main() {
    let role = env::var(ROLE).unwrap_or_default();
    let mut builder = match role.as_str() {
        "hyper-threads" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match role.as_str() {
            "upstream" => serve::serve(upstream::answer).await,
            "hyper" | "hyper-threads" => {
                let to = env::var(TO).expect("set by the rig");
                serve::pass(to.parse().expect("a URL")).await;
            }
            _ if !cfg!(target_os = "linux") => {
                println!("skipped: the CPU of a process is read in /proc");
            }
            _ => bench(Options::parse()).await,
        }
    });
}

/// The rivals and their names; the first is what all others are compared with.
fn rivals(options: &Options) -> Vec<(String, Kind)> {
    let mut rivals = vec![("hyper, one thread".to_owned(), Kind::Hyper { threads: false })];
    rivals.push(("hyper, all threads".to_owned(), Kind::Hyper { threads: true }));
    if options.nginx.exists() {
        rivals.push(("nginx".to_owned(), Kind::Nginx(options.nginx.clone())));
    } else {
        println!("nginx is left out: there is no {}\n", options.nginx.display());
    }
    let program = options.proxy.clone().unwrap_or_else(proxy);
    for stack in Stack::ALL {
        let kind = |program: &Path| Kind::Proxy { program: program.to_owned(), stack };
        rivals.push((stack.name().to_owned(), kind(&program)));
        if let Some(beside) = &options.beside {
            rivals.push((format!("{}, beside", stack.name()), kind(beside)));
        }
    }
    let mut first = true;
    rivals.retain(|(name, _)| {
        std::mem::take(&mut first)
            || options.only.is_empty()
            || options.only.iter().any(|only| name.starts_with(only.as_str()))
    });
    rivals
}

/// The release build of the proxy.
fn proxy() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--example", "proxy", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .status();
    assert!(built.expect("cargo can be started").success(), "the proxy cannot be built");
    let own = env::current_exe().expect("its own path");
    let target = own.ancestors().nth(2).expect("TARGET/PROFILE/PROGRAM");
    target.join("release/examples/proxy")
}

async fn bench(options: Options) {
    let mut extent = if options.quick {
        Extent { rounds: 1, paced: 10, full: 2_000, requests: 20, firsts: 20, idle: 20 }
    } else {
        Extent { rounds: 7, paced: 100, full: 25_000, requests: 500, firsts: 500, idle: 400 }
    };
    extent.rounds = options.rounds.unwrap_or(extent.rounds).max(1);
    let upstream = Process::upstream();
    let rivals = rivals(&options);

    let mut table = Table::new(rivals.iter().map(|(name, _)| name.clone()));
    at_rest(&mut table, &rivals, upstream.port(), &extent).await;
    let running: Vec<_> =
        rivals.iter().map(|(_, kind)| Process::start(kind, upstream.port())).collect();
    streams(&mut table, &running, &extent).await;
    small(&mut table, &running, &extent).await;
    low(&mut table, &running, &extent).await;
    println!("{table}");
}

/// Memory, of processes that have done nothing else.
async fn at_rest(table: &mut Table, rivals: &[(String, Kind)], to: u16, extent: &Extent) {
    let mut start = Vec::new();
    let mut idle = Vec::new();
    for (_, kind) in rivals {
        let process = Process::start(kind, to);
        start.push(Sample::of(process.memory() as f64 / 1e6));
        idle.push(Sample::of(load::idle(&process, extent.idle).await / 1024.0));
    }
    table.row("MB at start", 1, start);
    table.row(&format!("KiB an idle stream, of {}", extent.idle), 1, idle);
}

/// CPU an event.
async fn streams(table: &mut Table, running: &[Process], extent: &Extent) {
    let paced = Order { events: extent.paced, gap: 20_000, together: 1 };
    let full = Order { events: extent.full, gap: 0, together: 1 };
    // 16 KiB, what servers write at once that have much to say.
    let chunks = Order { events: extent.full * 4, gap: 0, together: 48 };
    for (what, load) in [
        ("64 streams of 50 events/s", Load { streams: 64, order: paced }),
        ("4 streams at full speed, an event a chunk", Load { streams: 4, order: full }),
        ("4 streams at full speed, 48 events a chunk", Load { streams: 4, order: chunks }),
    ] {
        let mut costs = vec![Vec::new(); running.len()];
        let mut late = vec![Vec::new(); running.len()];
        for round in 0..=extent.rounds {
            for (at, process) in running.iter().enumerate() {
                let cost = load.run(process).await;
                // The first one warms what is kept.
                if round > 0 {
                    costs[at].push(cost.cpu / 1e3);
                    late[at].extend(cost.late);
                }
            }
        }
        let ratios: Vec<_> = costs.iter().map(|own| Sample::ratios(own, &costs[0])).collect();
        let costs = costs.into_iter().map(Sample::median).collect();
        table.row(&format!("{what}: µs of CPU an event"), 2, costs);
        table.row(&format!("{what}: × hyper"), 2, ratios);
        if load.order.gap > 0 {
            table.latencies(&format!("{what}: µs on the way"), late);
        }
    }
}

/// CPU a small request.
async fn small(table: &mut Table, running: &[Process], extent: &Extent) {
    let mut costs = vec![Vec::new(); running.len()];
    for round in 0..=extent.rounds {
        for (at, process) in running.iter().enumerate() {
            let cost = load::unary(process, 8, extent.requests).await;
            if round > 0 {
                costs[at].push(cost / 1e3);
            }
        }
    }
    let ratios: Vec<_> = costs.iter().map(|own| Sample::ratios(own, &costs[0])).collect();
    table.row(
        "8 connections, unary: µs of CPU a request",
        1,
        costs.into_iter().map(Sample::median).collect(),
    );
    table.row("8 connections, unary: × hyper", 2, ratios);
}

/// Latency, where there is nothing to wait for but the rival.
async fn low(table: &mut Table, running: &[Process], extent: &Extent) {
    let load = Load { streams: 1, order: Order { events: extent.paced, gap: 20_000, together: 1 } };
    let mut late = vec![Vec::new(); running.len()];
    for _ in 0..extent.rounds {
        for (at, process) in running.iter().enumerate() {
            late[at].extend(load.run(process).await.late);
        }
    }
    table.latencies("1 stream of 50 events/s: µs on the way", late);
    let mut firsts = vec![Vec::new(); running.len()];
    for _ in 0..extent.firsts {
        for (at, process) in running.iter().enumerate() {
            firsts[at].push(load::first_event(process).await);
        }
    }
    table.latencies("µs from a request to its first event", firsts);
}
