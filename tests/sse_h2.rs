//! Many small frames and slow readers on one HTTP/2 connection.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tower::{Layer, service_fn};
use tower_qwen::sse::{Encoder, reframe::SseReframeLayer};

const READERS: usize = 100;
const FRAMES: usize = 1500;

/// h2 before 0.4.19 takes many small frames that nobody has read yet for an attack and closes
/// the connection, with every stream on it.
#[tokio::test]
async fn a_hundred_slow_readers_of_small_frames_survive() {
    let frame = {
        let mut encoder = Encoder::new();
        encoder.data(&"x".repeat(52));
        encoder.take()
    };
    assert_eq!(frame.len(), 60);

    let upstream = service_fn({
        let frame = frame.clone();
        move |_request: Request<hyper::body::Incoming>| {
            let frames = vec![frame.clone(); FRAMES];
            let frames = frames.into_iter().map(Frame::data).map(Ok::<_, Infallible>);
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let response = Response::builder()
                .header(CONTENT_TYPE, "text/event-stream")
                .body(body)
                .expect("valid parts");
            std::future::ready(Ok::<_, Infallible>(response))
        }
    });
    let service = TowerToHyperService::new(SseReframeLayer::new().layer(upstream));
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(READERS as u32)
            .serve_connection(TokioIo::new(ours), service)
            .await
    });

    // Windows so large that all of it arrives before anything is read.
    let (client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(64 << 20)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(theirs))
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);

    let mut bodies = Vec::new();
    for _ in 0..READERS {
        let mut client = client.clone();
        client.ready().await.expect("open");
        let request = Request::get("http://localhost/").body(Empty::new()).expect("valid");
        bodies.push(client.send_request(request).await.expect("a response").into_body());
    }
    // Each reader takes one frame, then waits for all others; nothing sleeps.
    let mut read = vec![0_usize; READERS];
    let mut open = READERS;
    while open > 0 {
        open = 0;
        for (body, read) in bodies.iter_mut().zip(&mut read) {
            if let Some(data) = body.frame().await {
                *read += data.expect("the connection survives").into_data().expect("data").len();
                open += 1;
            }
        }
    }
    assert_eq!(read, [60 * FRAMES; READERS]);
    drop((client, bodies));
    connection.await.expect("no panic").expect("no error");
    server.await.expect("no panic").expect("no error");
}
