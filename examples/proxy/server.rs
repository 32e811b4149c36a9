//! Serves an app on a listener until it is told to stop.

mod connection;
mod drain;
mod linger;
mod write;

use std::{convert::Infallible, future::Future, io, pin::pin, process, time::Duration};

use axum::{extract::Request, http::Response};
use bytes::Bytes;
use futures_util::{FutureExt, future};
use http_body::Body;
use hyper_util::{rt::TokioTimer, server::conn::auto};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    time,
};
use tower::{BoxError, Service};

use self::{drain::Drain, write::Exchanges};
use super::{
    service,
    shutdown::{Patience, Shutdown},
};

/// For how long a connection may take to send the head of a request, its first included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For how long a connection that has brought nothing yet may still bring a request, when the server
/// stops.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long clients may take to read that their answers are cut, and upstreams to be told.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How many headers a request of HTTP/1 may have.
const MAX_HEADERS: usize = 100;
/// How much of a connection of HTTP/1 is read ahead, and so how long the head of a request may be, in
/// bytes.
const MAX_HEAD: usize = 400 * 1024;
/// How many requests an HTTP/2 connection may have under way.
const MAX_H2_STREAMS: u32 = 200;
/// How long the headers of a request of HTTP/2 may be, in bytes, as its standard counts them.
const MAX_H2_HEADERS: u32 = 16 * 1024;
/// How many requests of an HTTP/2 connection may be taken back before anybody has looked at them; with
/// more the connection ends. Such floods cost a client nothing and a server the work.
const MAX_H2_TAKEN_BACK: usize = 20;
/// How many streams of a connection may be ended for what the client did wrong; the same.
const MAX_H2_WRONG: usize = 256;

/// Serves everyone who connects until `stop` is ready, and comes to an end as `patience` says: for the
/// delay it goes on, then it takes no one more, and what is under way has the time-out to end. What has
/// not is cut, with an error in the protocol of its client.
///
/// A client that takes nothing of its answer for `write_timeout` is let go.
///
/// Each request goes to the `app` of its moment; what is under way ends with the one that it
/// began with.
pub(crate) async fn serve<A, B>(
    listener: TcpListener,
    app: watch::Receiver<A>,
    write_timeout: Duration,
    shutdown: Shutdown,
    patience: Patience,
    stop: impl Future<Output = ()>,
) where
    A: Service<Request, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let builder = protocols(write_timeout);
    let drain = Drain::default();
    let mut stop = pin!(async {
        stop.await;
        shutdown.drain();
        service::tell(service::State::Stopping);
        tracing::info!(open = drain.open(), "stopping");
        time::sleep(patience.delay).await;
    });
    let serve = |stream: TcpStream| {
        // Events are small and must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(connection::serve(
            stream,
            &builder,
            write_timeout,
            app,
            shutdown,
            drain.watcher(),
        ));
    };

    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream),
                Err(error) => {
                    if !is_of_the_connection(&error) {
                        tracing::error!(%error, "cannot accept connections; trying again");
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
        }
    }

    // To them the kernel has said already that somebody is here.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        serve(stream);
    }
    drop(listener);
    let mut ended = pin!(drain.ended());
    let timeout = patience.timeout;
    let in_time = time::timeout(timeout, ended.as_mut()).await.is_ok();
    if !in_time {
        tracing::warn!(open = drain.open(), ?timeout, "answers did not end in time and are cut");
    }
    // Also of those that go on for a client which may come back.
    shutdown.cut();
    let (read, settled) = future::join(
        async { in_time || time::timeout(CUT_TIMEOUT, ended).await.is_ok() },
        time::timeout(CUT_TIMEOUT, shutdown.settled()),
    )
    .await;
    if !read {
        tracing::warn!(open = drain.open(), "clients did not read that; their connections are cut");
    }
    if settled.is_err() {
        tracing::warn!("an upstream could not be told in time that its answer is not wanted");
    }
}

fn protocols(write_timeout: Duration) -> auto::Builder<Exchanges> {
    let mut builder = auto::Builder::new(Exchanges { limit: write_timeout });
    // Without a timer hyper would drop its timeouts silently.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    // Events are small, and to write three parts of each costs more than to copy them together.
    builder.http1().writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(MAX_H2_HEADERS)
        .max_pending_accept_reset_streams(MAX_H2_TAKEN_BACK)
        .max_local_error_reset_streams(MAX_H2_WRONG);
    builder
}

/// Whether accepting failed for the one connection only, so that the next can be tried at once.
pub(crate) fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Comes each time the process is asked to read its configuration again: SIGHUP. Never, where
/// there is no such signal.
///
/// # Errors
///
/// If the signal cannot be listened to.
pub(crate) fn reload_signal() -> io::Result<impl AsyncFnMut()> {
    #[cfg(unix)]
    {
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(async move || {
            if hangup.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async || std::future::pending::<()>().await)
    }
}

/// Ready when the process is asked to stop: SIGINT (Ctrl-C) or SIGTERM. Asked once more, the
/// process ends at once, whatever is under way, with the code that a shell gives for a program
/// that the signal has ended: 130 for SIGINT, 143 for SIGTERM.
///
/// # Errors
///
/// If the signals cannot be listened to.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut signals = StopSignals::new()?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        // Where nobody waits any more the process is about to end.
        let _ = stop.send(());
        process::exit(signals.next().await);
    });
    Ok(async {
        // Without the task the runtime is ending too.
        let _ = stopped.await;
    })
}

/// What asks the process to stop.
struct StopSignals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
}

impl StopSignals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next; gives the code to end with at once.
    async fn next(&mut self) -> i32 {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
        #[cfg(not(unix))]
        {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::error!(%error, "cannot listen for Ctrl-C");
                std::future::pending::<()>().await;
            }
            130
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, body::Body as AxumBody, routing::get};
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::{Mutex, mpsc},
        time::Instant,
    };

    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

    /// A server for one connection; the drain ends it.
    fn connect() -> (DuplexStream, Drain) {
        connect_to(Router::new().route("/", get(async || "here")))
    }

    fn connect_to(router: Router) -> (DuplexStream, Drain) {
        let (client, server) = duplex(1024);
        let (_, router) = watch::channel(router);
        let drain = Drain::default();
        tokio::spawn(connection::serve(
            server,
            &protocols(WRITE_TIMEOUT),
            WRITE_TIMEOUT,
            router,
            Shutdown::default(),
            drain.watcher(),
        ));
        (client, drain)
    }

    async fn closes_in(mut client: DuplexStream) -> (Duration, String) {
        let start = Instant::now();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.expect("a duplex pipe does not fail");
        (start.elapsed(), String::from_utf8_lossy(&said).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_ask_is_dropped() {
        let almost = HEADER_TIMEOUT + Duration::from_secs(1);
        for said in
            ["", "P", "PRI * HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nho"]
        {
            let (mut client, _drain) = connect();
            client.write_all(said.as_bytes()).await.expect("it is open");
            let (elapsed, _) = closes_in(client).await;
            assert!(elapsed >= HEADER_TIMEOUT && elapsed < almost, "{said:?}: {elapsed:?}");
        }
    }

    /// The time is for all of a head, however its bytes are spread over it.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_byte_by_byte_is_dropped() {
        const PAUSE: Duration = Duration::from_secs(5);
        for answered in ["", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let (mut client, _drain) = connect();
            client.write_all(answered.as_bytes()).await.expect("it is open");
            tokio::task::yield_now().await;
            let start = Instant::now();
            let mut head = "GET / HTTP/1.1\r\nhost: x".bytes().cycle();
            while client.write_all(&[head.next().expect("it has no end")]).await.is_ok() {
                time::sleep(PAUSE).await;
                assert!(start.elapsed() < 2 * HEADER_TIMEOUT, "it goes on");
            }
            assert!(start.elapsed() >= HEADER_TIMEOUT, "{:?}", start.elapsed());
        }
    }

    /// What a client of HTTP/2 is told at the beginning (RFC 9113 6.5).
    #[tokio::test(start_paused = true)]
    async fn an_http2_client_is_told_the_limits() {
        let (mut client, _drain) = connect();
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is open");
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("it is open");
        let mut head = [0; 9];
        client.read_exact(&mut head).await.expect("a frame");
        assert_eq!(head[3], 4, "its settings come first");
        let mut settings = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        client.read_exact(&mut settings).await.expect("the frame");
        let of = |id: u8| {
            let found = settings.chunks_exact(6).find(|setting| setting[..2] == [0, id]);
            found
                .map(|setting| u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]))
        };
        assert_eq!((of(3), of(6)), (Some(MAX_H2_STREAMS), Some(MAX_H2_HEADERS)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_long_is_refused() {
        let fields = |count: usize| "x: y\r\n".repeat(count);
        let long = format!("x: {}\r\n", "y".repeat(MAX_HEAD));
        for (fields, status) in
            [(fields(MAX_HEADERS - 1), 200), (fields(MAX_HEADERS), 431), (long, 431)]
        {
            let (mut client, _drain) = connect();
            let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
            // What is refused is not read to its end.
            let _ = client.write_all(request.as_bytes()).await;
            let mut said = [0; 12];
            client.read_exact(&mut said).await.expect("an answer");
            assert_eq!(String::from_utf8_lossy(&said), format!("HTTP/1.1 {status}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_its_answer() {
        let (mut client, _drain) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is open");
        let (elapsed, said) = closes_in(client).await;
        assert!(said.ends_with("here"), "{said}");
        assert!(elapsed >= HEADER_TIMEOUT, "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_under_way_is_ended_before_the_stop() {
        let (mut client, drain) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is open");
        tokio::task::yield_now().await;
        let stopped = tokio::spawn(async move { drain.ended().await });
        let (elapsed, said) = closes_in(client).await;
        assert!(said.ends_with("here"), "{said}");
        assert_eq!(elapsed, Duration::ZERO);
        stopped.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_under_way_goes_on_and_is_waited_for() {
        let (events, received) = mpsc::unbounded_channel();
        let received = Arc::new(Mutex::new(received));
        let stream = move || {
            let received = received.clone();
            let events = stream::poll_fn(move |cx| {
                let event = received.try_lock().expect("asked once").poll_recv(cx);
                event.map(|event| event.map(Ok::<&str, Infallible>))
            });
            std::future::ready(AxumBody::from_stream(events))
        };
        let (mut client, drain) = connect_to(Router::new().route("/", get(stream)));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is open");
        let mut piece = [0; 1024];
        let mut next = async |event| {
            events.send(event).expect("it is read");
            let mut said = String::new();
            while !said.contains(event) {
                let len = client.read(&mut piece).await.expect("it is open");
                assert_ne!(len, 0, "{said}");
                said.push_str(&String::from_utf8_lossy(&piece[..len]));
            }
        };
        next("one").await;
        next("two").await;
        assert_eq!(drain.open(), 1);
        let mut ended = pin!(drain.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        next("three").await;
        assert!(ended.as_mut().now_or_never().is_none(), "the stream goes on");
        drop(events);
        let (elapsed, said) = closes_in(client).await;
        assert!(said.ends_with("0\r\n\r\n"), "{said}");
        assert_eq!(elapsed, Duration::ZERO, "the connection is not kept for another request");
        ended.await;
    }
}
