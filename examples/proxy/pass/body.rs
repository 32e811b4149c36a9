//! An upstream's answer on its way to the client.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;
use tower_qwen::{
    CredentialHeaders, Error, Text, chat::Json, openai::error_response, shutdown::Asked,
};

use super::{
    super::{
        config::fields,
        shutdown,
        words::{ERROR, MESSAGE, MODEL},
    },
    TotalLimit,
    finish::Finishes,
};

/// Counts a request that was sent on when it is over, also when that is because the client went
/// away.
#[derive(Debug)]
pub(super) struct Outcome {
    path: &'static str,
    outcome: &'static str,
}

impl Outcome {
    /// One that was sent on to `path` and not yet seen to end.
    pub(super) fn new(path: &'static str) -> Self {
        Self { path, outcome: "abandoned" }
    }

    /// What became of it.
    pub(super) fn ended(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        metrics::counter!(
            "tower_qwen_proxy_passed_total", "path" => self.path, "outcome" => self.outcome
        )
        .increment(1);
    }
}

pin_project! {
    /// A body as it came. Of a stream of whole events the credential is masked where it is repeated
    /// in an error, the model is named as the client did, a shutdown is an event with an error, and the
    /// end mark is the end, though the connection stays open. So is a silence behind the last finish
    /// reason, where there is no such mark.
    pub(super) struct PassedBody<B> {
        // `None` when it was cut.
        #[pin]
        inner: Option<B>,
        cut: Option<Asked>,
        limit: Option<TotalLimit>,
        #[pin]
        alarm: Option<Sleep>,
        outcome: Outcome,
        sent: Option<CredentialHeaders>,
        asked: Option<Text>,
        of_events: bool,
        // The end mark came.
        is_done: bool,
        finishes: Option<(Finishes, Duration)>,
        // All answers are finished, and more is awaited for no longer than this.
        ends_at: Option<Instant>,
    }
}

impl<B: Body> PassedBody<B> {
    pub(super) fn new(inner: B, mut outcome: Outcome, limit: Option<TotalLimit>) -> Self {
        if inner.is_end_stream() {
            outcome.ended("complete");
        }
        Self {
            inner: Some(inner),
            cut: None,
            limit,
            alarm: limit.map(|limit| sleep_until(limit.until)),
            outcome,
            sent: None,
            asked: None,
            of_events: false,
            is_done: false,
            finishes: None,
            ends_at: None,
        }
    }

    /// Ends it when `finishes` says that all is said, and nothing but comments has come for `grace`.
    pub(super) fn finishes(self, finishes: Finishes, grace: Duration) -> Self {
        Self { finishes: Some((finishes, grace)), ..self }
    }

    /// Of a stream of events: what is in them is changed in so far, and it ends when `cut` is ready.
    pub(super) fn events(
        self,
        sent: Option<CredentialHeaders>,
        asked: Option<Text>,
        cut: Option<Asked>,
    ) -> Self {
        Self { sent, asked, cut, of_events: true, ..self }
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for PassedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if this.cut.as_mut().is_some_and(|cut| Pin::new(cut).poll(cx).is_ready()) {
            this.inner.set(None);
            this.outcome.ended("cut");
            return Poll::Ready(Some(Ok(Frame::data(event_of(&shutdown::cut())))));
        }
        let polled = inner.as_mut().poll_frame(cx);
        if *this.is_done {
            // It was asked once more, so that a connection that is at its end can be used again.
            this.inner.set(None);
            return Poll::Ready(None);
        }
        // The clock is looked at where nothing has come.
        if polled.is_pending()
            && let Some(alarm) = this.alarm.as_mut().as_pin_mut()
        {
            ready!(alarm.poll(cx));
            this.inner.set(None);
            if this.ends_at.is_some_and(|at| at <= Instant::now()) {
                this.outcome.ended("complete");
                let has_mark = this.finishes.as_ref().is_some_and(|(said, _)| said.has_end_mark());
                let mark = has_mark.then(|| Ok(Frame::data(Bytes::from_static(END_MARK))));
                return Poll::Ready(mark);
            }
            this.outcome.ended("failed");
            let error = this.limit.take().map(TotalLimit::passed);
            return Poll::Ready(error.map(|error| match *this.of_events {
                true => Ok(Frame::data(event_of(&error))),
                false => Err(error.into()),
            }));
        }
        let frame = ready!(polled);
        if *this.of_events
            && let Some(Ok(frame)) = &frame
            && frame.data_ref().is_some_and(|events| ends_with_mark(events))
        {
            *this.is_done = true;
            this.outcome.ended("complete");
        }
        if let Some((finishes, grace)) = this.finishes
            && let Some(events) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref())
            && finishes.read(events)
        {
            let ends_at = Instant::now() + *grace;
            *this.ends_at = Some(ends_at);
            let next = this.limit.map_or(ends_at, |limit| limit.until.min(ends_at));
            this.alarm.set(Some(sleep_until(next)));
        }
        match &frame {
            Some(Err(_)) => this.outcome.ended("failed"),
            // Whoever knows that it was the last does not ask for another.
            _ if inner.is_end_stream() => this.outcome.ended("complete"),
            None => this.outcome.ended("complete"),
            Some(Ok(_)) => {}
        }
        let (sent, asked) = (this.sent.as_ref(), this.asked.as_deref());
        let changed = |mut event: Bytes| {
            if let Some(sent) = sent {
                event = mask_event(event, sent);
            }
            if let Some(asked) = asked {
                event = named_events(event, asked);
            }
            event
        };
        Poll::Ready(
            frame.map(|frame| frame.map(|frame| frame.map_data(changed)).map_err(Into::into)),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.cut) {
            (Some(inner), None) => inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// What ends a stream of OpenAI's.
const END_MARK: &[u8] = b"data: [DONE]\n\n";

/// Whether the last of some whole events is OpenAI's end mark, which nothing follows.
fn ends_with_mark(events: &[u8]) -> bool {
    let events = events.trim_ascii_end();
    events.ends_with(b"[DONE]")
        && events.strip_suffix(b"[DONE]").is_some_and(|before| {
            let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or(before);
            line.trim_ascii() == b"data:"
        })
}

/// The last event of a stream that ends before its time. The reframer below gives whole events, so that
/// it fits between any two.
fn event_of(error: &Error) -> Bytes {
    let error = error_response(error).into_body().into_bytes();
    [b"data: ", &*error, b"\n\n"].concat().into()
}

/// A chunk of an answer has neither of these words but in what the model says, so that most events
/// cost two short searches.
fn mask_event(event: Bytes, sent: &CredentialHeaders) -> Bytes {
    if ERROR.find(&event).is_none() && MESSAGE.find(&event).is_none() {
        return event;
    }
    match std::str::from_utf8(&event).map(|text| sent.mask(text)) {
        Ok(Cow::Owned(masked)) => masked.into(),
        _ => event,
    }
}

/// Whole events, in lines that end in LF, in which the model is called `asked`.
fn named_events(events: Bytes, asked: &str) -> Bytes {
    const DATA: &[u8] = b"data:";
    let mut out = BytesMut::with_capacity(events.len());
    for line in events.split_inclusive(|byte| *byte == b'\n') {
        let named = line.strip_prefix(DATA).and_then(|data| {
            let data = data.trim_ascii();
            named(&events.slice_ref(data), asked)
        });
        match named {
            Some(named) => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&named);
                out.extend_from_slice(b"\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out.freeze()
}

/// Whether a whole body is what the model said: of a chat or a prompt, or llama.cpp's own form.
pub(super) fn is_answer(json: &Bytes) -> bool {
    let fields = fields(json);
    fields.is_some_and(|fields| ["choices", "content"].iter().any(|name| fields.contains(name)))
}

/// The object that `json` is, with `asked` for its model. `None` where it is no object with one.
pub(super) fn named(json: &Bytes, asked: &str) -> Option<Bytes> {
    if !json.starts_with(b"{") || MODEL.find(json).is_none() {
        return None;
    }
    let mut fields = fields(json)?;
    fields.get("model")?;
    fields.insert("model", serde_json::Value::from(asked));
    Some(Json::from(&fields).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_in(events: &str) -> String {
        let named = named_events(Bytes::copy_from_slice(events.as_bytes()), "mine");
        String::from_utf8(named.to_vec()).expect("UTF-8")
    }

    #[test]
    fn each_event_of_a_frame_names_the_model_as_the_client_did() {
        for (events, named) in [
            (
                "data: {\"model\":\"m\",\"x\":[1.50]}\n\ndata:{\"id\":1,\"model\":null}\n\n",
                "data: {\"x\":[1.50],\"model\":\"mine\"}\n\ndata: {\"id\":1,\"model\":\"mine\"}\n\n",
            ),
            // What has no model stays byte for byte, and so does what is no object.
            ("data: {\"text\":\"\\\"model\\\":\"}\n\n", "data: {\"text\":\"\\\"model\\\":\"}\n\n"),
            ("data: {\"x\":{\"model\":1}}\n\n", "data: {\"x\":{\"model\":1}}\n\n"),
            (": {\"model\":1}\n\ndata: [DONE]\n\n", ": {\"model\":1}\n\ndata: [DONE]\n\n"),
            ("data: {\"model\":\n\n", "data: {\"model\":\n\n"),
            ("event: x\ndata: [{\"model\":1}]\n\n", "event: x\ndata: [{\"model\":1}]\n\n"),
        ] {
            assert_eq!(named_in(events), named);
        }
        let bytes = Bytes::from_static(b"data: {\"model\":\"\xff\"}\n\n");
        assert_eq!(named_events(bytes.clone(), "mine"), bytes, "no UTF-8");
    }
}
