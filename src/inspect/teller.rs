//! Who tells the log of one stream.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Response, header::CONTENT_TYPE};
use tokio::time::Instant;
use tracing::{Level, enabled, trace};

use super::view::{Place, TARGET, View};
use crate::{CredentialHeaders, ErrorKind, chat::ChatEvent, sse::Decoder};

/// How much of the content of one thing is told, in bytes.
const MOST_CONTENT: usize = 16 * 1024;

pub(super) struct Teller {
    place: &'static str,
    content: bool,
    called: Instant,
    last: Instant,
    /// How many things were told.
    told: u64,
    is_over: bool,
    /// Finds the events in the pieces of a body that is a stream of them.
    decoder: Option<Decoder>,
    /// What the request was sent with, if anybody says so.
    sent: Option<CredentialHeaders>,
}

/// Tells one thing.
macro_rules! tell {
    ($teller:ident, $kind:expr, $bytes:expr, $detail:expr, $content:expr) => {{
        let (at_us, gap_us) = $teller.clock();
        let content: Option<Cow<'_, str>> = if $teller.content { $content } else { None };
        let content = content.map(|content| $teller.shown(content));
        let detail: Option<&dyn tracing::Value> = $detail;
        trace!(
            target: TARGET,
            place = $teller.place,
            n = $teller.told,
            kind = $kind,
            bytes = $bytes,
            at_us,
            gap_us,
            detail,
            content = content.as_deref(),
        );
        $teller.told += 1;
    }};
}

impl Teller {
    /// One for a request, if anybody listens and wants to hear of it.
    #[inline]
    pub(super) fn listened_to(place: &Place, request: &Extensions) -> Option<Box<Self>> {
        enabled!(target: TARGET, Level::TRACE).then(|| Self::wanted(place, request)).flatten()
    }

    #[cold]
    fn wanted(place: &Place, request: &Extensions) -> Option<Box<Self>> {
        let view = place.choice.of(request);
        if view == View::None {
            return None;
        }
        let now = Instant::now();
        let mut teller = Box::new(Self {
            place: place.name,
            content: view == View::Content,
            called: now,
            last: now,
            told: 0,
            is_over: false,
            decoder: None,
            sent: None,
        });
        teller.tell("request", None, None);
        Some(teller)
    }

    /// The response is there.
    pub(super) fn head<B>(&mut self, response: &Response<B>) {
        self.sent = response.extensions().get::<CredentialHeaders>().cloned();
        self.decoder = is_event_stream(response.headers()).then(Decoder::new);
        self.tell("head", None, Some(&response.status().as_u16()));
    }

    /// There is no response.
    pub(super) fn failed(&mut self) {
        self.tell("failed", None, None);
        self.is_over = true;
    }

    pub(super) fn event(&mut self, event: &ChatEvent) {
        let told = told(event);
        let detail = told.detail.as_ref().map(|detail| detail as &dyn tracing::Value);
        tell!(self, told.kind, told.bytes.unwrap_or_default(), detail, told.content);
    }

    /// The answer has failed.
    pub(super) fn error(&mut self, kind: ErrorKind) {
        self.tell("error", None, Some(&tracing::field::debug(kind)));
        self.is_over = true;
    }

    /// The same of a body.
    pub(super) fn broke_off(&mut self) {
        self.tell("error", None, None);
        self.is_over = true;
    }

    /// Bytes of a body.
    pub(super) fn piece(&mut self, piece: &Bytes) {
        let Some(mut decoder) = self.decoder.take() else {
            tell!(self, "piece", piece.len(), None, Some(String::from_utf8_lossy(piece)));
            return;
        };
        self.tell("piece", Some(piece.len()), None);
        decoder.push(piece.clone());
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => {
                    let data = &*event.data;
                    // It is the upstream's own word.
                    let name = self.shown(event.name().into());
                    tell!(self, "event", data.len(), Some(&name), Some(data.into()));
                }
                Ok(None) => break,
                Err(_) => return self.tell("undecodable", None, None),
            }
        }
        self.decoder = Some(decoder);
    }

    pub(super) fn trailers(&mut self) {
        self.tell("trailers", None, None);
    }

    /// The answer has ended.
    pub(super) fn end(&mut self) {
        if !self.is_over {
            self.tell("end", None, None);
            self.is_over = true;
        }
    }

    /// What has no content.
    fn tell(&mut self, kind: &str, bytes: Option<usize>, detail: Option<&dyn tracing::Value>) {
        tell!(self, kind, bytes, detail, None);
    }

    /// Microseconds from the call, and from what was told before.
    fn clock(&mut self) -> (u64, u64) {
        let now = Instant::now();
        let micros = |since: Instant| u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX);
        let times = (micros(self.called), micros(self.last));
        self.last = now;
        times
    }

    /// Content as it may be told: without the credential, and not too much of it.
    fn shown(&self, content: Cow<'_, str>) -> String {
        let masked = match &self.sent {
            Some(sent) => sent.mask(&content),
            None => Cow::Borrowed(&*content),
        };
        if masked.len() <= MOST_CONTENT {
            return masked.into_owned();
        }
        let end = (0..=MOST_CONTENT).rev().find(|&end| masked.is_char_boundary(end));
        format!("{}…", &masked[..end.unwrap_or_default()])
    }
}

/// Nobody reads on.
impl Drop for Teller {
    fn drop(&mut self) {
        if !self.is_over {
            self.tell("dropped", None, None);
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// What is told of an event.
struct Told<'a> {
    kind: &'static str,
    bytes: Option<usize>,
    detail: Option<String>,
    content: Option<Cow<'a, str>>,
}

impl<'a> Told<'a> {
    fn new(kind: &'static str) -> Self {
        Self { kind, bytes: None, detail: None, content: None }
    }

    fn text(kind: &'static str, text: &'a str) -> Self {
        Self { bytes: Some(text.len()), content: Some(text.into()), ..Self::new(kind) }
    }

    fn detail(self, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }
}

fn told(event: &ChatEvent) -> Told<'_> {
    match event {
        ChatEvent::Started(_) => Told::new("started"),
        ChatEvent::Resumed(_) => Told::new("resumed"),
        ChatEvent::Text(text) => Told::text("text", text),
        ChatEvent::Reasoning(text) => Told::text("reasoning", text),
        ChatEvent::ReasoningSignature(text) => Told::text("reasoning_signature", text),
        ChatEvent::ToolCall { index, name, .. } => Told::text("tool_call", name).detail(index),
        ChatEvent::ToolArguments { index, json } => {
            Told::text("tool_arguments", json).detail(index)
        }
        ChatEvent::Attachment(attachment) => Told::text("attachment", &attachment.url),
        ChatEvent::Progress(percent) => Told::new("progress").detail(percent),
        ChatEvent::Citation(citation) => Told::text("citation", &citation.url),
        ChatEvent::ServerFields(fields) => {
            Told { bytes: Some(fields.byte_len()), ..Told::new("server_fields") }
        }
        ChatEvent::ChoiceFields(fields) => {
            Told { bytes: Some(fields.byte_len()), ..Told::new("choice_fields") }
        }
        ChatEvent::MessageFields(fields) => {
            Told { bytes: Some(fields.byte_len()), ..Told::new("message_fields") }
        }
        ChatEvent::UsageFields(fields) => {
            Told { bytes: Some(fields.byte_len()), ..Told::new("usage_fields") }
        }
        ChatEvent::Usage(usage) => {
            let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
            Told::new("usage").detail(format_args!("{prompt} in, {completion} out"))
        }
        ChatEvent::Finished(reason) => Told::new("finished").detail(reason.as_str()),
    }
}
