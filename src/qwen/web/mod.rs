//! The adapter to chat.qwen.ai.
//!
//! [`QwenWebLayer`] turns an HTTP service that reaches chat.qwen.ai into a service of the middle:
//! a [`ChatRequest`](crate::chat::ChatRequest) goes in, a stream of
//! [`ChatEvent`](crate::chat::ChatEvent)s comes out.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error, FullBody,
//!     chat::{Answer, ChatRequest, Message, Role},
//!     qwen::web::QwenWebLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // In the place of this one stands `QwenUpstream`.
//! let upstream = service_fn(|request: Request<FullBody>| async move {
//!     let (kind, body) = match request.uri().path() {
//!         "/api/v2/chats/new" => {
//!             ("application/json", r#"{"success": true, "data": {"id": "c-1"}}"#)
//!         }
//!         _ => (
//!             "text/event-stream",
//!             concat!(
//!                 r#"data: {"response.created": {"chat_id": "c-1", "response_id": "r-1"}}"#,
//!                 "\n\n",
//!                 r#"data: {"choices": [{"delta": {"content": "Hi", "phase": "answer"}}]}"#,
//!                 "\n\n",
//!                 r#"data: {"choices": [{"delta": {"phase": "answer", "status": "finished"}}]}"#,
//!                 "\n\n",
//!             ),
//!         ),
//!     };
//!     Response::builder().header("content-type", kind).body(FullBody::from(body))
//! });
//! let service = ServiceBuilder::new().layer(QwenWebLayer::new()).service(upstream);
//!
//! let request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
//! let response = service.oneshot(Request::new(request)).await?;
//! let answer = Answer::collect(response.into_body()).await?;
//! assert_eq!(answer.text, "Hi");
//! assert_eq!(answer.conversation.and_then(|at| at.parent_id).as_deref(), Some("r-1"));
//! # Ok(())
//! # }
//! ```
//!
//! The wire, as far as it is known, is in part A of `docs/reference/qwen-wire.md`.
//!
//! # A turn
//!
//! 1. Without a [`conversation`](crate::chat::ChatRequest::conversation), or with one that names
//!    no chat, a chat is opened. With one the turn goes on from its `parent_id`, or from the
//!    root where it has none.
//! 2. The messages are folded into one, for upstream takes no more: a single user message
//!    goes as it is; of several the instructions stand first, then the others in their order,
//!    each under a line that says who speaks: `[system]`, `[user: ann]`, `[assistant]`,
//!    `[calls get_weather, id call_1]`, `[tool result: get_weather, id call_1]`, `[thinks]`.
//!    Images with `https:` URLs become `files`, with `[image 1]` in their place; what cannot be
//!    carried is an error that names the part.
//! 3. The answer is read to its first content; only then the response future resolves.
//!
//! Function tools, sampling fields and everything in
//! [`extra`](crate::chat::ChatRequest::extra) mean nothing to this upstream and are not sent
//!; [`ToolCallLayer`](crate::tool) puts tools into the prompt. Read are: the model, the
//! reasoning options, the [kind](crate::chat::ChatRequest::kind) of the answer, `web_search_options` and
//! a tool of type `web_search`.
//!
//! The page knows two gears of thinking that a request can choose from: `minimal`, `none` and no
//! thinking are the fast one, every other effort or budget is the other, with as much of the budget
//! as upstream takes. A model that is known to think always gets no other. Where that is not what
//! was asked for, the response has the header `x-qwen-effort`, such as `low; sent=on`; the
//! [other adapter](super::compatible#thinking) has the same, and says how it is read.
//!
//! A chat is opened for its first turn. Where that turn comes to nothing before the response future
//! has resolved, because it was refused or because the client left, nobody knows of the chat:
//! it is [deleted](QwenWebLayer::delete_orphans) in the background, also where the client left
//! while it was opened.
//!
//! Every call of a turn has the [headers](super#headers) that travel, and the request's extensions.
//!
//! # Images and videos
//!
//! A request of the [kind](crate::chat::ChatRequest::kind) `Image` or `Video` has the user's last message
//! for its prompt, and nothing of the messages before it. With an image among its parts that is changed,
//! or is what the video begins with. The page makes five shapes, of which that is asked for which is nearest
//! to the [size](crate::chat::MediaOptions::size); where it is another one, the response has the header
//! `x-qwen-size`, such as `1536x1024; sent=4:3`. A video has about five seconds.
//!
//! An image comes in the stream. Where the stream ends without it, the record of the chat is looked up
//! before it is given up. A video is a task that upstream is asked about
//! ([`task_interval`](QwenWebLayer::task_interval)), with [`Progress`](crate::chat::ChatEvent::Progress) as
//! it goes. The response future resolves when the task was begun. Upstream has no way to cancel one: a
//! request that is dropped leaves the task to go on, and its video in the account's chat. A credential
//! that ends while the task runs is not renewed for it.
//!
//! # The answer
//!
//! | upstream's phase | events |
//! |---|---|
//! | `answer`, or none named | [`Text`](crate::chat::ChatEvent::Text) |
//! | `think`, `thinking_summary` | [`Reasoning`](crate::chat::ChatEvent::Reasoning); of cumulative lists only what is new |
//! | `web_search` | [`Citation`](crate::chat::ChatEvent::Citation) for each result |
//! | `image_gen`, `image_gen_tool` | an `Attachment` for each image; [`OpenAiLayer`](crate::openai) shows it as Markdown |
//! | any other | nothing |
//!
//! [`Started`](crate::chat::ChatEvent::Started) comes first, as soon as upstream names the
//! answer; where it never does, there is none. [`Usage`](crate::chat::ChatEvent::Usage) comes
//! once, with the last counts, right before
//! [`Finished`](crate::chat::ChatEvent::Finished).
//!
//! # Errors
//!
//! chat.qwen.ai reports nearly every failure with HTTP status 200: in a JSON envelope, in an
//! event, or as a page of its anti-bot layer. All become an
//! [`Error`](crate::Error) of the kind that it stands for. Upstream's words in it are
//! cut to 400 characters, and what looks like a credential is masked. An answer that ends
//! without upstream's terminal event is [`Truncated`](crate::ErrorKind::Truncated); where a gateway has
//! put a `[DONE]` in its place, it ends with [`Length`](crate::chat::FinishReason::Length), for nobody
//! has said that all of it has come. Behind the terminal event nothing is waited for, and behind
//! another server's finish reason 2 s at most ([`grace`](QwenWebLayer::grace)).
//!
//! A field of another type than expected costs no answer, and events in OpenAI's own shape are read as
//! [`compatible`](super::compatible) servers' are, with the same repairs. A redirect to the page where
//! people sign in means that the credential is not taken.
//!
//! # Observability
//!
//! Counters: `tower_qwen_web_turns_total`, `tower_qwen_web_errors_total` (label `kind`; errors
//! before the commit point), `tower_qwen_web_stops_total`, `tower_qwen_web_repairs_total`
//! (label `repair`), `tower_qwen_web_orphans_total`
//! (label `result`, `deleted` or `failed`: chats that nobody came to know of),
//! `tower_qwen_tasks_total` (labels `upstream`, which is `web`, and `outcome`: `made`, `failed`, `lost`,
//! `timeout` or `left`: videos). Tracing: `DEBUG` for calls and
//! refusals, with chat ids, sizes and upstream's codes; `WARN` for the anti-bot layer; `ERROR`
//! where upstream does not take the shape of a request.

mod config;
mod delete;
mod envelope;
mod error;
mod fast;
mod fold;
mod fresh;
mod head;
mod kept;
mod layer;
mod making;
mod request;
mod service;
mod stop;
mod stopping;
mod stream;
mod turn;
mod wire;

pub(super) use self::{
    delete::{chat_uri, delete},
    envelope::envelope,
    error::Call,
};
pub use self::{layer::QwenWebLayer, service::QwenWeb, stream::AnswerStream};
use crate::chat::AnswerKind;

/// How much the model thinks: the gears of upstream's own page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Thinking {
    /// Not at all: the first token comes soonest.
    #[default]
    Fast,
    /// As the model sees fit.
    Auto,
    /// Always.
    Thinking,
}

impl Thinking {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "Fast",
            Self::Auto => "Auto",
            Self::Thinking => "Thinking",
        }
    }
}

/// What kind of answer is made, where a request does not say another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChatType {
    /// Text.
    #[default]
    Text,
    /// Text after a web search.
    Search,
    /// An image.
    Image,
    /// A change to an image.
    ImageEdit,
    /// A video: no stream but a task, which is asked about.
    Video,
    /// A video that begins with an image.
    VideoFromImage,
    /// A long report out of many searches.
    DeepResearch,
    /// A program or document of its own.
    Artifacts,
    /// A web page.
    WebDev,
    /// A travel plan.
    Travel,
    /// A lesson.
    Learn,
}

impl ChatType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "t2t",
            Self::Search => "search",
            Self::Image => "t2i",
            Self::ImageEdit => "image_edit",
            Self::Video => "t2v",
            Self::VideoFromImage => "i2v",
            Self::DeepResearch => "deep_research",
            Self::Artifacts => "artifacts",
            Self::WebDev => "web_dev",
            Self::Travel => "travel",
            Self::Learn => "learn",
        }
    }

    /// What is made in place of a text.
    const fn makes(self) -> Option<AnswerKind> {
        match self {
            Self::Image | Self::ImageEdit => Some(AnswerKind::Image),
            Self::Video | Self::VideoFromImage => Some(AnswerKind::Video),
            _ => None,
        }
    }
}
