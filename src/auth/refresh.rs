//! One account: its credential, its generation, and the one refresh that may be in flight.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::Request;
use tokio::{runtime::Handle, sync::watch, time::Instant};

use super::{
    AccountPolicy, Credential, CredentialKind, CredentialProvider, RefreshError, RefreshErrorKind,
    Renewal,
    clock::SharedClock,
    state::{AccountState, AccountStatus},
};
use crate::AccountName;

/// How early a web session is no longer used (F1).
const WEB_MARGIN: Duration = Duration::from_secs(60);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// Where no login exists yet, somebody is probably about to sign in.
const MISSING_BACK_OFF: Duration = Duration::from_secs(1);

const REFUSED_COOL_DOWN: Duration = Duration::from_secs(60);
const LONGEST_REFUSED_COOL_DOWN: Duration = Duration::from_secs(30 * 60);
const QUOTA_COOL_DOWN: Duration = Duration::from_secs(65);
const RATE_COOL_DOWN: Duration = Duration::from_secs(1);
const LONGEST_RATE_COOL_DOWN: Duration = Duration::from_secs(60);
/// The upstream's day begins at midnight of UTC+8 (B8).
const DAY: u64 = 86_400;
const DAY_OFFSET: u64 = 8 * 3600;

/// Why a credential is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// There is none yet.
    Load,
    /// It ends now, or has ended.
    Expiry,
    /// It ends soon, and nobody has to wait.
    Ahead,
    /// An upstream refused it.
    Refused,
    /// An upstream was too slow, which some upstreams are for ended tokens (B8).
    Timeout,
    /// Its store may have changed.
    Reload,
}

/// A credential in use, and which of its account's credentials it is.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) account: Arc<Account>,
    pub(super) credential: Credential,
    pub(super) generation: u64,
}

impl Lease {
    /// Puts the credential on a request.
    pub(super) fn authorize<B>(&self, policy: &impl AccountPolicy<B>, request: &mut Request<B>) {
        policy.authorize(request, self.account.name(), self.credential.headers().clone());
    }
}

/// What every account of a pool is run with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) margin: Duration,
    pub(super) ahead: Duration,
    pub(super) clock: SharedClock,
}

#[derive(Debug)]
pub(super) struct Account {
    /// Its place in the pool.
    at: usize,
    name: AccountName,
    provider: Box<dyn CredentialProvider>,
    settings: Settings,
    reload_interval: Option<Duration>,
    state: Mutex<State>,
    /// Whether an outcome that is fine has anything to clear; keeps the mutex out of its way.
    troubled: AtomicBool,
    failures: AtomicU64,
    refreshes: AtomicU64,
    request_counter: metrics::Counter,
}

type FlightResult = Result<(), RefreshError>;
type Flight = watch::Receiver<Option<FlightResult>>;

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    flight: Option<Flight>,
    /// The last refresh failed, and passes by itself.
    setback: Option<Setback>,
    /// The last refresh failed for good: until the credential changes from outside.
    dead: Option<RefreshError>,
    cool_down: Option<CoolDown>,
    /// How many it was chosen for; here, since whoever chooses it has the lock anyhow.
    requests: u64,
    /// How often in a row the upstream said each.
    refusals: u32,
    quotas: u32,
    rates: u32,
    reloaded_at: Option<SystemTime>,
}

#[derive(Debug)]
struct Current {
    credential: Credential,
    generation: u64,
    /// From when on it is not used if it can be helped.
    stale_at: Option<SystemTime>,
    /// From when on a refresh is started that nobody waits for.
    ahead_at: Option<SystemTime>,
    /// Whether a timeout has had its refresh.
    timeout_spent: bool,
    /// Whether an upstream has refused it.
    refused: bool,
}

#[derive(Debug)]
struct Setback {
    error: RefreshError,
    until: Instant,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct CoolDown {
    until: Instant,
    reason: CoolDownReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoolDownReason {
    Quota,
    Rate,
    Refused,
}

/// How fit an account is to be used; the smaller the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    Ready,
    /// Others are better, but it may be used: it was refused or was asked to slow down.
    Doubtful,
    /// Its quota is used up.
    Exhausted,
    /// Somebody has to sign in again.
    Dead,
}

enum Step {
    Use(Lease),
    Wait(Flight),
    Fail(RefreshError),
}

impl Account {
    pub(super) fn new(
        at: usize,
        name: AccountName,
        provider: Box<dyn CredentialProvider>,
        settings: Settings,
    ) -> Self {
        let request_counter = metrics::counter!(
            "tower_qwen_auth_requests_total", "account" => name.as_str().to_owned()
        );
        Self {
            at,
            reload_interval: provider.reload_interval(),
            name,
            provider,
            settings,
            state: Mutex::default(),
            troubled: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            refreshes: AtomicU64::new(0),
            request_counter,
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn name(&self) -> &AccountName {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below unwinds while the state is half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(self: &Arc<Self>, current: &Current) -> Lease {
        Lease {
            account: Arc::clone(self),
            credential: current.credential.clone(),
            generation: current.generation,
        }
    }

    pub(super) fn count_request(&self) {
        self.lock().requests += 1;
        self.request_counter.increment(1);
    }

    /// The credential at hand, whatever speaks against it.
    pub(super) fn current(self: &Arc<Self>) -> Option<Lease> {
        self.lock().current.as_ref().map(|current| self.lease(current))
    }

    /// Gives the credential and its generation to `with` and counts a request, if the credential
    /// is at hand, fresh, and nothing speaks against the account.
    ///
    /// This is what a request with nothing to wait for costs. `with` runs under the account's
    /// lock and must be short; that is cheaper than sharing what it is given.
    pub(super) fn ready<T>(
        self: &Arc<Self>,
        with: impl FnOnce(&Credential, u64) -> T,
    ) -> Option<T> {
        let done = self.with_ready(with)?;
        self.request_counter.increment(1);
        Some(done)
    }

    fn with_ready<T>(self: &Arc<Self>, with: impl FnOnce(&Credential, u64) -> T) -> Option<T> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.cool_down.is_some() || state.dead.is_some() {
            return None;
        }
        let current = state.current.as_ref()?;
        if current.stale_at.is_none() && self.reload_interval.is_none() && !current.refused {
            state.requests += 1;
            return Some(with(&current.credential, current.generation));
        }
        let now = self.settings.clock.roughly_now();
        if current.stale_at.is_some_and(|stale_at| now >= stale_at) {
            return None;
        }
        if current.refused && state.flight.is_some() {
            // A better one is on its way.
            return None;
        }
        state.requests += 1;
        let done = with(&current.credential, current.generation);
        let ahead = current.ahead_at.is_some_and(|ahead_at| now >= ahead_at);
        if state.flight.is_none() {
            if ahead && self.may_refresh(state) {
                self.depart(state, Cause::Ahead);
            } else if self.reload_is_due(state, now) {
                self.depart(state, Cause::Reload);
            }
        }
        Some(done)
    }

    /// A credential to send with: the current one, or what a load or refresh brings.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh running, for the others.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Lease, RefreshError> {
        let mut failure = None;
        // A load, a reload of something that changed, and a refresh may follow each other; each
        // makes progress, so this ends much earlier.
        for _ in 0..6 {
            let flight = {
                let mut state = self.lock();
                match self.step_to_acquire(&mut state, failure.is_some()) {
                    Step::Use(lease) => return Ok(lease),
                    Step::Fail(error) => return Err(failure.unwrap_or(error)),
                    Step::Wait(flight) => flight,
                }
            };
            failure = landed(flight).await.err();
        }
        Err(failure.unwrap_or_else(|| {
            RefreshError::new(
                RefreshErrorKind::Aborted,
                "every credential that was obtained had ended already",
            )
        }))
    }

    /// What is to be done now. With `tried` a refresh has just failed, and the credential is
    /// used as long as it lives.
    fn step_to_acquire(self: &Arc<Self>, state: &mut State, tried: bool) -> Step {
        let now = self.settings.clock.now();
        if self.reload_is_due(state, now) && state.dead.is_some() && state.flight.is_none() {
            return self.depart_or_fail(state, Cause::Reload);
        }
        let dead = state.dead.clone();
        let (cause, last_resort) = match &state.current {
            None => (Cause::Load, None),
            Some(current) => {
                let stale = current.stale_at.is_some_and(|stale_at| now >= stale_at);
                let alive = !current.credential.ends_within(Duration::ZERO, now);
                // A dead login's access token is good until its end, unless it was refused.
                let usable = !(dead.is_some() && current.refused);
                let awaited = current.refused && state.flight.is_some() && !tried;
                if !stale && usable && !awaited {
                    return Step::Use(self.lease(current));
                }
                (Cause::Expiry, (alive && usable).then(|| self.lease(current)))
            }
        };
        if let Some(error) = dead {
            return match (last_resort, &state.flight) {
                (Some(lease), _) => Step::Use(lease),
                // A reload: somebody may have signed in.
                (None, Some(flight)) if !tried => Step::Wait(flight.clone()),
                (None, _) => Step::Fail(error),
            };
        }
        if let Some(flight) = &state.flight
            && !tried
        {
            return Step::Wait(flight.clone());
        }
        if let Some(setback) = state.setback.as_ref().filter(|setback| setback.is_on()) {
            let error = setback.error();
            return last_resort.map_or(Step::Fail(error), Step::Use);
        }
        if tried && last_resort.is_some() {
            return last_resort.map_or(Step::Fail(ended()), Step::Use);
        }
        if cause == Cause::Expiry && !self.provider.is_refreshable() {
            return last_resort.map_or(Step::Fail(ended()), Step::Use);
        }
        if let Some(flight) = &state.flight {
            return Step::Wait(flight.clone());
        }
        self.depart_or_fail(state, cause)
    }

    /// A credential that is newer than `generation`, which had a failure of class `cause`.
    ///
    /// For [`Cause::Timeout`] it may be the same, where the class has had its refresh.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh running, for the others.
    pub(super) async fn renew(
        self: &Arc<Self>,
        generation: u64,
        cause: Cause,
    ) -> Result<Lease, RefreshError> {
        let mut failure = None;
        for _ in 0..4 {
            let flight = {
                let mut state = self.lock();
                match self.step_to_renew(&mut state, generation, cause) {
                    Step::Use(lease) => return Ok(lease),
                    Step::Fail(error) => return Err(failure.unwrap_or(error)),
                    Step::Wait(flight) => flight,
                }
            };
            if let Err(error) = landed(flight).await {
                failure = Some(error);
                let state = self.lock();
                match &state.current {
                    Some(current) if current.generation != generation => {}
                    _ => break,
                }
            }
        }
        Err(failure.unwrap_or_else(not_renewed))
    }

    fn step_to_renew(self: &Arc<Self>, state: &mut State, generation: u64, cause: Cause) -> Step {
        let Some(current) = &mut state.current else {
            return Step::Fail(not_renewed());
        };
        if current.generation != generation {
            // Somebody has refreshed already: only the retry is left.
            return Step::Use(self.lease(current));
        }
        if cause == Cause::Timeout && current.timeout_spent {
            return Step::Use(self.lease(current));
        }
        current.refused |= cause == Cause::Refused;
        if let Some(flight) = &state.flight {
            return Step::Wait(flight.clone());
        }
        if let Some(error) = &state.dead {
            return Step::Fail(error.clone());
        }
        if !self.provider.is_refreshable() {
            return Step::Fail(RefreshError::new(
                RefreshErrorKind::NoRefreshToken,
                "the credential cannot be refreshed",
            ));
        }
        if let Some(setback) = state.setback.as_ref().filter(|setback| setback.is_on()) {
            return Step::Fail(setback.error());
        }
        if cause == Cause::Refused && state.is_cooling(CoolDownReason::Refused) {
            // A fresh token was refused a moment ago: more of them would not help (B8).
            return Step::Fail(not_renewed());
        }
        self.depart_or_fail(state, cause)
    }

    fn may_refresh(&self, state: &State) -> bool {
        self.provider.is_refreshable()
            && state.dead.is_none()
            && !state.setback.as_ref().is_some_and(Setback::is_on)
    }

    fn reload_is_due(&self, state: &State, now: SystemTime) -> bool {
        let Some(interval) = self.reload_interval else { return false };
        if state.current.is_none() {
            return false;
        }
        state.reloaded_at.is_none_or(|at| {
            // A clock that was set back must not stop the reloads.
            now.duration_since(at).unwrap_or(interval) >= interval
        })
    }

    fn depart_or_fail(self: &Arc<Self>, state: &mut State, cause: Cause) -> Step {
        match self.depart(state, cause) {
            Some(flight) => Step::Wait(flight),
            None => Step::Fail(RefreshError::new(
                RefreshErrorKind::Aborted,
                "credentials are loaded on a tokio runtime, and there is none",
            )),
        }
    }

    /// Starts the one flight, on a task of its own: it ends whoever stops waiting for it.
    ///
    /// The caller has made sure that there is none.
    fn depart(self: &Arc<Self>, state: &mut State, cause: Cause) -> Option<Flight> {
        let runtime = Handle::try_current().ok()?;
        let (arrival, flight) = watch::channel(None);
        let used = state.current.as_ref().map(|current| current.credential.clone());
        if cause == Cause::Load || cause == Cause::Reload {
            state.reloaded_at = Some(self.settings.clock.now());
        }
        state.flight = Some(flight.clone());
        let mut journey = Journey { account: Arc::clone(self), cause, arrival: Some(arrival) };
        runtime.spawn(async move {
            let provider = &journey.account.provider;
            let found = match (cause, used) {
                (Cause::Reload, Some(used)) => {
                    let name = &journey.account.name;
                    match provider.reload(used).await {
                        Ok(found) => Ok(found.map(Renewal::adopted)),
                        Err(error) => {
                            tracing::warn!(account = %name, %error, "a credential could not be reloaded");
                            Ok(None)
                        }
                    }
                }
                (_, None) => provider.load().await.map(|found| Some(Renewal::adopted(found))),
                (_, Some(used)) => provider.refresh(used).await.map(Some),
            };
            journey.land(found);
        });
        Some(flight)
    }

    /// The end of a flight.
    fn landed(&self, cause: Cause, found: Result<Option<Renewal>, RefreshError>) -> FlightResult {
        let name = &self.name;
        let mut state = self.lock();
        state.flight = None;
        let result = match found {
            Ok(None) => Ok(()),
            Ok(Some(renewal)) => self.install(&mut state, cause, renewal),
            Err(error) => Err(error),
        }
        .map_err(|error| self.set_back(&mut state, cause, error));
        let outcome = match (&result, cause) {
            (Ok(()), Cause::Reload | Cause::Load) => None,
            (Ok(()), _) => Some("ok"),
            (Err(error), _) if error.kind() == RefreshErrorKind::Rejected => Some("rejected"),
            (Err(_), Cause::Load) => None,
            (Err(_), _) => Some("failed"),
        };
        if let Some(outcome) = outcome {
            metrics::counter!("tower_qwen_auth_refresh_total", "result" => outcome).increment(1);
        }
        match &result {
            Ok(()) => {}
            Err(error) => {
                if error.needs_sign_in() {
                    tracing::error!(account = %name, ?cause, %error, "somebody has to sign in again");
                } else {
                    tracing::warn!(account = %name, ?cause, %error, "a credential was not renewed");
                }
            }
        }
        drop(state);
        self.publish();
        result
    }

    fn install(&self, state: &mut State, cause: Cause, renewal: Renewal) -> FlightResult {
        let Renewal { mut credential, adopted } = renewal;
        let old = state.current.as_ref();
        if let Some(old) = old
            && old.credential.is_same(&credential)
            && cause != Cause::Reload
        {
            // A provider that brings back what was refused has not refreshed.
            return Err(not_renewed());
        }
        let now = self.settings.clock.now();
        let granted = !adopted;
        if granted && credential.ends_within(Duration::ZERO, now) {
            tracing::warn!(
                account = %self.name,
                "a token that was granted just now has ended already by this machine's clock; \
                 it is used until refused",
            );
            credential = credential.with_expires_at(None);
        }
        let margin = match credential.kind() {
            CredentialKind::Web => self.settings.margin.max(WEB_MARGIN),
            _ => self.settings.margin,
        };
        let ends_in =
            credential.expires_at().map(|end| (end, end.duration_since(now).unwrap_or_default()));
        // A token that lives shorter than its margin would be refreshed for every request.
        let (stale_at, ahead_at) = match ends_in {
            None => (None, None),
            Some((end, life)) => {
                let margin = if granted { margin.min(life / 2) } else { margin };
                let stale_at = end.checked_sub(margin).unwrap_or(SystemTime::UNIX_EPOCH);
                // Somewhere in the window, so that processes do not all come at once.
                let ahead = self.settings.ahead.min(life / 2).mul_f64(0.5 + jitter() / 2.0);
                let ahead_at = stale_at.checked_sub(ahead).filter(|_| !ahead.is_zero());
                (Some(stale_at), ahead_at)
            }
        };
        let timeout_spent = match cause {
            Cause::Timeout => true,
            // Another process may have refreshed for the same timeouts.
            Cause::Reload => old.is_some_and(|old| old.timeout_spent),
            _ => false,
        };
        if matches!(cause, Cause::Reload) {
            state.cool_down = None;
            state.refusals = 0;
            tracing::info!(account = %self.name, "a credential was changed from outside");
        } else if cause != Cause::Load {
            self.refreshes.fetch_add(1, Ordering::Relaxed);
            tracing::info!(account = %self.name, ?cause, adopted, "a credential was renewed");
        }
        let generation = old.map_or(1, |old| old.generation + 1);
        state.current = Some(Current {
            credential,
            generation,
            stale_at,
            ahead_at,
            timeout_spent,
            refused: false,
        });
        state.dead = None;
        state.setback = None;
        Ok(())
    }

    /// Remembers a failure, and gives it back with when to try again.
    fn set_back(&self, state: &mut State, cause: Cause, error: RefreshError) -> RefreshError {
        if let Some(current) = &mut state.current {
            // Whether it helped or not, the class has had its refresh.
            current.timeout_spent |= cause == Cause::Timeout;
        }
        let for_good = match error.kind() {
            RefreshErrorKind::Rejected => true,
            // A key that does not end is not dead because it cannot be refreshed.
            RefreshErrorKind::NoRefreshToken => self.unusable(state, self.settings.clock.now()),
            _ => false,
        };
        if for_good {
            state.dead = Some(error.clone());
            return error;
        }
        let count = state.setback.as_ref().map_or(0, |setback| setback.count).saturating_add(1);
        let wait = if error.kind() == RefreshErrorKind::Missing {
            MISSING_BACK_OFF
        } else {
            let wait = doubled(FIRST_BACK_OFF, count, LONGEST_BACK_OFF);
            // Full span at most, half at least: neither a herd nor a hurry.
            error.retry_after().unwrap_or_default().max(wait.mul_f64(0.5 + jitter() / 2.0))
        };
        let setback = Setback { error, until: after(wait), count };
        let error = setback.error();
        state.setback = Some(setback);
        error
    }

    /// The upstream let a request through.
    pub(super) fn accepted(&self) {
        if !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        self.troubled.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        state.cool_down = None;
        (state.refusals, state.quotas, state.rates) = (0, 0, 0);
        drop(state);
        self.publish();
    }

    /// The upstream refused even a fresh token, or there is no way to a fresh one.
    pub(super) fn refused(&self, generation: u64) {
        let mut state = self.lock();
        match &mut state.current {
            Some(current) if current.generation == generation => current.refused = true,
            // The news is old: it is about a credential that has been replaced.
            _ => return,
        }
        state.refusals = state.refusals.saturating_add(1);
        let span = doubled(REFUSED_COOL_DOWN, state.refusals, LONGEST_REFUSED_COOL_DOWN);
        self.cool_down(state, CoolDownReason::Refused, span);
    }

    /// The upstream said that the quota is used up: for as long as it says, else 65 s, doubled
    /// each time, but not beyond the next midnight of UTC+8 (B8, G3).
    pub(super) fn exhausted(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        state.quotas = state.quotas.saturating_add(1);
        let span = retry_after.unwrap_or_else(|| {
            let now = self.settings.clock.now();
            let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let midnight = DAY - (since.as_secs() + DAY_OFFSET) % DAY;
            doubled(QUOTA_COOL_DOWN, state.quotas, Duration::from_secs(midnight))
        });
        self.cool_down(state, CoolDownReason::Quota, span);
    }

    /// The upstream asked to slow down: for as long as it says, else 1 s, doubled each time, with
    /// jitter (G4).
    pub(super) fn slowed(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        state.rates = state.rates.saturating_add(1);
        let span = retry_after.unwrap_or_else(|| {
            doubled(RATE_COOL_DOWN, state.rates, LONGEST_RATE_COOL_DOWN)
                .mul_f64(0.5 + jitter() / 2.0)
        });
        self.cool_down(state, CoolDownReason::Rate, span);
    }

    fn cool_down(&self, mut state: MutexGuard<'_, State>, reason: CoolDownReason, span: Duration) {
        let until = after(span);
        // Of two that overlap, the one that says more about the account stays.
        let weaker = state.cool_down.is_some_and(|other| {
            other.until > Instant::now()
                && other.reason == CoolDownReason::Quota
                && reason != CoolDownReason::Quota
        });
        if !weaker {
            state.cool_down = Some(CoolDown { until, reason });
        }
        drop(state);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.troubled.store(true, Ordering::Relaxed);
        tracing::warn!(
            account = %self.name, ?reason, seconds = span.as_secs(), "an account cools down",
        );
        self.publish();
    }

    /// How fit the account is now, and until when if that changes by itself. Looks after dead
    /// accounts on the way: their credentials may have been replaced.
    pub(super) fn fitness(self: &Arc<Self>) -> (Fitness, Option<Instant>) {
        let mut state = self.lock();
        let over = state.cool_down.is_some_and(|cool_down| cool_down.until <= Instant::now());
        if over {
            // Not `accepted`: the counts stay, so that the next cool-down is longer.
            state.cool_down = None;
        }
        let now = self.settings.clock.now();
        let fitness = if state.dead.is_some() && self.unusable(&state, now) {
            if state.flight.is_none() && self.reload_is_due(&state, now) {
                self.depart(&mut state, Cause::Reload);
            }
            (Fitness::Dead, None)
        } else {
            match state.cool_down {
                None if state.setback.as_ref().is_some_and(Setback::is_on)
                    && self.unusable(&state, now) =>
                {
                    (Fitness::Doubtful, None)
                }
                None => (Fitness::Ready, None),
                Some(CoolDown { until, reason: CoolDownReason::Quota }) => {
                    (Fitness::Exhausted, Some(until))
                }
                Some(CoolDown { until, .. }) => (Fitness::Doubtful, Some(until)),
            }
        };
        drop(state);
        if over {
            self.publish();
        }
        fitness
    }

    /// Whether the credential at hand, if any, cannot be sent.
    fn unusable(&self, state: &State, now: SystemTime) -> bool {
        state.current.as_ref().is_none_or(|current| {
            current.credential.ends_within(Duration::ZERO, now)
                || (current.refused && state.dead.is_some())
        })
    }

    /// Waits until no refresh is in flight.
    pub(super) async fn settled(&self) {
        loop {
            let flight = self.lock().flight.clone();
            match flight {
                None => return,
                Some(flight) => drop(landed(flight).await),
            }
        }
    }

    /// Refreshes now, whatever the credential's expiry says (D11).
    pub(super) async fn refresh_now(self: &Arc<Self>) -> Result<Lease, RefreshError> {
        let generation = match &self.lock().current {
            Some(current) => current.generation,
            None => 0,
        };
        if generation == 0 {
            return self.acquire().await;
        }
        self.renew(generation, Cause::Expiry).await
    }

    pub(super) fn snapshot(&self) -> AccountState {
        let state = self.lock();
        let now = self.settings.clock.now();
        let current = state.current.as_ref().map(|current| &current.credential);
        let status = self.status(&state, now);
        AccountState {
            name: self.name.clone(),
            kind: current.map(Credential::kind),
            status,
            expires_in: current.and_then(Credential::expires_at).map(|end| {
                Duration::from_secs(end.duration_since(now).unwrap_or_default().as_secs())
            }),
            available_in: state.cool_down.map(|cool_down| {
                let left = cool_down.until.saturating_duration_since(Instant::now());
                Duration::from_secs(left.as_millis().div_ceil(1000) as u64)
            }),
            base_url: current.and_then(Credential::base_url),
            requests: state.requests,
            failures: self.failures.load(Ordering::Relaxed),
            refreshes: self.refreshes.load(Ordering::Relaxed),
        }
    }

    fn status(&self, state: &State, now: SystemTime) -> AccountStatus {
        let cooling = state.cool_down.filter(|cool_down| cool_down.until > Instant::now());
        if state.dead.is_some() {
            return AccountStatus::SignInAgain;
        }
        if let Some(cool_down) = cooling {
            return match cool_down.reason {
                CoolDownReason::Quota => AccountStatus::QuotaUsedUp,
                CoolDownReason::Rate => AccountStatus::RateLimited,
                CoolDownReason::Refused => AccountStatus::Refused,
            };
        }
        match (&state.current, &state.setback) {
            (None, Some(setback)) if setback.error.kind() == RefreshErrorKind::Missing => {
                AccountStatus::SignInAgain
            }
            (_, Some(_)) => AccountStatus::RefreshFailing,
            (None, None) => AccountStatus::NotLoaded,
            (Some(current), None) if current.credential.ends_within(Duration::ZERO, now) => {
                AccountStatus::Expired
            }
            (Some(_), None) => AccountStatus::Ready,
        }
    }

    /// Tells the recorder the account's state; only called where it may have changed.
    fn publish(&self) {
        let status = self.status(&self.lock(), self.settings.clock.now());
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

impl State {
    fn is_cooling(&self, reason: CoolDownReason) -> bool {
        self.cool_down.is_some_and(|other| other.reason == reason && other.until > Instant::now())
    }
}

impl Setback {
    fn is_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// The error for those who come during the back-off.
    fn error(&self) -> RefreshError {
        let left = self.until.saturating_duration_since(Instant::now());
        self.error.clone().with_retry_after(Some(left))
    }
}

/// A flight under way. Whatever ends it, a panic or the runtime's shutdown included, those who
/// wait get an answer and the next flight can start.
struct Journey {
    account: Arc<Account>,
    cause: Cause,
    arrival: Option<watch::Sender<Option<FlightResult>>>,
}

impl Journey {
    fn land(&mut self, found: Result<Option<Renewal>, RefreshError>) {
        if let Some(arrival) = self.arrival.take() {
            let result = self.account.landed(self.cause, found);
            // Nobody may be waiting, which is fine.
            arrival.send_replace(Some(result));
        }
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        self.land(Err(RefreshError::new(
            RefreshErrorKind::Aborted,
            "the refresh ended without a result",
        )));
    }
}

/// Waits for the end of a flight.
async fn landed(mut flight: Flight) -> FlightResult {
    match flight.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or(Ok(())),
        // `Journey` always answers, so the sender is never dropped before.
        Err(_) => {
            Err(RefreshError::new(RefreshErrorKind::Aborted, "the refresh ended without a result"))
        }
    }
}

fn not_renewed() -> RefreshError {
    RefreshError::new(RefreshErrorKind::NoRefreshToken, "there is no newer credential")
}

fn ended() -> RefreshError {
    RefreshError::new(
        RefreshErrorKind::NoRefreshToken,
        "the credential has ended and cannot be refreshed",
    )
}

/// `first`, doubled with every count after the first, up to `longest`.
fn doubled(first: Duration, count: u32, longest: Duration) -> Duration {
    first
        .saturating_mul(1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(longest)
}

/// The instant `span` from now; far away where that is too far to say.
fn after(span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * DAY);
    Instant::now() + span.min(FAR)
}

/// A random number from 0 to 1.
fn jitter() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    // The version and variant bits are in the lower half of what is left.
    f64::from((high >> 32) as u32) / f64::from(u32::MAX)
}
