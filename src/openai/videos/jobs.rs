//! What becomes of videos after they were asked for.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};
use uuid::Uuid;

use crate::{
    Error, ErrorKind, Text,
    chat::{MediaSize, Tenant},
};

/// How many videos one tenant may have under way.
const RUNNING: usize = 4;

/// How many are remembered in all.
const KEPT: usize = 1_024;

/// For how long a video is remembered.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a prompt is remembered, in bytes.
const PROMPT_LEN: usize = 4_096;

/// The videos that clients have asked for, by their ids: what [`VideosLayer`](super::VideosLayer)
/// begins and [`VideoJobs`](super::VideoJobs) tells of.
///
/// They are in memory: a process that is started anew has none, and neither has another one beside it.
/// What is bounded is how many a tenant has under way (4), how many are remembered in all (1,024, the
/// oldest that are over go first), and for how long (24 hours from the request).
///
/// A clone is the same.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: Mutex<VecDeque<Arc<Job>>>,
    running: usize,
    kept: usize,
    ttl: Duration,
}

/// A video that was asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Text,
    /// Whose it is. Of nobody who can be told from others only its id tells.
    tenant: Option<Tenant>,
    pub(super) model: Text,
    pub(super) prompt: Text,
    pub(super) size: Option<MediaSize>,
    pub(super) seconds: Option<u32>,
    /// In seconds since 1970.
    pub(super) created: u64,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    status: Status,
    /// What makes it, once it is under way.
    task: Option<AbortHandle>,
}

/// What a video is at.
#[derive(Clone, Debug, Default)]
pub(super) enum Status {
    /// The upstream has not taken it on yet.
    #[default]
    Queued,
    /// So many percent are done.
    Running(u8),
    /// It is there, since this time.
    Done { url: Text, at: u64 },
    /// It came to nothing.
    Failed { code: Text, message: Text },
}

impl Status {
    fn is_over(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Takes note of what it is at, unless it is over.
    pub(super) fn set(&self, status: Status) {
        let mut state = self.lock();
        if !state.status.is_over() {
            state.status = status;
        }
    }

    /// It is made by this task from now on.
    pub(super) fn made_by(&self, task: AbortHandle) {
        self.lock().task = Some(task);
    }

    /// Nobody wants it any more. The upstream goes on with it, as it cannot be told to stop.
    fn give_up(&self) {
        if let Some(task) = self.lock().task.take() {
            task.abort();
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self::new()
    }
}

impl Jobs {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(RUNNING, KEPT, TTL)
    }

    /// None yet, with limits of one's own: how many a tenant has under way, how many are remembered in
    /// all, and for how long.
    #[must_use]
    pub fn with(running: usize, kept: usize, ttl: Duration) -> Self {
        let jobs = Mutex::default();
        Self { shared: Arc::new(Shared { jobs, running, kept, ttl }) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |job: &Arc<Job>| job.begun.elapsed() >= self.shared.ttl;
        while jobs.front().is_some_and(is_old) {
            if let Some(job) = jobs.pop_front() {
                job.give_up();
            }
        }
        jobs
    }

    /// A new one, which is queued.
    ///
    /// # Errors
    ///
    /// Where there are too many.
    pub(super) fn begin(&self, asked: Asked<'_>) -> Result<Arc<Job>, Error> {
        let Asked { tenant, model, prompt, size, seconds, created } = asked;
        let mut jobs = self.lock();
        let is_running = |job: &&Arc<Job>| !job.lock().status.is_over();
        let running = jobs.iter().filter(|job| job.tenant == tenant).filter(is_running).count();
        if running >= self.shared.running {
            let message = format!(
                "{running} videos are under way, and no more at a time; wait for one of them"
            );
            let error = Error::new(ErrorKind::RateLimited, message);
            return Err(error.with_retry_after(Duration::from_secs(30)));
        }
        if jobs.len() >= self.shared.kept {
            let over = jobs.iter().position(|job| job.lock().status.is_over());
            let Some(over) = over else {
                let message = "too many videos are under way here; try again later";
                let error = Error::new(ErrorKind::Overloaded, message);
                return Err(error.with_retry_after(Duration::from_secs(60)));
            };
            jobs.remove(over);
        }
        let mut end = prompt.len().min(PROMPT_LEN);
        while !prompt.is_char_boundary(end) {
            end -= 1;
        }
        let job = Arc::new(Job {
            id: format!("video_{}", Uuid::new_v4().simple()).into(),
            tenant,
            model: model.into(),
            prompt: prompt[..end].into(),
            size,
            seconds,
            created,
            begun: Instant::now(),
            state: Mutex::default(),
        });
        jobs.push_back(Arc::clone(&job));
        Ok(job)
    }

    /// That of this id, if it is `tenant`'s.
    pub(super) fn get(&self, tenant: Option<&Tenant>, id: &str) -> Option<Arc<Job>> {
        let jobs = self.lock();
        jobs.iter().find(|job| job.id == *id && job.tenant.as_ref() == tenant).cloned()
    }

    /// Those of `tenant`, the oldest first. Who cannot be told from others has no list.
    pub(super) fn list(&self, tenant: Option<&Tenant>) -> Vec<Arc<Job>> {
        let Some(tenant) = tenant else { return Vec::new() };
        let jobs = self.lock();
        jobs.iter().filter(|job| job.tenant.as_ref() == Some(tenant)).cloned().collect()
    }

    /// Forgets that of this id, and gives it up where it is under way; whether it was there.
    pub(super) fn forget(&self, tenant: Option<&Tenant>, id: &str) -> bool {
        let mut jobs = self.lock();
        let at = jobs.iter().position(|job| job.id == *id && job.tenant.as_ref() == tenant);
        let Some(job) = at.and_then(|at| jobs.remove(at)) else { return false };
        job.give_up();
        true
    }
}

/// What a client asks for.
pub(super) struct Asked<'a> {
    pub(super) tenant: Option<Tenant>,
    pub(super) model: &'a str,
    pub(super) prompt: &'a str,
    pub(super) size: Option<MediaSize>,
    pub(super) seconds: Option<u32>,
    pub(super) created: u64,
}

/// Shows how many there are, and nothing of what they are about.
impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("len", &self.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Tenant = Tenant::from_digest([1; 32]);
    const BOB: Tenant = Tenant::from_digest([2; 32]);

    fn begin(jobs: &Jobs, tenant: Option<Tenant>) -> Result<Arc<Job>, Error> {
        let prompt = "ä".repeat(4_000);
        let (size, seconds, created) = (None, None, 1);
        jobs.begin(Asked { tenant, model: "m", prompt: &prompt, size, seconds, created })
    }

    fn done() -> Status {
        Status::Done { url: "u".into(), at: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_sees_what_is_anothers() {
        let jobs = Jobs::new();
        let ids: Vec<_> = [Some(ANN), Some(BOB), None]
            .into_iter()
            .map(|tenant| begin(&jobs, tenant).expect("room").id.clone())
            .collect();
        for (tenant, own) in [(Some(ANN), 0), (Some(BOB), 1), (None, 2)] {
            for (at, id) in ids.iter().enumerate() {
                assert_eq!(jobs.get(tenant.as_ref(), id).is_some(), at == own);
                assert!(at == own || !jobs.forget(tenant.as_ref(), id));
            }
            let listed = jobs.list(tenant.as_ref());
            assert_eq!(listed.len(), usize::from(tenant.is_some()));
        }
        assert!(jobs.forget(Some(&ANN), &ids[0]));
        assert!(jobs.get(Some(&ANN), &ids[0]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_not_too_many() {
        let jobs = Jobs::with(2, 3, Duration::from_secs(60));
        let first = begin(&jobs, Some(ANN)).expect("room");
        begin(&jobs, Some(ANN)).expect("room");
        let error = begin(&jobs, Some(ANN)).expect_err("two are under way");
        assert_eq!((error.kind(), error.status().as_u16()), (ErrorKind::RateLimited, 429));
        begin(&jobs, Some(BOB)).expect("room for another");
        // None is over, so none can go.
        assert_eq!(begin(&jobs, None).expect_err("full").kind(), ErrorKind::Overloaded);
        first.set(done());
        begin(&jobs, None).expect("the first is over");
        assert!(jobs.get(Some(&ANN), &first.id).is_none());

        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(jobs.list(Some(&ANN)).is_empty() && jobs.list(Some(&BOB)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_stays_so() {
        let job = begin(&Jobs::new(), None).expect("room");
        assert!(job.prompt.len() <= PROMPT_LEN && job.prompt.ends_with('ä'));
        job.set(Status::Running(7));
        job.set(done());
        job.set(Status::Running(8));
        assert!(matches!(job.status(), Status::Done { .. }));
    }

    #[test]
    fn nothing_is_shown_of_what_they_are_about() {
        let jobs = Jobs::new();
        assert_eq!(format!("{jobs:?}"), "Jobs { len: 0, .. }");
    }
}
