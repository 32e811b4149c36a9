//! Conversations through the program: with several processes and one Redis, and deleted by whom
//! they belong to.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tower_qwen_emulator::Emulator;

use crate::{
    binary::Running,
    command::exchange,
    proxied::{self, command, upstream},
};

/// What the program says when Redis fails.
#[cfg(feature = "redis")]
const MISSED: &str = "Redis fails; sessions go on without it";

const KEYS: &str = "sk-ann,sk-bob";

fn send(proxy: &Running, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json"
    );
    let response = exchange(&proxy.origin, &head, &body.to_string());
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{response}")))
}

/// Asks the next question of the conversation; the chat it was answered in.
fn ask(proxy: &Running, key: &str, history: &mut Vec<Value>, question: &str) -> String {
    history.push(json!({"role": "user", "content": question}));
    let body = json!({"model": "qwen3-max", "messages": history});
    let (status, answer) = send(proxy, key, "POST", "/v1/chat/completions", &body);
    assert_eq!(status, 200, "{answer}");
    history.push(answer["choices"][0]["message"].clone());
    answer["qwen_chat_id"].as_str().expect("a chat").to_owned()
}

struct Served {
    emulator: Emulator,
    runtime: tokio::runtime::Runtime,
    origin: String,
    also: Vec<String>,
    logs: RefCell<Vec<Arc<Mutex<String>>>>,
}

impl Served {
    fn new(also: &[&str]) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let emulator = upstream().build();
        let origin = runtime.block_on(proxied::serve(emulator.clone()));
        let also = also.iter().map(ToString::to_string).collect();
        Self { emulator, runtime, origin, also, logs: RefCell::default() }
    }

    fn proxy(&self) -> Running {
        let mut proxy = command(&self.origin, KEYS);
        proxy.args(&self.also);
        let proxy = self.runtime.block_on(proxied::start(proxy));
        self.logs.borrow_mut().push(proxy.log());
        proxy
    }

    /// Whether a proxy went on without its store.
    #[cfg(feature = "redis")]
    fn missed_redis(&self) -> bool {
        let missed =
            |log: &Arc<Mutex<String>>| log.lock().expect("no one panics with it").contains(MISSED);
        self.logs.borrow().iter().any(missed)
    }

    fn chats(&self) -> Vec<String> {
        self.emulator.chats().iter().map(|chat| chat.id.clone()).collect()
    }

    /// Three conversations, of which one key deletes what is its own and nothing else.
    fn deletions_stay_within_the_tenant(&self) {
        let (asked, other) = (self.proxy(), self.proxy());
        let mut histories = [const { Vec::new() }; 4];
        let keys = ["sk-ann", "sk-ann", "sk-ann", "sk-bob"];
        // The same words, so that only the key tells them apart.
        let chats: Vec<String> = histories
            .iter_mut()
            .zip(keys)
            .map(|(history, key)| ask(&asked, key, history, "emulate:say=Hello."))
            .collect();
        assert_eq!(self.chats().len(), 4);
        let [bobs, anns] = [3, 0].map(|chat| format!("/v1/chats/{}", chats[chat]));
        let (status, answer) = send(&asked, "sk-ann", "DELETE", &bobs, &json!({}));
        assert_eq!((status, self.chats().len()), (404, 4), "{answer}");
        // By any proxy that shares the store.
        let deletes = if self.also.is_empty() { &asked } else { &other };
        let (status, answer) = send(deletes, "sk-ann", "DELETE", &anns, &json!({}));
        assert_eq!((status, self.chats().len()), (200, 3), "{answer}");
        assert!(!self.chats().contains(&chats[0]));
        let (status, answer) = send(deletes, "sk-ann", "DELETE", "/v1/chats/delete", &json!({}));
        assert_eq!((status, self.chats()), (200, vec![chats[3].clone()]), "{answer}");

        // What is deleted is not gone on with, and asked for no more; the other's goes on.
        let asked_for = || {
            let uris = self.emulator.requests().into_iter().map(|request| request.uri.to_string());
            uris.filter(|uri| chats[..3].iter().any(|id| uri.contains(id))).count()
        };
        let before = asked_for();
        let again = ask(&asked, "sk-ann", &mut histories[1], "And now?");
        assert!(!chats.contains(&again));
        assert_eq!(asked_for(), before);
        assert_eq!(ask(&asked, "sk-bob", &mut histories[3], "And now?"), chats[3]);
    }
}

#[test]
fn a_key_deletes_its_own_chats() {
    Served::new(&[]).deletions_stay_within_the_tenant();
}

#[cfg(feature = "redis")]
mod shared {
    use std::panic::{self, AssertUnwindSafe};

    use super::*;
    use crate::redis::Server;

    fn server() -> Option<Server> {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(Server::start())
    }

    /// Redis may answer later than the program waits where the machine is busy. It says so then,
    /// and goes on without, which is another test's matter.
    fn in_time(check: impl Fn(&Served)) {
        let Some(server) = server() else { return };
        for _ in 0..3 {
            let served = Served::new(&["--redis", &server.url()]);
            match panic::catch_unwind(AssertUnwindSafe(|| check(&served))) {
                Ok(()) => return,
                Err(failure) if !served.missed_redis() => panic::resume_unwind(failure),
                Err(_) => {}
            }
        }
        panic!("Redis did not answer in time, three times over");
    }

    /// Whoever runs the program learns that what it was told is wrong, and clients do not.
    #[cfg(unix)]
    #[test]
    fn a_redis_that_cannot_be_used_fails_no_request_and_is_told_once() {
        let Some(server) = server() else { return };
        let of_nobody = "redis://:s3cret@127.0.0.1:1".to_owned();
        let refused = server.url().replace("redis://", "redis://:s3cret@");
        for url in [of_nobody, refused] {
            let served = Served::new(&["--redis", &url]);
            let (proxy, mut history) = (served.proxy(), Vec::new());
            let began = std::time::Instant::now();
            for turn in 0..5 {
                ask(&proxy, "sk-ann", &mut history, &format!("question {turn}"));
            }
            let took = began.elapsed();
            assert!(took.as_secs() < 10, "{took:?}");
            assert_eq!(served.chats().len(), 5, "each replayed");
            let (code, log) = proxy.stop("-TERM");
            assert_eq!((code, log.matches(MISSED).count()), (Some(0), 1), "{log}");
            assert!(!log.contains("s3cret"), "{log}");
        }
    }

    #[test]
    fn a_key_deletes_its_own_chats_through_any_proxy() {
        in_time(Served::deletions_stay_within_the_tenant);
    }

    /// Two proxies take the turns by turns, and one is started anew.
    #[test]
    fn proxies_with_one_redis_go_on_for_each_other() {
        in_time(|served| {
            let mut proxies = [served.proxy(), served.proxy()];
            let mut history = Vec::new();
            for turn in 0..12 {
                if turn == 6 {
                    proxies[0] = served.proxy();
                }
                ask(&proxies[turn % 2], "sk-ann", &mut history, &format!("question {turn}"));
            }
            let [chat] = &served.emulator.chats()[..] else { panic!("more than one chat") };
            let asked = chat.messages.iter().filter(|message| message.role == "user");
            let asked: Vec<_> = asked.map(|message| message.text.clone()).collect();
            let questions: Vec<_> = (0..12).map(|turn| format!("question {turn}")).collect();
            assert_eq!(asked, questions, "only what is new, in order");
        });
    }
}
