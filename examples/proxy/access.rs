//! One line of the log for each request, when all is known of it: who asked for what, who answered, what
//! it took and how it ended.
//!
//! What is known comes from several places and at different times: the status with the head, the model and
//! the tokens when the answer is settled, which may be some seconds after its client has left. So each of them
//! holds an [`Access`], and the line is written when the last one has let go of it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use ::metrics::histogram;
use axum::{
    extract::Request,
    http::{Extensions, HeaderMap, StatusCode},
};
use tower_qwen::{
    Text,
    chat::Tenant,
    usage::{Outcome, Settlement},
};
use tracing::{Level, debug, enabled, info};

use super::{
    board::{Board, Ended, Row, UnderWay},
    clients::Client,
    lanes::X_QWEN_UPSTREAM,
    metrics,
    trace::X_REQUEST_ID,
};

/// The target of these lines.
pub(crate) const TARGET: &str = "proxy::access";

/// What is known of a request; a clone is the same.
#[derive(Clone)]
pub(crate) struct Access(Arc<Line>);

#[derive(Debug)]
struct Line {
    board: Board,
    /// Whether the line is written.
    is_logged: bool,
    method: axum::http::Method,
    path: String,
    id: Option<String>,
    begun: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    status: Option<StatusCode>,
    upstream: Option<String>,
    client: Option<Client>,
    model: Option<Text>,
    /// When the client had its answer, or was gone.
    total: Option<Duration>,
    is_read: bool,
    /// Whether an upstream was asked.
    is_asked: bool,
    settlement: Option<Settlement>,
}

impl Access {
    /// That of `request`; it is among the extensions from now on, and on the `board` until it ends.
    /// None of what is asked every few seconds by whoever looks after the proxy, unless that is logged or
    /// counted.
    pub(crate) fn open(request: &mut Request, board: &Board) -> Option<Self> {
        let is_quiet = is_quiet(request.uri().path());
        let is_logged = match is_quiet {
            true => enabled!(target: TARGET, Level::DEBUG),
            false => enabled!(target: TARGET, Level::INFO),
        };
        if is_quiet && !is_logged && !metrics::is_on() {
            return None;
        }
        let id = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        let access = Self(Arc::new(Line {
            board: board.clone(),
            is_logged,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            id: id.map(str::to_owned),
            begun: Instant::now(),
            known: Mutex::default(),
        }));
        if !is_quiet {
            let line: Weak<Line> = Arc::downgrade(&access.0);
            board.begin(line);
        }
        request.extensions_mut().insert(access.clone());
        Some(access)
    }

    /// That of the request with these extensions.
    pub(crate) fn of(request: &Extensions) -> Option<Self> {
        request.get::<Self>().cloned()
    }

    /// Notes whose request it is.
    pub(crate) fn client(&self, client: Client) {
        self.0.known().client = Some(client);
    }

    /// Notes which model the client asks for.
    pub(crate) fn model(&self, model: &Text) {
        self.0.known().model = Some(model.clone());
    }

    /// Notes that an upstream is asked. All that was before is the proxy's own time.
    pub(crate) fn asked(&self) {
        let mut known = self.0.known();
        if !std::mem::replace(&mut known.is_asked, true) {
            drop(known);
            histogram!("tower_qwen_proxy_overhead_seconds").record(self.0.begun.elapsed());
        }
    }

    /// Notes the head of the response.
    pub(crate) fn head(&self, status: StatusCode, headers: &HeaderMap) {
        let upstream = headers.get(X_QWEN_UPSTREAM);
        let upstream = upstream.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        let mut known = self.0.known();
        (known.status, known.upstream) = (Some(status), upstream);
    }

    /// Notes that the client has read its answer to the end, or that it is gone.
    pub(crate) fn ended(&self, is_read: bool) {
        let total = self.0.begun.elapsed();
        histogram!("tower_qwen_proxy_request_seconds").record(total);
        let mut known = self.0.known();
        (known.total, known.is_read) = (Some(total), is_read);
    }

    /// Notes what the request has come to.
    pub(crate) fn settle(&self, settlement: &Settlement) {
        self.0.known().settlement = Some(settlement.clone());
    }
}

impl Line {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Every state of it is sound.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line, at a level that has to be a word.
macro_rules! write_line {
    ($log:ident, $line:ident, $known:ident, $settled:ident, $($field:ident = $value:expr),*) => {
        $log!(
            target: TARGET,
            // It has all that the span says.
            parent: None,
            method = %$line.method,
            path = $line.path,
            id = $line.id,
            $($field = $value,)*
        )
    };
}

impl Drop for Line {
    fn drop(&mut self) {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(known);
        let settled = known.settlement.as_ref();
        let (outcome, reason) = known.outcome();
        let total = known.total.unwrap_or_else(|| self.begun.elapsed());
        let tenant = known.client.as_ref().and_then(|client| client.tenant);
        let upstream = settled.and_then(|settled| settled.upstream.as_deref());
        let model = known.model.as_deref().or(settled.map(|settled| settled.model.as_str()));
        let usage = settled.map(|settled| settled.usage);
        let upstream = upstream.or(known.upstream.as_deref());
        if !is_quiet(&self.path) {
            self.board.end(&Ended {
                path: &self.path,
                status: known.status.map(|status| status.as_u16()),
                client: known.client.map(|client| client.to_string()),
                model,
                upstream,
                outcome,
                reason: match settled.map(|settled| settled.outcome) {
                    Some(Outcome::Failed(_)) => reason.clone(),
                    _ => None,
                },
                prompt_tokens: usage.map_or(0, |usage| usage.prompt_tokens),
                completion_tokens: usage.map_or(0, |usage| usage.completion_tokens),
                first_event: settled.and_then(|settled| settled.first_event),
            });
        }
        if !self.is_logged {
            return;
        }
        macro_rules! line {
            ($log:ident) => {
                write_line!(
                    $log,
                    self,
                    known,
                    settled,
                    status = known.status.map(|status| status.as_u16()),
                    client = known.client.map(tracing::field::display),
                    tenant = tenant.map(|tenant| tracing::field::display(Tag(tenant))),
                    model = model,
                    upstream = upstream,
                    prompt_tokens = usage.map(|usage| usage.prompt_tokens),
                    completion_tokens = usage.map(|usage| usage.completion_tokens),
                    cached_tokens = usage.and_then(|usage| usage.cached_tokens),
                    counted = settled.map(|settled| settled.counted.as_str()),
                    first_event_ms = settled.and_then(|settled| settled.first_event).map(millis),
                    total_ms = millis(total),
                    outcome = outcome,
                    reason = reason
                )
            };
        }
        if is_quiet(&self.path) {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

impl UnderWay for Line {
    fn row(&self) -> Row {
        let known = self.known();
        Row {
            path: self.path.clone(),
            client: known.client.map(|client| client.to_string()),
            model: known.model.as_deref().map(str::to_owned),
            upstream: known.upstream.clone(),
            for_ms: millis(self.begun.elapsed()),
            is_answered: known.status.is_some(),
        }
    }
}

/// Whether it is asked every few seconds by whoever looks after the proxy.
fn is_quiet(path: &str) -> bool {
    ["/", "/health", "/ready", "/metrics", "/dashboard", "/dashboard/status"].contains(&path)
}

impl Known {
    /// How it has ended, in a word, and in one more where there is more to say.
    fn outcome(&self) -> (&'static str, Option<String>) {
        if let Some(settled) = &self.settlement {
            match settled.outcome {
                Outcome::Failed(kind) => return ("failed", Some(format!("{kind:?}"))),
                Outcome::Finished(reason) if self.is_read => {
                    return ("complete", Some(reason.as_str().to_owned()));
                }
                _ => {}
            }
        }
        let word = match self.status {
            Some(status) if status.is_server_error() => "failed",
            Some(status) if status.is_client_error() => "refused",
            _ if !self.is_read => "gone",
            _ => "complete",
        };
        (word, None)
    }
}

/// What tells tenants from each other in the log, and nothing else of them.
struct Tag(Tenant);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.digest()[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
