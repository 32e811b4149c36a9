use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    AccountPolicy, BoxFuture, Classify, Outcome, RefreshErrorKind,
    kept::Kept,
    pool::{CredentialPool, elsewhere},
    refresh::{Account, Cause, Lease},
    service::Shared,
};
use crate::Error;

pin_project! {
    /// The future of [`AuthRefresh`](super::AuthRefresh).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the request that is under way. A refresh that it started goes on, since
    /// others may wait for it and its result must not be lost.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, S, B, RB, E, C, P> {
        #[pin]
        state: State<F, S, B, RB, E, C, P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, B, RB, E, C, P> {
        /// The usual way: nothing is boxed.
        First {
            #[pin]
            future: F,
            attempt: Option<Attempt<S, B, C, P>>,
        },
        /// Something has to be waited for, or something has gone wrong.
        Rest { future: BoxFuture<'static, Result<Response<RB>, E>> },
        Failed { error: Option<E> },
    }
}

impl<F, S, B, RB, E, C, P> ResponseFuture<F, S, B, RB, E, C, P> {
    pub(super) fn first(future: F, attempt: Attempt<S, B, C, P>) -> Self {
        Self { state: State::First { future, attempt: Some(attempt) } }
    }

    pub(super) fn rest(future: BoxFuture<'static, Result<Response<RB>, E>>) -> Self {
        Self { state: State::Rest { future } }
    }

    pub(super) fn failed(error: E) -> Self {
        Self { state: State::Failed { error: Some(error) } }
    }
}

impl<F, S, B, RB, E, C, P> Future for ResponseFuture<F, S, B, RB, E, C, P>
where
    F: Future<Output = Result<Response<RB>, E>>,
    S: Service<Request<B>, Response = Response<RB>, Error = E> + Send + 'static,
    S::Future: Send + 'static,
    E: From<Error> + Send + 'static,
    C: Classify<RB, E> + Send + Sync + 'static,
    P: AccountPolicy<B> + Send + Sync + 'static,
    B: Clone + Send + 'static,
    RB: Send + 'static,
{
    type Output = Result<Response<RB>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::First { future, attempt } => {
                    let result = ready!(future.poll(cx));
                    // Looked at where it is: it is large, and mostly not needed any more.
                    let sent = attempt.as_ref().expect("polled after completion");
                    let outcome = sent.classify(&result);
                    if outcome == Outcome::Accepted {
                        sent.accepted();
                    }
                    if matches!(outcome, Outcome::Accepted | Outcome::Other) {
                        return Poll::Ready(result);
                    }
                    let attempt = attempt.take().expect("it was there a moment ago");
                    let future = Box::pin(attempt.recover(outcome, result));
                    state.set(State::Rest { future });
                }
                StateProj::Rest { future } => return future.as_mut().poll(cx),
                StateProj::Failed { error } => {
                    return Poll::Ready(Err(error.take().expect("polled after completion")));
                }
            }
        }
    }
}

impl<F, S, B, RB, E, C, P> std::fmt::Debug for ResponseFuture<F, S, B, RB, E, C, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A request that has been sent once, and what is needed to send it once more.
pub(super) struct Attempt<S, B, C, P> {
    pub(super) inner: S,
    pub(super) kept: Kept<B>,
    /// Whether it wants the account that it was sent with, and no other.
    pub(super) bound: bool,
    /// The place in the pool of the account that it was sent with, and which of its credentials
    /// that was.
    pub(super) at: usize,
    pub(super) generation: u64,
    pub(super) shared: Arc<Shared<C, P>>,
}

/// What to do about a failure.
enum Verdict {
    /// Send once more, with this.
    Replay(Lease, &'static str),
    /// The failure stands.
    Keep,
    /// Another error says more than the failure.
    Fail(Error),
}

impl<S, B, C, P> Attempt<S, B, C, P>
where
    P: AccountPolicy<B>,
    B: Clone,
{
    fn classify<RB, E>(&self, result: &Result<Response<RB>, E>) -> Outcome
    where
        C: Classify<RB, E>,
    {
        self.shared.classify.classify(result.as_ref())
    }

    fn accepted(&self) {
        self.shared.pool.account(self.at).accepted();
        self.shared.pool.egress().accepted();
    }

    /// What comes after the first answer.
    pub(super) async fn finish<RB, E>(
        self,
        result: Result<Response<RB>, E>,
    ) -> Result<Response<RB>, E>
    where
        S: Service<Request<B>, Response = Response<RB>, Error = E>,
        E: From<Error>,
        C: Classify<RB, E>,
    {
        match self.classify(&result) {
            Outcome::Accepted => {
                self.accepted();
                result
            }
            outcome => self.recover(outcome, result).await,
        }
    }

    /// Does about a failure what section G says, and sends the request once more where that
    /// helps: at most once, whatever comes.
    async fn recover<RB, E>(
        self,
        outcome: Outcome,
        result: Result<Response<RB>, E>,
    ) -> Result<Response<RB>, E>
    where
        S: Service<Request<B>, Response = Response<RB>, Error = E>,
        E: From<Error>,
        C: Classify<RB, E>,
    {
        let Self { mut inner, kept, bound, at, generation, shared } = self;
        let (lease, cause) = match judge(&shared.pool, (at, generation), bound, outcome).await {
            Verdict::Replay(lease, cause) => (lease, cause),
            Verdict::Keep => return result,
            Verdict::Fail(error) => return Err(error.into()),
        };
        let Some(mut request) = kept.into_request() else { return result };
        lease.authorize(&shared.policy, &mut request);
        drop(result);
        metrics::counter!("tower_qwen_auth_retry_total", "cause" => cause).increment(1);
        tracing::debug!(account = %lease.account.name(), cause, "sending a request once more");
        poll_fn(|cx| inner.poll_ready(cx)).await?;
        let result = inner.call(request).await;
        match shared.classify.classify(result.as_ref()) {
            Outcome::Accepted => {
                lease.account.accepted();
                shared.pool.egress().accepted();
            }
            // Once refreshed and once retried: the account is at fault (G2). After a rotation
            // it is not: the other account has not had its refresh yet.
            Outcome::Refused if cause == "refused" => {
                lease.account.refused(lease.generation);
            }
            Outcome::Quota { retry_after } => lease.account.exhausted(retry_after),
            Outcome::RateLimited { retry_after } => lease.account.slowed(retry_after),
            Outcome::Challenge => shared.pool.egress().challenged(),
            Outcome::Refused | Outcome::Timeout | Outcome::Other => {}
        }
        result
    }
}

/// What section G says about `outcome` of a request that was sent with the account at a place and
/// that generation of its credential; `bound` where its conversation belongs to that account.
async fn judge(
    pool: &CredentialPool,
    (at, generation): (usize, u64),
    bound: bool,
    outcome: Outcome,
) -> Verdict {
    let account = pool.account(at);
    match outcome {
        Outcome::Refused => match account.renew(generation, Cause::Refused).await {
            Ok(lease) => Verdict::Replay(lease, "refused"),
            Err(error) => {
                if error.needs_sign_in() {
                    account.refused(generation);
                } else if bound {
                    // A refresh that fails for a moment is no reason to leave the conversation.
                    return Verdict::Fail(error.into_error(account.name().as_str(), None));
                }
                match rotate(pool, account, bound, "rotated").await {
                    // Where there was no refresh that failed, the upstream's own words stand.
                    Verdict::Keep if error.kind() != RefreshErrorKind::NoRefreshToken => {
                        Verdict::Fail(error.into_error(account.name().as_str(), None))
                    }
                    verdict => verdict,
                }
            }
        },
        Outcome::Quota { retry_after } => {
            account.exhausted(retry_after);
            rotate(pool, account, bound, "quota").await
        }
        Outcome::Timeout => match account.renew(generation, Cause::Timeout).await {
            Ok(lease) => Verdict::Replay(lease, "timeout"),
            // It was a matter of time, not of the credential.
            Err(_) => match account.current() {
                Some(lease) => Verdict::Replay(lease, "timeout"),
                None => Verdict::Keep,
            },
        },
        Outcome::RateLimited { retry_after } => {
            account.slowed(retry_after);
            Verdict::Keep
        }
        Outcome::Challenge => {
            pool.egress().challenged();
            Verdict::Keep
        }
        Outcome::Accepted | Outcome::Other => Verdict::Keep,
    }
}

/// Another account, where there is one and the request is not bound to this one.
async fn rotate(
    pool: &CredentialPool,
    account: &Arc<Account>,
    bound: bool,
    cause: &'static str,
) -> Verdict {
    if !pool.has_other(account) {
        return Verdict::Keep;
    }
    if bound {
        return Verdict::Fail(elsewhere("the conversation's account cannot be used now"));
    }
    match pool.lease(None, pool.turn(), Some(account)).await {
        Ok(lease) => Verdict::Replay(lease, cause),
        Err(_) => Verdict::Keep,
    }
}
