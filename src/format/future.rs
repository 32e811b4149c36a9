use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{ask::Wanted, stream::FormatStream};
use crate::{
    Error, ErrorKind,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStream, Conversation, FinishReason, Message, Role,
        Started,
    },
};

/// The longest answer that is checked, in bytes.
const ANSWER_LEN: usize = 4 * 1024 * 1024;

type Outcome<B> = Result<Response<FormatStream<B>>, Error>;

pin_project! {
    /// The response future of [`Format`](super::Format).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Through { #[pin] call: F },
        Formed { formed: Pin<Box<dyn Future<Output = Outcome<B>> + Send>> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) const fn through(call: F) -> Self {
        Self { state: State::Through { call } }
    }

    pub(super) fn formed(formed: impl Future<Output = Outcome<B>> + Send + 'static) -> Self {
        Self { state: State::Formed { formed: Box::pin(formed) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Error>,
{
    type Output = Outcome<B>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Through { call } => {
                let response = ready!(call.poll(cx)).map_err(Into::into)?;
                Poll::Ready(Ok(response.map(FormatStream::through)))
            }
            StateProjection::Formed { formed } => formed.as_mut().poll(cx),
        }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Asks for an answer in the form that is `wanted`, and once more where it is not in it.
pub(super) async fn formed<S, B>(
    mut inner: S,
    request: Request<ChatRequest>,
    wanted: Wanted,
) -> Outcome<B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream,
{
    let (parts, mut chat) = request.into_parts();
    let mut count = 0;
    loop {
        let attempt = Request::from_parts(parts.clone(), chat.clone());
        let response = inner.call(attempt).await.map_err(Into::into)?;
        let (head, events) = response.into_parts();
        let mut answer = Answer::collect(events).limit(ANSWER_LEN).await?;
        count += 1;
        let is_whole = matches!(answer.finish_reason, None | Some(FinishReason::Stop));
        if !is_whole || !answer.tool_calls.is_empty() {
            return Ok(Response::from_parts(head, given(answer)));
        }
        let why = match wanted.find(&answer.text) {
            Ok(json) => {
                answer.text = json.to_owned();
                counted(if count == 1 { "first" } else { "second" });
                return Ok(Response::from_parts(head, given(answer)));
            }
            Err(why) => why,
        };
        if count == 2 {
            counted("refused");
            let message = format!("the model did not answer in the form that was asked for: {why}");
            let error = Error::new(ErrorKind::Upstream, message);
            return Err(error.with_code("response_format_not_kept"));
        }
        tracing::debug!(%why, "the answer is not in the form; the model is asked once more");
        ask_again(&mut chat, answer, &wanted.again(&why));
        poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    }
}

/// The next turn: in the chat that the answer is in, or else with the answer in the history.
fn ask_again(chat: &mut ChatRequest, answer: Answer, line: &str) {
    let question = Message::new(Role::User, line.to_owned());
    match answer.conversation {
        Some(place) if place.parent_id.is_some() => {
            let account = place.account.or_else(|| chat.account.clone());
            chat.destination = Conversation { account, ..place }.into();
            chat.history = vec![question].into();
            chat.tools_changed = false;
        }
        _ => {
            chat.history.push(Message::new(Role::Assistant, answer.text));
            chat.history.push(question);
        }
    }
}

/// The answer as a stream.
fn given<B>(answer: Answer) -> FormatStream<B> {
    let mut events = Vec::with_capacity(6 + 2 * answer.tool_calls.len());
    if answer.conversation.is_some() || answer.response_id.is_some() {
        let mut started = Started::new();
        started.conversation = answer.conversation;
        started.response_id = answer.response_id;
        events.push(ChatEvent::Started(started.into()));
    }
    if !answer.reasoning.is_empty() {
        events.push(ChatEvent::Reasoning(answer.reasoning.into()));
        events.extend(answer.reasoning_signature.map(ChatEvent::ReasoningSignature));
    }
    if !answer.text.is_empty() {
        events.push(ChatEvent::Text(answer.text.into()));
    }
    events.extend(answer.attachments.into_iter().map(ChatEvent::Attachment));
    events
        .extend(answer.citations.into_iter().map(|citation| ChatEvent::Citation(citation.into())));
    for (index, call) in (0..).zip(answer.tool_calls) {
        events.push(ChatEvent::ToolCall { index, id: call.id, name: call.name });
        if !call.arguments.is_empty() {
            events.push(ChatEvent::ToolArguments { index, json: call.arguments });
        }
    }
    if !answer.server_fields.is_empty() {
        events.push(ChatEvent::ServerFields(answer.server_fields));
    }
    if !answer.choice_fields.is_empty() {
        events.push(ChatEvent::ChoiceFields(answer.choice_fields));
    }
    if !answer.message_fields.is_empty() {
        events.push(ChatEvent::MessageFields(answer.message_fields));
    }
    if !answer.usage_fields.is_empty() {
        events.push(ChatEvent::UsageFields(answer.usage_fields));
    }
    events.extend(answer.usage.map(ChatEvent::Usage));
    events.push(ChatEvent::Finished(answer.finish_reason.unwrap_or(FinishReason::Stop)));
    FormatStream::whole(events)
}

fn counted(result: &'static str) {
    metrics::counter!("tower_qwen_format_answers_total", "result" => result).increment(1);
}
