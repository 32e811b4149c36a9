//! The state machine of `AuthRefreshLayer` under scripts of requests, failures, time and other
//! processes: at most one refresh in flight, at most one replay of a request and none after its
//! answer has begun, everybody answered, no refresh token spent twice or lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod machine;
#[path = "../traced/mod.rs"]
mod traced;

use machine::{Answer, Endpoint, Op, Store};
use proptest::prelude::*;

fn run(script: &[Op], store: Store) {
    traced::on();
    machine::run(script, store);
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Honest),
        2 => Just(Answer::Slow),
        3 => Just(Answer::Refuse),
        1 => Just(Answer::Forbid),
        2 => Just(Answer::Timeout),
        2 => Just(Answer::EnvelopeRefuse),
        1 => Just(Answer::Cut),
        1 => Just(Answer::Challenge),
        1 => Just(Answer::Fail),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        4 => Just(Endpoint::Grant),
        2 => Just(Endpoint::Slow),
        1 => Just(Endpoint::TooSlow),
        1 => Just(Endpoint::Fail),
        1 => Just(Endpoint::Page),
        1 => Just(Endpoint::Revoke),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (answer(), answer()).prop_map(|(first, second)| Op::Request(first, second)),
        2 => any::<u8>().prop_map(Op::Cancel),
        4 => (0_u32..10_000).prop_map(Op::Advance),
        2 => (10_000_u32..200_000).prop_map(Op::Advance),
        2 => endpoint().prop_map(Op::Endpoint),
        2 => Just(Op::OtherProcess),
        1 => Just(Op::ForgetAccess),
        1 => Just(Op::SignIn),
        2 => Just(Op::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_script_breaks_a_promise(script in prop::collection::vec(op(), 0..60)) {
        run(&script, Store::Memory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_script_breaks_a_promise_about_the_file(script in prop::collection::vec(op(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        run(&script, Store::File(dir.path().join("oauth_creds.json")));
    }
}

#[test]
fn a_caller_that_leaves_during_its_refresh_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::Memory, Store::File(dir.path().join("oauth_creds.json"))] {
        run(
            &[
                Op::Endpoint(Endpoint::Slow),
                Op::Advance(130_000),
                Op::Request(Answer::Honest, Answer::Honest),
                Op::Settle,
                Op::Cancel(0),
                Op::Advance(1000),
                Op::Request(Answer::Honest, Answer::Honest),
                Op::Advance(10_000),
            ],
            store,
        );
    }
}

#[test]
fn two_processes_that_refresh_at_once_do_not_collide() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::Memory, Store::File(dir.path().join("oauth_creds.json"))] {
        let mut script = vec![Op::Endpoint(Endpoint::Slow)];
        for _ in 0..5 {
            script.extend([
                Op::Advance(119_000),
                Op::OtherProcess,
                Op::Request(Answer::Honest, Answer::Honest),
                Op::Request(Answer::Refuse, Answer::Honest),
                Op::OtherProcess,
                Op::Settle,
            ]);
        }
        run(&script, store);
    }
}
