//! Two processes, one credential file, refresh tokens that are good for one use, and `kill -9`.
//!
//! The test runs itself as its children. Its token endpoint is strict: whoever presents a refresh
//! token that has been used gets `invalid_grant`, and the test fails.
//!
//! What cannot hold for any client: a process that is killed after the endpoint has answered and
//! before the answer is on disk takes the new refresh token with it. So there are two tests:
//!
//! - with a strict endpoint, processes are killed at any moment except inside that window (the
//!   test sees the window: the endpoint has granted what the file does not hold yet);
//! - with an endpoint that also takes the previous token until the new one is first used, which
//!   is how endpoints close the window, processes are killed at any moment.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on may panic")]

mod token_endpoint;
mod traced;

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tower_qwen::{
    FullBody,
    auth::{CredentialPool, OAuthFile, TokenClient},
};

use crate::token_endpoint::{Server, lock};

const CHILD: &str = "TOWER_QWEN_TEST_CHILD";
/// Short, so that the test is; long enough for a process that gets no processor for a while.
const STALE_AFTER: Duration = Duration::from_secs(2);

/// What a child does: refreshes the login in the file as fast as it can.
#[test]
#[ignore = "the other tests of this file run it as a process of its own"]
fn child() {
    traced::on();
    let Ok(task) = env::var(CHILD) else { return };
    let [path, address, id] = task.split('|').collect::<Vec<_>>()[..] else {
        panic!("not a task: {task}");
    };
    let address: SocketAddr = address.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let http = tower::service_fn(move |request: Request<FullBody>| async move {
            let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            tokio::spawn(connection);
            let response = sender.send_request(request).await?;
            Ok::<Response<hyper::body::Incoming>, tower::BoxError>(response)
        });
        let client = TokenClient::new(http)
            .token_url(format!("http://{address}/{id}/token").parse().unwrap());
        let file = OAuthFile::new(path, client).stale_lock_after(STALE_AFTER);
        let pool = CredentialPool::new("default", file);
        loop {
            // What goes wrong is for the endpoint to see: a spent token, or none at all.
            let _ = pool.refresh("default").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

struct Process {
    id: String,
    child: Child,
}

impl Process {
    fn start(id: String, path: &Path, address: SocketAddr) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(CHILD, format!("{}|{address}|{id}", path.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { id, child }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL, by the child's own id.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets two processes refresh `refreshes` times, and kills one every now and then.
fn run(grace: bool, refreshes: u64, kills: u64) {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("oauth_creds.json");
    token_endpoint::write_first(&path);
    let (server, address) = Server::start(grace);
    let mut started = 0;
    let mut start = || {
        started += 1;
        Process::start(format!("process-{started}"), &path, address)
    };
    let mut processes = [start(), start()];
    let mut killed = 0;
    let mut in_window = 0;
    let begun = Instant::now();
    // Odd numbers, so that the kills do not fall into step with anything.
    let mut pause = 7;
    loop {
        pause = (pause * 31 + 11) % 17;
        thread::sleep(Duration::from_millis(5 + pause));
        let mut state = lock(&server);
        assert!(state.wrongs.is_empty(), "after {} refreshes: {:?}", state.grants, state.wrongs);
        assert!(begun.elapsed() < Duration::from_secs(600), "stuck at {} refreshes", state.grants);
        if state.grants >= refreshes && killed >= kills {
            break;
        }
        if state.grants >= (killed + 1) * refreshes / (kills + 1) && killed < kills {
            if !grace && !state.is_on_disk(&path) {
                in_window += 1;
                continue;
            }
            // The endpoint grants nothing while its state is held, and nothing to the dead after.
            let victim = &mut processes[(killed % 2) as usize];
            victim.child.kill().unwrap();
            victim.child.wait().unwrap();
            state.dead.push(victim.id.clone());
            drop(state);
            *victim = start();
            killed += 1;
        }
    }
    drop(processes);
    let state = lock(&server);
    println!(
        "{} refreshes, {killed} kills, {} tokens lost with their process and replaced, \
         {in_window} kills put off, {:.1} s",
        state.grants,
        state.replays,
        begun.elapsed().as_secs_f64()
    );
    assert!(state.wrongs.is_empty(), "{:?}", state.wrongs);
}

#[test]
fn no_refresh_token_is_spent_twice_whenever_a_process_is_killed() {
    run(false, 1000, 12);
}

#[test]
fn an_endpoint_that_forgives_the_previous_token_closes_the_last_window() {
    run(true, 1000, 12);
}
