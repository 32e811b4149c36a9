use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use futures_core::{Stream, stream::FusedStream};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{DecodeError, Decoder, Event, decoder::Plain};
use crate::budget::Budget;

use crate::BoxError;

pin_project! {
    /// The events of a response body.
    ///
    /// A [`Decoder`] over any [`Body`]; what that promises holds here too. The stream ends when
    /// the body does, or behind the first `Err`. Trailers are skipped.
    ///
    /// ```
    /// use futures_util::TryStreamExt;
    /// use tower_qwen::{FullBody, sse::EventStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_qwen::sse::StreamError> {
    /// let body = FullBody::new(bytes::Bytes::from("data: one\n\ndata: two\n\n"));
    /// let events: Vec<_> = EventStream::new(body).try_collect().await?;
    /// assert_eq!(events[1].data, "two");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A `next` that is dropped loses nothing. Dropping the stream drops the body, which cancels
    /// the exchange.
    ///
    /// # Fairness
    ///
    /// A body that always has more does not hold the thread: after 256 frames or 256 KiB the stream
    /// is pending once, and wakes its task.
    #[derive(Debug)]
    pub struct EventStream<B> {
        #[pin]
        body: B,
        decoder: Decoder,
        take_unfinished: bool,
        done: bool,
        budget: Budget,
    }
}

impl<B> EventStream<B> {
    /// The events of `body`, read by a [`Decoder::new`].
    pub fn new(body: B) -> Self {
        Self::with_decoder(body, Decoder::new())
    }

    /// The events of `body`, read by `decoder`: for other limits, or for
    /// [lenient](Decoder::lenient) streams.
    pub fn with_decoder(body: B, decoder: Decoder) -> Self {
        Self { body, decoder, take_unfinished: false, done: false, budget: Budget::new() }
    }

    /// Whether a last event that lacks its blank line counts, where the body ends without an error.
    /// By default it is a [`StreamError::Unfinished`].
    ///
    /// Some servers forget the last newlines, mostly behind `[DONE]`. But the event may also have
    /// been cut. Say `true` only where the reader finds that out, because the event is JSON or a
    /// terminal marker.
    #[must_use]
    pub fn take_unfinished(mut self, take: bool) -> Self {
        self.take_unfinished = take;
        self
    }

    /// The body, to tell it which events count.
    #[cfg(any(feature = "compatible", feature = "web"))]
    #[inline]
    pub(crate) fn body_mut(&mut self) -> &mut B
    where
        B: Unpin,
    {
        &mut self.body
    }

    /// Whether the body has ended: an event that was given behind its end lacks its blank line.
    #[cfg(any(feature = "compatible", feature = "web"))]
    pub(crate) fn is_over(&self) -> bool {
        self.done
    }

    /// The decoder, to ask for the last event ID or the reconnection time.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

impl<B> Stream for EventStream<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Item = Result<Event, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let decoder = self.as_mut().project().decoder;
        if let Some(plain) = decoder.next_plain() {
            return ready_plain(decoder, plain);
        }
        self.poll_body(cx)
    }
}

impl<B> EventStream<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The next item, where no plain event waits.
    #[inline(never)]
    fn poll_body(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, StreamError>>> {
        let mut this = self.project();
        if *this.done {
            return Poll::Ready(None);
        }
        loop {
            if let Some(event) = this.decoder.next_other_event().transpose() {
                *this.done = event.is_err();
                return Poll::Ready(Some(event.map_err(StreamError::Decode)));
            }
            ready!(this.budget.poll_left(cx));
            let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else {
                this.budget.renew();
                return Poll::Pending;
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else {
                        this.budget.spend(0);
                        continue;
                    };
                    this.budget.spend(data.remaining());
                    // For `Bytes` this is no copy.
                    this.decoder.push_frame(data.copy_to_bytes(data.remaining()));
                }
                Some(Err(error)) => {
                    *this.done = true;
                    return Poll::Ready(Some(Err(StreamError::Body(error.into()))));
                }
                None => {
                    *this.done = true;
                    return Poll::Ready(match this.decoder.finish() {
                        Ok(None) => None,
                        Ok(Some(left)) if *this.take_unfinished => left.event.map(Ok),
                        Ok(Some(_)) => Some(Err(StreamError::Unfinished)),
                        Err(error) => Some(Err(error.into())),
                    });
                }
            }
            if let Some(plain) = this.decoder.next_plain() {
                return ready_plain(this.decoder, plain);
            }
        }
    }
}

/// A plain event, which is written where it is returned: to move what was just written takes
/// about as long as to find it.
#[inline(never)]
fn ready_plain(decoder: &mut Decoder, plain: Plain) -> Poll<Option<Result<Event, StreamError>>> {
    let data = decoder.take_plain_in_place(plain);
    Poll::Ready(Some(Ok(Event { event: None, data, id: None, retry: None })))
}

impl<B> FusedStream for EventStream<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    fn is_terminated(&self) -> bool {
        self.done
    }
}

/// Why an [`EventStream`] ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The body failed; the error is its own, and not wrapped further.
    Body(BoxError),
    /// The body is no event stream within the decoder's limits.
    Decode(DecodeError),
    /// The body ended, as it seemed in good order, within an event.
    Unfinished,
}

impl From<DecodeError> for StreamError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body(_) => "the body of the event stream failed",
            Self::Decode(_) => "the event stream passes a limit",
            Self::Unfinished => "the event stream ended within an event",
        })
    }
}

impl StdError for StreamError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Body(error) => Some(&**error),
            Self::Decode(error) => Some(error),
            Self::Unfinished => None,
        }
    }
}
