//! The accounts of a pool, and which of them a request is sent with.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;

use super::{
    Credential, RefreshError,
    account::{Fitness, Usable},
    driver::Driver,
    egress::Egress,
};
use crate::{Error, ErrorKind};

#[derive(Debug)]
pub(super) struct Accounts {
    /// There is one at least.
    pub(super) all: Box<[Arc<Driver>]>,
    /// The place of the one that is used as long as it can be.
    pub(super) preferred: Option<usize>,
    /// Whose turn is next.
    pub(super) next: AtomicUsize,
    /// The way out that all accounts share.
    pub(super) egress: Egress,
}

impl Accounts {
    /// The account at a place.
    pub(super) fn at(&self, at: usize) -> &Arc<Driver> {
        &self.all[at]
    }

    /// The place of the account of this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|account| account.name() == name)
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.all.len()
    }

    /// The account to try first, and where the round begins if it cannot be used at once.
    /// `wanted` is the only account that will do, `wish` one that would be best.
    pub(super) fn choose(
        &self,
        wanted: Option<&str>,
        wish: Option<&str>,
    ) -> (usize, Option<&Arc<Driver>>) {
        if let Some(name) = wanted {
            return (0, self.place(name).map(|at| self.at(at)));
        }
        let wished = wish.and_then(|name| self.place(name)).filter(|&at| {
            self.all[at].revive();
            self.all[at].fitness() <= Fitness::Doubtful
        });
        let at = match wished.or(self.preferred) {
            Some(at) => at,
            None if self.all.len() == 1 => 0,
            None => self.turn(),
        };
        (at, self.all.get(at))
    }

    /// The credential of `wanted`, or of any account, for a request that is not sent through the
    /// layer.
    pub(super) async fn credential(&self, wanted: Option<&str>) -> Result<Credential, Error> {
        let (start, account) = self.choose(wanted, None);
        match account.and_then(Driver::ready) {
            Some(usable) => Ok(usable.credential),
            None => Ok(self.acquire(wanted, start, None).await?.credential),
        }
    }

    /// A credential, waiting for a load or refresh if need be; counts a request. `wanted` is the
    /// only account that will do, `except` the place of the one that will not.
    pub(super) async fn acquire(
        &self,
        wanted: Option<&str>,
        start: usize,
        except: Option<usize>,
    ) -> Result<Usable, Error> {
        let usable = match wanted {
            Some(name) => self.acquire_of(name).await?,
            None => self.acquire_any(start, except).await?,
        };
        self.at(usable.sent.at).count_request();
        Ok(usable)
    }

    async fn acquire_of(&self, name: &str) -> Result<Usable, Error> {
        let Some(at) = self.place(name) else {
            return Err(elsewhere("the conversation's account is no longer there"));
        };
        let account = self.at(at);
        let error = match account.fitness() {
            Fitness::Exhausted(until) => exhausted(account, until),
            _ => match account.acquire().await {
                Ok(usable) => return Ok(usable),
                Err(error) => error.into_error(account.name()),
            },
        };
        // A refresh that fails for a moment is no reason to leave the conversation.
        if self.has_other(at) && !error.is_retryable() {
            let elsewhere = elsewhere("the conversation's account cannot be used now");
            return Err(elsewhere.with_source(error));
        }
        Err(error)
    }

    async fn acquire_any(&self, start: usize, except: Option<usize>) -> Result<Usable, Error> {
        self.revive();
        let count = self.all.len();
        let round = (0..count).map(|step| (start + step) % count);
        let mut candidates: Vec<_> = self
            .preferred
            .into_iter()
            .chain(round.filter(|at| Some(*at) != self.preferred))
            .filter(|at| Some(*at) != except)
            .map(|at| (self.at(at).fitness(), self.at(at)))
            .collect();
        // Stable: among equals the round decides.
        candidates.sort_by_key(|(fitness, _)| *fitness);

        let mut failure: Option<(RefreshError, &Driver)> = None;
        let mut soonest = None;
        for (fitness, account) in candidates {
            if let Fitness::Exhausted(until) = fitness {
                soonest.get_or_insert((until, account));
                continue;
            }
            match account.acquire().await {
                Ok(usable) => return Ok(usable),
                // What passes says more about when to come again than what does not.
                Err(error) if failure.as_ref().is_none_or(|(old, _)| old.needs_sign_in()) => {
                    failure = Some((error, account));
                }
                Err(_) => {}
            }
        }
        Err(match (failure, soonest) {
            (Some((error, account)), None) => error.into_error(account.name()),
            (Some((error, account)), _) if !error.needs_sign_in() => {
                error.into_error(account.name())
            }
            (_, Some((until, account))) if count == 1 => exhausted(account, until),
            (_, Some((until, _))) => {
                let message = "the quota of every upstream account is used up for now";
                with_wait(Error::new(ErrorKind::Overloaded, message), until)
            }
            (None, None) => Error::new(ErrorKind::Overloaded, "there is no other upstream account"),
        })
    }

    /// Looks whether somebody has signed in again where a login is dead.
    pub(super) fn revive(&self) {
        self.all.iter().for_each(Driver::revive);
    }

    /// Whether a request that is not bound to the account at `at` would have another to go to.
    pub(super) fn has_other(&self, at: usize) -> bool {
        let mut others = self.all.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, account)| account.fitness() <= Fitness::Doubtful)
    }
}

/// The error that makes a session start a new chat, which may be another account's.
pub(super) fn elsewhere(message: &'static str) -> Error {
    Error::new(ErrorKind::AccountUnavailable, message)
}

fn exhausted(account: &Driver, until: Instant) -> Error {
    let message =
        format!("the quota of the upstream account `{}` is used up for now", account.name());
    with_wait(Error::new(ErrorKind::Quota, message), until)
}

fn with_wait(error: Error, until: Instant) -> Error {
    error.with_retry_after(until.saturating_duration_since(Instant::now()))
}
