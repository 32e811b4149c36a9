//! What `AuthRefreshLayer` does about each outcome, with mock upstreams and paused clocks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod traced;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Empty;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_qwen::{
    AccountName, Error, ErrorKind, FullBody,
    auth::{
        AccountStatus, AuthRefreshLayer, BoxFuture, Credential, CredentialPool, CredentialProvider,
        RefreshError, RefreshErrorKind, Renewal, StaticCredential, policy_fn,
    },
    chat::{ChatRequest, Conversation, Message, Role},
};

/// A wall clock that goes with tokio's paused one.
fn wall_clock() -> impl Fn() -> SystemTime + Clone + Send + Sync + 'static {
    traced::on();
    let start = Instant::now();
    // 2026-09-22, 10:00 in UTC+8.
    move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_042_400) + start.elapsed()
}

/// A login whose access tokens live `lifetime` and are numbered.
#[derive(Clone)]
struct Login {
    name: &'static str,
    lifetime: Duration,
    takes: Duration,
    inner: Arc<LoginState>,
}

#[derive(Default)]
struct LoginState {
    serial: AtomicU32,
    refreshes: AtomicU32,
    /// What the next refreshes say instead of granting.
    failures: Mutex<VecDeque<RefreshErrorKind>>,
    /// Set from outside: seen at the next reload.
    replaced: Mutex<Option<u32>>,
    panics: AtomicU32,
}

impl Login {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            lifetime: Duration::from_secs(21_600),
            takes: Duration::from_millis(200),
            inner: Arc::default(),
        }
    }

    fn credential(&self, serial: u32, ends_in: Duration) -> Credential {
        let start = self.start();
        Credential::oauth(&format!("{}-{serial}", self.name), Some("rt"), Some(start + ends_in))
            .expect("a login")
    }

    fn start(&self) -> SystemTime {
        // The clock of the pool begins with the test; paused time goes by on both.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_042_400) + epoch().elapsed()
    }

    fn fail(&self, kinds: &[RefreshErrorKind]) {
        self.inner.failures.lock().unwrap().extend(kinds);
    }

    fn refreshes(&self) -> u32 {
        self.inner.refreshes.load(Ordering::SeqCst)
    }
}

/// The instant at which the test's clock stood first.
fn epoch() -> Instant {
    thread_local! {
        static EPOCH: std::cell::OnceCell<Instant> = const { std::cell::OnceCell::new() };
    }
    EPOCH.with(|epoch| *epoch.get_or_init(Instant::now))
}

impl CredentialProvider for Login {
    fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
        let serial = self.inner.serial.load(Ordering::SeqCst);
        Box::pin(async move { Ok(self.credential(serial, self.lifetime)) })
    }

    fn refresh(&self, _: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
        Box::pin(async {
            tokio::time::sleep(self.takes).await;
            self.inner.refreshes.fetch_add(1, Ordering::SeqCst);
            assert!(
                self.inner
                    .panics
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_err(),
                "the provider has a defect",
            );
            if let Some(kind) = self.inner.failures.lock().unwrap().pop_front() {
                return Err(RefreshError::new(kind, "as the test wants"));
            }
            let serial = self.inner.serial.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(Renewal::granted(self.credential(serial, self.lifetime)))
        })
    }

    fn reload(&self, _: Credential) -> BoxFuture<'_, Result<Option<Credential>, RefreshError>> {
        Box::pin(async {
            let replaced = self.inner.replaced.lock().unwrap().take();
            Ok(replaced.map(|serial| {
                self.inner.serial.store(serial, Ordering::SeqCst);
                self.credential(serial, self.lifetime)
            }))
        })
    }

    fn reload_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(5))
    }
}

/// Everything that an upstream saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<HeaderMap>>>);

impl Seen {
    fn tokens(&self) -> Vec<String> {
        let bearer = |headers: &HeaderMap| {
            headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned()
        };
        self.0.lock().unwrap().iter().map(bearer).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

type Inner = tower::util::BoxCloneSyncService<Request<FullBody>, Response<()>, Error>;

/// An upstream that answers by the token it sees.
fn upstream(
    seen: &Seen,
    answer: impl Fn(&str) -> Result<Response<()>, Error> + Clone + Send + Sync + 'static,
) -> Inner {
    let seen = seen.clone();
    tower::util::BoxCloneSyncService::new(service_fn(move |request: Request<FullBody>| {
        seen.0.lock().unwrap().push(request.headers().clone());
        let token = request.headers()["authorization"].to_str().unwrap().to_owned();
        let result = answer(token.trim_start_matches("Bearer "));
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            result
        }
    }))
}

fn status(status: u16) -> Result<Response<()>, Error> {
    Ok(Response::builder().status(status).body(()).unwrap())
}

fn pool(login: &Login) -> CredentialPool {
    epoch();
    CredentialPool::builder()
        .clock(wall_clock())
        .account(login.name, login.clone())
        .build()
        .unwrap()
}

fn pool_of(logins: &[&Login]) -> CredentialPool {
    epoch();
    let mut builder = CredentialPool::builder().clock(wall_clock());
    for login in logins {
        builder = builder.account(login.name, (*login).clone());
    }
    builder.build().unwrap()
}

async fn send(
    service: &(impl Service<Request<FullBody>, Response = Response<()>, Error = Error> + Clone),
) -> Result<StatusCode, Error> {
    service
        .clone()
        .oneshot(Request::new(FullBody::default()))
        .await
        .map(|response| response.status())
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_with_an_expired_token_share_one_refresh() {
    let login = Login { lifetime: Duration::from_secs(100), ..Login::new("a") };
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login))
        .layer(upstream(&seen, |token| status(if token == "a-0" { 401 } else { 200 })));
    send(&service).await.expect("loaded and refused and refreshed");
    assert_eq!((login.refreshes(), seen.count()), (1, 2));
    wait(100).await;
    let requests: Vec<_> = (0..1000)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { send(&service).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().expect("one answer each"), StatusCode::OK);
    }
    assert_eq!(login.refreshes(), 2, "one refresh for all of them");
    assert_eq!(seen.count(), 1002, "and no request was sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_refused_requests_share_one_refresh() {
    let login = Login::new("a");
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, |token| {
        if token == "a-0" {
            Err(Error::new(ErrorKind::Auth, "in the envelope"))
        } else {
            status(200)
        }
    }));
    let requests: Vec<_> = (0_u64..1000)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move {
                // Some are refused while the refresh is under way, some after it.
                tokio::time::sleep(Duration::from_millis(n % 7 * 60)).await;
                send(&service).await
            })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().expect("one answer each"), StatusCode::OK);
    }
    assert_eq!(login.refreshes(), 1);
    let tokens = seen.tokens();
    assert_eq!(tokens.iter().filter(|token| *token == "a-1").count(), 1000);
    assert!(tokens.iter().all(|token| token == "a-0" || token == "a-1"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_late_with_an_old_token_only_retries() {
    let login = Login::new("a");
    let seen = Seen::default();
    let slow = Arc::new(AtomicU32::new(0));
    let inner = {
        let (seen, slow) = (seen.clone(), slow);
        service_fn(move |request: Request<FullBody>| {
            seen.0.lock().unwrap().push(request.headers().clone());
            let old = request.headers()["authorization"] == "Bearer a-0";
            let first = slow.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                // The first of them all is refused long after the others.
                wait(if first { 30 } else { 1 }).await;
                if old { status(401) } else { status(200) }
            }
        })
    };
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(inner);
    let late = tokio::spawn({
        let service = service.clone();
        async move { send(&service).await }
    });
    wait(5).await;
    send(&service).await.expect("refreshed");
    assert_eq!(late.await.unwrap().expect("retried"), StatusCode::OK);
    assert_eq!(login.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_outlives_the_caller_that_began_it() {
    let login = Login { takes: Duration::from_secs(10), ..Login::new("a") };
    let seen = Seen::default();
    let pool = pool(&login);
    let service = AuthRefreshLayer::from_pool(pool.clone())
        .layer(upstream(&seen, |token| status(if token == "a-0" { 401 } else { 200 })));
    let begun = tokio::time::timeout(Duration::from_secs(5), send(&service)).await;
    assert!(begun.is_err(), "dropped while its refresh is under way");
    assert_eq!(login.refreshes(), 0);
    // This one joins the refresh of the first, and does not begin its own.
    assert_eq!(send(&service).await.expect("refreshed"), StatusCode::OK);
    assert_eq!(login.refreshes(), 1);
    drop(tokio::time::timeout(Duration::from_secs(1), pool.refresh("a")).await);
    pool.settled().await;
    assert_eq!(login.refreshes(), 2, "it ran to its end with nobody waiting");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_refresh_token_is_final_until_somebody_signs_in() {
    let login = Login { lifetime: Duration::from_secs(100), ..Login::new("a") };
    login.fail(&[RefreshErrorKind::Rejected]);
    let seen = Seen::default();
    let pool = pool(&login);
    let service = AuthRefreshLayer::from_pool(pool.clone())
        .layer(upstream(&seen, |token| status(if token == "a-0" { 401 } else { 200 })));
    let error = send(&service).await.expect_err("rejected");
    assert!(error.is_auth());
    assert_eq!(error.message(), "the upstream login of account `a` has ended: sign in again");
    assert_eq!(pool.accounts()[0].status, AccountStatus::SignInAgain);
    for _ in 0..100 {
        let started = Instant::now();
        assert!(send(&service).await.expect_err("at once").is_auth());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
    assert_eq!((login.refreshes(), seen.count()), (1, 1));
    // Somebody signs in; seen within five seconds.
    *login.inner.replaced.lock().unwrap() = Some(7);
    wait(5).await;
    assert_eq!(send(&service).await.expect("alive again"), StatusCode::OK);
    assert_eq!(pool.accounts()[0].status, AccountStatus::Ready);
    assert_eq!(seen.tokens().last().unwrap(), "a-7");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_refresh_does_not_end_an_access_token_that_is_good() {
    let login = Login { lifetime: Duration::from_secs(1000), ..Login::new("a") };
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, |_| status(200)));
    send(&service).await.expect("loaded");
    login.fail(&[RefreshErrorKind::Rejected]);
    // Inside the margin a refresh is due, fails for good, and the token still lives.
    wait(980).await;
    assert_eq!(send(&service).await.expect("still good"), StatusCode::OK);
    wait(30).await;
    assert!(send(&service).await.expect_err("ended").is_auth());
    assert_eq!(login.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn passing_failures_back_off() {
    let login = Login { lifetime: Duration::from_secs(100), ..Login::new("a") };
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, |_| status(200)));
    send(&service).await.expect("loaded");
    login.fail(&[RefreshErrorKind::Network; 1000]);
    wait(200).await;
    let mut gaps = Vec::new();
    let mut last = (Instant::now(), login.refreshes());
    while gaps.len() < 9 {
        let error = send(&service).await.expect_err("cannot be refreshed");
        assert_eq!(error.kind(), ErrorKind::Upstream);
        assert!(
            error.is_retryable() && error.retry_after().is_some_and(|wait| wait.as_secs() <= 60)
        );
        if login.refreshes() > last.1 {
            gaps.push(last.0.elapsed().as_secs_f64());
            last = (Instant::now(), login.refreshes());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // 1 s doubled up to 60 s, of which jitter takes up to a half.
    for (gap, whole) in gaps[1..].iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0_f64]) {
        assert!(*gap >= whole / 2.0 && *gap <= whole + 0.5, "{gap} of {whole}: {gaps:?}");
    }
    assert_eq!(seen.count(), 1, "nothing is sent with a token that has ended");
    login.inner.failures.lock().unwrap().clear();
    wait(60).await;
    assert_eq!(send(&service).await.expect("back"), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_while_it_lives_though_its_refresh_fails() {
    let login = Login { lifetime: Duration::from_secs(100), ..Login::new("a") };
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, |_| status(200)));
    send(&service).await.expect("loaded");
    login.fail(&[RefreshErrorKind::Network; 5]);
    wait(75).await;
    assert_eq!(send(&service).await.expect("lives"), StatusCode::OK);
    assert_eq!(login.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_timeouts_brings_one_refresh_a_natural_generation() {
    let login = Login { lifetime: Duration::from_secs(10_000), ..Login::new("a") };
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, |_| status(504)));
    for _ in 0..100 {
        assert_eq!(send(&service).await.expect("passed on"), StatusCode::GATEWAY_TIMEOUT);
        wait(1).await;
    }
    assert_eq!(login.refreshes(), 1, "a capacity problem is not the token's fault");
    assert_eq!(seen.count(), 200, "one retry each");
    // The next natural refresh gives the class one more.
    wait(10_000).await;
    for _ in 0..100 {
        send(&service).await.expect("passed on");
    }
    assert_eq!(login.refreshes(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_retried_though_its_refresh_fails() {
    let login = Login::new("a");
    login.fail(&[RefreshErrorKind::Network]);
    let seen = Seen::default();
    let count = Arc::new(AtomicU32::new(0));
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, move |_| {
        status(if count.fetch_add(1, Ordering::SeqCst) == 0 { 504 } else { 200 })
    }));
    assert_eq!(send(&service).await.expect("retried"), StatusCode::OK);
    assert_eq!(seen.tokens(), ["a-0", "a-0"]);
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_fresh_tokens_are_refused_is_not_refreshed_in_a_loop() {
    let login = Login::new("a");
    let seen = Seen::default();
    let pool = pool(&login);
    let service = AuthRefreshLayer::from_pool(pool.clone()).layer(upstream(&seen, |_| status(401)));
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(59) {
        assert_eq!(send(&service).await.expect("passed on"), StatusCode::UNAUTHORIZED);
        wait(1).await;
    }
    assert_eq!(login.refreshes(), 1);
    assert_eq!(pool.accounts()[0].status, AccountStatus::Refused);
    let refreshes_in = async |seconds: u64| {
        let before = login.refreshes();
        for _ in 0..seconds {
            send(&service).await.expect("passed on");
            tokio::time::sleep(Duration::from_millis(950)).await;
        }
        login.refreshes() - before
    };
    assert!(refreshes_in(600).await <= 4, "60 s, doubled each time");
    assert!(refreshes_in(3600).await <= 3, "and no more than twice an hour in the end");
}

#[tokio::test(start_paused = true)]
async fn a_challenge_neither_refreshes_nor_rotates_nor_repeats() {
    let (first, second) = (Login::new("a"), Login::new("b"));
    let seen = Seen::default();
    let challenged = Arc::new(AtomicU32::new(2));
    let left = Arc::clone(&challenged);
    let service = AuthRefreshLayer::from_pool(pool_of(&[&first, &second])).layer(upstream(
        &seen,
        move |_| {
            if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                return Err(Error::new(ErrorKind::Challenge, "a slider page"));
            }
            status(200)
        },
    ));
    assert_eq!(send(&service).await.expect_err("passed on").message(), "a slider page");
    assert_eq!((seen.count(), first.refreshes(), second.refreshes()), (1, 0, 0));
    for left in [60, 40, 20] {
        let error = send(&service).await.expect_err("paused");
        assert!(error.is_challenge() && !error.is_retryable());
        assert_eq!(error.retry_after().unwrap().as_secs_f64().round() as u64, left);
        wait(20).await;
    }
    assert_eq!(seen.count(), 1, "nothing was sent during the pause");
    assert!(send(&service).await.expect_err("again").is_challenge());
    wait(119).await;
    assert!(send(&service).await.expect_err("twice as long").is_challenge());
    assert_eq!(seen.count(), 2);
    wait(1).await;
    assert_eq!(send(&service).await.expect("over"), StatusCode::OK);
}

/// What the second request is told while the first, which was sent before it, is still answered.
async fn after_old_good_news(
    second: impl Fn() -> Result<Response<()>, Error> + Clone + Send + Sync + 'static,
) -> (
    CredentialPool,
    Seen,
    impl Service<Request<FullBody>, Response = Response<()>, Error = Error> + Clone,
) {
    let login = Login::new("a");
    let (pool, seen) = (pool(&login), Seen::default());
    let inner = {
        let seen = seen.clone();
        service_fn(move |request: Request<FullBody>| {
            seen.0.lock().unwrap().push(request.headers().clone());
            let (number, second) = (seen.count(), second.clone());
            async move {
                wait(if number == 1 { 30 } else { 1 }).await;
                if number == 2 { second() } else { status(200) }
            }
        })
    };
    let service = AuthRefreshLayer::from_pool(pool.clone()).layer(inner);
    let slow = tokio::spawn({
        let service = service.clone();
        async move { send(&service).await }
    });
    wait(5).await;
    let told = send(&service).await;
    assert!(told.is_err() || told.is_ok_and(|status| !status.is_success()));
    assert_eq!(slow.await.unwrap().expect("it was sent before"), StatusCode::OK);
    (pool, seen, service)
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_to_an_earlier_request_ends_no_cool_down() {
    let hour = Duration::from_secs(3600);
    let (pool, seen, service) = after_old_good_news(move || {
        Err(Error::new(ErrorKind::Quota, "used up").with_retry_after(hour))
    })
    .await;
    assert_eq!(pool.accounts()[0].status, AccountStatus::QuotaUsedUp);
    assert!(send(&service).await.expect_err("at once").is_quota());
    assert_eq!(seen.count(), 2, "nothing is sent to an account that cools down");
    wait(3600).await;
    send(&service).await.expect("the hour is over");
    assert_eq!(pool.accounts()[0].status, AccountStatus::Ready);

    let (pool, _, service) = after_old_good_news(|| {
        Ok(Response::builder().status(429).header("retry-after", "600").body(()).unwrap())
    })
    .await;
    assert_eq!(pool.accounts()[0].status, AccountStatus::RateLimited);
    send(&service).await.expect("there is no other account");
    assert_eq!(pool.accounts()[0].status, AccountStatus::Ready, "this one was sent after it");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_to_an_earlier_request_ends_no_pause() {
    let (_, seen, service) =
        after_old_good_news(|| Err(Error::new(ErrorKind::Challenge, "a slider"))).await;
    assert!(send(&service).await.expect_err("paused").is_challenge());
    assert_eq!(seen.count(), 2, "nothing is sent during the pause");
    wait(60).await;
    send(&service).await.expect("the pause is over");
    assert_eq!(seen.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn asking_how_an_account_does_starts_nothing() {
    let login = Login { lifetime: Duration::from_secs(100), ..Login::new("a") };
    login.fail(&[RefreshErrorKind::Rejected]);
    let pool = pool(&login);
    pool.load().await;
    wait(200).await;
    let error = pool.credential().await.expect_err("rejected");
    assert!(error.is_auth());
    *login.inner.replaced.lock().unwrap() = Some(7);
    wait(60).await;
    for _ in 0..3 {
        assert_eq!(pool.accounts()[0].status, AccountStatus::SignInAgain);
        wait(60).await;
    }
    assert_eq!(*login.inner.replaced.lock().unwrap(), Some(7), "nobody has looked");
    let credential = pool.credential().await.expect("a request looks");
    assert_eq!(credential.access_token().expose(), "a-7");
}

#[tokio::test(start_paused = true)]
async fn quota_rotates_at_once_and_cools_the_account() {
    let (first, second) = (Login::new("a"), Login::new("b"));
    let seen = Seen::default();
    let pool = pool_of(&[&first, &second]);
    let service = AuthRefreshLayer::from_pool(pool.clone()).layer(upstream(&seen, |token| {
        if token.starts_with('a') {
            return Err(
                Error::new(ErrorKind::Quota, "used up").with_retry_after(Duration::from_secs(7200))
            );
        }
        status(200)
    }));
    for _ in 0..5 {
        assert_eq!(send(&service).await.expect("rotated"), StatusCode::OK);
    }
    assert_eq!(seen.tokens(), ["a-0", "b-0", "b-0", "b-0", "b-0", "b-0"]);
    let state = &pool.accounts()[0];
    assert_eq!(state.status, AccountStatus::QuotaUsedUp);
    assert_eq!(state.available_in.unwrap().as_secs(), 7200);
    assert_eq!((first.refreshes(), second.refreshes()), (0, 0));
    wait(7201).await;
    send(&service).await.expect("whoever's turn it is");
    send(&service).await.expect("and the other's");
    assert_eq!(seen.tokens()[6..].iter().filter(|token| *token == "a-0").count(), 1);
}

/// A quota of one model rotates as well, and leaves the account to requests for others.
#[tokio::test(start_paused = true)]
async fn the_quota_of_a_model_rotates_and_cools_nothing() {
    let (first, second) = (Login::new("a"), Login::new("b"));
    let seen = Seen::default();
    let used_up = |token: &str| {
        if token.starts_with('a') {
            return Err(Error::new(ErrorKind::ModelQuota, "used up"));
        }
        status(200)
    };
    let pool = pool_of(&[&first, &second]);
    let service = AuthRefreshLayer::from_pool(pool.clone()).layer(upstream(&seen, used_up));
    for _ in 0..4 {
        assert_eq!(send(&service).await.expect("rotated"), StatusCode::OK);
    }
    assert!(seen.tokens().iter().filter(|token| *token == "a-0").count() > 1, "it is asked again");
    assert!(pool.accounts().iter().all(|account| account.status == AccountStatus::Ready));
    assert!(pool.accounts().iter().all(|account| account.available_in.is_none()));

    let seen = Seen::default();
    let alone = AuthRefreshLayer::from_pool(self::pool(&Login::new("a")));
    let alone = alone.layer(upstream(&seen, used_up));
    for _ in 0..2 {
        let error = send(&alone).await.expect_err("passed on");
        assert!(error.is_quota() && error.kind() == ErrorKind::ModelQuota);
    }
    assert_eq!((seen.count(), first.refreshes()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn without_any_account_left_the_client_hears_when_to_come_again() {
    let (first, second) = (Login::new("a"), Login::new("b"));
    let seen = Seen::default();
    let quota = |token: &str| {
        let hours = if token.starts_with('a') { 2 } else { 1 };
        let wait = Duration::from_secs(3600 * hours);
        Err(Error::new(ErrorKind::Quota, "used up").with_retry_after(wait))
    };
    let service =
        AuthRefreshLayer::from_pool(pool_of(&[&first, &second])).layer(upstream(&seen, quota));
    assert!(send(&service).await.expect_err("both").is_quota());
    assert_eq!(seen.count(), 2);
    let error = send(&service).await.expect_err("at once");
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.retry_after().unwrap().as_secs().div_ceil(60), 60, "the sooner of the two");
    assert_eq!(seen.count(), 2, "nothing is sent to accounts that cool down");

    let alone = AuthRefreshLayer::from_pool(pool(&Login::new("a"))).layer(upstream(&seen, quota));
    assert!(send(&alone).await.expect_err("passed on").is_quota());
    assert!(send(&alone).await.expect_err("at once").is_quota());
    assert_eq!(seen.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn quota_without_a_time_doubles_up_to_midnight_in_china() {
    let login = Login { lifetime: Duration::from_secs(1 << 30), ..Login::new("a") };
    let seen = Seen::default();
    let pool = pool(&login);
    let service = AuthRefreshLayer::from_pool(pool.clone())
        .layer(upstream(&seen, |_| Err(Error::new(ErrorKind::Quota, "used up"))));
    let mut spans = Vec::new();
    let mut day = 0;
    while day < 50_400 {
        assert!(send(&service).await.expect_err("used up").is_quota());
        let span = pool.accounts()[0].available_in.unwrap().as_secs();
        spans.push(span);
        day += span;
        wait(span).await;
    }
    let doubling: Vec<u64> = (0..9).map(|n| 65 << n).collect();
    assert_eq!(spans[..9], doubling);
    // The test begins at 10:00 there, 50,400 s before midnight.
    assert!(spans[9] < 65 << 9 && (50_400..50_402).contains(&day), "{spans:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_account_is_left_out_and_the_request_goes_to_another() {
    let (first, second) = (Login::new("a"), Login::new("b"));
    first.fail(&[RefreshErrorKind::Rejected]);
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool_of(&[&first, &second]))
        .layer(upstream(&seen, |token| status(if token == "a-0" { 403 } else { 200 })));
    for _ in 0..6 {
        assert_eq!(send(&service).await.expect("rotated"), StatusCode::OK);
    }
    assert_eq!(seen.tokens(), ["a-0", "b-0", "b-0", "b-0", "b-0", "b-0", "b-0"]);
    // Others use the pool on, and find that somebody signed in.
    *first.inner.replaced.lock().unwrap() = Some(3);
    wait(5).await;
    for _ in 0..4 {
        send(&service).await.expect("fine");
    }
    assert!(seen.tokens()[7..].contains(&"a-3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn static_keys_rotate_without_a_refresh_and_a_lone_one_is_passed_on() {
    let key = |key| StaticCredential::new(Credential::api_key(key).unwrap());
    let seen = Seen::default();
    let answer = |token: &str| status(if token == "good" { 200 } else { 401 });
    let pool = CredentialPool::builder()
        .account("bad", key("bad"))
        .account("good", key("good"))
        .prefer("bad")
        .build()
        .unwrap();
    let service = AuthRefreshLayer::from_pool(pool).layer(upstream(&seen, answer));
    for _ in 0..3 {
        assert_eq!(send(&service).await.expect("rotated"), StatusCode::OK);
    }
    assert_eq!(seen.tokens(), ["bad", "good", "good", "good"]);

    let seen = Seen::default();
    let lone = AuthRefreshLayer::new(key("bad")).layer(upstream(&seen, answer));
    for _ in 0..3 {
        assert_eq!(send(&lone).await.expect("passed on"), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(seen.count(), 3, "one attempt each, and the upstream is always asked");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_one_account_is_sent_with_another() {
    let seen = Seen::default();
    let web = Credential::web("session")
        .and_then(|web| web.with_cookies("cna=1"))
        .and_then(|web| web.with_header("bx-umidtoken", "device"))
        .unwrap();
    let pool = CredentialPool::builder()
        .account("web", StaticCredential::new(web))
        .account("key", StaticCredential::new(Credential::api_key("key").unwrap()))
        .build()
        .unwrap();
    let service = AuthRefreshLayer::from_pool(pool)
        .layer(upstream(&seen, |token| status(if token == "key" { 200 } else { 401 })));
    assert_eq!(send(&service).await.expect("rotated"), StatusCode::OK);
    let seen = seen.0.lock().unwrap();
    assert_eq!(seen[0]["cookie"], "token=session; cna=1");
    assert_eq!(seen[0]["bx-umidtoken"], "device");
    assert_eq!(seen[1].keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["authorization"]);
    assert!(seen.iter().flat_map(HeaderMap::values).all(http::HeaderValue::is_sensitive));
}

#[tokio::test(start_paused = true)]
async fn accounts_take_turns_and_one_can_be_preferred() {
    let logins = [Login::new("a"), Login::new("b"), Login::new("c")];
    let [a, b, c] = &logins;
    let seen = Seen::default();
    let pool = pool_of(&[a, b, c]);
    let service = AuthRefreshLayer::from_pool(pool.clone()).layer(upstream(&seen, |_| status(200)));
    for _ in 0..9 {
        send(&service).await.expect("fine");
    }
    let counts: Vec<_> = pool.accounts().iter().map(|account| account.requests).collect();
    assert_eq!(counts, [3, 3, 3]);

    let seen = Seen::default();
    let pool = CredentialPool::builder()
        .clock(wall_clock())
        .account("a", a.clone())
        .account("b", b.clone())
        .prefer("b")
        .build()
        .unwrap();
    let limited = Arc::new(AtomicU32::new(1));
    let service = AuthRefreshLayer::from_pool(pool).layer(upstream(&seen, move |token| {
        let hit = token == "b-0"
            && limited
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
        status(if hit { 429 } else { 200 })
    }));
    assert_eq!(send(&service).await.expect("passed on"), StatusCode::TOO_MANY_REQUESTS);
    send(&service).await.expect("the other, for a second");
    wait(2).await;
    send(&service).await.expect("fine");
    assert_eq!(seen.tokens(), ["b-0", "a-0", "b-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_with_its_account() {
    let (first, second) = (Login::new("a"), Login::new("b"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = AuthRefreshLayer::from_pool(pool_of(&[&first, &second])).layer(service_fn(
        move |request: Request<ChatRequest>| {
            assert!(request.headers().is_empty(), "the envelope is left alone");
            let body = request.body();
            let mut headers = HeaderMap::new();
            body.credential.as_ref().unwrap().apply(&mut headers);
            let token = headers["authorization"].to_str().unwrap().to_owned();
            let named = body.account.as_ref().unwrap().to_string();
            let bound = body.conversation().and_then(|to| to.account.clone());
            log.lock().unwrap().push((token.clone(), named, bound.map(|name| name.to_string())));
            async move {
                if token.ends_with("b-0") {
                    return Err(Error::new(ErrorKind::Quota, "used up"));
                }
                Ok(Response::new(()))
            }
        },
    ));
    let ask = async |account: Option<&str>| {
        let mut request = ChatRequest::new("m", vec![Message::new(Role::User, "x")]);
        if let Some(name) = account {
            request.destination = Conversation::new("chat").with_account(name).into();
        }
        service.clone().oneshot(Request::new(request)).await.map(|_| ())
    };
    for _ in 0..3 {
        ask(Some("a")).await.expect("its account");
    }
    {
        let asked = asked.lock().unwrap();
        let expected = ("Bearer a-0".to_owned(), "a".to_owned(), Some("a".to_owned()));
        assert!(asked.len() == 3 && asked.iter().all(|entry| *entry == expected));
    }
    // Its account has nothing left: a new chat may be another's.
    let error = ask(Some("b")).await.expect_err("out of quota");
    assert!(error.is_account_unavailable() && !error.is_conversation_lost());
    assert_eq!((error.status(), error.code()), (StatusCode::NOT_FOUND, None));
    // Now it is known without asking.
    assert!(ask(Some("b")).await.expect_err("cools down").is_account_unavailable());
    assert_eq!(asked.lock().unwrap().len(), 4);
    ask(None).await.expect("the account that is left");
    assert!(ask(Some("gone")).await.expect_err("no such account").is_account_unavailable());
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_goes_to_another_account_has_nothing_of_the_first() {
    let web = Credential::web("session").and_then(|web| web.with_cookies("cna=1")).unwrap();
    let pool = CredentialPool::builder()
        .account("web", StaticCredential::new(web))
        .account("key", StaticCredential::new(Credential::api_key("key").unwrap()))
        .prefer("web")
        .build()
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let service = AuthRefreshLayer::from_pool(pool).layer(service_fn(
        move |request: Request<ChatRequest>| {
            let (head, chat) = request.into_parts();
            let mut headers = HeaderMap::new();
            chat.credential.unwrap().apply(&mut headers);
            let names: Vec<_> = headers.keys().map(|name| name.to_string()).collect();
            let account = chat.account.unwrap();
            log.lock().unwrap().push((account.clone(), names, head.headers));
            let refuse = account == "web";
            async move { status(if refuse { 401 } else { 200 }) }
        },
    ));
    let chat = ChatRequest::new("m", vec![Message::new(Role::User, "x")]);
    let request = Request::builder().header("authorization", "Bearer envelope").body(chat).unwrap();
    assert_eq!(service.oneshot(request).await.expect("rotated").status(), StatusCode::OK);
    let seen = seen.lock().unwrap();
    let names = |at: usize| seen[at].1.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((&seen[0].0, names(0)), (&"web".into(), vec!["authorization", "cookie"]));
    assert_eq!((&seen[1].0, names(1)), (&"key".into(), vec!["authorization"]));
    for (_, _, envelope) in &*seen {
        assert_eq!(envelope.len(), 1);
        assert_eq!(envelope["authorization"], "Bearer envelope");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_ones_own_says_which_account_it_wants() {
    #[derive(Clone)]
    struct Job(Option<AccountName>);

    let (first, second) = (Login::new("a"), Login::new("b"));
    let seen = Seen::default();
    let log = seen.clone();
    let service = AuthRefreshLayer::from_pool(pool_of(&[&first, &second]))
        .policy(policy_fn(|request: &Request<Job>| request.body().0.as_ref()))
        .layer(service_fn(move |request: Request<Job>| {
            log.0.lock().unwrap().push(request.headers().clone());
            // The first credential of "b" is refused.
            let refuse = request.headers()["authorization"] == "Bearer b-0";
            async move { status(if refuse { 401 } else { 200 }) }
        }));
    let send = async |account: Option<&str>| {
        let request = Request::new(Job(account.map(AccountName::from)));
        service.clone().oneshot(request).await.map(|response| response.status())
    };
    for account in [Some("b"), Some("b"), Some("a"), Some("a"), None, None] {
        assert_eq!(send(account).await.expect("its account"), StatusCode::OK);
    }
    assert_eq!(seen.tokens()[..5], ["b-0", "b-1", "b-1", "a-0", "a-0"]);
    assert_ne!(seen.tokens()[5], seen.tokens()[6], "those that want none take turns");
    assert!(send(Some("gone")).await.expect_err("no such account").is_account_unavailable());
}

#[tokio::test(start_paused = true)]
async fn the_pause_after_a_challenge_is_shared_by_all_layers_over_a_pool() {
    #[derive(Clone)]
    struct Same;
    impl<B, E: 'static> tower_qwen::auth::Classify<B, E> for Same {
        fn classify(&self, result: Result<&Response<B>, &E>) -> tower_qwen::auth::Outcome {
            tower_qwen::auth::DefaultClassify.classify(result)
        }
    }

    let key = || StaticCredential::new(Credential::api_key("k").unwrap());
    let pool = CredentialPool::builder()
        .account("a", key())
        .challenge_pause(Duration::from_secs(10))
        .build()
        .unwrap();
    let seen = Seen::default();
    let hostile = Arc::new(AtomicU32::new(1));
    let answer = {
        let hostile = Arc::clone(&hostile);
        move |_: &str| match hostile.load(Ordering::SeqCst) {
            0 => status(200),
            _ => Err(Error::new(ErrorKind::Challenge, "a slider")),
        }
    };
    let layer = AuthRefreshLayer::from_pool(pool.clone());
    let first = layer.layer(upstream(&seen, answer.clone()));
    let second = layer.clone().classify(Same).layer(upstream(&seen, answer.clone()));
    let third = AuthRefreshLayer::from_pool(pool).layer(upstream(&seen, answer.clone()));
    let apart = AuthRefreshLayer::new(key()).layer(upstream(&seen, answer));
    assert!(send(&first).await.expect_err("challenged").is_challenge());
    assert_eq!(seen.count(), 1);
    for _ in 0..2 {
        assert!(send(&first).await.expect_err("paused").is_challenge());
        assert!(send(&second).await.expect_err("paused").is_challenge());
        assert!(send(&third).await.expect_err("paused").is_challenge());
    }
    assert_eq!(seen.count(), 1, "nobody asks during the pause");
    assert!(send(&apart).await.expect_err("asked").is_challenge());
    assert_eq!(seen.count(), 2, "another pool has a pause of its own");
    wait(10).await;
    hostile.store(0, Ordering::SeqCst);
    // Good news through one ends it for all.
    assert_eq!(send(&second).await.expect("over"), StatusCode::OK);
    assert_eq!(send(&first).await.expect("over"), StatusCode::OK);
}

#[test]
fn a_service_gives_its_inner_one() {
    let key = StaticCredential::new(Credential::api_key("k").unwrap());
    let mut service = AuthRefreshLayer::new(key).layer(7_u8);
    *service.get_mut() += 1;
    assert_eq!((*service.get_ref(), service.pool().accounts().len()), (8, 1));
    assert_eq!(service.into_inner(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_keeps_nobody_waiting() {
    let login = Login {
        takes: Duration::from_secs(5),
        lifetime: Duration::from_secs(1000),
        ..Login::new("a")
    };
    epoch();
    let seen = Seen::default();
    let pool = CredentialPool::builder()
        .clock(wall_clock())
        .account("a", login.clone())
        .refresh_ahead(Duration::from_secs(100))
        .build()
        .unwrap();
    let service = AuthRefreshLayer::from_pool(pool.clone()).layer(upstream(&seen, |_| status(200)));
    send(&service).await.expect("loaded");
    for _ in 0..3600 {
        let started = Instant::now();
        send(&service).await.expect("fine");
        assert!(started.elapsed() <= Duration::from_millis(60), "nobody waits");
        wait(1).await;
    }
    assert!((3..=5).contains(&login.refreshes()), "{}", login.refreshes());
}

#[tokio::test(start_paused = true)]
async fn a_day_goes_by_and_no_client_sees_an_error() {
    let login = Login { lifetime: Duration::from_secs(900), ..Login::new("a") };
    let seen = Seen::default();
    let newest = login.clone();
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(upstream(&seen, move |token| {
        let serial = newest.inner.serial.load(Ordering::SeqCst);
        status(if token == format!("a-{serial}") { 200 } else { 401 })
    }));
    for minute in 0..24 * 60 {
        // Now and then the upstream forgets a token before its time.
        if minute % 101 == 100 {
            login.inner.serial.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(send(&service).await.expect("fine"), StatusCode::OK);
        wait(60).await;
    }
    assert!((96..=130).contains(&login.refreshes()), "{}", login.refreshes());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_leaves_nobody_waiting() {
    let login = Login::new("a");
    login.inner.panics.store(1, Ordering::SeqCst);
    let seen = Seen::default();
    let service = AuthRefreshLayer::from_pool(pool(&login))
        .layer(upstream(&seen, |token| status(if token == "a-0" { 401 } else { 200 })));
    let error = send(&service).await.expect_err("the refresh ended");
    assert_eq!(error.kind(), ErrorKind::Upstream);
    wait(2).await;
    assert_eq!(send(&service).await.expect("the next one works"), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_replay_waits_until_the_upstream_is_ready() {
    let key = StaticCredential::new(Credential::api_key("k").unwrap());
    let layer = AuthRefreshLayer::new(key);
    let (mut service, mut handle) =
        tower_test::mock::spawn_layer::<Request<Empty<Bytes>>, Response<()>, _>(layer);
    handle.allow(1);
    tokio_test::assert_ready_ok!(service.poll_ready());
    // The first load is a task of its own, so the first answer comes by the slow way.
    let mut answer = tokio_test::task::spawn(service.call(Request::new(Empty::new())));
    let first = loop {
        assert!(answer.poll().is_pending());
        match tokio::time::timeout(Duration::from_millis(1), handle.next_request()).await {
            Ok(next) => break next.expect("the first"),
            Err(_) => continue,
        }
    };
    assert_eq!(first.0.headers()["authorization"], "Bearer k");
    first.1.send_response(Response::builder().status(504).body(()).unwrap());
    tokio::task::yield_now().await;
    assert!(answer.poll().is_pending(), "no readiness, no replay");
    handle.allow(1);
    assert!(answer.is_woken());
    assert!(answer.poll().is_pending());
    let (second, reply) = handle.next_request().await.expect("the replay");
    assert_eq!(second.headers()["authorization"], "Bearer k");
    reply.send_response(Response::new(()));
    tokio::task::yield_now().await;
    assert_eq!(tokio_test::assert_ready_ok!(answer.poll()).status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn it_stands_over_any_http_service() {
    let login = Login::new("a");
    let inner = service_fn(|request: Request<FullBody>| async move {
        let old = request.headers()["authorization"] == "Bearer a-0";
        let answer = if old { 401 } else { 200 };
        // As chat.qwen.ai says it.
        let response = Response::builder().header("x-actual-status-code", answer);
        Ok::<_, BoxError>(response.body("body")?)
    });
    let service = AuthRefreshLayer::from_pool(pool(&login)).layer(inner);
    let response = service.oneshot(Request::new(FullBody::default())).await.expect("refreshed");
    assert_eq!(response.headers()["x-actual-status-code"], "200");
    assert_eq!(login.refreshes(), 1);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let layer = AuthRefreshLayer::new(StaticCredential::new(Credential::api_key("k").unwrap()));
    let mut service = layer
        .layer(service_fn(|_: Request<Empty<Bytes>>| async { Ok::<_, Error>(Response::new(())) }));
    let mut answer = tokio_test::task::spawn(service.call(Request::new(Empty::new())));
    let error = tokio_test::assert_ready_err!(answer.poll());
    assert_eq!(error.kind(), ErrorKind::Upstream);
}

#[test]
fn pools_that_can_only_be_mistakes_are_refused() {
    use tower_qwen::auth::PoolError;
    let key = || StaticCredential::new(Credential::api_key("k").unwrap());
    assert_eq!(CredentialPool::builder().build().unwrap_err(), PoolError::Empty);
    let twice = CredentialPool::builder().account("a", key()).account("a", key()).build();
    assert!(matches!(twice.unwrap_err(), PoolError::DuplicateName(name) if name == *"a"));
    let unknown = CredentialPool::builder().account("a", key()).prefer("b").build();
    assert!(matches!(unknown.unwrap_err(), PoolError::UnknownPreferred(name) if name == *"b"));
}
