//! Any interleaving of sends, answers, ends of refreshes and time, beside a naive twin.

use proptest::prelude::*;

use super::*;

/// One step of a script.
#[derive(Clone, Debug)]
enum Op {
    /// A request wants to be sent.
    Send,
    /// The request with this number among those that were sent is answered.
    Answer(usize, Answer),
    /// What is under way ends.
    Finish(Found),
    /// Seconds pass.
    Pass(u64),
    /// A request went to another account, since this one looked dead.
    Revive,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Accepted,
    Refused,
    Timeout,
    /// With the seconds that the upstream asks for.
    Quota(u64),
    Rate(u64),
}

#[derive(Clone, Copy, Debug)]
enum Found {
    /// A new credential that lives for so many seconds.
    New(u64),
    /// One that another process obtained.
    Adopted(u64),
    /// The same as before.
    Same,
    /// Nothing has changed, which only a reload can say.
    Nothing,
    Failed(RefreshErrorKind),
}

/// What is known of an account, written down as simply as can be: every cool-down from the log of
/// what was said since the last good news that counts.
#[derive(Debug, Default)]
struct Twin {
    serial: u64,
    /// How many pieces of bad news there were.
    bad: u32,
    said: Vec<(Trouble, Instant, Option<u64>)>,
}

impl Twin {
    fn cooling(&self, now: Instant) -> Option<CoolDown> {
        let mut refusals = 0;
        let mut cool_down: Option<CoolDown> = None;
        for &(trouble, at, asked) in &self.said {
            let span = asked.unwrap_or_else(|| {
                refusals += 1;
                (60 << (refusals - 1).min(10)).min(1800)
            });
            let quota =
                cool_down.is_some_and(|other| other.trouble == Trouble::Quota && other.until > at);
            if trouble == Trouble::Quota || !quota {
                cool_down = Some(CoolDown { trouble, until: at + Duration::from_secs(span) });
            }
        }
        cool_down.filter(|cool_down| cool_down.until > now)
    }
}

/// A request that was sent.
struct Request {
    sent: Sent,
    /// What the twin counted when it was sent.
    bad: u32,
    sends: u32,
}

struct World {
    account: Account,
    twin: Twin,
    now: Now,
    underway: Option<Work>,
    /// How many requests wait for what is under way.
    waiting: u32,
    requests: Vec<Request>,
}

fn credential(serial: u64, lifetime: u64, now: Now) -> Credential {
    let end = now.wall + Duration::from_secs(lifetime);
    Credential::oauth(&format!("at-{serial}"), Some("rt"), Some(end)).expect("a login")
}

fn token(credential: &Credential) -> &str {
    credential.access_token().expose()
}

impl World {
    fn new(refreshable: bool) -> Self {
        let settings = Settings {
            margin: Duration::from_secs(30),
            ahead: Duration::from_secs(60),
            reload_interval: Some(Duration::from_secs(5)),
            is_refreshable: refreshable,
        };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        Self {
            account: Account::new(3, "a".into(), settings, fastrand::Rng::with_seed(7)),
            twin: Twin::default(),
            now: Now { instant: Instant::now(), wall },
            underway: None,
            waiting: 0,
            requests: Vec::new(),
        }
    }

    fn begin(&mut self, work: Work) {
        assert!(self.underway.is_none(), "two at a time");
        match &work {
            Work::Load => assert_eq!(self.twin.serial, 0, "a load with a credential at hand"),
            Work::Reload(used) | Work::Refresh(used) => {
                assert_eq!(token(used), format!("at-{}", self.twin.serial), "not the newest");
            }
        }
        if matches!(work, Work::Refresh(_)) {
            assert!(self.account.settings.is_refreshable);
        }
        self.underway = Some(work);
    }

    /// Does what a request is told. Gives what to send with, if it need not wait.
    fn follow(&mut self, step: Step) -> Option<Usable> {
        match step {
            Step::Use(usable) => {
                assert_eq!(token(&usable.credential), format!("at-{}", self.twin.serial));
                assert_eq!(usable.sent.at, 3);
                return Some(usable);
            }
            Step::Begin(work) => {
                self.begin(work);
                self.waiting += 1;
            }
            Step::Wait => {
                assert!(self.underway.is_some(), "nobody would wake it");
                self.waiting += 1;
            }
            Step::Fail(_) => {}
        }
        None
    }

    fn sent(&mut self, sent: Sent, sends: u32) {
        self.requests.push(Request { sent, bad: self.twin.bad, sends });
    }

    fn send(&mut self) {
        let now = self.now;
        if let Some((usable, is_due)) = self.account.ready(|| now.wall) {
            assert_eq!(token(&usable.credential), format!("at-{}", self.twin.serial));
            self.sent(usable.sent, 1);
            if is_due && let Some(work) = self.account.tend(now) {
                self.begin(work);
            }
        } else {
            self.acquire(None);
        }
    }

    fn acquire(&mut self, failure: Option<RefreshError>) {
        let step = self.account.acquire(self.now, failure);
        if let Some(usable) = self.follow(step) {
            self.sent(usable.sent, 1);
        }
    }

    fn answer(&mut self, which: usize, answer: Answer) {
        if self.requests.is_empty() {
            return;
        }
        let at = which % self.requests.len();
        let Request { sent, bad, sends } = self.requests.swap_remove(at);
        let is_current = self.account.generation() == Some(sent.generation);
        match answer {
            Answer::Accepted => {
                let before = format!("{:?}", self.account);
                self.account.good_news(sent);
                if bad == self.twin.bad {
                    self.twin.said.clear();
                    assert!(!self.account.is_troubled());
                } else {
                    assert_eq!(before, format!("{:?}", self.account), "old news changed it");
                }
            }
            Answer::Refused if sends > 1 => {
                self.account.bad_news(Trouble::Refused, None, sent, self.now);
                if is_current {
                    self.twin.bad += 1;
                    self.twin.said.push((Trouble::Refused, self.now.instant, None));
                }
            }
            Answer::Refused | Answer::Timeout => {
                let cause = match answer {
                    Answer::Timeout => Cause::Timeout,
                    _ => Cause::Refused,
                };
                let step = self.account.renew(sent.generation, cause, self.now, None);
                if let Some(usable) = self.follow(step)
                    && sends == 1
                {
                    let same = usable.sent.generation == sent.generation;
                    assert!(!same || cause == Cause::Timeout, "the refused one again");
                    self.sent(usable.sent, 2);
                }
            }
            Answer::Quota(asked) => self.trouble(Trouble::Quota, asked, sent),
            Answer::Rate(asked) => self.trouble(Trouble::Rate, asked, sent),
        }
    }

    fn trouble(&mut self, trouble: Trouble, asked: u64, sent: Sent) {
        self.account.bad_news(trouble, Some(Duration::from_secs(asked)), sent, self.now);
        self.twin.bad += 1;
        self.twin.said.push((trouble, self.now.instant, Some(asked)));
    }

    fn finish(&mut self, found: Found) {
        let Some(work) = self.underway.take() else { return };
        let is_reload = matches!(work, Work::Reload(_));
        let serial = self.twin.serial;
        let found = match found {
            // Only a reload can find that nothing has changed, and it is not told what was.
            Found::Nothing | Found::Same if is_reload || serial == 0 => {
                if serial == 0 {
                    Found::New(600)
                } else {
                    Found::Nothing
                }
            }
            Found::Nothing => Found::Same,
            found => found,
        };
        let newer = |lifetime| credential(serial + 1, lifetime, self.now);
        let brought = match found {
            Found::New(lifetime) if !is_reload && serial > 0 => {
                Ok(Some(Renewal::granted(newer(lifetime))))
            }
            Found::New(lifetime) | Found::Adopted(lifetime) => {
                Ok(Some(Renewal::adopted(newer(lifetime))))
            }
            Found::Same => match &self.account.current {
                Some(current) => Ok(Some(Renewal::granted(current.credential.clone()))),
                None => Ok(None),
            },
            Found::Nothing => Ok(None),
            Found::Failed(kind) => Err(RefreshError::new(kind, "as the script says")),
        };
        if matches!(found, Found::New(_) | Found::Adopted(_)) {
            // What was brought is never lost, whoever has stopped waiting.
            self.twin.serial += 1;
            if is_reload {
                self.twin.said.clear();
            }
        }
        let ended = self.account.finished(brought, self.now);
        assert_eq!(self.account.underway, None);
        let failure = ended.err();
        for _ in 0..std::mem::take(&mut self.waiting) {
            self.acquire(failure.clone());
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        let before = format!("{:?}", self.account);
        let fitness = self.account.fitness(self.now);
        let snapshot = self.account.snapshot(self.now);
        assert_eq!(snapshot.status, self.account.status(self.now));
        assert_eq!(before, format!("{:?}", self.account), "a query changed something");

        assert_eq!(self.account.underway.is_some(), self.underway.is_some());
        let cooling = self.twin.cooling(self.now.instant);
        assert_eq!(self.account.standing.cooling(self.now), cooling);
        match (fitness, cooling) {
            (Fitness::Dead, _) => assert_eq!(snapshot.status, AccountStatus::SignInAgain),
            (Fitness::Exhausted(until), Some(cooling)) => {
                assert_eq!((cooling.trouble, cooling.until), (Trouble::Quota, until));
            }
            (Fitness::Exhausted(_), None) => panic!("out of quota without a cool-down"),
            (Fitness::Doubtful, _) => {}
            (Fitness::Ready, cooling) => assert_eq!(cooling, None),
        }
        assert_eq!(self.account.generation().is_some(), self.twin.serial > 0);
    }

    /// Whatever has happened: with a good endpoint it goes on.
    fn recovers(mut self) {
        self.finish(Found::Adopted(86_400));
        for _ in 0..4 {
            self.now.instant += Duration::from_secs(7200);
            self.now.wall += Duration::from_secs(7200);
            self.send();
            self.finish(Found::New(86_400));
            self.check();
        }
        let sent = self.requests.len();
        self.send();
        assert_eq!(self.requests.len(), sent + 1, "{:?}", self.account);
    }
}

fn op() -> impl Strategy<Value = Op> {
    let answer = prop_oneof![
        4 => Just(Answer::Accepted),
        3 => Just(Answer::Refused),
        1 => Just(Answer::Timeout),
        2 => (1_u64..200).prop_map(Answer::Quota),
        2 => (1_u64..20).prop_map(Answer::Rate),
    ];
    let kind = prop_oneof![
        3 => Just(RefreshErrorKind::Network),
        1 => Just(RefreshErrorKind::Missing),
        1 => Just(RefreshErrorKind::Rejected),
        1 => Just(RefreshErrorKind::NoRefreshToken),
    ];
    let found = prop_oneof![
        5 => (1_u64..600).prop_map(Found::New),
        2 => (1_u64..600).prop_map(Found::Adopted),
        1 => Just(Found::Same),
        2 => Just(Found::Nothing),
        3 => kind.prop_map(Found::Failed),
    ];
    prop_oneof![
        6 => Just(Op::Send),
        6 => (0_usize..8, answer).prop_map(|(which, answer)| Op::Answer(which, answer)),
        4 => found.prop_map(Op::Finish),
        3 => (0_u64..100).prop_map(Op::Pass),
        1 => Just(Op::Revive),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_keeps_the_promises(
        refreshable in prop::bool::weighted(0.9),
        script in prop::collection::vec(op(), 0..120),
    ) {
        let mut world = World::new(refreshable);
        for op in script {
            match op {
                Op::Send => world.send(),
                Op::Answer(which, answer) => world.answer(which, answer),
                Op::Finish(found) => world.finish(found),
                Op::Pass(seconds) => {
                    world.now.instant += Duration::from_secs(seconds);
                    world.now.wall += Duration::from_secs(seconds);
                }
                Op::Revive => {
                    if let Some(work) = world.account.revive(world.now) {
                        world.begin(work);
                    }
                }
            }
            world.check();
        }
        if refreshable {
            world.recovers();
        }
    }
}

#[test]
fn good_news_counts_only_if_it_is_younger_than_the_bad() {
    let mut world = World::new(true);
    world.send();
    world.finish(Found::New(600));
    // The first is sent before the bad news of the second, and answered after it.
    world.send();
    world.answer(1, Answer::Quota(100));
    world.answer(0, Answer::Accepted);
    assert!(matches!(world.account.fitness(world.now), Fitness::Exhausted(_)));
    // The third is sent after it, by whoever uses the account all the same.
    world.acquire(None);
    world.answer(0, Answer::Accepted);
    assert_eq!(world.account.fitness(world.now), Fitness::Ready);
}
