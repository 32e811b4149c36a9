//! An upstream that speaks both wires and does what the prompt says.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming};
use tokio::time::{Instant, Sleep, sleep_until};

use super::wire::{self, CHAT, Order, WHOLE, WORD, Wire};

/// Answers one request.
pub(crate) async fn answer(request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    // A rival that breaks off its request gets what there is no order in.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let order = Order::find(&body);
    let (kind, answer) = match (head.uri.path(), order) {
        ("/api/v2/chats/new", _) => (JSON, Answer::whole(CHAT)),
        ("/api/v2/chat/completions", Some(order)) => (EVENTS, Answer::of(Wire::Web, order)),
        (_, Some(order)) if memchr::memmem::find(&body, b"\"stream\":true").is_some() => {
            (EVENTS, Answer::of(Wire::Chat, order))
        }
        (_, Some(_)) => (JSON, Answer::whole(WHOLE)),
        // What else a proxy asks: for models, for an end.
        (_, None) => (JSON, Answer::whole("{\"success\":true,\"data\":[]}")),
    };
    Response::builder().header("content-type", kind).body(answer).expect("a response")
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// What is answered.
pub(crate) struct Answer {
    /// What is sent next.
    pieces: VecDeque<Bytes>,
    events: Option<Events>,
}

/// What is made while it is sent.
struct Events {
    wire: Wire,
    left: u32,
    /// Without a gap: a chunk of the event that all are.
    same: Bytes,
    together: u32,
    gap: Duration,
    /// When the next one is due. What is late is caught up with.
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Answer {
    fn whole(text: &'static str) -> Self {
        Self { pieces: [Bytes::from_static(text.as_bytes())].into(), events: None }
    }

    fn of(wire: Wire, order: Order) -> Self {
        let due = Instant::now();
        let events = Events {
            wire,
            left: order.events,
            same: wire.word(WORD).repeat(order.together as usize).into(),
            together: order.together,
            gap: Duration::from_micros(order.gap.into()),
            due,
            sleep: Box::pin(sleep_until(due)),
        };
        let begin = Some(wire.begin()).filter(|begin| !begin.is_empty());
        Self { pieces: begin.into_iter().collect(), events: Some(events) }
    }
}

impl Events {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.gap.is_zero() {
            let now = self.together.min(self.left);
            let len = self.same.len() / self.together as usize * now as usize;
            self.left -= now;
            return Poll::Ready(self.same.slice(..len));
        }
        if Instant::now() < self.due {
            self.sleep.as_mut().reset(self.due);
            ready!(self.sleep.as_mut().poll(cx));
        }
        self.due += self.gap;
        self.left -= 1;
        Poll::Ready(self.wire.event(wire::now()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(events) = &mut self.events else { return Poll::Ready(None) };
        let piece = if events.left == 0 {
            let end = events.wire.end();
            self.events = None;
            end
        } else {
            ready!(events.poll_next(cx))
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        // What is whole says its length, as servers do.
        match (&self.events, self.pieces.front()) {
            (None, Some(piece)) => http_body::SizeHint::with_exact(piece.len() as u64),
            _ => http_body::SizeHint::default(),
        }
    }
}
