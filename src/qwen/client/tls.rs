//! Which TLS the client speaks: that of the features, the first of several in the order of this
//! file. Of what the program has besides in reqwest nothing depends.

use reqwest::ClientBuilder;

use crate::Error;

/// Whether there is any.
pub(super) const IS_THERE: bool = cfg!(any(
    feature = "client-rustls",
    feature = "client-rustls-ring",
    feature = "client-native-tls"
));

#[cfg(feature = "client-rustls")]
pub(crate) fn choose(client: ClientBuilder) -> Result<ClientBuilder, Error> {
    Ok(client.tls_backend_rustls())
}

#[cfg(all(feature = "client-rustls-ring", not(feature = "client-rustls")))]
pub(crate) fn choose(client: ClientBuilder) -> Result<ClientBuilder, Error> {
    use std::sync::Arc;

    use rustls::{
        ClientConfig,
        crypto::{CryptoProvider, ring},
    };
    use rustls_platform_verifier::BuilderVerifierExt;

    use crate::ErrorKind;

    let failed = |error: rustls::Error| {
        Error::new(ErrorKind::Internal, "TLS could not be set up").with_source(error)
    };
    // A provider that the program has installed stands over ours, as it does in reqwest.
    let provider = CryptoProvider::get_default()
        .map_or_else(|| Arc::new(ring::default_provider()), Arc::clone);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(failed)?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(client.tls_backend_preconfigured(config))
}

#[cfg(all(
    feature = "client-native-tls",
    not(any(feature = "client-rustls", feature = "client-rustls-ring"))
))]
pub(crate) fn choose(client: ClientBuilder) -> Result<ClientBuilder, Error> {
    Ok(client.tls_backend_native())
}

#[cfg(not(any(
    feature = "client-rustls",
    feature = "client-rustls-ring",
    feature = "client-native-tls"
)))]
pub(crate) fn choose(client: ClientBuilder) -> Result<ClientBuilder, Error> {
    Ok(client)
}
