//! Runs one account: gives its state machine the time and the facts, and does what it says.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    AccountState, CredentialProvider, RefreshError, RefreshErrorKind, Renewal,
    account::{Account, Cause, Fitness, Sent, Settings, Step, Usable, Work},
    clock::SharedClock,
    standing::{Now, Trouble},
    state::AccountStatus,
};
use crate::{
    AccountName,
    shared_task::{SharedTask, Start},
};

/// What those who wait for a load or refresh are told.
type Ended = Result<(), RefreshError>;

#[derive(Debug)]
pub(super) struct Driver {
    name: AccountName,
    provider: Box<dyn CredentialProvider>,
    clock: SharedClock,
    state: Mutex<State>,
    /// Whether good news would change anything; keeps the mutex out of its way.
    troubled: AtomicBool,
    request_counter: metrics::Counter,
}

#[derive(Debug)]
struct State {
    account: Account,
    /// What is under way.
    task: Option<SharedTask<Ended>>,
    /// What the recorder was told last.
    published: Option<AccountStatus>,
}

impl Driver {
    pub(super) fn new(
        at: usize,
        name: AccountName,
        provider: Box<dyn CredentialProvider>,
        settings: Settings,
        clock: SharedClock,
    ) -> Self {
        let settings = Settings {
            reload_interval: provider.reload_interval(),
            is_refreshable: provider.is_refreshable(),
            ..settings
        };
        let account = Account::new(at, name.clone(), settings, fastrand::Rng::new());
        let request_counter = metrics::counter!(
            "tower_qwen_auth_requests_total", "account" => name.as_str().to_owned()
        );
        Self {
            name,
            provider,
            clock,
            state: Mutex::new(State { account, task: None, published: None }),
            troubled: AtomicBool::new(false),
            request_counter,
        }
    }

    pub(super) fn name(&self) -> &AccountName {
        &self.name
    }

    /// The credential at hand, if it is fresh and nothing speaks against the account; counts a
    /// request. This is what a request with nothing to wait for costs.
    pub(super) fn ready(self: &Arc<Self>) -> Option<Usable> {
        let mut state = self.lock();
        let (usable, is_due) = state.account.ready(|| self.clock.now())?;
        if is_due {
            let work = state.account.tend(self.now());
            self.begin_unawaited(state, work);
        } else {
            drop(state);
        }
        self.request_counter.increment(1);
        Some(usable)
    }

    /// Looks whether somebody has signed in again, if the login is dead.
    pub(super) fn revive(self: &Arc<Self>) {
        let mut state = self.lock();
        let work = state.account.revive(self.now());
        self.begin_unawaited(state, work);
    }

    /// A credential to send with: the current one, or what a load or refresh brings.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh running, for the others.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Usable, RefreshError> {
        self.drive(|account, now, failure| account.acquire(now, failure)).await
    }

    /// A credential that is newer than that of `generation`, which has met with `cause`; see
    /// [`Account::renew`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh running, for the others.
    pub(super) async fn renew(
        self: &Arc<Self>,
        generation: u64,
        cause: Cause,
    ) -> Result<Usable, RefreshError> {
        self.drive(|account, now, failure| account.renew(generation, cause, now, failure)).await
    }

    /// Refreshes now, whatever the credential's expiry says.
    pub(super) async fn refresh_now(self: &Arc<Self>) -> Result<Usable, RefreshError> {
        let generation = self.lock().account.generation();
        match generation {
            Some(generation) => self.renew(generation, Cause::Expiry).await,
            None => self.acquire().await,
        }
    }

    async fn drive(
        self: &Arc<Self>,
        mut next: impl FnMut(&mut Account, Now, Option<RefreshError>) -> Step,
    ) -> Result<Usable, RefreshError> {
        let mut failure = None;
        // A load, a reload of something that changed, and a refresh may follow each other; each
        // makes progress, so this ends much earlier.
        for _ in 0..6 {
            match self.step(|account, now| next(account, now, failure.take())) {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(None) => {}
                ControlFlow::Continue(Some(task)) => {
                    failure = task.result().await.unwrap_or_else(|| Err(without_result())).err();
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            RefreshError::new(
                RefreshErrorKind::Aborted,
                "every credential that was obtained had ended already",
            )
        }))
    }

    /// Does the next step, up to where there is something to wait for.
    fn step(
        self: &Arc<Self>,
        next: impl FnOnce(&mut Account, Now) -> Step,
    ) -> ControlFlow<Result<Usable, RefreshError>, Option<SharedTask<Ended>>> {
        let now = self.now();
        let mut state = self.lock();
        let flow = match next(&mut state.account, now) {
            Step::Begin(work) => return ControlFlow::Continue(Some(self.begin(state, work))),
            Step::Wait => ControlFlow::Continue(state.task.clone()),
            Step::Use(usable) => ControlFlow::Break(Ok(usable)),
            Step::Fail(error) => ControlFlow::Break(Err(error)),
        };
        self.publish(state, now);
        flow
    }

    fn begin_unawaited(self: &Arc<Self>, state: MutexGuard<'_, State>, work: Option<Work>) {
        if let Some(work) = work {
            drop(self.begin(state, work));
        }
    }

    /// Begins what the account wants, on a task of its own: it ends whoever stops waiting for it,
    /// so that a refresh token that was exchanged is never lost.
    fn begin(self: &Arc<Self>, mut state: MutexGuard<'_, State>, work: Work) -> SharedTask<Ended> {
        let (task, start): (_, Start<Ended>) = SharedTask::new();
        state.task = Some(task.clone());
        drop(state);
        let (worker, driver) = (Arc::clone(self), Arc::clone(self));
        let work = async move {
            let provider = &worker.provider;
            match work {
                Work::Load => provider.load().await.map(|found| Some(Renewal::adopted(found))),
                Work::Reload(used) => {
                    provider.reload(used).await.map(|found| found.map(Renewal::adopted))
                }
                Work::Refresh(used) => provider.refresh(used).await.map(Some),
            }
        };
        start.run(work, move |found| driver.finish(found.unwrap_or_else(|| Err(without_result()))));
        task
    }

    fn finish(&self, found: Result<Option<Renewal>, RefreshError>) -> Ended {
        let now = self.now();
        let mut state = self.lock();
        state.task = None;
        let ended = state.account.finished(found, now);
        self.publish(state, now);
        ended
    }

    /// Waits until no load or refresh is under way.
    pub(super) async fn settled(&self) {
        loop {
            let Some(task) = self.lock().task.clone() else { return };
            drop(task.result().await);
        }
    }

    /// An upstream said something against the account in answer to a request.
    pub(super) fn bad_news(&self, trouble: Trouble, asked: Option<Duration>, sent: Sent) {
        self.learn(|account, now| account.bad_news(trouble, asked, sent, now));
    }

    /// An upstream let a request in.
    pub(super) fn good_news(&self, sent: Sent) {
        if self.troubled.load(Ordering::Relaxed) {
            self.learn(|account, _| account.good_news(sent));
        }
    }

    fn learn(&self, news: impl FnOnce(&mut Account, Now)) {
        let now = self.now();
        let mut state = self.lock();
        news(&mut state.account, now);
        self.troubled.store(state.account.is_troubled(), Ordering::Relaxed);
        self.publish(state, now);
    }

    pub(super) fn count_request(&self) {
        self.lock().account.count_request();
        self.request_counter.increment(1);
    }

    pub(super) fn fitness(&self) -> Fitness {
        self.lock().account.fitness(self.now())
    }

    pub(super) fn snapshot(&self) -> AccountState {
        self.lock().account.snapshot(self.now())
    }

    fn now(&self) -> Now {
        Now { instant: Instant::now(), wall: self.clock.now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below unwinds while the state is half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the recorder how the account does, where that has changed, and unlocks it.
    fn publish(&self, mut state: MutexGuard<'_, State>, now: Now) {
        let status = state.account.status(now);
        let last = state.published.replace(status);
        drop(state);
        if last == Some(status) {
            return;
        }
        for other in AccountStatus::ALL {
            metrics::gauge!(
                "tower_qwen_auth_account_state",
                "account" => self.name.as_str().to_owned(),
                "state" => other.as_str()
            )
            .set(if other == status { 1.0 } else { 0.0 });
        }
    }
}

fn without_result() -> RefreshError {
    RefreshError::new(
        RefreshErrorKind::Aborted,
        "the work on a credential ended without a result: it panicked, or there is no tokio runtime",
    )
}
