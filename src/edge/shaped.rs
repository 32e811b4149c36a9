//! The answer as its client shall have it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use serde_json::Value;

use crate::{
    Error, Text,
    chat::{ChatEvent, ChatStream, Ending, Extra, FinishReason},
};

/// What a client has asked for that the edge sees to itself.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Texts before which the answer ends, for an upstream that has no such thing.
    pub(super) stop: Vec<Text>,
    /// Whether the first call is the only one.
    pub(super) one_call: bool,
}

pin_project! {
    /// Turns generated images and other attachments into
    /// [text](crate::chat::Attachment::markdown), and sees to [`Wishes`]. One place for streamed and
    /// whole answers, so that both say the same; and both end the same way, whatever the stream
    /// inside does.
    #[derive(Debug)]
    pub(super) struct Shaped<S> {
        // `None` once a stop was found, so that the upstream is let go at once.
        #[pin]
        stream: Option<S>,
        ending: Ending,
        one_call: bool,
        stops: Option<Box<Stops>>,
        // What stands behind the text that was held back, the next one last.
        next: Vec<Result<ChatEvent, Error>>,
    }
}

impl<S> Shaped<S> {
    pub(super) fn new(stream: S, wishes: Wishes) -> Self {
        let Wishes { stop, one_call } = wishes;
        let stops = Stops::new(stop).map(Box::new);
        Self { stream: Some(stream), ending: Ending::new(), one_call, stops, next: Vec::new() }
    }
}

impl<S: ChatStream> Stream for Shaped<S> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if !this.next.is_empty() {
            return Poll::Ready(this.next.pop());
        }
        loop {
            let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            if !ready!(this.ending.poll_goes_on(cx)) {
                return Poll::Ready(None);
            }
            let mut polled = stream.poll_next(cx);
            if !this.ending.passes(&mut polled) {
                continue;
            }
            // Most events pass, and are handed on where they lie.
            if let Poll::Ready(Some(Ok(ChatEvent::Text(_) | ChatEvent::Reasoning(_)))) = &polled
                && this.stops.is_none()
            {
                return polled;
            }
            let mut item = ready!(polled);
            match &item {
                Some(Ok(ChatEvent::Attachment(attachment))) => {
                    item = Some(Ok(ChatEvent::Text(attachment.markdown().into())));
                }
                // A chat has no place for it; the sign of life says that somebody is at work.
                Some(Ok(ChatEvent::Progress(_))) => continue,
                Some(Ok(
                    ChatEvent::ToolCall { index, .. } | ChatEvent::ToolArguments { index, .. },
                )) if *index > 0 && *this.one_call => continue,
                _ => {}
            }
            let Some(stops) = this.stops else { return Poll::Ready(item) };
            let held = match item {
                Some(Ok(ChatEvent::Text(text))) => match stops.push(&text) {
                    Found::Nothing(free) if free.is_empty() => continue,
                    Found::Nothing(free) => {
                        return Poll::Ready(Some(Ok(ChatEvent::Text(free.into()))));
                    }
                    Found::Stop { before, stop } => {
                        this.stream.set(None);
                        this.next.push(Ok(ChatEvent::Finished(FinishReason::Stop)));
                        // As servers say which it was.
                        let mut fields = Extra::new();
                        fields.insert("stop_reason", Value::from(stop.as_str()));
                        item = Some(Ok(ChatEvent::ChoiceFields(fields)));
                        before
                    }
                },
                // Neither is a part of the text.
                Some(Ok(
                    ChatEvent::Started(_)
                    | ChatEvent::Resumed(_)
                    | ChatEvent::Reasoning(_)
                    | ChatEvent::ServerFields(_)
                    | ChatEvent::ChoiceFields(_)
                    | ChatEvent::MessageFields(_)
                    | ChatEvent::UsageFields(_)
                    | ChatEvent::Usage(_),
                )) => return Poll::Ready(item),
                _ => stops.finish(),
            };
            if held.is_empty() {
                return Poll::Ready(item);
            }
            this.next.extend(item);
            return Poll::Ready(Some(Ok(ChatEvent::Text(held.into()))));
        }
    }
}

/// Finds the first of several texts in one that comes in pieces. Each byte is looked at once for
/// each of them.
#[derive(Debug)]
struct Stops {
    stops: Vec<Stop>,
    /// What may be the beginning of one of them.
    held: String,
}

#[derive(Debug, PartialEq)]
enum Found {
    /// None of them is in the text up to the end of this.
    Nothing(String),
    /// One of them stands right behind this.
    Stop { before: String, stop: Text },
}

/// One of them, after Knuth, Morris and Pratt.
#[derive(Debug)]
struct Stop {
    text: Text,
    /// For each beginning, the length of the longest shorter one that it ends with.
    borders: Vec<usize>,
    /// How much of it the text so far ends with.
    matched: usize,
}

impl Stops {
    /// `None` where there is nothing to look for.
    fn new(stops: Vec<Text>) -> Option<Self> {
        let stops: Vec<_> =
            stops.into_iter().filter(|stop| !stop.is_empty()).map(Stop::new).collect();
        (!stops.is_empty()).then_some(Self { stops, held: String::new() })
    }

    fn push(&mut self, piece: &str) -> Found {
        let begin = self.held.len();
        self.held.push_str(piece);
        for (at, byte) in piece.bytes().enumerate() {
            // Of several that end here the longest began first.
            let ended =
                self.stops.iter_mut().filter_map(|stop| Some((stop.step(byte)?, &stop.text)));
            if let Some((len, stop)) = ended.max_by_key(|(len, _)| *len) {
                let stop = stop.clone();
                self.held.truncate(begin + at + 1 - len);
                return Found::Stop { before: self.finish(), stop };
            }
        }
        let most = self.stops.iter().map(|stop| stop.matched).max().unwrap_or_default();
        let kept = self.held.split_off(self.held.len() - most);
        Found::Nothing(std::mem::replace(&mut self.held, kept))
    }

    /// What was held back; whatever comes now does not go on with it.
    fn finish(&mut self) -> String {
        for stop in &mut self.stops {
            stop.matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

impl Stop {
    fn new(text: Text) -> Self {
        let bytes = text.as_bytes();
        let mut borders = vec![0; bytes.len()];
        let mut border = 0;
        for at in 1..bytes.len() {
            while border > 0 && bytes[at] != bytes[border] {
                border = borders[border - 1];
            }
            border += usize::from(bytes[at] == bytes[border]);
            borders[at] = border;
        }
        Self { text, borders, matched: 0 }
    }

    /// Takes one byte more; its length where it ends with that.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let bytes = self.text.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        (self.matched == bytes.len()).then_some(self.matched)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    fn shaped(events: Vec<ChatEvent>, wishes: Wishes) -> Vec<String> {
        let stream = Shaped::new(stream::iter(events.into_iter().map(Ok::<_, Error>)), wishes);
        let events: Vec<_> = tokio_test::block_on(stream.collect());
        events.into_iter().map(|event| format!("{:?}", event.expect("no error"))).collect()
    }

    /// What the texts of an answer join to, and how often it ends.
    fn text(pieces: &[&str], stop: &[&str]) -> String {
        let mut events: Vec<_> =
            pieces.iter().map(|piece| ChatEvent::Text((*piece).into())).collect();
        events.push(ChatEvent::Finished(FinishReason::Length));
        let wished = stop.iter().map(|&stop| stop.into()).collect();
        let stream = stream::iter(events.into_iter().map(Ok::<_, Error>));
        let shaped = Shaped::new(stream, Wishes { stop: wished, one_call: false });
        let events: Vec<_> = tokio_test::block_on(shaped.collect());
        let mut said = String::new();
        for event in events {
            match event.expect("no error") {
                ChatEvent::Text(piece) => {
                    assert!(!piece.is_empty());
                    said.push_str(&piece);
                }
                ChatEvent::ChoiceFields(fields) => {
                    let named = fields.get("stop_reason").expect("which it was");
                    assert!(stop.contains(&&*named.as_string().expect("a text")), "{fields:?}");
                }
                ChatEvent::Finished(FinishReason::Stop) => said.push_str(" [stop]"),
                ChatEvent::Finished(reason) => said.push_str(&format!(" [{reason:?}]")),
                other => panic!("{other:?}"),
            }
        }
        said
    }

    /// Fields: `stop`, over an upstream that has none. Any chunking gives the same.
    #[test]
    fn an_answer_ends_before_the_first_stop() {
        for (said, stop, ends) in [
            ("one two three", &["two"][..], "one  [stop]"),
            ("one two three", &["three", "two"], "one  [stop]"),
            ("one two three", &["four"], "one two three [Length]"),
            ("one two three", &[""], "one two three [Length]"),
            ("one two three", &["one"], " [stop]"),
            ("one two three", &["e"], "on [stop]"),
            ("ababac", &["abac"], "ab [stop]"),
            ("aaab", &["aab"], "a [stop]"),
            ("xabcx", &["bc", "abc"], "x [stop]"),
            ("xabcx", &["abcd", "c"], "xab [stop]"),
            ("tail tw", &["two"], "tail tw [Length]"),
            ("Grüße\n\nEnde", &["\n\n"], "Grüße [stop]"),
            ("Grüße", &["üß"], "Gr [stop]"),
            ("Grüße", &["ü\u{1}"], "Grüße [Length]"),
        ] {
            for size in 1..=said.chars().count() {
                let chars: Vec<_> = said.chars().collect();
                let pieces: Vec<String> =
                    chars.chunks(size).map(|piece| piece.iter().collect()).collect();
                let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
                assert_eq!(text(&pieces, stop), ends, "{said:?} in {size} before {stop:?}");
            }
        }
    }

    #[test]
    fn thinking_and_calls_are_not_searched() {
        let call = || ChatEvent::ToolCall { index: 0, id: "a".into(), name: "f".into() };
        let arguments = || ChatEvent::ToolArguments { index: 0, json: r#"{"x":"end"}"#.into() };
        let events = || {
            vec![
                ChatEvent::Reasoning("the end".into()),
                ChatEvent::Text("e".into()),
                call(),
                arguments(),
                ChatEvent::Finished(FinishReason::ToolCalls),
            ]
        };
        let plain = shaped(events(), Wishes::default());
        let stop = vec!["end".into()];
        assert_eq!(shaped(events(), Wishes { stop, one_call: false }), plain);
    }

    /// Fields: `parallel_tool_calls: false`.
    #[test]
    fn one_call_is_one_call() {
        let call = |index| {
            let name = format!("f{index}");
            [
                ChatEvent::ToolCall { index, id: name.clone().into(), name: name.into() },
                ChatEvent::ToolArguments { index, json: "{}".into() },
            ]
        };
        let end = || ChatEvent::Finished(FinishReason::ToolCalls);
        let several = || (0..3).flat_map(call).chain([end()]).collect::<Vec<_>>();
        let one = shaped(call(0).into_iter().chain([end()]).collect(), Wishes::default());
        assert_eq!(shaped(several(), Wishes { one_call: true, ..Wishes::default() }), one);
        assert_eq!(shaped(several(), Wishes::default()).len(), 7);
    }
}
