use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, Request, Response};
use tokio::time::Instant;
use tower_service::Service;
use tracing::debug;

use super::{
    breaker::Allowed,
    config::{Body, Config, Named, Stack, ask},
    stream::{FallbackStream, Report},
};
use crate::{
    Error, ErrorKind, Fate,
    chat::{ChatRequest, ChatStream, Destination},
    clock,
};

/// Says who answers.
const X_QWEN_UPSTREAM: HeaderName = HeaderName::from_static("x-qwen-upstream");

type Outcome = Result<Response<FallbackStream>, Error>;

/// The response future of [`Fallback`](super::Fallback).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    turn: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl ResponseFuture {
    pub(super) fn new(turn: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self { turn: Box::pin(turn) }
    }
}

impl Future for ResponseFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.turn.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// One request up to the commit point of whoever answers it.
pub(super) async fn turn<S, B>(
    inner: S,
    first: Named,
    others: Arc<[(Named, Stack)]>,
    config: Config,
    request: Request<ChatRequest>,
) -> Outcome
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream + Send + 'static,
{
    let (head, chat) = request.into_parts();
    let again = || Request::from_parts(head.clone(), chat.clone());
    // Only the first has the chat that a client names.
    let is_free = matches!(chat.destination, Destination::NewChat { .. });
    let others = if is_free { &*others } else { &[] };
    let mut asked = Asked { config, failed: None, wait: None };

    let is_last = others.is_empty();
    if let Some(report) = asked.may_ask(&first, !is_free) {
        let answer = within(asked.limit(is_last), ask(inner, again())).await;
        match asked.answered(answer, report) {
            Ok(response) => return Ok(response),
            Err(Some(error)) => return Err(error),
            Err(None) => {}
        }
    }
    let mut from = &first;
    for (at, (who, stack)) in others.iter().enumerate() {
        let is_last = at + 1 == others.len();
        let Some(report) = asked.may_ask(who, false) else { continue };
        asked.moved(from, who);
        let answer = within(asked.limit(is_last), stack(again())).await;
        match asked.answered(answer, report) {
            Ok(response) => return Ok(response),
            Err(Some(error)) => return Err(error),
            Err(None) => from = who,
        }
    }
    Err(asked.nobody())
}

/// What comes of asking one stack.
async fn within(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<Response<Body>, Error>>,
) -> Result<Response<Body>, Failed> {
    let answer = match limit {
        None => answer.await,
        Some(limit) => clock::within(limit, answer).await.ok_or(Failed::Late)?,
    };
    answer.map_err(Failed::Error)
}

/// Why a stack has not answered.
enum Failed {
    Error(Error),
    Late,
}

/// What has come of those that were asked.
struct Asked {
    config: Config,
    /// The last error, and why the next one is asked.
    failed: Option<(Option<Error>, &'static str)>,
    /// How long it takes until one may be asked again that is not asked now.
    wait: Option<Duration>,
}

impl Asked {
    /// Who is told how `who` has answered, if that may be asked; `anyway` it may.
    fn may_ask(&mut self, who: &Named, anyway: bool) -> Option<Report> {
        let now = Instant::now();
        match who.ask(&self.config, now) {
            Allowed::No(wait) if !anyway => {
                self.wait = Some(self.wait.map_or(wait, |known| known.min(wait)));
                self.failed.get_or_insert((None, "paused"));
                None
            }
            Allowed::Yes | Allowed::Probe | Allowed::No(_) => {
                Some(Report { who: who.clone(), config: self.config.clone(), sent: now })
            }
        }
    }

    fn limit(&self, is_last: bool) -> Option<Duration> {
        self.config.first_event.filter(|_| !is_last)
    }

    /// Notes that another is asked.
    fn moved(&self, from: &Named, to: &Named) {
        let cause = self.failed.as_ref().map_or("error", |(_, cause)| cause);
        debug!(from = &*from.name, to = &*to.name, cause, "another upstream is asked");
        metrics::counter!(
            "tower_qwen_fallback_total",
            "from" => from.name.to_string(),
            "to" => to.name.to_string(),
            "cause" => cause
        )
        .increment(1);
    }

    /// The response, the error that is the client's to hear, or neither: then the next is asked.
    fn answered(
        &mut self,
        answer: Result<Response<Body>, Failed>,
        report: Report,
    ) -> Result<Response<FallbackStream>, Option<Error>> {
        let error = match answer {
            Ok(mut response) => {
                if let Some(name) = &report.who.header {
                    response.headers_mut().insert(X_QWEN_UPSTREAM, name.clone());
                }
                return Ok(response.map(|body| FallbackStream::new(body, report)));
            }
            Err(Failed::Late) => {
                let message = "the upstream did not begin its answer in time";
                let error = Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned);
                report.who.note(&report.config, report.sent, false);
                self.failed = Some((Some(error), "late"));
                return Err(None);
            }
            Err(Failed::Error(error)) => error,
        };
        report.note(Err(&error));
        if !(self.config.when)(&error) {
            return Err(Some(error));
        }
        self.failed = Some((Some(error), "error"));
        Err(None)
    }

    /// The error where nobody has answered.
    fn nobody(self) -> Error {
        match (self.failed, self.wait) {
            (Some((Some(error), _)), _) => error,
            (_, wait) => {
                let message = "every upstream has failed lately, and is not asked for a moment";
                let error = Error::new(ErrorKind::Overloaded, message);
                error.with_retry_after(wait.unwrap_or(Duration::from_secs(1)))
            }
        }
    }
}
