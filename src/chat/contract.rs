//! The rules of [`ChatEvent`], as a state machine that tells which one was broken.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{ChatEvent, ChatStream, FinishReason};
use crate::{
    Error,
    json::object::{Checker, Found},
};

/// Tells whether a stream keeps the [contract](ChatEvent#the-contract).
///
/// It is for tests and fuzz targets: give it every item that a stream yields, in order, and tell
/// it when the stream ends. Where a whole stream is to be checked while something else reads it,
/// [`checked`](ChatStreamExt::checked) does both.
///
/// ```
/// use tower_qwen::chat::{ChatEvent, Contract, FinishReason};
///
/// let mut contract = Contract::new();
/// contract.observe(&Ok(ChatEvent::Text("Hello".into())))?;
/// contract.observe(&Ok(ChatEvent::Finished(FinishReason::Stop)))?;
/// let late = contract.observe(&Ok(ChatEvent::Text("!".into()))).unwrap_err();
/// assert_eq!(
///     late.to_string(),
///     "item 2 (Text) broke the contract of chat streams: after `Finished` only `Usage` and \
///      `ServerFields` may come"
/// );
/// # Ok::<(), tower_qwen::chat::Violation>(())
/// ```
///
/// # Memory
///
/// It holds nothing of text and arguments. Of each call it holds the id, some 60 bytes, and one bit
/// for each bracket that is open in its arguments. It does not judge arguments any more from where
/// 4,096 brackets are open at once.
#[derive(Clone, Debug, Default)]
pub struct Contract {
    /// How many items were observed.
    items: usize,
    end: End,
    calls: Vec<Checker>,
    ids: HashSet<Box<str>>,
    /// In percent, so far.
    progress: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    None,
    Finished,
    Failed,
}

impl Contract {
    /// Nothing has been observed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next item that the stream yielded.
    ///
    /// # Errors
    ///
    /// Where the item must not come here, or must not be as it is. What is said of later items
    /// means little then.
    pub fn observe(&mut self, item: &Result<ChatEvent, Error>) -> Result<(), Violation> {
        let at = self.items;
        self.items += 1;
        self.judge(at, item).map_err(|rule| Violation { place: Some((at, name(item))), rule })
    }

    /// The stream ended.
    ///
    /// # Errors
    ///
    /// Where it must not end yet.
    pub fn end(&self) -> Result<(), Violation> {
        match self.end {
            End::Finished | End::Failed => Ok(()),
            End::None => Err(Violation {
                place: None,
                rule: "a stream ends with `Finished` or an `Err`, and there was neither".into(),
            }),
        }
    }

    fn judge(&mut self, at: usize, item: &Result<ChatEvent, Error>) -> Result<(), Rule> {
        match (self.end, item) {
            (End::None, _) => {}
            (End::Finished, Ok(event)) if event.may_follow_the_end() => {}
            (End::Finished, _) => {
                return Err("after `Finished` only `Usage` and `ServerFields` may come".into());
            }
            (End::Failed, _) => return Err("after an `Err` nothing may come".into()),
        }
        let Ok(event) = item else {
            self.end = End::Failed;
            return self.whole(true);
        };
        match event {
            ChatEvent::Started(_) if at > 0 => {
                Err("`Started` comes at most once, as the first item".into())
            }
            ChatEvent::Resumed(_) if at == 0 => {
                Err("`Resumed` is never the first item: nothing had begun".into())
            }
            ChatEvent::Started(started) | ChatEvent::Resumed(started) => {
                match &started.conversation {
                    Some(conversation) if conversation.chat_id.is_empty() => {
                        Err("the id of a chat is never empty".into())
                    }
                    _ if started.response_id.as_deref() == Some("") => {
                        Err("the id of a response is never empty".into())
                    }
                    _ => Ok(()),
                }
            }
            ChatEvent::Text(text) => filled(text, "a piece of text is never empty"),
            ChatEvent::Reasoning(text) => filled(text, "a piece of reasoning is never empty"),
            ChatEvent::ReasoningSignature(text) => filled(text, "a signature is never empty"),
            ChatEvent::ToolCall { index, id, name } => self.call(*index, id, name),
            ChatEvent::ToolArguments { index, json } => self.arguments(*index, json),
            ChatEvent::Attachment(attachment) => {
                filled(&attachment.url, "the address of an attachment is never empty")
            }
            ChatEvent::Progress(percent) => {
                let is_kept = (self.progress..100).contains(percent);
                self.progress = *percent;
                let rule = "progress is at most 99 and never becomes less";
                if is_kept { Ok(()) } else { Err(rule.into()) }
            }
            ChatEvent::Citation(citation) => match &citation.range {
                Some(range) if range.start > range.end => {
                    Err("the range of a citation ends before it starts".into())
                }
                _ => filled(&citation.url, "the address of a source is never empty"),
            },
            ChatEvent::ServerFields(fields)
            | ChatEvent::ChoiceFields(fields)
            | ChatEvent::MessageFields(fields)
            | ChatEvent::UsageFields(fields)
                if fields.is_empty() =>
            {
                Err("fields of a server are never none".into())
            }
            ChatEvent::ServerFields(_)
            | ChatEvent::ChoiceFields(_)
            | ChatEvent::MessageFields(_)
            | ChatEvent::UsageFields(_)
            | ChatEvent::Usage(_) => Ok(()),
            ChatEvent::Finished(reason) => {
                self.end = End::Finished;
                self.whole(matches!(reason, FinishReason::Length | FinishReason::ContentFilter))
            }
        }
    }

    fn call(&mut self, index: u32, id: &str, name: &str) -> Result<(), Rule> {
        let next = self.calls.len();
        if index as usize != next {
            return Err(format!(
                "calls are numbered from 0 without gaps: call {index} began where {next} is next"
            )
            .into());
        }
        filled(id, "the id of a call is never empty")?;
        filled(name, "the name of a function is never empty")?;
        if !self.ids.insert(id.into()) {
            return Err(
                format!("each call has an id of its own: call {index} took another's").into()
            );
        }
        self.calls.push(Checker::default());
        Ok(())
    }

    fn arguments(&mut self, index: u32, json: &str) -> Result<(), Rule> {
        let Some(call) = self.calls.get_mut(index as usize) else {
            return Err(format!("there are arguments for call {index}, which has not begun").into());
        };
        filled(json, "a piece of arguments is never empty")?;
        call.push(json).map_err(|_| {
            format!(
                "the arguments of a call, joined, are one JSON object: those of call {index} are \
                 not even the beginning of one"
            )
            .into()
        })
    }

    /// The answer is over: the arguments must be, too.
    fn whole(&self, last_may_be_cut: bool) -> Result<(), Rule> {
        let must = self.calls.len().saturating_sub(last_may_be_cut.into());
        let is_cut = |call: &Checker| matches!(call.found(), Found::Nothing | Found::Beginning);
        let cut = self.calls[..must].iter().position(is_cut);
        match cut {
            None => Ok(()),
            Some(index) => Err(format!(
                "the arguments of a call, joined, are one JSON object{}: those of call {index} \
                 are cut",
                if last_may_be_cut { ", but of the last call here" } else { "" },
            )
            .into()),
        }
    }
}

fn filled(text: &str, rule: &'static str) -> Result<(), Rule> {
    if text.is_empty() { Err(rule.into()) } else { Ok(()) }
}

const fn name(item: &Result<ChatEvent, Error>) -> &'static str {
    match item {
        Ok(ChatEvent::Started(_)) => "Started",
        Ok(ChatEvent::Resumed(_)) => "Resumed",
        Ok(ChatEvent::Text(_)) => "Text",
        Ok(ChatEvent::Reasoning(_)) => "Reasoning",
        Ok(ChatEvent::ReasoningSignature(_)) => "ReasoningSignature",
        Ok(ChatEvent::ToolCall { .. }) => "ToolCall",
        Ok(ChatEvent::ToolArguments { .. }) => "ToolArguments",
        Ok(ChatEvent::Attachment(_)) => "Attachment",
        Ok(ChatEvent::Progress(_)) => "Progress",
        Ok(ChatEvent::Citation(_)) => "Citation",
        Ok(ChatEvent::ServerFields(_)) => "ServerFields",
        Ok(ChatEvent::ChoiceFields(_)) => "ChoiceFields",
        Ok(ChatEvent::MessageFields(_)) => "MessageFields",
        Ok(ChatEvent::UsageFields(_)) => "UsageFields",
        Ok(ChatEvent::Usage(_)) => "Usage",
        Ok(ChatEvent::Finished(_)) => "Finished",
        Err(_) => "Err",
    }
}

type Rule = Cow<'static, str>;

/// What a stream did against the [contract](ChatEvent#the-contract).
///
/// Its text says which item it was, counted from 0, and which rule it broke. Of what the item
/// held it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The item and what it is; `None` at the stream's end.
    place: Option<(usize, &'static str)>,
    rule: Rule,
}

impl Violation {
    /// The item that broke the rule, counted from 0; `None` where it is the stream's end.
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        self.place.map(|(item, _)| item)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((item, name)) => write!(f, "item {item} ({name})")?,
            None => f.write_str("the end")?,
        }
        write!(f, " broke the contract of chat streams: {}", self.rule)
    }
}

impl std::error::Error for Violation {}

/// What every [`ChatStream`] can do besides.
pub trait ChatStreamExt: ChatStream {
    /// The same stream, which panics where it breaks the [contract](ChatEvent#the-contract).
    ///
    /// It is for the tests and fuzz targets of layers. Put it around what a layer gives back. Put
    /// it also around what a test feeds to a layer, where that is meant to be well formed. It is
    /// not for a program that serves, which nothing that an upstream sends may end.
    ///
    /// # Panics
    ///
    /// When polled, where the stream breaks a rule, with the text of the [`Violation`].
    ///
    /// # Examples
    ///
    /// The author of a layer that writes in capitals tests what its body makes of an answer:
    ///
    /// ```
    /// use futures_util::{StreamExt, stream};
    /// use tower_qwen::chat::{Answer, ChatEvent, ChatStream, ChatStreamExt, FinishReason};
    ///
    /// /// The body of the layer's responses.
    /// fn capitals(answer: impl ChatStream) -> impl ChatStream {
    ///     answer.map(|item| {
    ///         item.map(|event| match event {
    ///             ChatEvent::Text(text) => ChatEvent::Text(text.to_uppercase().into()),
    ///             event => event,
    ///         })
    ///     })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_qwen::Error> {
    /// let upstream = stream::iter([
    ///     Ok(ChatEvent::Text("Hi".into())),
    ///     Ok(ChatEvent::Finished(FinishReason::Stop)),
    /// ]);
    /// // Without the last event, or with an empty text, this would panic and say so.
    /// let answer = Answer::collect(capitals(upstream).checked()).await?;
    /// assert_eq!(answer.text, "HI");
    /// # Ok(())
    /// # }
    /// ```
    fn checked(self) -> Checked<Self>
    where
        Self: Sized,
    {
        Checked { stream: self, contract: Contract::new(), over: false }
    }
}

impl<S: ChatStream + ?Sized> ChatStreamExt for S {}

pin_project! {
    /// The stream of [`checked`](ChatStreamExt::checked).
    ///
    /// # Panics
    ///
    /// When polled, where the stream inside breaks a rule. After its end it yields `None` and
    /// does not poll the stream inside.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Checked<S> {
        #[pin]
        stream: S,
        contract: Contract,
        over: bool,
    }
}

impl<S: ChatStream> Stream for Checked<S> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let item = ready!(this.stream.poll_next(cx));
        let judged = match &item {
            Some(item) => this.contract.observe(item),
            None => {
                *this.over = true;
                this.contract.end()
            }
        };
        if let Err(violation) = judged {
            panic!("{violation}");
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.over { (0, Some(0)) } else { self.stream.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ErrorKind,
        chat::{
            Answer, Attachment, AttachmentKind, Citation, Conversation, Ending, Started, Usage,
        },
    };

    type Item = Result<ChatEvent, Error>;

    fn text(text: &str) -> Item {
        Ok(ChatEvent::Text(text.into()))
    }

    fn call(index: u32, id: &str, name: &str) -> Item {
        Ok(ChatEvent::ToolCall { index, id: id.into(), name: name.into() })
    }

    fn arguments(index: u32, json: &str) -> Item {
        Ok(ChatEvent::ToolArguments { index, json: json.into() })
    }

    fn started() -> Item {
        Ok(ChatEvent::Started(Conversation::new("c").into()))
    }

    fn usage() -> Item {
        Ok(ChatEvent::Usage(Usage::new(1, 2)))
    }

    fn finished(reason: FinishReason) -> Item {
        Ok(ChatEvent::Finished(reason))
    }

    fn stop() -> Item {
        finished(FinishReason::Stop)
    }

    fn error() -> Item {
        Err(Error::new(ErrorKind::Quota, "used up"))
    }

    fn judge(items: &[Item]) -> Result<(), Violation> {
        let mut contract = Contract::new();
        for item in items {
            contract.observe(item)?;
        }
        contract.end()
    }

    #[track_caller]
    fn legal(items: impl IntoIterator<Item = Item>) {
        let items: Vec<Item> = items.into_iter().collect();
        assert_eq!(judge(&items), Ok(()), "{items:?}");
    }

    /// The last item breaks a rule, and the text says which.
    #[track_caller]
    fn illegal(items: impl IntoIterator<Item = Item>, rule: &str) {
        let items: Vec<Item> = items.into_iter().collect();
        let violation = judge(&items).expect_err("illegal");
        assert_eq!(violation.item(), Some(items.len() - 1), "{violation}");
        assert!(violation.to_string().contains(rule), "{violation}");
    }

    #[test]
    fn legal_streams_pass() {
        let ends = [FinishReason::Stop, FinishReason::Length, FinishReason::ContentFilter];
        for reason in ends {
            legal([finished(reason)]);
            legal([started(), text("a"), usage(), text("b"), finished(reason), usage(), usage()]);
        }
        legal([error()]);
        legal([started(), usage(), error()]);
        legal([Ok(ChatEvent::Started(Started::new().with_response_id("r").into())), stop()]);
        legal([
            Ok(ChatEvent::Reasoning("hm".into())),
            Ok(ChatEvent::ReasoningSignature("sig".into())),
            Ok(ChatEvent::Citation(Citation::new("https://example.org").into())),
            Ok(ChatEvent::Attachment(Attachment::new(AttachmentKind::Video, "u".into()))),
            stop(),
        ]);
        legal([
            call(0, "a", "f"),
            arguments(0, "{\"x\""),
            call(1, "b", "f"),
            text("between"),
            arguments(1, " {} "),
            arguments(0, ":[1]}"),
            arguments(0, "\n"),
            finished(FinishReason::ToolCalls),
        ]);
    }

    #[test]
    fn a_start_is_first_and_alone() {
        illegal([started(), started()], "at most once, as the first item");
        illegal([text("a"), started()], "as the first item");
        illegal([usage(), started()], "as the first item");
        illegal([Ok(ChatEvent::Started(Conversation::new("").into()))], "id of a chat");
        let unnamed = Started::new().with_response_id("");
        illegal([Ok(ChatEvent::Started(unnamed.into()))], "id of a response");
    }

    #[test]
    fn an_answer_is_resumed_in_its_middle() {
        let resumed = |chat| Ok(ChatEvent::Resumed(Conversation::new(chat).into()));
        legal([text("a"), resumed("c"), resumed("d"), text("b"), stop()]);
        illegal([resumed("c")], "never the first");
        illegal([text("a"), resumed("")], "id of a chat");
        illegal([stop(), resumed("c")], "after `Finished`");
    }

    #[test]
    fn progress_never_goes_back() {
        let progress = |percent| Ok(ChatEvent::Progress(percent));
        legal([progress(0), progress(7), progress(7), progress(99), stop()]);
        illegal([progress(7), progress(6)], "progress is at most 99");
        illegal([progress(100)], "progress is at most 99");
        illegal([stop(), progress(1)], "after `Finished`");
    }

    #[test]
    fn nothing_is_empty() {
        illegal([text("")], "piece of text");
        illegal([Ok(ChatEvent::Reasoning("".into()))], "piece of reasoning");
        illegal([Ok(ChatEvent::ReasoningSignature("".into()))], "signature");
        illegal([call(0, "", "f")], "id of a call");
        illegal([call(0, "a", "")], "name of a function");
        illegal([call(0, "a", "f"), arguments(0, "")], "piece of arguments");
        let nowhere = Attachment::new(AttachmentKind::Image, "".into());
        illegal([Ok(ChatEvent::Attachment(nowhere))], "address of an attachment");
        illegal([Ok(ChatEvent::Citation(Citation::new("").into()))], "address of a source");
        let mut reversed = Citation::new("u");
        reversed.range = Some(std::ops::Range { start: 2, end: 1 });
        illegal([Ok(ChatEvent::Citation(reversed.into()))], "ends before it starts");
    }

    #[test]
    fn calls_are_counted() {
        illegal([call(1, "a", "f")], "call 1 began where 0 is next");
        illegal([call(0, "a", "f"), call(0, "b", "f")], "call 0 began where 1 is next");
        illegal([call(0, "a", "f"), call(2, "b", "f")], "call 2 began where 1 is next");
        illegal([call(0, "a", "f"), call(1, "a", "g")], "call 1 took another's");
        illegal([arguments(0, "{}")], "call 0, which has not begun");
        illegal([call(0, "a", "f"), arguments(1, "{}")], "call 1, which has not begun");
    }

    #[test]
    fn arguments_are_one_object() {
        for wrong in ["[]", "\"{}\"", "{}{}", "{}x", "{'a'", "{\"a\":tru3"] {
            illegal([call(0, "a", "f"), arguments(0, wrong)], "call 0 are not even the beginning");
        }
        illegal(
            [call(0, "a", "f"), arguments(0, "{}"), arguments(0, "{}")],
            "not even the beginning",
        );
        for cut in [vec![], vec![arguments(0, "{\"a\"")], vec![arguments(0, " ")]] {
            for reason in [FinishReason::Stop, FinishReason::ToolCalls] {
                let begun = || vec![call(0, "a", "f")].into_iter().chain(cut.iter().map(copy));
                illegal(begun().chain([finished(reason)]), "those of call 0 are cut");
            }
        }
    }

    fn copy(item: &Item) -> Item {
        match item {
            Ok(event) => Ok(event.clone()),
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        }
    }

    #[test]
    fn the_last_call_may_be_cut_where_the_answer_is() {
        let ends =
            || [finished(FinishReason::Length), finished(FinishReason::ContentFilter), error()];
        for end in ends() {
            legal([call(0, "a", "f"), copy(&end)]);
            legal([call(0, "a", "f"), arguments(0, "{\"a\":\"b"), copy(&end)]);
            legal([call(0, "a", "f"), arguments(0, "{}"), call(1, "b", "f"), copy(&end)]);
            illegal(
                [call(0, "a", "f"), call(1, "b", "f"), arguments(1, "{}"), copy(&end)],
                "but of the last call here: those of call 0 are cut",
            );
        }
    }

    #[test]
    fn there_is_one_end() {
        for late in [text("b"), started(), stop(), error(), call(0, "a", "f")] {
            illegal([text("a"), stop(), copy(&late)], "after `Finished` only `Usage`");
            illegal([text("a"), stop(), usage(), late], "after `Finished` only `Usage`");
        }
        for late in [text("b"), stop(), error(), usage()] {
            illegal([text("a"), error(), late], "after an `Err` nothing");
        }
        for open in [vec![], vec![started()], vec![text("a"), usage()]] {
            let violation = judge(&open).expect_err("no end");
            assert_eq!(violation.item(), None);
            assert!(violation.to_string().starts_with("the end broke"), "{violation}");
        }
    }

    #[test]
    fn arguments_that_are_nested_too_deep_are_not_judged() {
        let deep = format!("{{\"a\":{}", "[".repeat(5000));
        legal([call(0, "a", "f"), arguments(0, &deep), arguments(0, "x"), stop()]);
    }

    #[test]
    fn a_checked_stream_passes_everything_and_ends_once() {
        let items = [started(), text("a"), stop(), usage()];
        let mut polls = 0;
        let mut left = items.iter().map(copy);
        let inner = stream::poll_fn(|_| {
            polls += 1;
            Poll::Ready(left.next())
        });
        let mut stream = Box::pin(inner.checked());
        for item in &items {
            let got = stream.next().now_or_never().expect("ready").expect("an item");
            assert_eq!(got.ok(), item.as_ref().ok().cloned());
        }
        for _ in 0..2 {
            assert!(stream.next().now_or_never().expect("ready").is_none());
        }
        drop(stream);
        assert_eq!(polls, 5);
    }

    #[test]
    #[should_panic(expected = "item 1 (Text) broke the contract of chat streams: a piece of text")]
    fn a_checked_stream_panics_at_an_item() {
        let stream = stream::iter([text("a"), text(""), stop()]);
        let _ = tokio_test::block_on(stream.checked().collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "the end broke the contract of chat streams: a stream ends with")]
    fn a_checked_stream_panics_at_an_end() {
        let _ = tokio_test::block_on(stream::iter([text("a")]).checked().collect::<Vec<_>>());
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let id = || prop::sample::select(vec!["", "a", "b"]);
        let json = prop::sample::select(vec!["", "{}", "{", "\"a\":1", "}", "[", "x"]);
        prop_oneof![
            Just(()).prop_map(|()| started()),
            prop::sample::select(vec!["", "a"]).prop_map(text),
            Just(()).prop_map(|()| usage()),
            prop::sample::select(vec![
                FinishReason::Stop,
                FinishReason::Length,
                FinishReason::ToolCalls,
                FinishReason::ContentFilter,
            ])
            .prop_map(finished),
            Just(()).prop_map(|()| error()),
            (0..3_u32, id(), id()).prop_map(|(index, id, name)| call(index, id, name)),
            (0..3_u32, json).prop_map(|(index, json)| arguments(index, json)),
        ]
    }

    /// The rules once more, written for a whole stream in hand and not for one that flows.
    fn keeps_the_rules(items: &[Item]) -> bool {
        let Some(end) =
            items.iter().position(|item| matches!(item, Err(_) | Ok(ChatEvent::Finished(_))))
        else {
            return false;
        };
        let failed = items[end].is_err();
        let behind = &items[end + 1..];
        if failed && !behind.is_empty()
            || !behind.iter().all(|item| item.as_ref().is_ok_and(ChatEvent::may_follow_the_end))
        {
            return false;
        }
        let events: Vec<&ChatEvent> =
            items[..end].iter().filter_map(|item| item.as_ref().ok()).collect();
        if events.iter().skip(1).any(|event| matches!(event, ChatEvent::Started(_)))
            || events.iter().any(|event| matches!(event, ChatEvent::Text(text) if text.is_empty()))
        {
            return false;
        }
        let mut calls: Vec<(&str, String)> = Vec::new();
        for event in &events {
            match event {
                ChatEvent::ToolCall { index, id, name } => {
                    if *index as usize != calls.len()
                        || id.is_empty()
                        || name.is_empty()
                        || calls.iter().any(|(known, _)| *known == id.as_str())
                    {
                        return false;
                    }
                    calls.push((id, String::new()));
                }
                ChatEvent::ToolArguments { index, json } => match calls.get_mut(*index as usize) {
                    Some((_, arguments)) if !json.is_empty() => arguments.push_str(json),
                    _ => return false,
                },
                _ => {}
            }
        }
        let may_be_cut = !matches!(
            items[end],
            Ok(ChatEvent::Finished(FinishReason::Stop | FinishReason::ToolCalls))
        );
        let last = calls.len().wrapping_sub(1);
        calls.iter().enumerate().all(|(at, (_, arguments))| {
            match serde_json::from_str::<serde_json::Value>(arguments) {
                Ok(value) => value.is_object(),
                // The beginning of an object: what is missing is at the end, and it began as one.
                Err(error) => {
                    may_be_cut
                        && at == last
                        && error.is_eof()
                        && (arguments.is_empty() || arguments.starts_with('{'))
                }
            }
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_rules_written_otherwise(
            items in prop::collection::vec(any_item(), 0..9),
            closes in any::<bool>(),
        ) {
            let mut items = items;
            if closes {
                items.push(finished(FinishReason::Length));
            }
            prop_assert_eq!(judge(&items).is_ok(), keeps_the_rules(&items), "{:?}", items);
        }

        /// What is read through an `Ending` has a right beginning and a right end, whatever it is.
        #[test]
        fn an_ending_keeps_the_ends(items in prop::collection::vec(any_item(), 0..9)) {
            let is_about_the_ends = |violation: &Violation| {
                let text = violation.to_string();
                ["as the first item", "after `Finished`", "after an `Err`", "the end broke"]
                    .iter()
                    .any(|words| text.contains(words))
            };
            let mut inner = stream::iter(items.iter().map(copy));
            let mut ending = Ending::new();
            let mut contract = Contract::new();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut passed = Vec::new();
            while let Poll::Ready(Some(item)) = ending.poll_next(Pin::new(&mut inner), &mut cx) {
                if let Err(violation) = contract.observe(&item) {
                    prop_assert!(!is_about_the_ends(&violation), "{}: {:?}", violation, items);
                }
                passed.push(item);
            }
            prop_assert!(contract.end().is_ok());
            // What keeps the contract passes whole, and is collected.
            if judge(&items).is_ok() {
                prop_assert_eq!(format!("{passed:?}"), format!("{items:?}"));
            }
            let collected = Answer::collect(stream::iter(passed)).now_or_never().expect("ready");
            let again = Answer::collect(stream::iter(items)).now_or_never().expect("ready");
            prop_assert_eq!(format!("{collected:?}"), format!("{again:?}"));
        }
    }
}
