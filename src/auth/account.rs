//! What is known about one account and what is to be done about it: a state machine without a
//! clock, a task or a lock.
//!
//! It is told facts and the time, and says what to do: send with a credential, begin to load or
//! refresh one, wait for what is under way, or give up. Its [`Driver`](super::driver::Driver) does
//! so, and tells what came of it. Asking how the account does changes nothing.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{
    Credential, CredentialKind, RefreshError, RefreshErrorKind, Renewal,
    error::not_refreshable,
    standing::{CoolDown, Now, Stamp, Standing, Trouble},
    state::{AccountState, AccountStatus},
};
use crate::{
    AccountName,
    shared_task::{Setback, doubled},
};

/// How early a web session is no longer used: it has a minute for the requests that follow.
const WEB_MARGIN: Duration = Duration::from_secs(60);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// Where no login exists yet, somebody is probably about to sign in.
const MISSING_BACK_OFF: Duration = Duration::from_secs(1);

/// Why a credential is loaded or renewed.
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
    /// An upstream was too slow, which is how some of them treat tokens that have ended.
    Timeout,
    /// Its store may have changed.
    Reload,
}

/// Which account a request is sent with, which of its credentials, and how much bad news about
/// the account there had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The account's place in the pool.
    pub(super) at: usize,
    pub(super) generation: u64,
    pub(super) stamp: Stamp,
}

/// A credential to send with.
#[derive(Clone, Debug)]
pub(super) struct Usable {
    pub(super) credential: Credential,
    pub(super) sent: Sent,
}

/// What is to be done for a request that wants a credential.
#[derive(Debug)]
pub(super) enum Step {
    Use(Usable),
    /// Begin this, tell the account when it has [finished](Account::finished), and ask again.
    Begin(Work),
    /// Ask again when what is under way has finished.
    Wait,
    Fail(RefreshError),
}

/// What a provider is asked for.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Load,
    /// Whether somebody has put another in the place of this one.
    Reload(Credential),
    /// One that is newer than this.
    Refresh(Credential),
}

/// How fit an account is to be used; the smaller the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    Ready,
    /// Others are better, but it may be used: it was refused or was asked to slow down.
    Doubtful,
    /// Its quota is used up until then.
    Exhausted(Instant),
    /// Somebody has to sign in again.
    Dead,
}

/// What an account is run with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How early a credential is renewed.
    pub(super) margin: Duration,
    /// How much earlier a refresh begins that nobody waits for.
    pub(super) ahead: Duration,
    pub(super) reload_interval: Option<Duration>,
    pub(super) is_refreshable: bool,
}

#[derive(Debug)]
pub(super) struct Account {
    at: usize,
    name: AccountName,
    settings: Settings,
    current: Option<Current>,
    /// Why something is under way, if anything is.
    underway: Option<Cause>,
    /// The last load or refresh failed, in a way that passes.
    setback: Option<Setback<RefreshError>>,
    /// The last refresh failed for good: until the credential changes from outside.
    dead: Option<RefreshError>,
    standing: Standing,
    reloaded_at: Option<SystemTime>,
    requests: u64,
    refreshes: u64,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Current {
    credential: Credential,
    generation: u64,
    /// From when on it is not used if it can be helped.
    stale_at: Option<SystemTime>,
    /// From when on a refresh is begun that nobody waits for.
    ahead_at: Option<SystemTime>,
    /// Whether a timeout has had its refresh.
    timeout_spent: bool,
    /// Whether an upstream has refused it.
    refused: bool,
}

impl Account {
    pub(super) fn new(
        at: usize,
        name: AccountName,
        settings: Settings,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            at,
            name,
            settings,
            current: None,
            underway: None,
            setback: None,
            dead: None,
            standing: Standing::default(),
            reloaded_at: None,
            requests: 0,
            refreshes: 0,
            random,
        }
    }

    /// The credential at hand, if it is fresh and nothing speaks against the account, and whether it
    /// is time for [`tend`](Account::tend). Counts a request.
    ///
    /// This is what every request asks first, so the clock is read only where it decides.
    pub(super) fn ready(&mut self, wall: impl FnOnce() -> SystemTime) -> Option<(Usable, bool)> {
        if self.dead.is_some() || !self.standing.is_clear() {
            return None;
        }
        let current = self.current.as_ref()?;
        let mut is_due = false;
        if current.stale_at.is_some() || self.settings.reload_interval.is_some() || current.refused
        {
            let wall = wall();
            let is_over = |at: Option<SystemTime>| at.is_some_and(|at| wall >= at);
            let better_one_comes = current.refused && self.underway.is_some();
            if better_one_comes || is_over(current.stale_at) {
                return None;
            }
            is_due =
                self.underway.is_none() && (is_over(current.ahead_at) || self.reload_is_due(wall));
        }
        self.requests += 1;
        Some((self.usable(current), is_due))
    }

    /// What to begin though no request waits for it: a refresh ahead of the credential's end, or a
    /// look whether its store has changed.
    pub(super) fn tend(&mut self, now: Now) -> Option<Work> {
        let current = self.current.as_ref().filter(|_| self.underway.is_none())?;
        let may_refresh = self.settings.is_refreshable
            && self.dead.is_none()
            && self.setback_error(now).is_none();
        let cause = if may_refresh && current.ahead_at.is_some_and(|at| now.wall >= at) {
            Cause::Ahead
        } else if self.reload_is_due(now.wall) {
            Cause::Reload
        } else {
            return None;
        };
        Some(self.begin(cause, now))
    }

    /// What to begin for an account that requests are kept away from since its login is dead:
    /// somebody may have signed in again.
    pub(super) fn revive(&mut self, now: Now) -> Option<Work> {
        if self.fitness(now) == Fitness::Dead { self.tend(now) } else { None }
    }

    /// What to do for a request that wants any credential of the account. `failure` is what the
    /// request has just waited for in vain.
    pub(super) fn acquire(&mut self, now: Now, failure: Option<RefreshError>) -> Step {
        self.standing.expire(now);
        if self.dead.is_some() && self.underway.is_none() && self.reload_is_due(now.wall) {
            return Step::Begin(self.begin(Cause::Reload, now));
        }
        let tried = failure.is_some();
        // What is sent with where there is nothing better, because it has not ended yet.
        let mut last_resort = None;
        if let Some(current) = &self.current {
            let fresh = current.stale_at.is_none_or(|stale_at| now.wall < stale_at);
            // A dead login's access token is good until its end, unless it was refused.
            let usable = !(self.dead.is_some() && current.refused);
            let better_one_comes = current.refused && self.underway.is_some() && !tried;
            if fresh && usable && !better_one_comes {
                return Step::Use(self.usable(current));
            }
            if usable && !current.credential.ends_within(Duration::ZERO, now.wall) {
                last_resort = Some(self.usable(current));
            }
        }
        let dead = self.dead.clone();
        if self.underway.is_some() && !tried && (dead.is_none() || last_resort.is_none()) {
            // Of a dead account it is a reload: somebody may have signed in.
            return Step::Wait;
        }
        let cannot_refresh = self.current.is_some() && !self.settings.is_refreshable;
        let reason = dead
            .or_else(|| self.setback_error(now))
            .or_else(|| (cannot_refresh || (tried && last_resort.is_some())).then(ended));
        match (reason, last_resort) {
            (Some(_), Some(usable)) => Step::Use(usable),
            (Some(error), None) => Step::Fail(failure.unwrap_or(error)),
            (None, _) if self.underway.is_some() => Step::Wait,
            (None, _) if self.current.is_some() => Step::Begin(self.begin(Cause::Expiry, now)),
            (None, _) => Step::Begin(self.begin(Cause::Load, now)),
        }
    }

    /// What to do for a request whose credential, the one of `generation`, has met with `cause`:
    /// it wants a newer one. `failure` is what the request has just waited for in vain.
    ///
    /// For [`Cause::Timeout`] the same may do: it was perhaps not the credential's fault.
    pub(super) fn renew(
        &mut self,
        generation: u64,
        cause: Cause,
        now: Now,
        failure: Option<RefreshError>,
    ) -> Step {
        if let Some(current) = &mut self.current {
            current.refused |= cause == Cause::Refused && current.generation == generation;
        }
        let Some(current) = &self.current else { return Step::Fail(not_renewed()) };
        let is_newer = current.generation != generation;
        if is_newer || (cause == Cause::Timeout && current.timeout_spent) {
            // Only the other try is left: somebody has refreshed already, or nothing is to be won.
            return Step::Use(self.usable(current));
        }
        if self.underway.is_some() && failure.is_none() {
            return Step::Wait;
        }
        // A fresh token was refused a moment ago: more of them would not help.
        let in_vain = cause == Cause::Refused && self.standing.is_cooling(Trouble::Refused, now);
        let reason = failure
            .or_else(|| self.dead.clone())
            .or_else(|| (!self.settings.is_refreshable).then(not_refreshable))
            .or_else(|| self.setback_error(now))
            .or_else(|| in_vain.then(not_renewed));
        match reason {
            None => Step::Begin(self.begin(cause, now)),
            Some(_) if cause == Cause::Timeout => Step::Use(self.usable(current)),
            Some(error) => Step::Fail(error),
        }
    }

    fn begin(&mut self, cause: Cause, now: Now) -> Work {
        debug_assert!(self.underway.is_none(), "one at a time");
        self.underway = Some(cause);
        if matches!(cause, Cause::Load | Cause::Reload) {
            self.reloaded_at = Some(now.wall);
        }
        match (&self.current, cause) {
            (None, _) => Work::Load,
            (Some(current), Cause::Reload) => Work::Reload(current.credential.clone()),
            (Some(current), _) => Work::Refresh(current.credential.clone()),
        }
    }

    /// Takes in what the work that was begun last has brought, and says what those who wait for
    /// it are told.
    pub(super) fn finished(
        &mut self,
        found: Result<Option<Renewal>, RefreshError>,
        now: Now,
    ) -> Result<(), RefreshError> {
        let cause = self.underway.take().unwrap_or(Cause::Reload);
        let result = match found {
            Ok(None) => Ok(()),
            Ok(Some(renewal)) => self.install(cause, renewal, now),
            Err(error) if cause == Cause::Reload => {
                let name = &self.name;
                tracing::warn!(account = %name, %error, "a credential could not be reloaded");
                return Ok(());
            }
            Err(error) => Err(error),
        };
        let result = result.map_err(|error| self.set_back(cause, error, now));
        let outcome = match (&result, cause) {
            (Err(error), _) if error.kind() == RefreshErrorKind::Rejected => "rejected",
            (_, Cause::Load | Cause::Reload) => "",
            (Ok(()), _) => "ok",
            (Err(_), _) => "failed",
        };
        if !outcome.is_empty() {
            metrics::counter!("tower_qwen_auth_refresh_total", "result" => outcome).increment(1);
        }
        result
    }

    fn install(&mut self, cause: Cause, renewal: Renewal, now: Now) -> Result<(), RefreshError> {
        let Renewal { mut credential, adopted } = renewal;
        let old = self.current.as_ref();
        if cause != Cause::Reload && old.is_some_and(|old| old.credential.is_same(&credential)) {
            // A provider that brings back what was refused has not refreshed.
            return Err(not_renewed());
        }
        let name = &self.name;
        if !adopted && credential.ends_within(Duration::ZERO, now.wall) {
            tracing::warn!(
                account = %name,
                "a token that was granted just now has ended already by this machine's clock; \
                 it is used until refused",
            );
            credential = credential.with_expires_at(None);
        }
        let timeout_spent = match cause {
            Cause::Timeout => true,
            // Another process may have refreshed for the same timeouts.
            Cause::Reload => old.is_some_and(|old| old.timeout_spent),
            _ => false,
        };
        let generation = old.map_or(1, |old| old.generation + 1);
        match cause {
            Cause::Reload => {
                self.standing.replaced();
                tracing::info!(account = %name, "a credential was changed from outside");
            }
            Cause::Load => {}
            _ => {
                self.refreshes += 1;
                tracing::info!(account = %name, ?cause, adopted, "a credential was renewed");
            }
        }
        let (stale_at, ahead_at) = self.renewal_times(&credential, adopted, now.wall);
        let refused = false;
        self.current =
            Some(Current { credential, generation, stale_at, ahead_at, timeout_spent, refused });
        (self.dead, self.setback) = (None, None);
        Ok(())
    }

    /// From when on a credential is not used if it can be helped, and from when on a refresh is
    /// begun that nobody waits for.
    fn renewal_times(
        &mut self,
        credential: &Credential,
        adopted: bool,
        wall: SystemTime,
    ) -> (Option<SystemTime>, Option<SystemTime>) {
        let Some(end) = credential.expires_at() else { return (None, None) };
        let life = end.duration_since(wall).unwrap_or_default();
        let mut margin = self.settings.margin;
        if credential.kind() == CredentialKind::Web {
            margin = margin.max(WEB_MARGIN);
        }
        if !adopted {
            // A token that lives shorter than its margin would be refreshed for every request.
            margin = margin.min(life / 2);
        }
        let stale_at = end.checked_sub(margin).unwrap_or(SystemTime::UNIX_EPOCH);
        // Somewhere in the window, so that processes do not all come at once.
        let ahead = self.settings.ahead.min(life / 2).mul_f64(0.5 + self.random.f64() / 2.0);
        (Some(stale_at), stale_at.checked_sub(ahead).filter(|_| !ahead.is_zero()))
    }

    /// Remembers a failure, and gives it back with when to try again.
    fn set_back(&mut self, cause: Cause, error: RefreshError, now: Now) -> RefreshError {
        if let Some(current) = &mut self.current {
            // Whether it helped or not, the timeout has had its refresh.
            current.timeout_spent |= cause == Cause::Timeout;
        }
        let for_good = match error.kind() {
            // Where there is none yet, a provider is asked again, and may find one.
            _ if self.current.is_none() => false,
            RefreshErrorKind::Rejected => true,
            // A key that does not end is not dead because it cannot be refreshed.
            RefreshErrorKind::NoRefreshToken => self.is_unusable(now),
            _ => false,
        };
        let name = &self.name;
        if error.needs_sign_in() {
            tracing::error!(account = %name, ?cause, %error, "somebody has to sign in again");
        } else {
            tracing::warn!(account = %name, ?cause, %error, "a credential was not renewed");
        }
        if for_good {
            self.dead = Some(error.clone());
            return error;
        }
        let random = self.random.f64();
        let setback = Setback::after(self.setback.take(), error, now.instant, |count, error| {
            if error.kind() == RefreshErrorKind::Missing {
                return MISSING_BACK_OFF;
            }
            // The full span at most, half at least: neither a herd nor a hurry.
            let wait = doubled(FIRST_BACK_OFF, count, LONGEST_BACK_OFF).mul_f64(0.5 + random / 2.0);
            error.retry_after().unwrap_or_default().max(wait)
        });
        let error = setback.error.clone().with_retry_after(setback.left(now.instant));
        self.setback = Some(setback);
        error
    }

    /// Takes in what an upstream said against the account in answer to a request.
    pub(super) fn bad_news(
        &mut self,
        trouble: Trouble,
        asked: Option<Duration>,
        sent: Sent,
        now: Now,
    ) {
        if trouble == Trouble::Refused {
            match &mut self.current {
                Some(current) if current.generation == sent.generation => current.refused = true,
                // It is about a credential that has been replaced.
                _ => return,
            }
        }
        let span = self.standing.bad_news(trouble, asked, now, self.random.f64());
        let (name, seconds) = (&self.name, span.as_secs());
        tracing::warn!(account = %name, reason = ?trouble, seconds, "an account cools down");
    }

    /// Takes in that an upstream let a request in.
    pub(super) fn good_news(&mut self, sent: Sent) {
        self.standing.good_news(sent.stamp);
    }

    /// Whether good news would change anything.
    pub(super) fn is_troubled(&self) -> bool {
        self.standing.is_troubled()
    }

    /// Counts a request that did not come by [`ready`](Account::ready).
    pub(super) fn count_request(&mut self) {
        self.requests += 1;
    }

    /// Which of the account's credentials is at hand, if any.
    pub(super) fn generation(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.generation)
    }

    /// How fit the account is to be used.
    pub(super) fn fitness(&self, now: Now) -> Fitness {
        let unusable = self.is_unusable(now);
        match self.standing.cooling(now) {
            _ if unusable && self.dead.is_some() => Fitness::Dead,
            Some(CoolDown { trouble: Trouble::Quota, until }) => Fitness::Exhausted(until),
            Some(_) => Fitness::Doubtful,
            None if unusable && self.setback_error(now).is_some() => Fitness::Doubtful,
            None => Fitness::Ready,
        }
    }

    pub(super) fn snapshot(&self, now: Now) -> AccountState {
        let credential = self.current.as_ref().map(|current| &current.credential);
        let ends = credential.and_then(Credential::expires_at);
        let whole_seconds = |span: Duration| Duration::from_secs(span.as_secs());
        AccountState {
            name: self.name.clone(),
            kind: credential.map(Credential::kind),
            status: self.status(now),
            expires_in: ends
                .map(|end| whole_seconds(end.duration_since(now.wall).unwrap_or_default())),
            available_in: self.standing.cooling(now).map(|cool_down| {
                let left = cool_down.until.saturating_duration_since(now.instant);
                Duration::from_secs(left.as_millis().div_ceil(1000) as u64)
            }),
            base_url: credential.and_then(Credential::base_url),
            requests: self.requests,
            failures: self.standing.failures,
            refreshes: self.refreshes,
        }
    }

    pub(super) fn status(&self, now: Now) -> AccountStatus {
        if self.dead.is_some() {
            return AccountStatus::SignInAgain;
        }
        if let Some(cool_down) = self.standing.cooling(now) {
            return match cool_down.trouble {
                Trouble::Quota => AccountStatus::QuotaUsedUp,
                Trouble::Rate => AccountStatus::RateLimited,
                Trouble::Refused => AccountStatus::Refused,
            };
        }
        match (&self.current, &self.setback) {
            (None, Some(setback)) if setback.error.needs_sign_in() => AccountStatus::SignInAgain,
            (_, Some(_)) => AccountStatus::RefreshFailing,
            (None, None) => AccountStatus::NotLoaded,
            (Some(_), None) if self.is_unusable(now) => AccountStatus::Expired,
            (Some(_), None) => AccountStatus::Ready,
        }
    }

    /// Whether the credential at hand, if any, cannot be sent.
    fn is_unusable(&self, now: Now) -> bool {
        self.current.as_ref().is_none_or(|current| {
            current.credential.ends_within(Duration::ZERO, now.wall)
                || (current.refused && self.dead.is_some())
        })
    }

    fn reload_is_due(&self, wall: SystemTime) -> bool {
        let Some(interval) = self.settings.reload_interval else { return false };
        self.current.is_some()
            && self.reloaded_at.is_none_or(|at| {
                // A clock that was set back must not stop the reloads.
                wall.duration_since(at).unwrap_or(interval) >= interval
            })
    }

    /// The error for those who come while the account is left alone after a failure.
    fn setback_error(&self, now: Now) -> Option<RefreshError> {
        let setback = self.setback.as_ref()?;
        let left = setback.left(now.instant)?;
        Some(setback.error.clone().with_retry_after(Some(left)))
    }

    fn usable(&self, current: &Current) -> Usable {
        let (generation, stamp) = (current.generation, self.standing.stamp);
        let sent = Sent { at: self.at, generation, stamp };
        Usable { credential: current.credential.clone(), sent }
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

#[cfg(test)]
mod tests;
