//! Clients that take nothing of their answer, on a paused clock.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body as AxumBody, routing::get};
use futures_util::stream;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{oneshot, watch},
    time::{Instant, advance, sleep, timeout},
};

use super::super::{super::shutdown::Shutdown, connection, drain::Drain, protocols};
use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// An answer without end; its receiver is told when it is dropped, and how much was taken of it.
fn endless(pace: Option<Duration>) -> (Router, oneshot::Receiver<()>, Arc<AtomicUsize>) {
    let (dropped, told) = oneshot::channel::<()>();
    let dropped = Arc::new(std::sync::Mutex::new(Some(dropped)));
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let answer = move || {
        let dropped = dropped.lock().expect("nobody panics with it").take();
        let count = Arc::clone(&count);
        let pieces = stream::unfold(dropped, move |dropped| {
            let count = Arc::clone(&count);
            async move {
                if let Some(pace) = pace {
                    sleep(pace).await;
                }
                count.fetch_add(1024, Ordering::Relaxed);
                Some((Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1024])), dropped))
            }
        });
        std::future::ready(AxumBody::from_stream(pieces))
    };
    (Router::new().route("/", get(answer)), told, taken)
}

fn connect(router: Router) -> DuplexStream {
    let (client, server) = duplex(16 * 1024);
    let (_, router) = watch::channel(router);
    let drain = Drain::default();
    let watcher = drain.watcher();
    tokio::spawn(connection::serve(
        server,
        &protocols(LIMIT),
        LIMIT,
        router,
        Shutdown::default(),
        watcher,
    ));
    // The server is never told to stop.
    std::mem::forget(drain);
    client
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_let_go() {
    let (router, told, taken) = endless(None);
    let mut client = connect(router);
    client.write_all(ASK).await.expect("it is open");
    let begun = Instant::now();
    timeout(10 * LIMIT, told).await.expect("it is dropped").expect_err("by its drop");
    let elapsed = begun.elapsed();
    assert!(elapsed >= LIMIT && elapsed < LIMIT + Duration::from_secs(1), "{elapsed:?}");
    assert!(taken.load(Ordering::Relaxed) <= 1 << 20, "what waits is bounded");
    // The connection is at its end too.
    let mut rest = Vec::new();
    timeout(LIMIT, client.read_to_end(&mut rest)).await.expect("closed").expect("a pipe");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_little_is_not() {
    let (router, mut told, _) = endless(None);
    let mut client = connect(router);
    client.write_all(ASK).await.expect("it is open");
    let mut piece = [0; 4096];
    for _ in 0..50 {
        sleep(LIMIT / 2).await;
        client.read_exact(&mut piece).await.expect("it goes on");
    }
    assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Empty));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_upstream_is_not_the_clients() {
    let (router, mut told, _) = endless(Some(10 * LIMIT));
    let mut client = connect(router);
    client.write_all(ASK).await.expect("it is open");
    for _ in 0..3 {
        advance(5 * LIMIT).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    client.read_exact(&mut [0; 1024]).await.expect("it goes on");
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http2(client: DuplexStream) -> Http2 {
    let io = TokioIo::new(client);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (client, connection) = handshake.await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    client
}

async fn ask(client: &mut Http2) -> hyper::body::Incoming {
    let request = hyper::Request::get("http://x/").body(Empty::new()).expect("a request");
    client.send_request(request).await.expect("it is answered").into_body()
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_http2_that_is_not_taken_is_let_go_and_no_other() {
    // The connection itself is read, pings are answered, and the other stream goes on.
    let (left, told, _) = endless(None);
    let (read, mut goes_on, _) = endless(Some(Duration::from_secs(10)));
    let app = Router::new().nest("/left", left).nest("/read", read);
    let mut client = http2(connect(app)).await;
    let mut get = async |path: &str| {
        let request = hyper::Request::get(path).body(Empty::new()).expect("a request");
        client.send_request(request).await.expect("it is answered").into_body()
    };
    let mut unread = get("http://x/left").await;
    let mut body = get("http://x/read").await;
    let begun = Instant::now();
    let reading = tokio::spawn(async move {
        for _ in 0..40 {
            body.frame().await.expect("it goes on").expect("it is whole");
        }
        body
    });
    timeout(10 * LIMIT, told).await.expect("it is dropped").expect_err("by its drop");
    let elapsed = begun.elapsed();
    assert!(elapsed >= LIMIT && elapsed < LIMIT + Duration::from_secs(1), "{elapsed:?}");
    let body = reading.await.expect("the other stream is untouched");
    assert_eq!(goes_on.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    // What was on its way is read, and then the stream is reset.
    let end = loop {
        match unread.frame().await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert!(end.is_some(), "a stream that is given up is no whole answer");
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http2_that_is_not_read_is_let_go() {
    let (router, told, _) = endless(None);
    let (client, frozen) = duplex(16 * 1024);
    let mut pipe = connect(router);
    // What is between the client and the server passes until the answer begins.
    let between = tokio::spawn(async move {
        let mut frozen = frozen;
        let _ = timeout(LIMIT / 60, tokio::io::copy_bidirectional(&mut pipe, &mut frozen)).await;
        (pipe, frozen)
    });
    let mut client = http2(client).await;
    let _body = ask(&mut client).await;
    let begun = Instant::now();
    let _held = between.await.expect("no panic");
    timeout(10 * LIMIT, told).await.expect("it is dropped").expect_err("by its drop");
    assert!(begun.elapsed() < 2 * LIMIT, "{:?}", begun.elapsed());
}
