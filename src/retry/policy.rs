use std::{fmt, sync::Arc, time::Duration};

use http::{Request, Response};
use tower::retry::{
    Policy,
    budget::{Budget, TpsBudget},
};

use super::wait::Wait;
use crate::{
    Error, ErrorKind, Fate,
    chat::{ChatRequest, exceeds},
    clock,
};

/// The longest pause, a day: half as much again is a time that every clock can add.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

/// Which failures are worth another try, how many and when.
///
/// See the [module](super) for the table. A clone shares the budget and has tries of its own, which is
/// what [`RetryLayer`](tower::retry::RetryLayer) makes of it for each request.
///
/// Outside of a tokio runtime there is no clock to wait by, and nothing is tried again.
#[derive(Clone)]
pub struct RetryPolicy {
    /// How many tries are left.
    left: u32,
    /// The next pause.
    pause: Duration,
    longest: Duration,
    busy: bool,
    whole: Whole,
    budget: Arc<dyn Budget + Send + Sync>,
}

/// Whether a request whose stream timed out upstream is sent for a whole answer.
#[derive(Clone, Debug)]
enum Whole {
    Never,
    Once,
    /// It was, and this is what the stream's failure was.
    Asked(Arc<Error>),
}

/// A request of more than this is not asked for in one piece, in bytes: what is cut in a stream for its
/// length would be so in one piece too.
const SMALL: usize = 64 * 1024;

impl RetryPolicy {
    /// Two more tries, a pause of 1 s before the first of them, and no wait of more than 30 s.
    #[must_use]
    pub fn new() -> Self {
        Self {
            left: 2,
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            busy: true,
            whole: Whole::Never,
            budget: Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.2)),
        }
    }

    /// How many more times a request may be sent behind the first. Default: 2.
    #[must_use]
    pub fn tries(mut self, more: u32) -> Self {
        self.left = more;
        self
    }

    /// The pause before the second try; it is twice as long before each further one. Default: 1 s.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause.min(LONGEST_PAUSE);
        self
    }

    /// The longest wait before another try. Default: 30 s.
    #[must_use]
    pub fn longest(mut self, wait: Duration) -> Self {
        self.longest = wait;
        self
    }

    /// Whether a chat that is busy with another turn is waited for. Default: yes.
    #[must_use]
    pub fn busy(mut self, wait: bool) -> Self {
        self.busy = wait;
        self
    }

    /// Whether a request of up to 64 KiB for which the upstream itself gave up its stream in front of the
    /// first event (a 504, such as the portal's `stream timeout`) is sent once more for an answer in
    /// one piece, at once and whatever tries are left. The client gets a stream all the same. Where
    /// that fails as well, the first failure stands. For adapters that can ask for either:
    /// [`CompatibleLayer`](crate::qwen::compatible::CompatibleLayer). Default: no.
    #[must_use]
    pub fn whole_after_timeout(mut self, ask: bool) -> Self {
        self.whole = if ask { Whole::Once } else { Whole::Never };
        self
    }

    /// How many more tries all requests together may have. Default: a fifth of the answers of the
    /// last 10 s, and one a second.
    #[must_use]
    pub fn budget(mut self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.budget = Arc::new(budget);
        self
    }

    /// Why another try may help, in the word of the metrics; `None` where it may not.
    fn cause(&self, error: &Error) -> Option<&'static str> {
        match (error.fate(), error.kind()) {
            (Fate::Abandoned, _) => None,
            (_, ErrorKind::RateLimited) => Some("rate_limited"),
            (_, ErrorKind::Overloaded) => Some("overloaded"),
            (_, ErrorKind::ConversationBusy) => self.busy.then_some("busy"),
            (Fate::Unsent, ErrorKind::Upstream | ErrorKind::Timeout) => Some("unsent"),
            (Fate::Refused, ErrorKind::Upstream) => Some("upstream"),
            _ => None,
        }
    }

    /// Whether a request that failed so is sent for an answer in one piece.
    fn asks_whole(&self, request: &ChatRequest, error: &Error) -> bool {
        matches!(self.whole, Whole::Once)
            && error.is_timeout()
            && error.fate() == Fate::Refused
            && clock::is_there()
            && !exceeds(request, SMALL)
            && self.budget.withdraw()
    }

    /// What is waited for before another try, if there is one.
    pub(super) fn again(&mut self, error: &Error) -> Option<Wait> {
        let cause = self.cause(error).filter(|_| clock::is_there())?;
        let plan = self.plan(error);
        let result = plan.err().unwrap_or("again");
        noted(cause, result);
        plan.ok().map(Wait::new)
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        self.budget.deposit();
    }

    /// How long to wait for another try, and whether there is one.
    fn plan(&mut self, error: &Error) -> Result<Duration, &'static str> {
        let Some(left) = self.left.checked_sub(1) else { return Err("too_often") };
        let random = fastrand::f64();
        let wait = match error.retry_after() {
            Some(said) if said > self.longest => return Err("too_long"),
            // A little later, so that those who were told the same do not come together.
            Some(said) => said.saturating_add(self.pause.mul_f64(random)),
            None => self.pause.mul_f64(0.5 + random).min(self.longest),
        };
        if !self.budget.withdraw() {
            return Err("over_budget");
        }
        self.left = left;
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Ok(wait)
    }
}

fn noted(cause: &'static str, result: &'static str) {
    metrics::counter!("tower_qwen_retries_total", "cause" => cause, "result" => result)
        .increment(1);
    tracing::debug!(cause, result, "a request that failed");
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("left", &self.left)
            .field("pause", &self.pause)
            .field("longest", &self.longest)
            .field("busy", &self.busy)
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Policy<Request<ChatRequest>, Response<S>, Error> for RetryPolicy {
    type Future = Wait;

    fn retry(
        &mut self,
        request: &mut Request<ChatRequest>,
        result: &mut Result<Response<S>, Error>,
    ) -> Option<Wait> {
        let error = match result {
            Ok(_) => {
                self.answered();
                return None;
            }
            Err(error) => error,
        };
        if let Whole::Asked(first) = &self.whole {
            *error = first.said_again();
            return None;
        }
        if self.asks_whole(request.body(), error) {
            self.whole = Whole::Asked(Arc::new(error.said_again()));
            request.body_mut().is_whole = true;
            noted("stream_timeout", "again");
            return Some(Wait::new(Duration::ZERO));
        }
        self.again(error)
    }

    fn clone_request(&mut self, request: &Request<ChatRequest>) -> Option<Request<ChatRequest>> {
        Some(request.clone())
    }
}
