//! The client by itself speaks plain HTTP and says so.
#![cfg(not(any(
    feature = "client-native-tls",
    feature = "client-rustls",
    feature = "client-rustls-ring"
)))]

use tower_qwen::{ErrorKind, qwen::client::QwenUpstream};

#[test]
fn https_needs_a_feature() {
    for builder in [QwenUpstream::web(), QwenUpstream::builder("HTTPS://upstream.example/v1")] {
        let error = builder.build().expect_err("there is no TLS");
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("base_url")));
        assert!(error.to_string().contains("client-rustls"), "{error}");
    }
    assert!(QwenUpstream::builder("http://127.0.0.1:8000/v1").build().is_ok());
}
