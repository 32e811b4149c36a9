//! What is known of an answer, so that it can be gone on with.

use std::{
    mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use memchr::memchr2;
use tower_service::Service;
use tracing::debug;

use super::{
    ask::{self, Asked, ask},
    config::Config,
    seam::{Anchor, Piece, Seam},
};
use crate::{
    Error, ErrorKind, Fate,
    chat::{ChatEvent, ChatRequest, ChatStream, Conversation, Usage, truncated},
};

type Item = Option<Result<ChatEvent, Error>>;

/// The thread of one answer, which is taken up again where it breaks off.
pub(super) struct Thread<S, B> {
    service: S,
    request: Request<ChatRequest>,
    config: Config,
    /// How often it may still be asked for.
    tries: u32,
    course: Course<B>,
    said: String,
    /// Why the answer cannot be gone on with, if it cannot.
    obstacle: Option<&'static str>,
    /// Where the answer is.
    place: Option<Conversation>,
    /// What the streams before this one have cost, as far as they said.
    spent: Option<Usage>,
    /// The same and what this one has.
    usage: Option<Usage>,
    /// To be given behind what was read.
    held: Option<ChatEvent>,
    is_resumed: bool,
    is_finished: bool,
}

/// What is read.
enum Course<B> {
    /// What is new.
    New,
    /// Nothing yet: it is asked for.
    Asked { asked: Asked<B>, broken: Box<Broken> },
    /// What may be known.
    Looking(Box<Broken>),
    /// White space that may be known.
    Joining(Seam),
}

/// An answer that broke off.
struct Broken {
    error: Error,
    anchor: Anchor,
    seam: Seam,
    /// Where the one is that goes on with it.
    place: Option<Conversation>,
}

/// What becomes of an item that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is handed on.
    Passes,
    /// It is not.
    IsLeftOut,
    /// The stream that was read is over before its time. Another one is [asked for](Thread::asks), or
    /// the item is the last.
    IsOver,
}

impl<S, B> Thread<S, B> {
    /// The thread of the answer to `request`.
    pub(super) fn new(service: &S, request: &Request<ChatRequest>, config: Config) -> Self
    where
        S: Clone,
    {
        Self {
            service: service.clone(),
            request: request.clone(),
            config,
            tries: config.tries,
            course: Course::New,
            said: String::new(),
            obstacle: None,
            place: None,
            spent: None,
            usage: None,
            held: None,
            is_resumed: false,
            is_finished: false,
        }
    }

    /// An event that waits to be given. It was read.
    pub(super) fn take_held(&mut self) -> Option<ChatEvent> {
        self.held.take()
    }

    /// Whether another answer is asked for.
    pub(super) const fn asks(&self) -> bool {
        matches!(self.course, Course::Asked { .. })
    }

    /// The stream of the answer that was asked for.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Result<B, Error>> {
        let course = mem::replace(&mut self.course, Course::New);
        let Course::Asked { mut asked, broken } = course else {
            self.course = course;
            return Poll::Ready(Err(truncated()));
        };
        let polled = asked.as_mut().poll(cx);
        self.course = match polled {
            Poll::Pending => Course::Asked { asked, broken },
            Poll::Ready(_) => Course::Looking(broken),
        };
        polled
    }

    /// Notes what stands in the way of going on, and lets go what is kept for it.
    fn cannot(&mut self, cause: &'static str) {
        self.obstacle.get_or_insert(cause);
        self.said = String::new();
    }

    fn say(&mut self, text: &str) {
        if self.obstacle.is_some() {
            return;
        }
        if self.said.len() + text.len() > self.config.max_kept {
            return self.cannot("length");
        }
        // Calls of every form begin with one of these.
        if self.request.body().has_calls_in_text && memchr2(b'<', b'{', text.as_bytes()).is_some() {
            return self.cannot("call");
        }
        self.said.push_str(text);
    }
}

impl<S, B> Thread<S, B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    /// Takes the next item that was read, and may change it.
    pub(super) fn read(&mut self, item: &mut Item) -> Step {
        if matches!(self.course, Course::New)
            && let Some(Ok(ChatEvent::Text(text))) = item
        {
            self.say(text);
            return Step::Passes;
        }
        match &self.course {
            Course::New | Course::Joining(_) => self.read_new(item),
            Course::Looking(_) | Course::Asked { .. } => self.read_known(item),
        }
    }

    /// The item is one of the answer.
    fn read_new(&mut self, item: &mut Item) -> Step {
        match item {
            Some(Ok(event)) => match event {
                ChatEvent::Text(text) => {
                    let Course::Joining(seam) = &mut self.course else { return Step::Passes };
                    let Piece::NewFrom(from) = seam.push(text) else { return Step::IsLeftOut };
                    self.course = Course::New;
                    *text = text.slice(from..);
                    self.say(text);
                }
                ChatEvent::Started(started) => self.place = started.conversation.clone(),
                ChatEvent::Usage(usage) => self.count(usage),
                ChatEvent::ToolCall { .. } | ChatEvent::ToolArguments { .. } => self.cannot("call"),
                ChatEvent::Attachment(_) => self.cannot("attachment"),
                // What the model thinks before it goes on belongs to no part of the answer.
                ChatEvent::Reasoning(_) | ChatEvent::ReasoningSignature(_) if self.is_resumed => {
                    return Step::IsLeftOut;
                }
                // The characters are counted from where the other answer began.
                ChatEvent::Citation(citation) if self.is_resumed => citation.range = None,
                ChatEvent::Finished(_) => self.is_finished = true,
                _ => {}
            },
            _ if self.is_finished => {}
            Some(Err(error)) => {
                let error = mem::replace(error, truncated());
                return self.broke(error, item);
            }
            None => return self.broke(truncated(), item),
        }
        Step::Passes
    }

    /// The answer broke off.
    fn broke(&mut self, error: Error, item: &mut Item) -> Step {
        let asked = match is_broken(&error) {
            true => self.anchor().and_then(|anchor| Ok((self.next(&anchor)?, anchor))),
            false => Err(None),
        };
        match asked {
            Ok((request, anchor)) => {
                let seam = Seam::new(&anchor);
                let broken = Box::new(Broken { error, anchor, seam, place: None });
                self.ask(request, broken);
            }
            Err(cause) => {
                if let Some(cause) = cause {
                    debug!(%error, cause, "an answer that broke off is not gone on with");
                    metrics::counter!("tower_qwen_resume_refused_total", "cause" => cause)
                        .increment(1);
                }
                *item = Some(Err(error));
            }
        }
        Step::IsOver
    }

    /// The end of what was said; otherwise why the answer is not gone on with, where that is worth a
    /// word.
    fn anchor(&self) -> Result<Anchor, Option<&'static str>> {
        if self.tries == 0 {
            return Err(None);
        }
        if let Some(obstacle) = self.obstacle {
            return Err(Some(obstacle));
        }
        if self.said.trim().is_empty() {
            return Err(Some("no_text"));
        }
        Anchor::of(&self.said).ok_or(Some("repetition"))
    }

    /// What is asked for; otherwise why nothing is.
    fn next(&self, anchor: &Anchor) -> Result<Request<ChatRequest>, Option<&'static str>> {
        let mut request = self.request.clone();
        let chat = request.body_mut();
        let has_tools = chat.has_calls_in_text || !chat.tools.is_empty();
        match &self.place {
            Some(place) if place.parent_id.is_some() => {
                ask::in_chat(chat, place.clone(), anchor);
            }
            Some(_) => return Err(Some("no_chat")),
            None if !self.config.replay || chat.conversation().is_some() => {
                return Err(Some("no_chat"));
            }
            None if has_tools => return Err(Some("tools")),
            None => ask::replayed(chat, &self.said, anchor),
        }
        Ok(request)
    }

    fn ask(&mut self, request: Request<ChatRequest>, broken: Box<Broken>) {
        self.tries -= 1;
        self.spent = self.usage;
        debug!(error = %broken.error, said = self.said.len(), "an answer that broke off is gone on with");
        self.course = Course::Asked { asked: ask(self.service.clone(), request), broken };
    }

    /// The item is one of the answer that may go on with ours.
    fn read_known(&mut self, item: &mut Item) -> Step {
        let Course::Looking(broken) = &mut self.course else { return Step::IsLeftOut };
        match item {
            Some(Ok(ChatEvent::Text(text))) => match broken.seam.push(text) {
                Piece::Known if broken.seam.is_found() => self.joined(None, item),
                Piece::Known => Step::IsLeftOut,
                Piece::NewFrom(from) => {
                    let rest = ChatEvent::Text(text.slice(from..));
                    self.joined(Some(rest), item)
                }
                Piece::Alien => self.failed("other_answer", item),
            },
            Some(Ok(ChatEvent::Started(started))) => {
                broken.place = started.conversation.clone();
                Step::IsLeftOut
            }
            Some(Ok(ChatEvent::Usage(usage))) => {
                self.count(usage);
                Step::Passes
            }
            Some(Ok(
                ChatEvent::Reasoning(_)
                | ChatEvent::ReasoningSignature(_)
                | ChatEvent::Citation(_)
                | ChatEvent::ServerFields(_)
                | ChatEvent::ChoiceFields(_)
                | ChatEvent::MessageFields(_)
                | ChatEvent::UsageFields(_)
                | ChatEvent::Resumed(_)
                | ChatEvent::Progress(_),
            )) => Step::IsLeftOut,
            Some(Ok(
                ChatEvent::ToolCall { .. }
                | ChatEvent::ToolArguments { .. }
                | ChatEvent::Attachment(_)
                | ChatEvent::Finished(_),
            )) => self.failed("other_answer", item),
            Some(Err(error)) if self.tries > 0 && may_be_asked_again(error) => {
                debug!(%error, "going on with an answer failed, and is tried again");
                count("failed");
                self.ask_again(item)
            }
            Some(Err(_)) | None => self.failed("failed", item),
        }
    }

    /// The other answer goes on with ours, by `rest` at first.
    fn joined(&mut self, rest: Option<ChatEvent>, item: &mut Item) -> Step {
        let Course::Looking(broken) = mem::replace(&mut self.course, Course::New) else {
            return Step::IsLeftOut;
        };
        debug!(said = self.said.len(), "the answer goes on where it broke off");
        count("resumed");
        self.is_resumed = true;
        if let Some(ChatEvent::Text(rest)) = &rest {
            self.say(rest);
        } else {
            self.course = Course::Joining(broken.seam);
        }
        let Some(place) = broken.place else {
            *item = rest.map(Ok);
            return if item.is_some() { Step::Passes } else { Step::IsLeftOut };
        };
        self.held = rest;
        self.place = Some(place.clone());
        *item = Some(Ok(ChatEvent::Resumed(place.into())));
        Step::Passes
    }

    /// The same is asked for once more.
    fn ask_again(&mut self, item: &mut Item) -> Step {
        let Course::Looking(mut broken) = mem::replace(&mut self.course, Course::New) else {
            return Step::IsLeftOut;
        };
        broken.seam = Seam::new(&broken.anchor);
        broken.place = None;
        match self.next(&broken.anchor) {
            Ok(request) => self.ask(request, broken),
            Err(_) => *item = Some(Err(broken.error)),
        }
        Step::IsOver
    }

    /// Nothing goes on with our answer, which ends with its own error.
    fn failed(&mut self, outcome: &'static str, item: &mut Item) -> Step {
        let Course::Looking(broken) = mem::replace(&mut self.course, Course::New) else {
            return Step::IsLeftOut;
        };
        match item {
            Some(Err(error)) => debug!(%error, "nobody goes on with the answer"),
            _ => debug!("the upstream gave another answer in place of the rest"),
        }
        count(outcome);
        *item = Some(Err(broken.error));
        Step::IsOver
    }

    /// Adds to `usage` what the streams before have cost.
    fn count(&mut self, usage: &mut Usage) {
        if let Some(spent) = &self.spent {
            *usage = spent.and(usage);
        }
        self.usage = Some(*usage);
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("tower_qwen_resume_tries_total", "outcome" => outcome).increment(1);
}

/// Whether an answer broke off that the upstream had not ended: it, or the connection, went away.
fn is_broken(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Truncated => true,
        ErrorKind::Upstream => error.fate() == Fate::Unknown,
        _ => false,
    }
}

/// Whether the request may be sent once more after this one.
fn may_be_asked_again(error: &Error) -> bool {
    is_broken(error) || error.fate() == Fate::Unsent
}
