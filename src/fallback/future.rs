use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{HeaderName, Request, Response};
use tower_service::Service;
use tracing::debug;

use super::{
    breaker::Allowed,
    config::Rules,
    stream::{FallbackStream, Given, Report},
};
use crate::{
    Error, ErrorKind, Fate,
    chat::{ChatRequest, ChatStream, Destination},
    clock,
};

/// Says who answers.
const X_QWEN_UPSTREAM: HeaderName = HeaderName::from_static("x-qwen-upstream");

type Outcome<B> = Result<Response<FallbackStream<B>>, Error>;

/// One request up to the commit point of whoever answers it.
pub(super) async fn turn<S, B>(
    mut inner: S,
    rules: Arc<Rules>,
    request: Request<ChatRequest>,
) -> Outcome<B>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream + Send + 'static,
{
    // Only the first has the chat that a client names.
    let is_free = matches!(request.body().destination, Destination::NewChat { .. });
    let last = if is_free { rules.others.len() } else { 0 };
    // The last that is asked gets the request itself.
    let mut request = Some(request);
    let mut next = |place: usize| match place == last {
        true => request.take(),
        false => request.clone(),
    };
    let mut asked = Asked { rules, last, failed: None, wait: None };

    let mut from = 0;
    if let Some(report) = asked.may_ask(0, !is_free)
        && let Some(request) = next(0)
    {
        let answer = async {
            poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
            let response = inner.call(request).await.map_err(Into::into)?;
            Ok(response.map(|answer| Given::First { answer }))
        };
        let answer = within(asked.limit(0), answer).await;
        match asked.answered(answer, report) {
            Ok(response) => return Ok(response),
            Err(Some(error)) => return Err(error),
            Err(None) => {}
        }
    }
    for place in 1..=last {
        let Some(report) = asked.may_ask(place, false) else { continue };
        let Some(request) = next(place) else { break };
        asked.moved(from, place);
        let stack = Arc::clone(&asked.rules.others[place - 1].1);
        let answer = async { Ok(stack(request).await?.map(|answer| Given::Other { answer })) };
        let answer = within(asked.limit(place), answer).await;
        match asked.answered(answer, report) {
            Ok(response) => return Ok(response),
            Err(Some(error)) => return Err(error),
            Err(None) => from = place,
        }
    }
    Err(asked.nobody())
}

/// What comes of asking one stack.
async fn within<B>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<Response<Given<B>>, Error>>,
) -> Result<Response<Given<B>>, Failed> {
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
    rules: Arc<Rules>,
    /// The place of the last that may be asked.
    last: usize,
    /// The last error, and why the next one is asked.
    failed: Option<(Option<Error>, &'static str)>,
    /// How long it takes until one may be asked again that is not asked now.
    wait: Option<Duration>,
}

impl Asked {
    /// Who is told how the stack at `place` has answered, if that may be asked; `anyway` it may.
    fn may_ask(&mut self, place: usize, anyway: bool) -> Option<Report> {
        let (allowed, ticket) = self.rules.named(place).ask(&self.rules.config);
        match allowed {
            Allowed::No(wait) if !anyway => {
                self.wait = Some(self.wait.map_or(wait, |known| known.min(wait)));
                self.failed.get_or_insert((None, "paused"));
                None
            }
            Allowed::Yes | Allowed::Probe | Allowed::No(_) => {
                Some(Report { rules: Arc::clone(&self.rules), place, ticket })
            }
        }
    }

    fn limit(&self, place: usize) -> Option<Duration> {
        self.rules.config.first_event.filter(|_| place != self.last)
    }

    /// Notes that another is asked.
    fn moved(&self, from: usize, to: usize) {
        let (from, to) = (self.rules.named(from), self.rules.named(to));
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
    fn answered<B>(
        &mut self,
        answer: Result<Response<Given<B>>, Failed>,
        report: Report,
    ) -> Result<Response<FallbackStream<B>>, Option<Error>> {
        let error = match answer {
            Ok(mut response) => {
                if let Some(name) = &self.rules.named(report.place).header {
                    response.headers_mut().insert(X_QWEN_UPSTREAM, name.clone());
                }
                return Ok(response.map(|answer| FallbackStream::new(answer, report)));
            }
            Err(Failed::Late) => {
                let message = "the upstream did not begin its answer in time";
                let error = Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned);
                report.note_that(false);
                self.failed = Some((Some(error), "late"));
                return Err(None);
            }
            Err(Failed::Error(error)) => error,
        };
        report.note(Err(&error));
        if !(self.rules.config.when)(&error) {
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
