//! Long conversations with tools through the official SDKs and the proxy's program: one chat
//! upstream, only new messages each turn, one replay after the proxy was started anew, and none
//! between two proxies that share a Redis.
//!
//! The SDKs are those of tests/clients.rs; without them the tests say so and pass, except where
//! `CI` is set.

#[path = "proxy/binary.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod binary;
#[path = "served/proxied.rs"]
mod proxied;
#[path = "served/suite.rs"]
mod suite;

#[cfg(feature = "redis")]
#[path = "served/redis.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod redis;

#[cfg(all(feature = "redis", unix))]
#[path = "served/outage.rs"]
mod outage;
mod traced;

use std::process::Command;

use binary::Running;
use suite::KEY;
use tower_qwen_emulator::{Builder, ChatRecord, Emulator, Kind};

const TURNS: usize = 50;

/// A model that wants to know the time in every second turn before it answers.
fn model() -> Emulator {
    model_of(proxied::upstream())
}

fn model_of(upstream: Builder) -> Emulator {
    upstream
        .answers(|message, earlier| {
            let number = |text: &str, word: &str| -> Option<usize> {
                let (_, rest) = text.rsplit_once(word)?;
                rest.split_once('>')?.0.parse().ok()
            };
            // A replay holds all of them; the last one counts.
            if message.rfind("<result ") > message.rfind("<turn ") {
                return number(message, "<result ").map(|turn| format!("answer {turn}"));
            }
            let turn = number(message, "<turn ")
                .or_else(|| earlier.iter().rev().find_map(|text| number(text, "<turn ")))?;
            Some(if turn % 2 == 1 {
                "<tool_call>\n<function=get_time>\n</function>\n</tool_call>".into()
            } else {
                format!("answer {turn}")
            })
        })
        .build()
}

/// Two proxies over one upstream, which is served for as long as they are.
struct Served {
    proxies: [Running; 2],
    #[cfg_attr(
        not(all(feature = "redis", unix)),
        expect(dead_code, reason = "it is held so that what it runs goes on")
    )]
    runtime: tokio::runtime::Runtime,
}

/// Each is set up further by `also`.
fn serve(emulator: &Emulator, also: impl Fn(&mut Command)) -> Served {
    serve_with(emulator, |origin| proxied::command(origin, KEY), also)
}

fn serve_with(
    emulator: &Emulator,
    command: impl Fn(&str) -> Command,
    also: impl Fn(&mut Command),
) -> Served {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let origin = runtime.block_on(proxied::serve(emulator.clone()));
    let proxies = [(); 2].map(|()| {
        let mut proxy = command(&origin);
        also(&mut proxy);
        runtime.block_on(proxied::start(proxy))
    });
    Served { proxies, runtime }
}

/// Runs the script, each turn at the proxy that `which` says.
fn run(script: &mut Command, served: &Served, which: impl Fn(usize) -> usize) {
    let base = |proxy: &Running| format!("{}/v1", proxy.origin);
    let urls: Vec<_> = (0..TURNS).map(|turn| base(&served.proxies[which(turn)])).collect();
    let urls = serde_json::to_string(&urls).expect("strings");
    suite::run(script.env("TURN_URLS", urls), &base(&served.proxies[0]));
}

/// Runs the script with the first turns at a proxy, the others at one that remembers nothing of
/// them; what upstream saw then.
fn converse(script: &mut Command, turns_before: usize) -> Emulator {
    let emulator = model();
    let served = serve(&emulator, |_| {});
    run(script, &served, |turn| usize::from(turn >= turns_before));
    emulator
}

/// What the user's messages of each chat say; the chats in no order.
fn said(emulator: &Emulator) -> Vec<Vec<String>> {
    let users = |chat: &ChatRecord| {
        let messages = chat.messages.iter().filter(|message| message.role == "user");
        messages.map(|message| message.text.clone()).collect()
    };
    emulator.chats().iter().map(users).collect()
}

fn turns(text: &str) -> usize {
    text.matches("<turn ").count()
}

fn one_chat_takes_only_what_is_new(script: &mut Command) {
    check_one_chat(&converse(script, TURNS));
}

fn check_one_chat(emulator: &Emulator) {
    assert_eq!(emulator.chats().len(), 1, "one chat for the whole conversation");
    let said = &said(emulator)[0];
    assert_eq!(said.len(), TURNS + TURNS / 2, "a message a turn, and one a result");
    assert_eq!(said.iter().filter(|text| text.contains("<tools>")).count(), 1, "tools once");
    for (index, text) in said.iter().enumerate().skip(1) {
        let marks = turns(text) + text.matches("<result ").count();
        assert_eq!(marks, 1, "message {index} holds more than what is new: {text}");
    }
    // Each is a child of the answer before it, so the last one's path holds them all.
    let chat = &emulator.chats()[0];
    let last = chat.messages.last().expect("an answer");
    let path = emulator.path(&chat.id, &last.id).expect("a branch");
    assert_eq!(path.len(), chat.messages.len());
}

fn a_new_proxy_replays_once(script: &mut Command) {
    let emulator = converse(script, TURNS / 2);
    assert_eq!(emulator.chats().len(), 2, "one chat before, one behind");
    let mut said = said(&emulator);
    said.sort_by_key(|texts| turns(&texts[0]));
    assert_eq!(turns(&said[0][0]), 1, "{}", said[0][0]);
    assert_eq!(turns(&said[1][0]), TURNS / 2 + 1, "{}", said[1][0]);
    for text in said.iter().flat_map(|texts| &texts[1..]) {
        assert!(turns(text) <= 1, "replayed again: {text}");
    }
}

#[test]
fn fifty_turns_with_the_sdk_for_python() {
    let Some(mut python) = suite::python("openai") else { return };
    one_chat_takes_only_what_is_new(python.arg("sessions.py"));
    let Some(mut python) = suite::python("openai") else { return };
    a_new_proxy_replays_once(python.arg("sessions.py"));
}

#[test]
fn fifty_turns_with_the_sdk_for_node() {
    let Some(mut node) = suite::node(&["openai"]) else { return };
    one_chat_takes_only_what_is_new(node.arg("sessions.mjs"));
    let Some(mut node) = suite::node(&["openai"]) else { return };
    a_new_proxy_replays_once(node.arg("sessions.mjs"));
}

/// Whose keys the proxies know beside the usual one.
const OTHER_KEY: &str = "sk-other-key";

fn keys(proxy: &mut Command) {
    proxy.env("QWEN_PROXY_API_KEY", format!("{KEY},{OTHER_KEY}"));
}

/// The script's turns by the id of the answer before, two branches, and one that is not stored.
fn check_turns_by_id(emulator: &Emulator) {
    assert_eq!(emulator.chats().len(), 1, "one chat for the whole conversation");
    let said = &said(emulator)[0];
    // A message a turn, one a result, and three turns more.
    assert_eq!(said.len(), TURNS + TURNS / 2 + 3);
    assert_eq!(said.iter().filter(|text| text.contains("<tools>")).count(), 1, "tools once");
    assert_eq!(said.iter().filter(|text| text.contains("Be brief.")).count(), 1, "told once");
    for (index, text) in said.iter().enumerate().skip(1) {
        let marks = turns(text) + text.matches("<result ").count();
        assert_eq!(marks, 1, "message {index} holds more than what is new: {text}");
    }
    // The branches begin at one answer, which the conversation has gone on from too.
    let chat = &emulator.chats()[0];
    let children = |id: &str| {
        chat.messages.iter().filter(|message| message.parent_id.as_deref() == Some(id)).count()
    };
    let mut forks: Vec<_> = chat.messages.iter().map(|message| children(&message.id)).collect();
    forks.sort_unstable();
    assert_eq!(forks[forks.len() - 2..], [1, 3], "{forks:?}");
}

#[test]
fn fifty_turns_by_the_id_of_the_answer_before() {
    let Some(mut python) = suite::python("openai") else { return };
    let emulator = model();
    let served = serve(&emulator, keys);
    let script = python.arg("responses_sessions.py").env("OTHER_API_KEY", OTHER_KEY);
    run(script, &served, |_| 0);
    check_turns_by_id(&emulator);
}

/// The proxy over DashScope's API that keeps chats.
fn over_dashscope(origin: &str) -> Command {
    let mut proxy = binary::command();
    let base_url = format!("{origin}/compatible-mode/v1");
    proxy.args(["--base-url", &base_url, "--server", "dashscope", "--api", "responses"]);
    proxy.args(["--upstream-key", proxied::TOKEN]);
    proxy.env("QWEN_PROXY_API_KEY", KEY).env("RUST_LOG", "warn").env("NO_PROXY", "127.0.0.1");
    proxy
}

/// What each turn sent there, as JSON, and how many items it had.
fn sent(emulator: &Emulator) -> Vec<(String, usize)> {
    let requests = emulator.requests().into_iter();
    let turns = requests.filter(|request| request.path().ends_with("/responses"));
    let items = |body: &serde_json::Value| body["input"].as_array().map_or(0, Vec::len);
    turns.map(|turn| (turn.body["input"].to_string(), items(&turn.body))).collect()
}

/// An official API that keeps chats is as good as the web: by chat completions, and by ids.
#[test]
fn fifty_turns_over_an_api_that_keeps_chats() {
    for script in ["sessions.py", "responses_sessions.py"] {
        let Some(mut python) = suite::python("openai") else { return };
        let emulator = model_of(proxied::upstream().kind(Kind::DashScope));
        let served = serve_with(&emulator, over_dashscope, keys);
        run(python.arg(script).env("OTHER_API_KEY", OTHER_KEY), &served, |_| 0);
        let sent = sent(&emulator);
        let more = if script == "sessions.py" { 0 } else { 3 };
        assert_eq!(sent.len(), TURNS + TURNS / 2 + more, "{script}");
        assert_eq!(sent[0].1, 2, "the instructions and the first turn");
        for (place, (text, items)) in sent.iter().enumerate().skip(1) {
            assert_eq!(*items, 1, "{script}: turn {place} holds more than what is new: {text}");
        }
        let told = sent.iter().filter(|(text, _)| text.contains("Be brief.")).count();
        assert_eq!(told, 1, "{script}");
    }
}

/// The ids outlive the process that gave them.
#[cfg(all(feature = "redis", unix))]
#[test]
fn ids_of_answers_outlive_a_proxy_with_redis() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let Some(server) = runtime.block_on(redis::Server::start()) else { return };
    // On a busy machine Redis may answer later than the program waits, which is no matter here.
    let in_time = (0..3).any(|_| {
        let Some(mut python) = suite::python("openai") else { return true };
        let emulator = model();
        let served = serve(&emulator, |proxy| {
            keys(proxy);
            proxy.args(["--redis", &server.url()]).env("RUST_LOG", outage::LOG);
        });
        let script = python.arg("responses_sessions.py").env("OTHER_API_KEY", OTHER_KEY);
        run(script, &served, |turn| usize::from(turn >= TURNS / 2));
        let logs = served.proxies.map(|proxy| proxy.stop("-TERM").1);
        let in_time = logs.iter().all(|log| !log.contains(outage::FAILED));
        if in_time {
            check_turns_by_id(&emulator);
        }
        in_time
    });
    assert!(in_time, "Redis did not answer in time, three times over");
}

/// Two proxies with one Redis take the turns by turns.
#[cfg(all(feature = "redis", unix))]
#[test]
fn two_proxies_with_one_redis_go_on_for_each_other() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let Some(server) = runtime.block_on(redis::Server::start()) else { return };
    for script in ["sessions.py", "sessions.mjs"] {
        // On a busy machine Redis may answer later than the program waits. It says so then, and
        // goes on without; that is another test's matter.
        let in_time = (0..3).any(|_| {
            let Some(mut command) = client(script) else { return true };
            let emulator = model();
            let served = serve(&emulator, |proxy| {
                proxy.args(["--redis", &server.url()]).env("RUST_LOG", outage::LOG);
            });
            run(command.arg(script), &served, |turn| turn % 2);
            let logs = served.proxies.map(|proxy| proxy.stop("-TERM").1);
            let in_time = logs.iter().all(|log| !log.contains(outage::FAILED));
            if in_time {
                check_one_chat(&emulator);
            }
            in_time
        });
        assert!(in_time, "Redis did not answer in time, three times over");
    }
}

/// Redis goes away and comes back while both work.
#[cfg(all(feature = "redis", unix))]
#[test]
fn no_request_fails_when_redis_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let Some(mut server) = runtime.block_on(redis::Server::start()) else { return };
    let served = serve(&outage::model(), |proxy| {
        proxy.args(["--redis", &server.url()]).env("RUST_LOG", outage::LOG);
    });
    let origins = [0, 1].map(|which| served.proxies[which].origin.clone());
    served.runtime.block_on(outage::run(&mut server, origins));
    for proxy in served.proxies {
        let (code, log) = proxy.stop("-TERM");
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(outage::FAILED), "it never missed Redis: {log}");
    }
}

#[cfg(all(feature = "redis", unix))]
fn client(script: &str) -> Option<Command> {
    if script.ends_with("py") { suite::python("openai") } else { suite::node(&["openai"]) }
}
