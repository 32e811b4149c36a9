use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::of_request;
use crate::chat::ChatRequest;

/// Of how many models something is remembered. With one more the one is forgotten that was not
/// asked for the longest.
const MODELS: usize = 64;

/// What is too short says little: what an upstream adds of its own would count for most of it.
const SHORTEST: u64 = 256;

/// No upstream's count is further from an estimate than this; what is has another reason, such as a
/// cache that is counted by itself.
const FURTHEST: f64 = 3.0;

/// No estimate is taken down further than this by what was learnt. A model is asked with tools and
/// without, and what upstreams count of definitions in JSON says little of prose.
const LEAST: f64 = 0.9;

/// How much of the distance from the mean a new observation takes it, and from the mean deviation.
const OF_MEAN: f64 = 1.0 / 8.0;
const OF_DEVIATION: f64 = 1.0 / 4.0;

/// Estimates how many tokens a request has, and learns from what upstreams report.
///
/// For each model it keeps the mean of reported to estimated and how far the reports are from it,
/// each with exponentially falling weights, and multiplies estimates by the mean and twice the
/// deviation: it goes on erring to the large side. Without a report it is [`of_request`].
///
/// It is shared by reference, and all of its calls are short: a lock is held for a look through at
/// most 64 entries, and never while a text is read.
#[derive(Default)]
pub struct TokenEstimator {
    models: Mutex<Vec<Learned>>,
}

/// What is known of a model. The entry that was used last stands last.
struct Learned {
    model: Box<str>,
    mean: f64,
    deviation: f64,
}

impl Learned {
    fn factor(&self) -> f64 {
        2.0_f64.mul_add(self.deviation, self.mean).max(LEAST)
    }
}

impl TokenEstimator {
    /// An estimator that has learnt nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// About how many tokens `request` has as a prompt.
    #[must_use]
    pub fn estimate(&self, request: &ChatRequest) -> u64 {
        self.corrected(&request.model, of_request(request))
    }

    /// What `estimated`, which [`of_request`] has given for a request to `model`, comes to with what
    /// was learnt of that.
    #[must_use]
    pub fn corrected(&self, model: &str, estimated: u64) -> u64 {
        let models = self.lock();
        let known = models.iter().rfind(|learned| *learned.model == *model);
        known.map_or(estimated, |learned| (estimated as f64 * learned.factor()).ceil() as u64)
    }

    /// Takes in that a request to `model`, for which [`of_request`] has given `estimated`, had
    /// `reported` tokens by the upstream's count, those that it read from a cache included.
    ///
    /// What is short is ignored, and so is what is three times as much or as little: that is no
    /// matter of the estimate.
    pub fn learn(&self, model: &str, estimated: u64, reported: u64) {
        let ratio = reported as f64 / estimated as f64;
        if estimated < SHORTEST || !(FURTHEST.recip()..=FURTHEST).contains(&ratio) {
            return;
        }
        let mut models = self.lock();
        let learned = match models.iter().rposition(|learned| *learned.model == *model) {
            Some(at) => {
                let mut learned = models.remove(at);
                let distance = ratio - learned.mean;
                learned.mean += distance * OF_MEAN;
                learned.deviation += (distance.abs() - learned.deviation) * OF_DEVIATION;
                learned
            }
            None => {
                if models.len() >= MODELS {
                    models.remove(0);
                }
                // One report says nothing of the others yet.
                Learned { model: model.into(), mean: ratio, deviation: ratio / 20.0 }
            }
        };
        models.push(learned);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Learned>> {
        // Every state of it is sound.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenEstimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models = self.lock();
        let factors = models.iter().map(|learned| (&*learned.model, learned.factor()));
        f.debug_map().entries(factors).finish()
    }
}
