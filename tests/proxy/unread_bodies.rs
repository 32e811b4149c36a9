//! What a client is told over a body that nobody reads, where it writes all of it before it reads.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use axum::http::Request;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::{
    binary::{Running, command},
    proxied::start,
};

const MIB: usize = 1 << 20;

/// How the body is sent.
#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunks,
}

/// Writes a request with a body of so many bytes, and then reads the answer to its end.
fn ask(proxy: &Running, head: &str, len: usize, framing: Framing) -> std::io::Result<String> {
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let piece = vec![b' '; MIB];
    match framing {
        Framing::Length => write!(client, "{head}content-length: {len}\r\n\r\n")?,
        Framing::Chunks => write!(client, "{head}transfer-encoding: chunked\r\n\r\n")?,
    }
    for _ in 0..len / MIB {
        match framing {
            Framing::Length => client.write_all(&piece)?,
            Framing::Chunks => {
                write!(client, "{MIB:x}\r\n")?;
                client.write_all(&piece)?;
                client.write_all(b"\r\n")?;
            }
        }
    }
    if let Framing::Chunks = framing {
        client.write_all(b"0\r\n\r\n")?;
    }
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    client.shutdown(Shutdown::Both).or_else(|error| match error.kind() {
        // It was closed on the other side.
        std::io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    })?;
    Ok(said)
}

/// Requests: a refusal of a large body reaches the client, and no reset comes before it.
#[test]
fn a_refusal_of_a_large_body_reaches_the_client() {
    let mut proxy = command();
    proxy.args(["--upstream", "emulator"]).env("RUST_LOG", "warn").env("QWEN_PROXY_API_KEY", "sk");
    let proxy = Running::start(proxy);
    use Framing::{Chunks, Length};
    for (kind, method, path, key, of, mebibytes, framing, status) in [
        ("too large", "POST", "/v1/chat/completions", "sk", "application/json", 34, Length, 413),
        ("too large", "POST", "/v1/chat/completions", "sk", "application/json", 34, Chunks, 413),
        ("far too large", "POST", "/v1/completions", "sk", "application/json", 96, Length, 413),
        ("a wrong key", "POST", "/v1/chat/completions", "no", "application/json", 8, Length, 401),
        ("a wrong key", "POST", "/v1/chat/completions", "no", "application/json", 8, Chunks, 401),
        ("a wrong key", "POST", "/v1/completions", "no", "application/json", 34, Length, 401),
        ("an unknown path", "POST", "/nowhere", "sk", "application/json", 8, Length, 404),
        ("a wrong method", "PUT", "/v1/chat/completions", "sk", "application/json", 8, Length, 405),
        ("a wrong method", "DELETE", "/v1/models", "sk", "application/json", 8, Length, 405),
        ("a wrong type", "POST", "/v1/chat/completions", "sk", "text/xml", 8, Length, 415),
        ("not served", "POST", "/v1/embeddings", "sk", "application/json", 8, Length, 501),
        ("not served", "POST", "/v1/embeddings", "sk", "application/json", 8, Chunks, 501),
    ] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\ncontent-type: {of}\r\n"
        );
        let said = ask(&proxy, &head, mebibytes * MIB, framing);
        let said = said.unwrap_or_else(|error| panic!("{kind}, {path}: {error}"));
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{kind}, {path}: {said}");
        assert!(said.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{kind}: {said}");
        assert!(said.ends_with("}}"), "{kind}, {path}: {said}");
    }
}

/// Requests: the same over HTTP/2, where the stream is not reset before its answer is sent.
#[tokio::test]
async fn a_refusal_over_http2_reaches_the_client() {
    let mut proxy = command();
    proxy.args(["--upstream", "emulator"]).env("RUST_LOG", "warn").env("QWEN_PROXY_API_KEY", "sk");
    let proxy = start(proxy).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (kind, path, key, mebibytes, status) in [
        ("too large", "/v1/chat/completions", "sk", 34, 413),
        ("a wrong key", "/v1/chat/completions", "no", 8, 401),
        ("a wrong key", "/v1/chat/completions", "no", 34, 401),
        ("an unknown path", "/nowhere", "sk", 8, 404),
        ("not served", "/v1/embeddings", "sk", 8, 501),
        ("small", "/nowhere", "sk", 0, 404),
    ] {
        for is_announced in [true, false] {
            let body = Bytes::from(vec![b' '; mebibytes * MIB]);
            let body = if is_announced {
                Full::new(body).boxed()
            } else {
                let pieces: Vec<_> =
                    body.chunks(MIB).map(|piece| Ok(Frame::data(body.slice_ref(piece)))).collect();
                StreamBody::new(stream::iter(pieces)).boxed()
            };
            let request = Request::post(format!("{}{path}", proxy.origin));
            let request = request.header("x-api-key", key).body(body).expect("a request");
            let response = client.request(request).await;
            let response = response.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
            assert_eq!(response.status(), status, "{kind}");
            let said = response.into_body().collect().await;
            let said = said.unwrap_or_else(|error| panic!("{kind}: {error:?}")).to_bytes();
            assert!(said.ends_with(b"}}"), "{kind}: {said:?}");
        }
    }
}

/// A connection is kept where what was left of a body was little.
#[test]
fn a_refusal_of_a_small_body_keeps_the_connection() {
    let mut proxy = command();
    proxy.args(["--upstream", "emulator"]).env("RUST_LOG", "warn").env("QWEN_PROXY_API_KEY", "sk");
    let proxy = Running::start(proxy);
    let address = proxy.origin.strip_prefix("http://").expect("an origin");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    for (path, key, status) in [
        ("/v1/chat/completions", "no", 401),
        ("/nowhere", "sk", 404),
        ("/v1/embeddings", "sk", 501),
        ("/v1/chat/completions", "no", 401),
    ] {
        let body = "x".repeat(100_000);
        write!(
            client,
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is open");
        let mut said = String::new();
        let mut piece = [0; 4096];
        while !said.ends_with("}}") {
            let len = client.read(&mut piece).expect("it is open");
            assert_ne!(len, 0, "{path}: {said}");
            said.push_str(&String::from_utf8_lossy(&piece[..len]));
        }
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {said}");
    }
}
