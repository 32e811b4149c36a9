//! An upstream that is ended and started again while the official SDK asks many questions at once:
//! another stands in, no question is lost and none is answered twice.
//!
//! The SDK is that of tests/clients.rs; without it the test says so and passes, except where `CI` is
//! set.

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;
#[path = "served/proxied.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod proxied;
#[path = "served/stand_in.rs"]
mod stand_in;
#[path = "served/suite.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod suite;
mod traced;

use std::{
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use stand_in::{Served, Upstream};
use suite::KEY;
use tower_qwen_emulator::{Builder, Emulator, Kind};

/// How many questions there are: more than are asked while the proxy leaves an upstream alone that
/// has failed, which is ten seconds.
const QUESTIONS: usize = 700;
const OUTAGES: usize = 2;

/// A model that says twenty words of each question, as slowly as a model does.
fn model(of: Builder) -> Emulator {
    of.answers(|message, _| {
        let number = number(message)?;
        let words: Vec<_> = (0..20).map(|word| format!("{number}.{word}")).collect();
        Some(format!("answer {number}: {}", words.join(" ")))
    })
    .pace(Duration::from_millis(5))
    .build()
}

/// The number of a question.
fn number(text: &str) -> Option<usize> {
    let (_, rest) = text.rsplit_once("<question ")?;
    rest.split_once('>')?.0.parse().ok()
}

/// The questions that `emulator` was asked, in order; one as often as it was asked.
fn asked(emulator: &Emulator) -> Vec<usize> {
    let requests = emulator.requests();
    let bodies = requests.iter().filter(|request| request.path().contains("completions"));
    let mut numbers: Vec<_> =
        bodies.filter_map(|request| number(&request.body["messages"].to_string())).collect();
    numbers.sort_unstable();
    numbers
}

/// The questions that the chats of `emulator` have a whole answer to, in order.
fn answered(emulator: &Emulator) -> Vec<usize> {
    let chats = emulator.chats();
    let messages = chats.iter().flat_map(|chat| &chat.messages);
    let answers = messages.filter(|message| message.role == "assistant");
    let mut numbers: Vec<_> = answers
        .filter_map(|message| {
            let number = message.text.strip_prefix("answer ")?.split_once(':')?.0.parse().ok()?;
            message.text.ends_with(&format!("{number}.19")).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn no_question_is_lost_while_an_upstream_comes_and_goes() {
    let Some(mut python) = suite::python("openai") else { return };
    let logged =
        |of: Builder| of.log_limits(10 * QUESTIONS, 1 << 30).chat_limits(QUESTIONS, 1 << 30);
    let web = model(logged(proxied::upstream()));
    let dashscope = model(logged(Emulator::builder().kind(Kind::DashScope)));
    let mut served = Served::new(web, dashscope, "", KEY);
    let base = format!("{}/v1", served.proxy.origin);
    python.arg("under_load.py").env("QUESTIONS", QUESTIONS.to_string());
    python.env("OUTAGES", OUTAGES.to_string());
    let mut taken_up = 0;
    thread::scope(|scope| {
        let load = scope.spawn(|| suite::run(&mut python, &base));
        for _ in 0..OUTAGES {
            // It has been asked again since it was last started, and others are under way.
            let before = served.web.answers();
            wait_until(&load, || served.web.answers() >= before + 60);
            taken_up += usize::from(!load.is_finished());
            served.web.stop();
            let before = served.dashscope.answers();
            wait_until(&load, || served.dashscope.answers() >= before + 24);
            served.web.start();
        }
        load.join().expect("every question has its answer");
    });
    assert_eq!(taken_up, OUTAGES, "it is asked again when it is back");
    let (web, dashscope) = (asked(&served.web.emulator), asked(&served.dashscope.emulator));
    for (who, asked) in [("web", &web), ("dashscope", &dashscope)] {
        let twice = asked.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{who} was asked the same twice");
    }
    let whole = answered(&served.web.emulator);
    let twice = whole.iter().find(|number| dashscope.binary_search(number).is_ok());
    assert_eq!(twice, None, "one that was answered was asked elsewhere");
}

/// Waits until that is so or there is no more load.
fn wait_until(load: &ScopedJoinHandle<'_, ()>, is_so: impl Fn() -> bool) {
    while !is_so() && !load.is_finished() {
        thread::sleep(Duration::from_millis(5));
    }
}

impl Upstream {
    /// How many answers it has begun.
    fn answers(&self) -> u64 {
        self.emulator.counters().completions
    }
}
