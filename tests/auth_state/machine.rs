//! A small world around `AuthRefreshLayer`: an upstream, a token endpoint whose refresh tokens
//! are good for one use, a store that two processes share, and a clock that only the script
//! moves. A script of operations is run in it, and what must hold is checked at every step.
//!
//! The property test beside this file and the fuzz target `auth_state` drive it.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::{task::JoinHandle, time::Instant};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    AccountName, Error, ErrorKind, FullBody,
    auth::{
        AuthRefreshLayer, BoxFuture, Credential, CredentialPool, CredentialProvider,
        DefaultClassify, OAuthFile, PolicyFn, RefreshError, Renewal, StoredCredential, TokenClient,
        policy_fn,
    },
};

/// How long an access token lives, in seconds.
const LIFETIME: u64 = 120;

/// One step of a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A client sends a request; how the upstream answers its first and its second copy.
    Request(Answer, Answer),
    /// A client goes away: the one with this number among those that wait.
    Cancel(u8),
    /// Time passes, in milliseconds.
    Advance(u32),
    /// How the token endpoint answers from now on.
    Endpoint(Endpoint),
    /// Another process refreshes the shared login.
    OtherProcess,
    /// The upstream forgets the access token before its time.
    ForgetAccess,
    /// Somebody signs in again, with another program.
    SignIn,
    /// Whatever can run runs, without any time passing.
    Settle,
}

/// How the upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As the credential deserves: 200 or 401.
    Honest,
    /// The same, after some seconds.
    Slow,
    /// 401, whatever the credential.
    Refuse,
    /// 403, whatever the credential.
    Forbid,
    /// 504.
    Timeout,
    /// A 200 that the adapter found an auth error in.
    EnvelopeRefuse,
    /// A 200 that breaks off after its head.
    Cut,
    /// An anti-bot challenge.
    Challenge,
    /// 500.
    Fail,
}

/// How the token endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Grant,
    /// Grants after 5 s.
    Slow,
    /// Grants after longer than anybody waits.
    TooSlow,
    /// 500.
    Fail,
    /// A page instead of JSON.
    Page,
    /// `invalid_grant`, for every login that there is now.
    Revoke,
}

impl Op {
    /// Reads an operation out of two bytes; every value is one.
    #[allow(dead_code, reason = "used by the fuzz target")]
    pub(crate) fn from_bytes([kind, value]: [u8; 2]) -> Self {
        const ANSWERS: [Answer; 9] = [
            Answer::Honest,
            Answer::Slow,
            Answer::Refuse,
            Answer::Forbid,
            Answer::Timeout,
            Answer::EnvelopeRefuse,
            Answer::Cut,
            Answer::Challenge,
            Answer::Fail,
        ];
        const ENDPOINTS: [Endpoint; 6] = [
            Endpoint::Grant,
            Endpoint::Slow,
            Endpoint::TooSlow,
            Endpoint::Fail,
            Endpoint::Page,
            Endpoint::Revoke,
        ];
        let value = usize::from(value);
        match kind % 12 {
            0..=3 => Self::Request(ANSWERS[value % 9], ANSWERS[value / 9 % 9]),
            4 => Self::Cancel(value as u8),
            5 => Self::Advance(value as u32 * 40),
            6 => Self::Advance(value as u32 * 1000),
            7 => Self::Endpoint(ENDPOINTS[value % 6]),
            8 => Self::OtherProcess,
            9 => Self::ForgetAccess,
            10 => Self::SignIn,
            _ => Self::Settle,
        }
    }
}

/// The sign-in service: it accepts each refresh token once.
#[derive(Debug)]
struct Server {
    mode: Endpoint,
    /// Every login has its own family of tokens.
    family: u32,
    serial: u32,
    /// Whether the family's logins were revoked by the script.
    revoked: bool,
    access_forgotten: bool,
    ends_at: Instant,
    in_flight: u32,
    grants: u32,
    /// What must never happen, and did.
    wrongs: Vec<String>,
}

impl Server {
    fn access(&self) -> String {
        format!("at-{}-{}", self.family, self.serial)
    }

    fn refresh(&self) -> String {
        format!("rt-{}-{}", self.family, self.serial)
    }

    fn issue(&mut self) -> String {
        self.serial += 1;
        self.access_forgotten = false;
        self.ends_at = Instant::now() + Duration::from_secs(LIFETIME);
        format!(
            r#"{{"access_token":"{}","refresh_token":"{}","expires_in":{LIFETIME}}}"#,
            self.access(),
            self.refresh()
        )
    }

    /// What the endpoint says to a refresh token.
    fn redeem(&mut self, token: &str) -> (u16, String) {
        if self.mode == Endpoint::Revoke {
            self.revoked = true;
        }
        if self.revoked {
            return (400, r#"{"error":"invalid_grant"}"#.into());
        }
        if token == self.refresh() {
            self.grants += 1;
            return (200, self.issue());
        }
        if token.starts_with(&format!("rt-{}-", self.family)) {
            self.wrongs.push(format!("{token} was used again; the newest is {}", self.refresh()));
        }
        (400, r#"{"error":"invalid_grant"}"#.into())
    }
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap()
}

/// Counts a refresh as under way until it is answered or given up.
struct InFlight(Shared<Server>);

impl InFlight {
    fn new(server: &Shared<Server>) -> Self {
        let mut guard = lock(server);
        guard.in_flight += 1;
        if guard.in_flight > 1 {
            guard.wrongs.push("two refreshes of one login at the same time".into());
        }
        drop(guard);
        Self(Arc::clone(server))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.0).in_flight -= 1;
    }
}

fn token_client(server: &Shared<Server>, clock: Clock) -> TokenClient {
    let server = Arc::clone(server);
    TokenClient::new(service_fn(move |request: Request<FullBody>| {
        let server = Arc::clone(&server);
        async move {
            let form = request.into_body().collect().await.unwrap().to_bytes();
            let form = String::from_utf8(form.to_vec()).unwrap();
            let token = form
                .split('&')
                .find_map(|pair| pair.strip_prefix("refresh_token="))
                .expect("a refresh token")
                .to_owned();
            let flight = InFlight::new(&server);
            let mode = lock(&server).mode;
            match mode {
                Endpoint::Slow => tokio::time::sleep(Duration::from_secs(5)).await,
                Endpoint::TooSlow => tokio::time::sleep(Duration::from_secs(100)).await,
                _ => tokio::task::yield_now().await,
            }
            let (status, body) = match mode {
                Endpoint::Fail => (500, "{}".into()),
                Endpoint::Page => (400, "<html></html>".into()),
                _ => lock(&server).redeem(&token),
            };
            drop(flight);
            Ok::<_, Infallible>(
                Response::builder().status(status).body(FullBody::from(body)).unwrap(),
            )
        }
    }))
    .clock(clock)
}

/// The wall clock goes with the script's.
type Clock = fn() -> SystemTime;

fn clock() -> SystemTime {
    thread_local! {
        static START: Instant = Instant::now();
    }
    // The runtime's clock begins at the same instant for every test of the thread.
    let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    base + Instant::now().saturating_duration_since(START.with(|start| *start))
}

/// Where the login is kept.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// In memory: fast enough for a fuzzer.
    Memory,
    /// In a file, as in earnest.
    #[allow(dead_code, reason = "the fuzz target does without files")]
    File(std::path::PathBuf),
}

/// A store in memory that keeps to qwen-code's protocol of locks and of looking again.
#[derive(Debug)]
struct MemoryStore {
    saved: Mutex<Credential>,
    lock: tokio::sync::Mutex<()>,
}

struct MemoryProvider {
    store: Arc<MemoryStore>,
    client: TokenClient,
    /// How many of this process's calls are under way, and which tokens it has replaced.
    calls: Mutex<(u32, HashSet<String>)>,
    server: Shared<Server>,
}

impl MemoryProvider {
    /// A panic would end the refresh's task and no test, so what is wrong is written down.
    fn must(&self, holds: bool, what: &str) {
        if !holds {
            lock(&self.server).wrongs.push(what.into());
        }
    }
}

/// Counts a call of a provider as under way until its future is dropped.
struct Call<'a>(&'a MemoryProvider);

impl<'a> Call<'a> {
    fn new(provider: &'a MemoryProvider) -> Self {
        let mut calls = lock(&provider.calls);
        calls.0 += 1;
        provider.must(calls.0 == 1, "a provider's calls must not overlap");
        Self(provider)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(&self.0.calls).0 -= 1;
    }
}

fn access_token(credential: &Credential) -> &str {
    credential.access_token().expose()
}

impl CredentialProvider for MemoryProvider {
    fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
        Box::pin(async {
            let _call = Call::new(self);
            tokio::task::yield_now().await;
            Ok(lock(&self.store.saved).clone())
        })
    }

    fn refresh(&self, current: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
        Box::pin(async move {
            let _call = Call::new(self);
            let replaced = lock(&self.calls).1.contains(access_token(&current));
            self.must(!replaced, "a credential that was replaced is refreshed again");
            let _guard = self.store.lock.lock().await;
            let saved = lock(&self.store.saved).clone();
            if access_token(&saved) != access_token(&current) {
                lock(&self.calls).1.insert(access_token(&current).to_owned());
                return Ok(Renewal::adopted(saved));
            }
            let granted = self.client.refresh(&saved).await?;
            // Somebody may have signed in meanwhile; what is newest stays.
            let mut saved = lock(&self.store.saved);
            if access_token(&saved) == access_token(&current) {
                *saved = granted.clone();
            }
            drop(saved);
            lock(&self.calls).1.insert(access_token(&current).to_owned());
            Ok(Renewal::granted(granted))
        })
    }

    fn reload(
        &self,
        current: Credential,
    ) -> BoxFuture<'_, Result<Option<Credential>, RefreshError>> {
        Box::pin(async move {
            let _call = Call::new(self);
            tokio::task::yield_now().await;
            let saved = lock(&self.store.saved).clone();
            let changed = access_token(&saved) != access_token(&current);
            if changed {
                lock(&self.calls).1.insert(access_token(&current).to_owned());
            }
            Ok(changed.then_some(saved))
        })
    }

    fn reload_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(5))
    }
}

/// What became of each request.
#[derive(Debug, Default)]
struct Ledger {
    attempts: u32,
    committed: bool,
}

#[derive(Debug, Clone)]
struct Body {
    answers: [Answer; 2],
    id: usize,
}

/// The one account there is.
type Any = fn(&Request<Body>) -> Option<&AccountName>;

struct World {
    server: Shared<Server>,
    ledgers: Shared<HashMap<usize, Ledger>>,
    memory: Arc<MemoryStore>,
    store: Store,
    pool: CredentialPool,
    other: CredentialPool,
    layer: AuthRefreshLayer<DefaultClassify, PolicyFn<Any>>,
    waiting: Vec<JoinHandle<Result<Response<bool>, Error>>>,
    sent: usize,
    /// The work of the other process.
    errands: Vec<JoinHandle<()>>,
}

impl World {
    fn new(store: Store) -> Self {
        let mut server = Server {
            mode: Endpoint::Grant,
            family: 0,
            serial: 0,
            revoked: false,
            access_forgotten: false,
            ends_at: Instant::now(),
            in_flight: 0,
            grants: 0,
            wrongs: Vec::new(),
        };
        let login = sign_in(&mut server);
        let server = Arc::new(Mutex::new(server));
        let memory =
            Arc::new(MemoryStore { saved: Mutex::new(login), lock: tokio::sync::Mutex::new(()) });
        let process = || {
            let client = token_client(&server, clock);
            let builder =
                CredentialPool::builder().clock(clock).challenge_pause(Duration::from_secs(10));
            match &store {
                Store::Memory => builder
                    .account(
                        "a",
                        MemoryProvider {
                            store: Arc::clone(&memory),
                            client,
                            calls: Mutex::default(),
                            server: Arc::clone(&server),
                        },
                    )
                    .build(),
                Store::File(path) => {
                    builder.account("a", OAuthFile::new(path, client).clock(clock)).build()
                }
            }
            .expect("one account")
        };
        let (pool, other) = (process(), process());
        let world = Self {
            layer: AuthRefreshLayer::from_pool(pool.clone())
                .policy(policy_fn::<Body, Any>(|_| None)),
            server,
            ledgers: Shared::default(),
            memory,
            store,
            pool,
            other,
            waiting: Vec::new(),
            sent: 0,
            errands: Vec::new(),
        };
        let login = lock(&world.memory.saved).clone();
        world.save(login);
        world
    }

    /// Puts a login into the store without asking for its lock, as a program that signs in does.
    fn save(&self, login: Credential) {
        if let Store::File(path) = &self.store {
            let text = StoredCredential::new(login.clone()).to_json().unwrap();
            let aside = path.with_extension("new");
            std::fs::write(&aside, text.expose()).unwrap();
            std::fs::rename(aside, path).unwrap();
        }
        *lock(&self.memory.saved) = login;
    }

    fn send(&mut self, answers: [Answer; 2]) {
        let id = self.sent;
        self.sent += 1;
        let (server, ledgers) = (Arc::clone(&self.server), Arc::clone(&self.ledgers));
        let service = self.layer.layer(service_fn(move |request: Request<Body>| {
            let (server, ledgers) = (Arc::clone(&server), Arc::clone(&ledgers));
            async move { upstream(&server, &ledgers, &request).await }
        }));
        let request = Request::new(Body { answers, id });
        self.waiting.push(tokio::spawn(service.oneshot(request)));
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Request(first, second) => self.send([first, second]),
            Op::Cancel(which) => {
                if !self.waiting.is_empty() {
                    let at = usize::from(which) % self.waiting.len();
                    self.waiting.swap_remove(at).abort();
                }
            }
            Op::Advance(millis) => {
                tokio::time::sleep(Duration::from_millis(u64::from(millis))).await;
            }
            Op::Endpoint(mode) => lock(&self.server).mode = mode,
            Op::OtherProcess => {
                let other = self.other.clone();
                self.errands.push(tokio::spawn(async move {
                    // Whether it works is the endpoint's business.
                    let _ = other.refresh("a").await;
                }));
            }
            Op::ForgetAccess => lock(&self.server).access_forgotten = true,
            Op::SignIn => {
                if let Store::File(_) = self.store {
                    // Whoever writes the file without its lock, as here, can be overwritten in the
                    // instant between a refresh's last look and its rename, which takes a real
                    // thread to hit. In memory there is no such instant.
                    self.pool.settled().await;
                    self.other.settled().await;
                }
                let login = sign_in(&mut lock(&self.server));
                self.save(login);
            }
            Op::Settle => {
                for _ in 0..32 {
                    tokio::task::yield_now().await;
                }
            }
        }
        self.check();
    }

    /// What must hold at any time.
    fn check(&self) {
        let server = lock(&self.server);
        assert!(server.wrongs.is_empty(), "{:?}", server.wrongs);
        for state in self.pool.accounts() {
            let shown = format!("{state:?} {:?}", self.pool);
            assert!(!shown.contains("at-") && !shown.contains("rt-"), "{shown}");
        }
    }

    /// Everybody gets an answer, nothing is lost, and the login works again in the end.
    async fn finish(mut self) {
        let patience = Duration::from_secs(3600);
        for request in std::mem::take(&mut self.waiting) {
            let answer = tokio::time::timeout(patience, request).await;
            let answer = answer.expect("every request is answered").expect("and none panics");
            if let Err(error) = answer {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains("at-") && !shown.contains("rt-"), "{shown}");
            }
        }
        for errand in std::mem::take(&mut self.errands) {
            tokio::time::timeout(patience, errand).await.expect("answered").expect("no panic");
        }
        self.pool.settled().await;
        self.other.settled().await;
        self.check();

        // The store has the token that the endpoint takes next.
        let revoked = lock(&self.server).revoked;
        if !revoked {
            let saved = self.saved();
            let token = saved.refresh_token().expect("a login has one");
            let token = token.expose().to_owned();
            assert_eq!(token, lock(&self.server).refresh(), "the newest refresh token is kept");
        }

        // Whatever has happened: with a good login and after every cool-down it goes on.
        lock(&self.server).mode = Endpoint::Grant;
        if revoked {
            let login = sign_in(&mut lock(&self.server));
            self.save(login);
        }
        tokio::time::sleep(Duration::from_secs(31 * 60)).await;
        // The first may be the one that finds the new login.
        for _ in 0..2 {
            self.send([Answer::Honest; 2]);
            drop(self.waiting.pop().expect("just sent").await.expect("no panic"));
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        self.send([Answer::Honest; 2]);
        let response = self.waiting.pop().expect("just sent").await.expect("no panic");
        let response = response.expect("the login works");
        assert_eq!(response.status(), StatusCode::OK);
        self.check();
    }

    fn saved(&self) -> Credential {
        match &self.store {
            Store::Memory => lock(&self.memory.saved).clone(),
            Store::File(path) => {
                let text = std::fs::read_to_string(path).expect("the file");
                StoredCredential::parse(&text).expect("a login").credential().clone()
            }
        }
    }
}

/// A new login, of a new family.
fn sign_in(server: &mut Server) -> Credential {
    server.family += 1;
    server.revoked = false;
    if server.mode == Endpoint::Revoke {
        server.mode = Endpoint::Grant;
    }
    server.issue();
    let ends_at = clock() + Duration::from_secs(LIFETIME);
    Credential::oauth(&server.access(), Some(&server.refresh()), Some(ends_at)).unwrap()
}

async fn upstream(
    server: &Shared<Server>,
    ledgers: &Shared<HashMap<usize, Ledger>>,
    request: &Request<Body>,
) -> Result<Response<bool>, Error> {
    let Body { answers, id } = request.body();
    let attempt = {
        let mut ledgers = lock(ledgers);
        let ledger = ledgers.entry(*id).or_default();
        ledger.attempts += 1;
        let mut server = lock(server);
        if ledger.attempts > 2 {
            server.wrongs.push(format!("request {id} was sent {} times", ledger.attempts));
        }
        if ledger.committed {
            server.wrongs.push(format!("request {id} was sent again after its answer had begun"));
        }
        ledger.attempts
    };
    let answer = answers[(attempt as usize - 1).min(1)];
    match answer {
        Answer::Slow => tokio::time::sleep(Duration::from_secs(3)).await,
        _ => tokio::task::yield_now().await,
    }
    let credential = request.headers().get("authorization").cloned();
    let credential = credential.expect("every request carries a credential");
    assert!(credential.is_sensitive());
    let status = |status: u16| Ok(Response::builder().status(status).body(false).unwrap());
    match answer {
        Answer::Honest | Answer::Slow | Answer::Cut => {
            let welcome = {
                let server = lock(server);
                credential == format!("Bearer {}", server.access())
                    && !server.access_forgotten
                    && Instant::now() < server.ends_at
            };
            if !welcome {
                return status(401);
            }
            lock(ledgers).entry(*id).or_default().committed = true;
            Ok(Response::new(answer == Answer::Cut))
        }
        Answer::Refuse => status(401),
        Answer::Forbid => status(403),
        Answer::Timeout => status(504),
        Answer::EnvelopeRefuse => Err(Error::new(ErrorKind::Auth, "the upstream said so")),
        Answer::Challenge => Err(Error::new(ErrorKind::Challenge, "a challenge")),
        Answer::Fail => status(500),
    }
}

/// Runs `script` in a world of its own.
///
/// # Panics
///
/// Where something does not hold that must.
pub(crate) fn run(script: &[Op], store: Store) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        clock();
        let mut world = World::new(store);
        for &op in script {
            world.step(op).await;
        }
        world.finish().await;
    });
}
