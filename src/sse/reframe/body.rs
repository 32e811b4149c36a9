use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use memchr::memchr;
use pin_project_lite::pin_project;

use super::{
    config::{Config, OnError},
    debug_view::DebugView,
    reframer::{Reframer, Tail},
};
use crate::{
    BoxError,
    budget::Budget,
    observe,
    sse::{
        Encoder, KEEP_ALIVE, StreamError,
        keep_alive::KeepAliveTimer,
        progress::{Limits, Progress},
    },
};

pin_project! {
    /// The body of a response of an [`SseReframe`](super::SseReframe).
    ///
    /// Where the response is no event stream, this passes the inner body's frames on as they
    /// are, and costs a branch. It ends with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) where
    /// nothing comes of it for as long as a stream may bring no event.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when a poll is given up. Dropping the body drops the inner one at once.
    pub struct ReframeBody<B> {
        #[pin]
        inner: B,
        // Whether a frame of whole events may pass without a look at `reframe`. Of a slow stream
        // nothing is in the processor's cache when an event comes, so that each look costs.
        is_between: bool,
        // Of what is no event stream: nothing came for too long.
        is_over: bool,
        progress: Progress,
        keep_alive: Option<KeepAliveTimer>,
        reframe: Option<Box<Reframe>>,
    }
}

struct Reframe {
    reframer: Reframer,
    on_error: OnError,
    view: Option<Box<DebugView>>,
    next: Next,
    /// Of frames that nothing is sent for. What is sent ends a poll, and is not looked at for it.
    budget: Budget,
}

/// What the next poll does.
enum Next {
    Read,
    /// The trailers came while an event was held. Boxed, for they are large and seldom.
    Trailers(Box<HeaderMap>),
    End,
}

impl<B> ReframeBody<B> {
    pub(super) fn pass(inner: B, config: Config) -> Self {
        let progress = Progress::new(Limits { bytes: usize::MAX, ..config.progress });
        Self { inner, is_between: false, is_over: false, progress, keep_alive: None, reframe: None }
    }

    pub(super) fn reframe(inner: B, config: Config) -> Self {
        observe::count!("tower_qwen_sse_streams_total");
        Self {
            inner,
            is_between: false,
            is_over: false,
            progress: Progress::new(config.progress),
            keep_alive: config.keep_alive.map(|keep_alive| keep_alive.timer()),
            reframe: Some(Box::new(Reframe {
                reframer: Reframer::new(config.max_event, config.lenient),
                on_error: config.on_error,
                view: DebugView::if_enabled(config.trace_content),
                next: Next::Read,
                budget: Budget::new(),
            })),
        }
    }
}

impl<B> Body for ReframeBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    /// The inner body's errors as they are, and [`StreamError`]s of this body's own.
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(reframe) = this.reframe.as_deref_mut() else {
            if *this.is_over {
                return Poll::Ready(None);
            }
            return match this.inner.poll_frame(cx) {
                Poll::Ready(frame) => {
                    this.progress.event();
                    Poll::Ready(frame.map(|frame| match frame {
                        Ok(frame) => {
                            Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
                        }
                        Err(error) => Err(error.into()),
                    }))
                }
                Poll::Pending => {
                    let error = ready!(this.progress.poll_silent(cx));
                    *this.is_over = true;
                    Poll::Ready(Some(Err(error.into())))
                }
            };
        };
        loop {
            if !*this.is_between && !matches!(reframe.next, Next::Read) {
                return Poll::Ready(reframe.after_the_end());
            }
            if let Err(error) = this.progress.check() {
                *this.is_between = false;
                let output = reframe.fail(error.into(), "bytes");
                return Poll::Ready(Some(output.map(Frame::data)));
            }
            let output = match this.inner.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(mut data) => {
                        // For `Bytes` this is no copy.
                        let piece = data.copy_to_bytes(data.remaining());
                        this.progress.frame(piece.len());
                        if *this.is_between && Reframer::is_frame(&piece) {
                            if says_something(&piece) {
                                this.progress.event();
                            }
                            if let Some(timer) = this.keep_alive {
                                Pin::new(timer).reset();
                            }
                            // By itself, so that it is written where it is returned.
                            return Poll::Ready(Some(Ok(Frame::data(piece))));
                        }
                        if let Some(view) = &mut reframe.view {
                            view.piece_in(&piece, reframe.reframer.held());
                        }
                        let len = piece.len();
                        let output = match reframe.reframer.absorb(&piece) {
                            true => None,
                            false => reframe.piece(piece),
                        };
                        if output.is_none() {
                            *this.is_between = reframe.is_between();
                            reframe.budget.spend(len);
                            ready!(reframe.budget.poll_left(cx));
                            continue;
                        }
                        if let Some(Ok(frame)) = &output
                            && says_something(frame)
                        {
                            this.progress.event();
                        }
                        output
                    }
                    Err(other) => reframe.other_frame(other),
                },
                Poll::Ready(Some(Err(error))) => Some(reframe.fail(error.into(), "body")),
                Poll::Ready(None) => {
                    reframe.next = Next::End;
                    reframe.end()
                }
                Poll::Pending => {
                    if let Poll::Ready(error) = this.progress.poll_idle(cx) {
                        *this.is_between = false;
                        let output = reframe.fail(error.into(), "idle");
                        return Poll::Ready(Some(output.map(Frame::data)));
                    }
                    // Only whole events have left, so a comment fits in here.
                    let Some(timer) = this.keep_alive else { return Poll::Pending };
                    ready!(Pin::new(timer).poll_quiet(cx));
                    reframe.reframer.interject();
                    observe::count!("tower_qwen_sse_keep_alives_total");
                    if let Some(view) = &mut reframe.view {
                        view.keep_alive();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(KEEP_ALIVE)))));
                }
            };
            *this.is_between = reframe.is_between();
            if let Some(output) = output {
                if let Some(timer) = this.keep_alive {
                    Pin::new(timer).reset();
                }
                if let (Some(view), Ok(output)) = (&mut reframe.view, &output) {
                    view.frame_out(output);
                }
                return Poll::Ready(Some(output.map(Frame::data)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.reframe {
            None => self.is_over || self.inner.is_end_stream(),
            Some(_) if self.is_between => self.inner.is_end_stream(),
            Some(reframe) => match reframe.next {
                Next::Read => self.inner.is_end_stream() && reframe.reframer.held() == 0,
                Next::Trailers(_) => false,
                Next::End => true,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reframe {
            None => self.inner.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

impl Reframe {
    /// Whether nothing is held or to be done, so that only the next frame decides.
    fn is_between(&self) -> bool {
        matches!(self.next, Next::Read) && self.view.is_none() && self.reframer.is_between()
    }

    /// What still comes when the inner body has ended.
    #[cold]
    fn after_the_end(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        match std::mem::replace(&mut self.next, Next::End) {
            Next::Trailers(trailers) => Some(Ok(Frame::trailers(*trailers))),
            Next::Read | Next::End => None,
        }
    }

    /// Takes data of the inner body in.
    fn piece(&mut self, piece: Bytes) -> Option<Result<Bytes, BoxError>> {
        match self.reframer.push(piece) {
            Ok(frame) => frame.map(Ok),
            Err(error) => Some(self.fail(StreamError::from(error).into(), "too_long")),
        }
    }

    /// Takes a frame of the inner body in that is not data.
    #[cold]
    fn other_frame<D>(&mut self, frame: Frame<D>) -> Option<Result<Bytes, BoxError>> {
        let trailers = frame.into_trailers();
        // Frames of kinds yet to come are not for event streams.
        self.next = Next::Trailers(Box::new(trailers.ok()?));
        let output = self.end();
        if matches!(output, Some(Err(_))) {
            self.next = Next::End;
        }
        output
    }

    /// The inner body has ended without an error.
    fn end(&mut self) -> Option<Result<Bytes, BoxError>> {
        match self.reframer.finish() {
            Tail::Nothing => None,
            Tail::Completed(frame) => Some(Ok(frame)),
            Tail::Cut(held) => {
                observe::debug!(bytes = held, "dropped an event that the upstream did not finish");
                let next = std::mem::replace(&mut self.next, Next::End);
                let output = self.fail(StreamError::Unfinished.into(), "unfinished");
                if output.is_ok() {
                    self.next = next;
                }
                Some(output)
            }
        }
    }

    /// Ends the stream with an error, as the policy wants it.
    #[cold]
    fn fail(&mut self, error: BoxError, kind: &'static str) -> Result<Bytes, BoxError> {
        self.next = Next::End;
        observe::count!("tower_qwen_sse_errors_total", "kind" => kind);
        match self.on_error {
            OnError::Propagate => Err(error),
            OnError::InBand => {
                observe::warning!(
                    kind,
                    "an event stream broke off, and the client was told in band"
                );
                Ok(in_band(&*error))
            }
        }
    }
}

/// Whether one of these events has data that is not empty. Comments, blank lines and fields that
/// only describe an event do not say anything; what the data is, is not looked at.
#[inline]
fn says_something(frame: &[u8]) -> bool {
    // So begin nearly all.
    frame.starts_with(b"data: ") && frame.get(6) > Some(&b'\n') || has_data(frame)
}

fn has_data(frame: &[u8]) -> bool {
    let mut rest = frame;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let value = rest[..end].strip_prefix(b"data:");
        if value.is_some_and(|value| !value.trim_ascii().is_empty()) {
            return true;
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    false
}

/// The last events of a stream that broke off.
fn in_band(error: &(dyn StdError + Send + Sync + 'static)) -> Bytes {
    // The text of foreign errors may hold what clients must not see, such as internal addresses.
    let message = match (error.downcast_ref::<crate::Error>(), error.downcast_ref::<StreamError>())
    {
        (Some(error), _) => error.message().to_owned(),
        (None, Some(StreamError::Decode(error))) => error.to_string(),
        (None, Some(error)) => error.to_string(),
        (None, None) => "the upstream broke the event stream off".to_owned(),
    };
    let mut encoder = Encoder::new();
    encoder.data(&format!(
        "{{\"error\":{{\"message\":{},\"type\":\"upstream_error\",\"param\":null,\
         \"code\":\"upstream_stream_error\"}}}}",
        JsonString(&message),
    ));
    encoder.done();
    encoder.take()
}

/// A string in JSON; the `sse` feature alone has no serialiser for it.
struct JsonString<'a>(&'a str);

impl fmt::Display for JsonString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

/// Says what the body does, not what flows through it.
impl<B> fmt::Debug for ReframeBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReframeBody")
            .field("reframes", &self.reframe.is_some())
            .field("held", &self.reframe.as_ref().map_or(0, |reframe| reframe.reframer.held()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_string_is_escaped() {
        assert_eq!(JsonString("a\"b\\c\n\u{1f}é").to_string(), "\"a\\\"b\\\\c\\u000a\\u001fé\"");
    }
}
