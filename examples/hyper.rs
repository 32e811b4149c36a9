//! `SseReframeLayer` alone, on a hyper server, in front of another HTTP server.
//!
//! Passes every request on to the server at the first argument, and makes the event streams
//! among its answers well formed.
//!
//! `cargo run --example hyper --no-default-features --features sse -- 127.0.0.1:8000 127.0.0.1:3000`

use std::{io, time::Duration};

use http::{Request, Uri};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_qwen::sse::{
    KeepAlive,
    reframe::{OnError, SseReframeLayer},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let upstream = args.next().unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());

    let client = Client::builder(TokioExecutor::new()).build_http::<Incoming>();
    let service = ServiceBuilder::new()
        .layer(
            SseReframeLayer::new()
                .keep_alive(KeepAlive::new(Duration::from_secs(15)))
                .on_error(OnError::InBand),
        )
        .service(service_fn(move |mut request: Request<Incoming>| {
            let (client, upstream) = (client.clone(), upstream.clone());
            async move {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri = format!("http://{upstream}{path}").parse::<Uri>();
                *request.uri_mut() = uri.map_err(io::Error::other)?;
                client.request(request).await.map_err(io::Error::other)
            }
        }));

    let listener = TcpListener::bind(&address).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            // A connection that breaks off is its client's business.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}
