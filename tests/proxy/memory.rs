//! What the program keeps of large requests when they are done.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use tokio::runtime::Runtime;

use crate::proxied::{command, serve, start, upstream};

/// How much of its memory is resident, in KiB.
fn resident(id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("on Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn what_large_requests_took_is_given_back() {
    const LEN: usize = 4 << 20;
    let runtime = Runtime::new().expect("a runtime");
    // The emulator, which remembers what it was sent, is in this process.
    let origin = runtime.block_on(serve(upstream().build()));
    let proxy = runtime.block_on(start(command(&origin, "sk-ann")));
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    let fill = |unit: &str| vec![unit; LEN / (unit.len() + 1)].join(",");
    let bodies = [
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"x":[{}]}}"#,
            fill("[0]")
        ),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, fill("x")),
        format!(r#"{{"model":"m","messages":[{}]}}"#, fill(r#"{"role":"user","content":"a"}"#)),
        format!(r#"{{"model":"m","messages":[{}]}}"#, fill("{}")),
    ];
    let ask = |body: &str| {
        let mut client = TcpStream::connect(&address).expect("it listens");
        let length = body.len();
        write!(
            client,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-ann\r\n\
             connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("it is open");
        let mut said = Vec::new();
        client.read_to_end(&mut said).expect("an answer");
        assert!(said.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&said));
    };
    // What the first request of all leaves is the program's own: connections, code, threads.
    ask(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
    let before = resident(proxy.id());
    thread::scope(|scope| {
        for _ in 0..4 {
            for body in &bodies {
                scope.spawn(|| ask(body));
            }
        }
    });
    let after = resident(proxy.id());
    // 64 MiB of bodies came at once.
    assert!(after < before + 32 * 1024, "{before} KiB before, {after} KiB after");
}
