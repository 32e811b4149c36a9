//! A request that has been sent once: what its outcome says of the account, and whether and with
//! what it is sent once more.

use std::{future::poll_fn, sync::Arc};

use http::{Request, Response};
use tower_service::Service;

use super::{
    AccountPolicy, Classify, CredentialPool, Outcome, RefreshErrorKind,
    account::{Cause, Sent, Usable},
    accounts::{Accounts, elsewhere},
    kept::Kept,
    standing::{Stamp, Trouble},
};
use crate::Error;

/// What the services that a layer makes have in common.
#[derive(Debug)]
pub(super) struct Shared<C, P> {
    pub(super) pool: CredentialPool,
    pub(super) classify: C,
    pub(super) policy: P,
}

impl<C, P> Shared<C, P> {
    pub(super) fn accounts(&self) -> &Accounts {
        &self.pool.accounts
    }

    /// Puts a credential on a request.
    pub(super) fn authorize<B>(&self, usable: &Usable, request: &mut Request<B>)
    where
        P: AccountPolicy<B>,
    {
        let name = self.accounts().at(usable.sent.at).name();
        self.policy.authorize(request, name, usable.credential.headers().clone());
    }

    /// Tells the account and the way out what an answer says of them, and gives back what the
    /// answer means.
    fn learn<RB, E>(&self, result: &Result<Response<RB>, E>, sent: Sent, egress: Stamp) -> Outcome
    where
        C: Classify<RB, E>,
    {
        let outcome = self.classify.classify(result.as_ref());
        let account = self.accounts().at(sent.at);
        match outcome {
            Outcome::Accepted => {
                account.good_news(sent);
                self.accounts().egress.good_news(egress);
            }
            Outcome::Quota { retry_after } => account.bad_news(Trouble::Quota, retry_after, sent),
            Outcome::RateLimited { retry_after } => {
                account.bad_news(Trouble::Rate, retry_after, sent);
            }
            Outcome::Challenge => self.accounts().egress.bad_news(),
            // What the account has of other models is as before.
            Outcome::ModelQuota | Outcome::Refused | Outcome::Timeout | Outcome::Other => {}
        }
        outcome
    }
}

/// A request that has been sent once, and what is needed to send it once more.
pub(super) struct Attempt<S, B, C, P> {
    pub(super) inner: S,
    pub(super) kept: Kept<B>,
    /// Whether it wants the account that it was sent with, and no other.
    pub(super) bound: bool,
    pub(super) sent: Sent,
    /// The stamp of the way out when it was sent.
    pub(super) egress: Stamp,
    pub(super) shared: Arc<Shared<C, P>>,
}

/// What to do about a failure.
enum Verdict {
    /// Send once more, with this.
    Replay(Usable, &'static str),
    /// The failure stands.
    Keep,
    /// Another error says more than the failure.
    Fail(Error),
}

impl<S, B: Clone, C, P: AccountPolicy<B>> Attempt<S, B, C, P> {
    /// Learns from the first answer. It is final unless this gives an outcome that another try may
    /// change.
    pub(super) fn learn<RB, E>(&self, result: &Result<Response<RB>, E>) -> Option<Outcome>
    where
        C: Classify<RB, E>,
    {
        let outcome = self.shared.learn(result, self.sent, self.egress);
        matches!(
            outcome,
            Outcome::Refused | Outcome::Quota { .. } | Outcome::ModelQuota | Outcome::Timeout
        )
        .then_some(outcome)
    }

    /// Sends the request once more where that helps: at most once, whatever comes.
    pub(super) async fn recover<RB, E>(
        self,
        outcome: Outcome,
        result: Result<Response<RB>, E>,
    ) -> Result<Response<RB>, E>
    where
        S: Service<Request<B>, Response = Response<RB>, Error = E>,
        E: From<Error>,
        C: Classify<RB, E>,
    {
        let Self { mut inner, kept, bound, sent, shared, .. } = self;
        let (usable, cause) = match judge(shared.accounts(), sent, bound, outcome).await {
            Verdict::Replay(usable, cause) => (usable, cause),
            Verdict::Keep => return result,
            Verdict::Fail(error) => return Err(error.into()),
        };
        let Some(mut request) = kept.into_request() else { return result };
        drop(result);
        shared.authorize(&usable, &mut request);
        let account = shared.accounts().at(usable.sent.at);
        metrics::counter!("tower_qwen_auth_retry_total", "cause" => cause).increment(1);
        tracing::debug!(account = %account.name(), cause, "sending a request once more");
        poll_fn(|cx| inner.poll_ready(cx)).await?;
        let egress = shared.accounts().egress.stamp();
        let result = inner.call(request).await;
        let outcome = shared.learn(&result, usable.sent, egress);
        // Once refreshed and once retried: the account is at fault. After a rotation it is not:
        // the other account has not had its refresh yet.
        if outcome == Outcome::Refused && cause == "refused" {
            account.bad_news(Trouble::Refused, None, usable.sent);
        }
        result
    }
}

/// What the table in the [module](super) says about the outcome of a request; `bound` where its
/// conversation belongs to the account that it was sent with.
async fn judge(accounts: &Accounts, sent: Sent, bound: bool, outcome: Outcome) -> Verdict {
    let account = accounts.at(sent.at);
    match outcome {
        Outcome::Refused => match account.renew(sent.generation, Cause::Refused).await {
            Ok(usable) => Verdict::Replay(usable, "refused"),
            Err(error) => {
                if error.needs_sign_in() {
                    account.bad_news(Trouble::Refused, None, sent);
                } else if bound {
                    // A refresh that fails for a moment is no reason to leave the conversation.
                    return Verdict::Fail(error.into_error(account.name()));
                }
                match rotate(accounts, sent, bound, "rotated").await {
                    // Where there was no refresh that failed, the upstream's own words stand.
                    Verdict::Keep if error.kind() != RefreshErrorKind::NoRefreshToken => {
                        Verdict::Fail(error.into_error(account.name()))
                    }
                    verdict => verdict,
                }
            }
        },
        // The account is not at fault, so its conversation stays with it.
        Outcome::ModelQuota if bound => Verdict::Keep,
        Outcome::Quota { .. } | Outcome::ModelQuota => rotate(accounts, sent, bound, "quota").await,
        // It was perhaps a matter of time and not of the credential, so the same will do.
        Outcome::Timeout => match account.renew(sent.generation, Cause::Timeout).await {
            Ok(usable) => Verdict::Replay(usable, "timeout"),
            Err(_) => Verdict::Keep,
        },
        _ => Verdict::Keep,
    }
}

/// Another account, where there is one and the request is not bound to this one.
async fn rotate(accounts: &Accounts, sent: Sent, bound: bool, cause: &'static str) -> Verdict {
    accounts.revive();
    if !accounts.has_other(sent.at) {
        return Verdict::Keep;
    }
    if bound {
        return Verdict::Fail(elsewhere("the conversation's account cannot be used now"));
    }
    match accounts.acquire(None, accounts.turn(), Some(sent.at)).await {
        Ok(usable) => Verdict::Replay(usable, cause),
        Err(_) => Verdict::Keep,
    }
}
