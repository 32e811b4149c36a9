//! The cache of models: one call however many want it, stale lists on failure, a clock that is
//! paused.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tower_qwen::{
    Error, ErrorKind,
    qwen::models::{Catalogue, Model},
};

const HOUR: Duration = Duration::from_secs(3600);

type Answers = Vec<Result<Vec<Model>, Error>>;

/// An upstream that answers as the script says, one entry a call, and counts the calls.
#[derive(Clone, Default)]
struct Script {
    calls: Arc<AtomicUsize>,
    answers: Arc<Mutex<Answers>>,
}

impl Script {
    fn new(mut answers: Answers) -> Self {
        answers.reverse();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn catalogue(&self) -> Catalogue {
        let script = self.clone();
        Catalogue::new(move || {
            script.calls.fetch_add(1, Ordering::SeqCst);
            let answer = script.answers.lock().expect("not poisoned").pop();
            async move { answer.expect("one call more than the script has") }
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is an entry of a script")]
fn models(ids: &[&str]) -> Result<Vec<Model>, Error> {
    Ok(ids.iter().map(|id| Model::new(*id, "qwen")).collect())
}

fn failure(kind: ErrorKind) -> Result<Vec<Model>, Error> {
    Err(Error::new(kind, "no").with_code("upstreams_own"))
}

#[tokio::test(start_paused = true)]
async fn a_list_is_fresh_for_an_hour() {
    let script = Script::new(vec![models(&["a"]), models(&["a", "b"])]);
    let catalogue = script.catalogue();
    for _ in 0..3 {
        let listing = catalogue.list().await.expect("a list");
        assert_eq!((listing.models.len(), listing.stale), (1, None));
    }
    tokio::time::advance(HOUR - Duration::from_millis(1)).await;
    assert_eq!(catalogue.list().await.expect("a list").models.len(), 1);
    assert_eq!(script.calls(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(catalogue.clone().list().await.expect("a list").models.len(), 2);
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_age_can_be_set_even_to_nothing() {
    let script = Script::new(vec![models(&["a"]), models(&["b"])]);
    let catalogue = script.catalogue().max_age(Duration::ZERO);
    assert_eq!(catalogue.list().await.expect("a list").models[0].id, "a");
    assert_eq!(catalogue.list().await.expect("a list").models[0].id, "b");
}

#[tokio::test(start_paused = true)]
async fn one_model_is_looked_up() {
    let catalogue = Script::new(vec![models(&["a", "org/b"])]).catalogue();
    assert_eq!(catalogue.get("org/b").await.expect("listed").id, "org/b");
    let error = catalogue.get("c").await.expect_err("not listed");
    assert_eq!((error.kind(), error.param()), (ErrorKind::ModelNotFound, Some("model")));
}

/// Whoever comes while a call is under way shares it, and it goes on when all of them leave.
#[tokio::test(start_paused = true)]
async fn one_call_serves_all_and_outlives_them() {
    let (calls, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let catalogue = {
        let (calls, gate) = (Arc::clone(&calls), Arc::clone(&gate));
        Catalogue::new(move || {
            calls.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                models(&["a"])
            }
        })
    };
    let waiting: Vec<_> = (0..50)
        .map(|at| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move {
                if at % 7 == 0 { catalogue.refresh().await } else { catalogue.list().await }
            })
        })
        .collect();
    // The first of them, and all others of the first half, do not wait for the end.
    tokio::task::yield_now().await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    for task in &waiting[..25] {
        task.abort();
    }
    tokio::task::yield_now().await;
    gate.notify_one();
    for (at, task) in waiting.into_iter().enumerate() {
        let joined = task.await;
        assert_eq!(joined.is_err(), at < 25, "{at}");
        if let Ok(listing) = joined {
            assert_eq!(listing.expect("a list").models.len(), 1);
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    // All of them leave.
    tokio::time::advance(HOUR).await;
    let left = tokio::time::timeout(Duration::from_secs(1), catalogue.list()).await;
    assert!(left.is_err(), "the gate is shut");
    gate.notify_one();
    tokio::task::yield_now().await;
    assert_eq!(catalogue.list().await.expect("what the call brought").stale, None);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// The stale list is served and said to be stale; a dead upstream is asked ever more seldom.
#[tokio::test(start_paused = true)]
async fn a_dead_upstream_is_left_alone_and_the_stale_list_served() {
    let dead = || failure(ErrorKind::Upstream);
    let script = Script::new(vec![models(&["a"]), dead(), dead(), dead(), models(&["b"])]);
    let catalogue = script.catalogue();
    catalogue.list().await.expect("a list");
    tokio::time::advance(HOUR).await;
    let mut age = HOUR;
    for (calls, wait) in [(2, 5), (3, 10), (4, 20)] {
        for _ in 0..3 {
            let listing = catalogue.list().await.expect("the stale one");
            assert_eq!((&*listing.models[0].id, listing.stale), ("a", Some(age)));
            assert_eq!(script.calls(), calls, "asked once in {wait} s");
        }
        tokio::time::advance(Duration::from_secs(wait)).await;
        age += Duration::from_secs(wait);
    }
    let listing = catalogue.list().await.expect("a new one");
    assert_eq!((&*listing.models[0].id, listing.stale), ("b", None));
}

#[tokio::test(start_paused = true)]
async fn without_a_list_the_failure_is_told_to_everybody_and_once_to_the_upstream() {
    let script = Script::new(vec![failure(ErrorKind::Auth), models(&["a"])]);
    let catalogue = script.catalogue();
    let first = catalogue.list().await.expect_err("no list");
    assert_eq!((first.kind(), first.code()), (ErrorKind::Auth, Some("upstreams_own")));
    tokio::time::advance(Duration::from_secs(2)).await;
    let second = catalogue.list().await.expect_err("left alone");
    assert_eq!(second.kind(), ErrorKind::Auth);
    assert_eq!(second.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(script.calls(), 1);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(catalogue.list().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_upstreams_own_wait_is_kept_up_to_the_age_of_a_list() {
    let wait = |seconds| {
        Err(Error::new(ErrorKind::RateLimited, "slow")
            .with_retry_after(Duration::from_secs(seconds)))
    };
    let script = Script::new(vec![wait(300), wait(1_000_000), models(&["a"])]);
    let catalogue = script.catalogue();
    for (calls, seconds) in [(1, 300), (2, 3600)] {
        assert!(catalogue.list().await.is_err());
        tokio::time::advance(Duration::from_secs(seconds - 1)).await;
        assert!(catalogue.list().await.is_err());
        assert_eq!(script.calls(), calls);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(catalogue.list().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_all_clocks_is_a_day() {
    let forever =
        || Err(Error::new(ErrorKind::RateLimited, "slow").with_retry_after(Duration::MAX));
    let script = Script::new(vec![forever(), models(&["a"])]);
    let catalogue = script.catalogue().max_age(Duration::MAX);
    assert!(catalogue.list().await.is_err());
    tokio::time::advance(Duration::from_secs(24 * 60 * 60 - 1)).await;
    let error = catalogue.list().await.expect_err("it is left alone");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(script.calls(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(catalogue.list().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_forced_and_says_when_it_fails() {
    let script = Script::new(vec![models(&["a"]), failure(ErrorKind::Overloaded), models(&["b"])]);
    let catalogue = script.catalogue();
    catalogue.list().await.expect("a list");
    let error = catalogue.refresh().await.expect_err("the second call fails");
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let listing = catalogue.list().await.expect("the first list is still fresh");
    assert_eq!((&*listing.models[0].id, listing.stale), ("a", None));
    assert_eq!(catalogue.refresh().await.expect("not held back").models[0].id, "b");
    assert_eq!(script.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_a_timeout() {
    let catalogue = Catalogue::new(std::future::pending).timeout(Duration::from_secs(9));
    let before = tokio::time::Instant::now();
    assert!(catalogue.list().await.expect_err("silent").is_timeout());
    assert_eq!(before.elapsed(), Duration::from_secs(9));
}

/// A function that panics takes nobody with it, and is tried again.
#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_and_not_the_end() {
    let calls = Arc::new(AtomicUsize::new(0));
    let catalogue = {
        let calls = Arc::clone(&calls);
        Catalogue::new(move || {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(call > 0, "a defect of the function");
                models(&["a"])
            }
        })
    };
    let error = catalogue.list().await.expect_err("it panicked");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(catalogue.list().await.is_ok());
}

#[test]
fn what_it_does_is_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let answers =
                vec![failure(ErrorKind::Auth), models(&["a"]), failure(ErrorKind::Upstream)];
            let catalogue = Script::new(answers).catalogue();
            for _ in 0..2 {
                assert!(catalogue.list().await.is_err());
            }
            tokio::time::advance(Duration::from_secs(5)).await;
            for _ in 0..4 {
                assert!(catalogue.list().await.is_ok());
            }
            tokio::time::advance(HOUR).await;
            for _ in 0..2 {
                assert!(catalogue.list().await.expect("stale").stale.is_some());
            }
        });
    });
    let rendered = recorder.handle().render();
    for line in [
        "tower_qwen_models_hits_total 3",
        "tower_qwen_models_refreshes_total{result=\"ok\"} 1",
        "tower_qwen_models_refreshes_total{result=\"failed\"} 2",
        "tower_qwen_models_stale_total 2",
        "tower_qwen_models_unavailable_total 2",
    ] {
        assert!(rendered.lines().any(|found| found == line), "{line}\n{rendered}");
    }
}

#[test]
fn it_can_be_shared() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    shared(&Catalogue::new(|| async { models(&[]) }));
}

#[test]
fn debug_shows_the_state_and_no_list() {
    let catalogue = Catalogue::new(|| async { models(&[]) });
    let shown = format!("{catalogue:?}");
    assert!(shown.starts_with("Catalogue { models: None,"), "{shown}");
}
