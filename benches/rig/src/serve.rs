//! The roles of this program that serve: the upstream, and hyper as a plain pass-through.

use std::convert::Infallible;

use bytes::Bytes;
use http_body::Body;
use hyper::{Request, Response, Uri, body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

/// Serves on a free port, whose number is the first line of standard output.
pub(crate) async fn serve<F, R, B>(answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound").port());
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP");
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            // What is ready together leaves in one write, however many events that are.
            let served = hyper::server::conn::http1::Builder::new()
                .writev(false)
                .serve_connection(TokioIo::new(stream), service);
            // Clients go away.
            let _ = served.await;
        });
    }
}

/// What hyper costs that passes everything on to `to`, and nothing else.
pub(crate) async fn pass(to: Uri) {
    let client: Client<HttpConnector, Incoming> =
        Client::builder(TokioExecutor::new()).build_http();
    serve(move |request: Request<Incoming>| {
        let (client, to) = (client.clone(), to.clone());
        async move {
            let (mut head, body) = request.into_parts();
            let mut uri = to.into_parts();
            uri.path_and_query = head.uri.path_and_query().cloned();
            head.uri = Uri::from_parts(uri).expect("a URL");
            head.headers.remove("host");
            // The client's, for this hop only: upstream it would cost a connection a stream.
            head.headers.remove("connection");
            client.request(Request::from_parts(head, body)).await.expect("the upstream answers")
        }
    })
    .await;
}
