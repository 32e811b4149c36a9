use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Body;
use pin_project_lite::pin_project;

use super::pace::{BodyPace, Stopwatch};
use crate::{BoxError, Error, ErrorKind, budget::Budget};

/// How much is reserved on a client's word before anything arrived.
const TRUSTED_LEN: usize = 64 * 1024;

pin_project! {
    /// Reads a request body to its end, up to a limit, and as fast as it has to come.
    ///
    /// A body of one frame, which is what most are, is taken as it is. (`http_body_util`'s
    /// `Limited` and `Collect` would do, but put bounds on every type that holds them.)
    pub(crate) struct ReadBody<B> {
        #[pin]
        body: B,
        first: Bytes,
        rest: BytesMut,
        limit: usize,
        stopwatch: Stopwatch,
        budget: Budget,
    }
}

impl<B: Body> ReadBody<B> {
    pub(crate) fn new(body: B, limit: usize, pace: Option<BodyPace>) -> Self {
        Self {
            body,
            first: Bytes::new(),
            rest: BytesMut::new(),
            limit,
            stopwatch: Stopwatch::new(pace),
            budget: Budget::new(),
        }
    }
}

impl<B> Future for ReadBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Output = Result<Bytes, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // A body that says it is too large is not worth reading.
        if this.body.size_hint().lower() > *this.limit as u64 {
            return Poll::Ready(Err(too_large(*this.limit)));
        }
        loop {
            ready!(this.budget.poll_left(cx));
            let frame = match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => break,
                Poll::Pending => {
                    this.budget.renew();
                    let came = this.first.len() + this.rest.len();
                    return Poll::Ready(Err(ready!(this.stopwatch.poll_late(came, cx))));
                }
            };
            let frame = frame.map_err(|error| {
                // A layer around this one may have had enough of it.
                Error::own_in(error.into()).unwrap_or_else(|error| {
                    Error::new(ErrorKind::InvalidRequest, "the body could not be read to its end")
                        .with_code("incomplete_body")
                        .with_source(error)
                })
            })?;
            let Ok(data) = frame.into_data() else {
                this.budget.spend(0);
                continue;
            };
            this.budget.spend(data.len());
            if this.first.is_empty() && this.rest.is_empty() {
                *this.first = data;
            } else {
                if this.rest.is_empty() {
                    let hint = this.body.size_hint().lower() as usize;
                    let more = data.len() + hint.min(TRUSTED_LEN);
                    this.rest.reserve(this.first.len() + more);
                    this.rest.put(std::mem::take(this.first));
                }
                this.rest.put(data);
            }
            if this.first.len() + this.rest.len() > *this.limit {
                return Poll::Ready(Err(too_large(*this.limit)));
            }
        }
        Poll::Ready(Ok(if this.rest.is_empty() {
            std::mem::take(this.first)
        } else {
            std::mem::take(this.rest).freeze()
        }))
    }
}

/// Reads the body of a request as the edges do: to its end, up to `limit` bytes, and no slower than
/// `pace`.
///
/// For what has to see the body before an edge does, such as a router by the model's name. An edge
/// that is given the bytes as a [`Full`](http_body_util::Full) reads them at no cost.
///
/// # Errors
///
/// [`ErrorKind::TooLarge`] beyond `limit`, and [`ErrorKind::InvalidRequest`] for a body that breaks
/// off, or that comes too slowly: the latter with the status 408. What is left of the body is not
/// read, so the connection has to be closed behind the answer.
///
/// # Cancel safety
///
/// What was read is lost with the future.
pub async fn read_body<B>(body: B, limit: usize, pace: Option<BodyPace>) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    ReadBody::new(body, limit, pace).await
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the body is larger than the limit of {limit} bytes; send a shorter history"),
    )
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use crate::FullBody;
    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    fn read(pieces: &[&'static str], limit: usize) -> Result<Bytes, Error> {
        let frames = pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data((*piece).into())));
        let body = StreamBody::new(stream::iter(frames.collect::<Vec<_>>()));
        tokio_test::block_on(ReadBody::new(body, limit, None))
    }

    #[test]
    fn pieces_are_joined() {
        assert_eq!(read(&["a", "", "bc", "d"], 4).expect("within the limit"), "abcd");
        assert_eq!(read(&[], 4).expect("nothing is within the limit"), "");
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"whole");
        let at = piece.as_ptr();
        let read =
            tokio_test::block_on(ReadBody::new(FullBody::new(piece), 100, None)).expect("short");
        assert_eq!(read.as_ptr(), at);
    }

    #[test]
    fn the_limit_holds_for_one_piece_and_for_many() {
        assert_eq!(read(&["abcde"], 4).expect_err("5 bytes").kind(), ErrorKind::TooLarge);
        assert_eq!(read(&["abc", "de"], 4).expect_err("5 bytes").kind(), ErrorKind::TooLarge);
        let whole =
            tokio_test::block_on(ReadBody::new(FullBody::new(Bytes::from("abcde")), 4, None));
        assert_eq!(whole.expect_err("5 bytes").kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_broken_upload_is_the_clients_error() {
        let frames = [
            Ok(Frame::data(Bytes::from("{"))),
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        ];
        let body = StreamBody::new(stream::iter(frames));
        let error = tokio_test::block_on(ReadBody::new(body, 100, None)).expect_err("broken");
        assert_eq!(error.code(), Some("incomplete_body"));
    }

    /// Pieces of this size, each after a wait; then nothing more, or the end.
    fn drip(
        size: usize,
        count: usize,
        wait: Duration,
        ends: bool,
    ) -> impl Body<Data = Bytes, Error = Infallible> {
        let pieces = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(wait).await;
            Ok(Frame::data(Bytes::from(vec![b' '; size])))
        });
        let rest = stream::iter((!ends).then_some(())).then(|()| std::future::pending());
        StreamBody::new(pieces.chain(rest))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_slow_is_let_go() {
        let pace = BodyPace::new();
        let second = Duration::from_secs(1);
        for (body, seconds, says) in [
            // Nothing at all.
            (drip(1, 0, second, false), 30, "0 bytes of it came in 30s"),
            // A byte a second.
            (drip(1, usize::MAX, second, false), 30, "30 bytes of it came in 30s"),
            // One that stops in the middle.
            (drip(1 << 20, 8, second, false), 60, "0 bytes of it came in 30s"),
            // One that gets on, and never to its end.
            (drip(2048, usize::MAX, second, false), 300, "within 300s"),
        ] {
            let begun = tokio::time::Instant::now();
            let error = read_body(body, 32 << 20, Some(pace)).await.expect_err(says);
            assert!(error.message().contains(says), "{error}");
            assert_eq!((error.status().as_u16(), error.code()), (408, Some("request_timeout")));
            assert!(begun.elapsed() - Duration::from_secs(seconds) < second, "{says}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_gets_on_is_read() {
        let second = Duration::from_secs(1);
        let pace = Some(BodyPace::new());
        for (body, len) in [
            // The last of it may be small, and late within its window.
            (drip(8 << 10, 60, second, true), 480 << 10),
            (drip(20, 1, 29 * second, true), 20),
            (drip(1 << 20, 32, 9 * second, true), 32 << 20),
        ] {
            assert_eq!(read_body(body, 32 << 20, pace).await.expect("in time").len(), len);
        }
        let slow = drip(1, 100, 60 * second, true);
        assert_eq!(read_body(slow, 100, None).await.expect("without a limit").len(), 100);
    }
}
