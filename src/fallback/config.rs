use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_core::Stream;
use http::{HeaderValue, Request, Response};
use tokio::time::Instant;
use tower_service::Service;
use tracing::warn;

use super::breaker::{Allowed, Breaker, Breaking, Change, Ticket};
use crate::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatRequest, ChatStream},
};

/// The stream of an answer, whoever gives it.
pub(super) type Body = Pin<Box<dyn Stream<Item = Result<ChatEvent, Error>> + Send>>;

/// What a stack says to a request.
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

/// A stack, whatever its types.
pub(super) type Stack = Arc<dyn Fn(Request<ChatRequest>) -> Asking + Send + Sync>;

/// Asks `stack` when it is ready.
pub(super) async fn ask<S, B>(
    mut stack: S,
    request: Request<ChatRequest>,
) -> Result<Response<Body>, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    B: ChatStream + Send + 'static,
{
    poll_fn(|cx| stack.poll_ready(cx)).await.map_err(Into::into)?;
    let response = stack.call(request).await.map_err(Into::into)?;
    Ok(response.map(|body| Box::pin(body) as Body))
}

/// Says whether an error is one for which another upstream is asked.
type When = dyn Fn(&Error) -> bool + Send + Sync;

/// What all requests go by, and who is asked.
pub(super) struct Rules {
    pub(super) first: Named,
    pub(super) others: Box<[(Named, Stack)]>,
    pub(super) config: Config,
}

impl Rules {
    /// The stack at this place: the first, or one of the others behind it.
    pub(super) fn named(&self, place: usize) -> &Named {
        match place.checked_sub(1) {
            None => &self.first,
            Some(other) => &self.others[other].0,
        }
    }
}

/// What is set.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) when: Arc<When>,
    pub(super) first_event: Option<Duration>,
    pub(super) breaking: Option<Breaking>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            when: Arc::new(is_the_upstreams),
            first_event: None,
            breaking: Some(Breaking::new()),
        }
    }
}

/// Whether somebody else may well answer what this one has not.
fn is_the_upstreams(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Auth
        | ErrorKind::Permission
        | ErrorKind::AccountUnavailable
        | ErrorKind::ConversationBusy
        | ErrorKind::RateLimited
        | ErrorKind::Quota
        | ErrorKind::ModelQuota
        | ErrorKind::Upstream
        | ErrorKind::Truncated
        | ErrorKind::Challenge
        | ErrorKind::Overloaded
        | ErrorKind::Timeout => true,
        ErrorKind::InvalidRequest
        | ErrorKind::ContextLength
        | ErrorKind::ContentFilter
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::MethodNotAllowed
        | ErrorKind::ModelNotFound
        | ErrorKind::NotFound
        | ErrorKind::ConversationLost
        | ErrorKind::Internal
        | ErrorKind::Unsupported => false,
    }
}

/// One of the stacks by its name, and how it is. Clones share that.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) header: Option<HeaderValue>,
    breaker: Arc<Mutex<Breaker>>,
}

impl Named {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            // One that cannot stand in a header is not told.
            header: HeaderValue::from_str(name).ok(),
            breaker: Arc::default(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        // Nothing that is done under the lock leaves it half done.
        change(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it may be asked now.
    pub(super) fn ask(&self, config: &Config) -> (Allowed, Ticket) {
        match &config.breaking {
            Some(rules) => self.with(|breaker| breaker.ask(rules, Instant::now)),
            None => (Allowed::Yes, Ticket::default()),
        }
    }

    /// Takes note of how a request has gone.
    pub(super) fn note(&self, config: &Config, ticket: Ticket, is_well: bool) {
        let Some(rules) = &config.breaking else { return };
        let change = self.with(|breaker| match is_well {
            true => breaker.succeeded(ticket),
            false => breaker.failed(rules, ticket, Instant::now()),
        });
        let state = match change {
            None => return,
            Some(Change::Opened) => "open",
            Some(Change::Closed) => "closed",
        };
        warn!(upstream = &*self.name, state, "whether the upstream is asked has changed");
        let name = self.name.to_string();
        metrics::counter!("tower_qwen_fallback_circuit_total", "upstream" => name, "state" => state)
            .increment(1);
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("first_event", &self.first_event)
            .field("breaking", &self.breaking)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
