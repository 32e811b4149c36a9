//! Clients of the program that are slow to send and slow to take.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::runtime::Runtime;

use crate::proxied::{command, serve, start, upstream};

#[test]
fn bodies_that_are_never_complete_are_let_go() {
    let runtime = Runtime::new().expect("a runtime");
    let origin = runtime.block_on(serve(upstream().build()));
    let mut proxy = command(&origin, "sk-ann");
    proxy.args(["--body-timeout", "1"]);
    let proxy = runtime.block_on(start(proxy));
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = TcpStream::connect(&address).expect("it listens");
            write!(
                client,
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-ann\r\n\
                 content-type: application/json\r\ncontent-length: 8388608\r\n\r\n"
            )
            .expect("it is open");
            client.write_all(&vec![b' '; 1 << 18]).expect("it is open");
            client
        })
        .collect();
    for mut client in clients {
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let mut said = String::new();
        // The server closes the connection, which may look like a reset for what was not read.
        let _ = client.read_to_string(&mut said);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        assert!(said.contains("too slowly") && said.contains("within 1s"), "{said}");
    }
}

#[test]
fn a_client_that_never_reads_ends_the_work_upstream() {
    let runtime = Runtime::new().expect("a runtime");
    let emulator = upstream().build();
    let origin = runtime.block_on(serve(emulator.clone()));
    let mut proxy = command(&origin, "sk-ann");
    proxy.args(["--write-timeout", "1"]);
    let proxy = runtime.block_on(start(proxy));
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    let body = json!({
        "model": "qwen3-max",
        "stream": true,
        "messages": [{"role": "user", "content": "emulate:tokens=1000000"}],
    });
    let body = body.to_string();
    let mut client = TcpStream::connect(&address).expect("it listens");
    write!(
        client,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-ann\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it is open");
    let deadline = Instant::now() + Duration::from_secs(60);
    while emulator.counters().stops == 0 {
        assert!(Instant::now() < deadline, "{:?}", emulator.counters());
        thread::yield_now();
    }
    drop(client);
}
