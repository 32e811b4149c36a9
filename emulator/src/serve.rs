//! The emulator behind a socket.

use std::{future::pending, io, pin::pin};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::Emulator;

impl Emulator {
    /// Serves HTTP/1.1 and HTTP/2 (with prior knowledge) on `listener`, for good.
    ///
    /// Dropping the future closes the listener and every connection.
    ///
    /// # Errors
    ///
    /// If the listener fails for another reason than a lack of files or a lost connection.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        self.serve_until(listener, pending()).await
    }

    /// As [`serve`](Self::serve), until `shutdown` is ready: then no more connections are taken,
    /// and the answers in progress are brought to their end. There is no limit to how long that
    /// takes, and some faults make answers that never end; drop the future to end them.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_until(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (closing, closed) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new());
        server.http2().timer(TokioTimer::new()).max_concurrent_streams(None);
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) if is_transient(&error) => {
                        tracing::debug!(%error, "a connection could not be accepted");
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            // Small events must not wait for each other; a socket without it still works.
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(self.clone());
            let (server, mut closed) = (server.clone(), closed.clone());
            connections.spawn(async move {
                let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
                let ended = tokio::select! {
                    ended = &mut connection => ended,
                    _ = closed.changed() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = ended {
                    // Clients that go away and faults that were asked for end up here.
                    tracing::debug!(error, "a connection ended early");
                }
            });
        }
        drop(listener);
        drop(closing);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// Whether `accept` may succeed a moment later: the process is out of files, or the client was
/// gone before it was accepted.
fn is_transient(error: &io::Error) -> bool {
    // ENFILE and EMFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        )
}
