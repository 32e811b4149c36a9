use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Body;
use pin_project_lite::pin_project;

use crate::{Error, ErrorKind};

/// How much is reserved on a client's word before anything arrived.
const TRUSTED_LEN: usize = 64 * 1024;

pin_project! {
    /// Reads a request body to its end, up to a limit.
    ///
    /// A body of one frame, which is what most are, is taken as it is. (`http_body_util`'s
    /// `Limited` and `Collect` would do, but put bounds on every type that holds them.)
    pub(super) struct ReadBody<B> {
        #[pin]
        body: B,
        first: Bytes,
        rest: BytesMut,
        limit: usize,
    }
}

impl<B: Body> ReadBody<B> {
    pub(super) fn new(body: B, limit: usize) -> Self {
        Self { body, first: Bytes::new(), rest: BytesMut::new(), limit }
    }
}

impl<B> Future for ReadBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Output = Result<Bytes, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // A body that says it is too large is not worth reading.
        if this.body.size_hint().lower() > *this.limit as u64 {
            return Poll::Ready(Err(too_large(*this.limit)));
        }
        while let Some(frame) = ready!(this.body.as_mut().poll_frame(cx)) {
            let frame = frame.map_err(|error| {
                // A layer around this one may have had enough of it.
                let error = match error.into().downcast::<Error>() {
                    Ok(own) => return *own,
                    Err(other) => other,
                };
                Error::new(ErrorKind::InvalidRequest, "the body could not be read to its end")
                    .with_code("incomplete_body")
                    .with_source(error)
            })?;
            let Ok(data) = frame.into_data() else { continue };
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

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the body is larger than the limit of {limit} bytes; send a shorter history"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn read(pieces: &[&'static str], limit: usize) -> Result<Bytes, Error> {
        let frames = pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data((*piece).into())));
        let body = StreamBody::new(stream::iter(frames.collect::<Vec<_>>()));
        tokio_test::block_on(ReadBody::new(body, limit))
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
        let read = tokio_test::block_on(ReadBody::new(Full::new(piece), 100)).expect("short");
        assert_eq!(read.as_ptr(), at);
    }

    #[test]
    fn the_limit_holds_for_one_piece_and_for_many() {
        assert_eq!(read(&["abcde"], 4).expect_err("5 bytes").kind(), ErrorKind::TooLarge);
        assert_eq!(read(&["abc", "de"], 4).expect_err("5 bytes").kind(), ErrorKind::TooLarge);
        let whole = tokio_test::block_on(ReadBody::new(Full::new(Bytes::from("abcde")), 4));
        assert_eq!(whole.expect_err("5 bytes").kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_broken_upload_is_the_clients_error() {
        let frames = [
            Ok(Frame::data(Bytes::from("{"))),
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        ];
        let body = StreamBody::new(stream::iter(frames));
        let error = tokio_test::block_on(ReadBody::new(body, 100)).expect_err("broken");
        assert_eq!(error.code(), Some("incomplete_body"));
    }
}
