//! Each TLS is set up, and is what goes to an upstream with `https:`.
#![cfg(any(
    feature = "client-native-tls",
    feature = "client-rustls",
    feature = "client-rustls-ring"
))]

use std::{io::Read, net::TcpListener, thread};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::ServiceExt;
use tower_qwen::qwen::client::QwenUpstream;

#[tokio::test]
async fn the_client_begins_a_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        let mut hello = [0; 4096];
        let length = connection.read(&mut hello).expect("a hello");
        hello[..length].to_vec()
    });
    // By a name, for TLS tells it; this one is the machine's own everywhere.
    let base = format!("https://localhost:{port}/v1");
    let client = QwenUpstream::builder(base).env_proxy(false).build().expect("TLS is set up");
    let request = Request::get("/models").body(Full::<Bytes>::default()).expect("a request");
    client.oneshot(request).await.expect_err("nobody answers");
    let hello = server.join().expect("it does not panic");
    // A handshake record (RFC 8446, 5.1) that offers both HTTP versions (RFC 7301).
    assert_eq!(hello.first(), Some(&22));
    for protocol in [&b"\x02h2"[..], b"\x08http/1.1"] {
        assert!(hello.windows(protocol.len()).any(|window| window == protocol), "{protocol:?}");
    }
}
