use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{
    Attachment, ChatEvent, ChatStream, Citation, Conversation, Ending, Extra, FinishReason,
    ToolCall, Usage,
};
use crate::{Error, ErrorKind, Text};

/// How large a whole answer may be unless something else is said, in bytes: 64 MiB.
pub const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// What an item of an answer counts beside its text, in bytes: about what it takes.
const ITEM: usize = 256;

/// A whole answer, collected from a [`ChatStream`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// Where the next turn can go on.
    pub conversation: Option<Conversation>,
    /// The upstream's own id of the answer.
    pub response_id: Option<Text>,
    /// The visible answer.
    pub text: String,
    /// The model's thinking.
    pub reasoning: String,
    /// The upstream's signature of the thinking; of several the last.
    pub reasoning_signature: Option<Text>,
    /// The calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// What is not text.
    pub attachments: Vec<Attachment>,
    /// The sources that it names, in order.
    pub citations: Vec<Citation>,
    /// What the server gave beside its answer.
    pub server_fields: Extra,
    /// What it gave beside the answer in the one choice.
    pub choice_fields: Extra,
    /// The same of the message ([`MessageFields`](ChatEvent::MessageFields)).
    pub message_fields: Extra,
    /// The same of the token counts ([`UsageFields`](ChatEvent::UsageFields)).
    pub usage_fields: Extra,
    /// The last token counts.
    pub usage: Option<Usage>,
    /// Why the answer ended.
    pub finish_reason: Option<FinishReason>,
}

impl Answer {
    /// Reads `stream` to its end, up to [`ANSWER_LIMIT`] bytes of answer, or what
    /// [`Collect::limit`] says.
    ///
    /// # Errors
    ///
    /// The stream's own, [`ErrorKind::Truncated`] where it ends without
    /// [`ChatEvent::Finished`], and [`ErrorKind::Upstream`] with the code `answer_too_large` where
    /// it is larger than the limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream, and what was read of it is lost.
    ///
    /// ```
    /// use tower_qwen::chat::{Answer, ChatEvent, FinishReason};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_qwen::Error> {
    /// let stream = futures_util::stream::iter([
    ///     Ok(ChatEvent::Text("Hel".into())),
    ///     Ok(ChatEvent::Text("lo".into())),
    ///     Ok(ChatEvent::Finished(FinishReason::Stop)),
    /// ]);
    /// assert_eq!(Answer::collect(stream).await?.text, "Hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect<S: ChatStream>(stream: S) -> Collect<S> {
        Collect {
            stream,
            ending: Ending::new(),
            answer: Self::default(),
            rest: Rest::default(),
            left: ANSWER_LIMIT,
            limit: ANSWER_LIMIT,
        }
    }

    /// Takes one event in; what is joined at the end goes to `rest`.
    fn push(&mut self, event: ChatEvent, rest: &mut Rest) {
        match event {
            ChatEvent::Started(started) | ChatEvent::Resumed(started) => {
                self.conversation = started.conversation;
                self.response_id = started.response_id;
            }
            ChatEvent::Text(text) => grow(&mut self.text, &text),
            ChatEvent::Reasoning(text) => grow(&mut self.reasoning, &text),
            ChatEvent::ReasoningSignature(signature) => self.reasoning_signature = Some(signature),
            ChatEvent::ToolCall { id, name, .. } => {
                self.tool_calls.push(ToolCall::new(id, name, ""));
                rest.arguments.push(String::new());
            }
            ChatEvent::ToolArguments { index, json } => {
                if let Some(arguments) = rest.arguments.get_mut(index as usize) {
                    grow(arguments, &json);
                }
            }
            ChatEvent::Attachment(attachment) => self.attachments.push(attachment),
            // It is whole, or it is none.
            ChatEvent::Progress(_) => {}
            ChatEvent::Citation(citation) => self.citations.push(*citation),
            ChatEvent::ServerFields(fields) => rest.server_fields.push(fields),
            ChatEvent::ChoiceFields(fields) => rest.choice_fields.push(fields),
            ChatEvent::MessageFields(fields) => rest.message_fields.push(fields),
            ChatEvent::UsageFields(fields) => rest.usage_fields.push(fields),
            ChatEvent::Usage(usage) => self.usage = Some(usage),
            ChatEvent::Finished(reason) => self.finish_reason = Some(reason),
        }
    }
}

/// Appends `piece`. A long text grows by an eighth and not by doubling, for its room is memory,
/// too.
fn grow(text: &mut String, piece: &str) {
    /// From which length on, in bytes.
    const LONG: usize = 1024 * 1024;

    if text.len() >= LONG && text.capacity() - text.len() < piece.len() {
        text.reserve_exact(piece.len().max(text.len() / 8));
    }
    text.push_str(piece);
}

/// What an event adds to an answer, in bytes.
fn added(event: &ChatEvent) -> usize {
    let some = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
    match event {
        ChatEvent::Text(text) | ChatEvent::Reasoning(text) => text.len(),
        ChatEvent::ToolCall { id, name, .. } => ITEM + id.len() + name.len(),
        ChatEvent::ToolArguments { json, .. } => json.len(),
        ChatEvent::Attachment(attachment) => ITEM + attachment.url.len(),
        ChatEvent::Citation(citation) => {
            ITEM + citation.url.len() + some(&citation.title) + some(&citation.snippet)
        }
        ChatEvent::ServerFields(fields)
        | ChatEvent::ChoiceFields(fields)
        | ChatEvent::MessageFields(fields)
        | ChatEvent::UsageFields(fields) => fields.byte_len(),
        // Each takes the place of the one before.
        _ => 0,
    }
}

pin_project! {
    /// The future of [`Answer::collect`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Collect<S> {
        #[pin]
        stream: S,
        ending: Ending,
        answer: Answer,
        rest: Rest,
        // How many bytes of answer may still come.
        left: usize,
        limit: usize,
    }
}

impl<S> Collect<S> {
    /// Collects at most `bytes` of answer in place of [`ANSWER_LIMIT`]: text, thinking, arguments
    /// and what else it holds, a call, an attachment or a source counting 256 beside its texts.
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self.left = bytes;
        self
    }
}

/// Pieces of an answer that are joined when all of them are there, so that what came is not copied
/// with each.
#[derive(Debug, Default)]
struct Rest {
    /// Of each call.
    arguments: Vec<String>,
    server_fields: Vec<Extra>,
    choice_fields: Vec<Extra>,
    message_fields: Vec<Extra>,
    usage_fields: Vec<Extra>,
}

impl<S: ChatStream> Future for Collect<S> {
    type Output = Result<Answer, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // It ends with the first `Err`, and what comes after the end of the answer cannot make
        // it less complete.
        while let Some(event) = ready!(this.ending.poll_next(this.stream.as_mut(), cx)) {
            let event = event?;
            let Some(left) = this.left.checked_sub(added(&event)) else {
                return Poll::Ready(Err(too_large(*this.limit)));
            };
            *this.left = left;
            this.answer.push(event, this.rest);
        }
        let mut answer = std::mem::take(this.answer);
        let Rest { arguments, server_fields, choice_fields, message_fields, usage_fields } =
            std::mem::take(this.rest);
        answer.server_fields.merge_all(server_fields);
        answer.choice_fields.merge_all(choice_fields);
        answer.message_fields.merge_all(message_fields);
        answer.usage_fields.merge_all(usage_fields);
        for (call, arguments) in answer.tool_calls.iter_mut().zip(arguments) {
            call.arguments = arguments.into();
        }
        Poll::Ready(Ok(answer))
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::Upstream,
        format!(
            "the answer is larger than the {limit} bytes that an answer in one piece may have; ask \
             for a stream"
        ),
    )
    .with_code("answer_too_large")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on(events: Vec<Result<ChatEvent, Error>>) -> Result<Answer, Error> {
        tokio_test::block_on(Answer::collect(futures_util::stream::iter(events)))
    }

    #[test]
    fn calls_get_their_own_arguments() {
        let call = |index, name: &str| {
            Ok(ChatEvent::ToolCall { index, id: format!("call_{index}").into(), name: name.into() })
        };
        let arguments =
            |index, json: &str| Ok(ChatEvent::ToolArguments { index, json: json.into() });
        let answer = block_on(vec![
            call(0, "f"),
            arguments(0, "{\"a\""),
            call(1, "g"),
            arguments(1, "{}"),
            arguments(0, ":1}"),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ])
        .expect("complete");
        assert_eq!(
            answer.tool_calls,
            [ToolCall::new("call_0", "f", "{\"a\":1}"), ToolCall::new("call_1", "g", "{}")]
        );
    }

    #[test]
    fn an_end_without_finished_is_an_error() {
        let error = block_on(vec![Ok(ChatEvent::Text("half".into()))]).expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::Truncated);
    }

    #[test]
    fn an_error_item_ends_the_answer() {
        let error = block_on(vec![
            Ok(ChatEvent::Text("half".into())),
            Err(Error::new(ErrorKind::Quota, "used up")),
            Ok(ChatEvent::Finished(FinishReason::Stop)),
        ])
        .expect_err("the item");
        assert!(error.is_quota());
    }
}
