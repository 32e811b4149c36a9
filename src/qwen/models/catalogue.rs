use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use metrics::counter;
use tokio::time::Instant;
use tower_service::Service;

use super::Model;
use crate::{
    BoxError, Error, ErrorKind, FullBody,
    shared_task::{Setback, SharedTask, Start, doubled},
};

type Fetched = Pin<Box<dyn Future<Output = Result<Vec<Model>, Error>> + Send>>;
type Fetch = Box<dyn Fn() -> Fetched + Send + Sync>;

/// How long a list is fresh unless set.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// How long the upstream may take unless set.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long the upstream is left alone after the first failure; doubled with each that follows.
const FIRST_BACK_OFF: Duration = Duration::from_secs(5);

/// The longest that it is left alone.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// The longest that it is left alone where it asks for longer, as the age of a list does not
/// say less: there are times that no clock can add.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);

/// A catalogue of models that is asked for seldom.
///
/// - A list is *fresh* for an [hour](Catalogue::max_age); until then nothing is asked.
/// - However many want a list at once, one call of the upstream is made. It runs on a task of its
///   own, to its end, whoever stops waiting for it: what it brings is kept for the next.
/// - Where the upstream fails, the last list is served and [said to be stale](Listing::stale);
///   without one, the failure is. Either way the upstream is then left alone for 5 s, and twice
///   as long with each failure that follows directly, up to a minute, or as long as it asks for
///   itself up to the age of a list.
/// - An outdated list is replaced when somebody wants one; nothing runs in the background.
///
/// Clones share the list. Time is tokio's, so that tests can pause it. See the
/// [module](super) for an example.
/// Outside of a tokio runtime whose timers are on, nothing can be asked: that is an error of class
/// [`Internal`](ErrorKind::Internal).
#[derive(Clone)]
pub struct Catalogue {
    shared: Arc<Shared>,
    max_age: Duration,
    timeout: Duration,
}

struct Shared {
    fetch: Fetch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Snapshot>,
    /// The call that is under way.
    call: Option<SharedTask<Brought>>,
    /// The failures since the last success.
    setback: Option<Setback<Arc<Error>>>,
}

/// A list, and when it was fetched.
#[derive(Clone)]
struct Snapshot {
    models: Arc<[Model]>,
    fetched: Instant,
}

/// What a call has brought.
type Brought = Result<Snapshot, Arc<Error>>;

/// A list of models, and how good it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// The models, in the upstream's order.
    pub models: Arc<[Model]>,
    /// `None` for a list that is fresh. Where the upstream could not be asked anew: how long ago
    /// this list was fetched.
    pub stale: Option<Duration>,
}

impl Listing {
    /// The model of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == *id)
    }
}

impl Catalogue {
    /// A catalogue over any function that fetches one.
    ///
    /// ```
    /// use tower_qwen::qwen::models::{Catalogue, Model};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_qwen::Error> {
    /// let catalogue = Catalogue::new(|| async { Ok(vec![Model::new("qwen3-max", "qwen")]) });
    /// assert_eq!(catalogue.get("qwen3-max").await?.owned_by, "qwen");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Model>, Error>> + Send + 'static,
    {
        let fetch: Fetch = Box::new(move || Box::pin(fetch()));
        Self {
            shared: Arc::new(Shared { fetch, state: Mutex::default() }),
            max_age: MAX_AGE,
            timeout: TIMEOUT,
        }
    }

    /// The catalogue of chat.qwen.ai, which [`list_web`](super::list_web) reads from `service`, and
    /// where that is refused from `anonymous`, which puts no credential on.
    #[cfg(feature = "web")]
    #[cfg_attr(docsrs, doc(cfg(feature = "web")))]
    pub fn web<S, A, B, C>(service: S, anonymous: A) -> Self
    where
        S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        A: Service<Request<FullBody>, Response = Response<C>> + Clone + Send + Sync + 'static,
        A::Error: Into<BoxError>,
        A::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        C: Body<Data = Bytes> + Send + 'static,
        C::Error: Into<BoxError>,
    {
        Self::new(move || {
            let (service, anonymous) = (service.clone(), anonymous.clone());
            async move { super::list_web(service, anonymous, None).await }
        })
    }

    /// The catalogue of an OpenAI-compatible server, which
    /// [`list_compatible`](super::list_compatible) reads from `service`.
    #[cfg(feature = "compatible")]
    #[cfg_attr(docsrs, doc(cfg(feature = "compatible")))]
    pub fn compatible<S, B>(service: S, server: crate::qwen::compatible::Server) -> Self
    where
        S: Service<Request<FullBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::new(move || {
            let service = service.clone();
            async move { super::list_compatible(service, None, server).await }
        })
    }

    /// How long a list is fresh. Default: an hour.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How long the upstream may take to list its models. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The models: a fresh list, else a new one, else the last one.
    ///
    /// # Errors
    ///
    /// Where there is no list at all: the upstream's failure, or [`ErrorKind::Timeout`]. While
    /// the upstream is left alone it is the last failure again, with the time that is left as
    /// its [`retry_after`](Error::retry_after).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a call of the upstream running, for the others and the next.
    pub async fn list(&self) -> Result<Listing, Error> {
        let call = {
            let state = self.shared.lock();
            let now = Instant::now();
            if let Some(current) = &state.current
                && now - current.fetched < self.max_age
            {
                counter!("tower_qwen_models_hits_total").increment(1);
                return Ok(current.listing());
            }
            let setback = state.setback.as_ref().filter(|_| state.call.is_none());
            match setback.and_then(|setback| Some((setback, setback.left(now)?))) {
                Some((setback, left)) => {
                    let error = setback.error.said_again().with_retry_after(left);
                    return state.stale(now).ok_or(error);
                }
                None => self.join(state),
            }
        };
        match brought(call).await {
            Ok(snapshot) => Ok(snapshot.listing()),
            Err(error) => self.shared.lock().stale(Instant::now()).ok_or(error),
        }
    }

    /// The last list, however old; nobody is asked. `None` where there was none yet.
    #[must_use]
    pub fn last(&self) -> Option<Listing> {
        self.shared.lock().current.as_ref().map(Snapshot::listing)
    }

    /// The model of this id, of the list that [`list`](Catalogue::list) gives.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ModelNotFound`] where the list does not hold it, and those of
    /// [`list`](Catalogue::list).
    ///
    /// # Cancel safety
    ///
    /// As [`list`](Catalogue::list).
    pub async fn get(&self, id: &str) -> Result<Model, Error> {
        self.list().await?.get(id).cloned().ok_or_else(|| {
            Error::new(ErrorKind::ModelNotFound, format!("the model `{id}` does not exist"))
                .with_param("model")
        })
    }

    /// A new list, however fresh the last one is, and though the upstream was to be left alone.
    /// A call that is already under way is joined.
    ///
    /// # Errors
    ///
    /// Where the upstream fails. The last list stays, and [`list`](Catalogue::list) goes on
    /// serving it.
    ///
    /// # Cancel safety
    ///
    /// As [`list`](Catalogue::list).
    pub async fn refresh(&self) -> Result<Listing, Error> {
        let call = self.join(self.shared.lock());
        brought(call).await.map(|snapshot| snapshot.listing())
    }

    /// The call that is under way, or a new one.
    fn join(&self, mut state: MutexGuard<'_, State>) -> SharedTask<Brought> {
        if let Some(call) = &state.call {
            return call.clone();
        }
        let (call, start): (_, Start<Brought>) = SharedTask::new();
        state.call = Some(call.clone());
        drop(state);
        let (shared, ending) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let (timeout, longest) = (self.timeout, self.max_age);
        let fetch = async move {
            let too_slow = "the upstream did not list its models in time";
            match tokio::time::timeout(timeout, (shared.fetch)()).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(ErrorKind::Timeout, too_slow)),
            }
        };
        start.run(fetch, move |result| ending.lock().end(result, longest));
        call
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and every state of it is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers what a call has brought; `None` where it has ended without a result.
    fn end(&mut self, result: Option<Result<Vec<Model>, Error>>, longest: Duration) -> Brought {
        let now = Instant::now();
        self.call = None;
        let error = match result {
            Some(Ok(models)) => {
                counter!("tower_qwen_models_refreshes_total", "result" => "ok").increment(1);
                tracing::debug!(count = models.len(), "the upstream listed its models");
                let snapshot = Snapshot { models: models.into(), fetched: now };
                self.current = Some(snapshot.clone());
                self.setback = None;
                return Ok(snapshot);
            }
            Some(Err(error)) => Arc::new(error),
            None => return Err(Arc::new(given_up())),
        };
        counter!("tower_qwen_models_refreshes_total", "result" => "failed").increment(1);
        let setback = Setback::after(self.setback.take(), error, now, |count, error| {
            let asked = error.retry_after().unwrap_or_default().min(longest).min(LONGEST_ASKED);
            doubled(FIRST_BACK_OFF, count, LONGEST_BACK_OFF).max(asked)
        });
        let error = Arc::clone(&setback.error);
        tracing::warn!(
            kind = ?error.kind(),
            error = &*error as &dyn std::error::Error,
            wait_seconds = setback.left(now).unwrap_or_default().as_secs(),
            "the upstream did not list its models"
        );
        self.setback = Some(setback);
        Err(error)
    }

    /// The last list, where there is one, as what it is now.
    fn stale(&self, now: Instant) -> Option<Listing> {
        let Some(current) = &self.current else {
            counter!("tower_qwen_models_unavailable_total").increment(1);
            return None;
        };
        counter!("tower_qwen_models_stale_total").increment(1);
        let age = now - current.fetched;
        Some(Listing { models: Arc::clone(&current.models), stale: Some(age) })
    }
}

impl Snapshot {
    fn listing(&self) -> Listing {
        Listing { models: Arc::clone(&self.models), stale: None }
    }
}

/// Waits for what a call brings. Everyone who waited gets the same failure; its causes were
/// logged, once.
async fn brought(call: SharedTask<Brought>) -> Result<Snapshot, Error> {
    call.result().await.ok_or_else(given_up)?.map_err(|error| error.said_again())
}

/// The function that fetches has panicked, or the runtime is ending.
fn given_up() -> Error {
    Error::new(ErrorKind::Internal, "asking the upstream for its models was given up")
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Catalogue")
            .field("models", &state.current.as_ref().map(|current| current.models.len()))
            .field("age", &state.current.as_ref().map(|current| current.fetched.elapsed()))
            .field("is_refreshing", &state.call.is_some())
            .field("max_age", &self.max_age)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
