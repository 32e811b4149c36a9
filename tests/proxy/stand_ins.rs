//! Upstreams that stand in for another, through the program.

use serde_json::{Value, json};
use tower_qwen_emulator::{Emulator, Kind};

use crate::{command::exchange, proxied::upstream, stand_in::Served};

fn serve(also: &str) -> Served {
    let dashscope = Emulator::builder().kind(Kind::DashScope).build();
    Served::new(upstream().build(), dashscope, also, "sk-ann")
}

impl Served {
    /// Sends `body`; who has answered, and what.
    fn ask(&self, path: &str, body: &Value) -> (String, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nauthorization: Bearer sk-ann\r\n\
             content-type: application/json"
        );
        let response = exchange(&self.proxy.origin, &head, &body.to_string());
        assert!(response.starts_with("HTTP/1.1 200"), "{path}: {response}");
        let (head, body) = response.split_once("\r\n\r\n").expect("a response");
        let name = head.lines().find_map(|line| line.strip_prefix("x-qwen-upstream: "));
        (name.unwrap_or_default().to_owned(), body.to_owned())
    }

    /// The next turn of a conversation: who has answered, and in which chat.
    fn turn(&self, history: &mut Vec<Value>, question: &str) -> (String, Option<String>) {
        history.push(json!({"role": "user", "content": question}));
        let body = json!({"model": "qwen3-max", "messages": history});
        let (name, answer) = self.ask("/v1/chat/completions", &body);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["model"], "qwen3-max", "the client's own word");
        history.push(answer["choices"][0]["message"].clone());
        (name, answer["qwen_chat_id"].as_str().map(str::to_owned))
    }
}

/// What the last request says that asked `emulator` for an answer.
fn last_asked(emulator: &Emulator) -> Value {
    let requests = emulator.requests();
    let asked = requests.iter().rev().find(|request| request.path().contains("completions"));
    asked.expect("it was asked").body.clone()
}

#[test]
fn a_conversation_goes_on_while_its_upstream_is_down() {
    let mut served = serve("");
    let mut history = Vec::new();
    let mut chat = None;
    for turn in 1..=4 {
        let (name, answered_in) = served.turn(&mut history, &format!("question {turn}"));
        assert_eq!(name, "web");
        assert!(chat.is_none() || chat == answered_in, "turn {turn}: {chat:?} {answered_in:?}");
        chat = answered_in;
    }
    assert!(chat.is_some());

    served.web.stop();
    let (name, _) = served.turn(&mut history, "question 5");
    assert_eq!(name, "dashscope");
    let asked = last_asked(&served.dashscope.emulator);
    assert_eq!(asked["model"], "qwen-plus");
    assert_eq!(asked["messages"].as_array().map(Vec::len), Some(9), "{asked}");
    assert!(asked["messages"][0].to_string().contains("question 1"), "{asked}");

    served.web.start();
    let (name, answered_in) = served.turn(&mut history, "question 6");
    assert_eq!((name.as_str(), &answered_in), ("web", &chat));
    assert_eq!(served.web.emulator.chats().len(), 1);
    // What it has not seen: the turn that another answered, and the new one.
    let asked = last_asked(&served.web.emulator).to_string();
    assert!(asked.contains("question 5") && asked.contains("question 6"), "{asked}");
    for turn in 1..=4 {
        assert!(!asked.contains(&format!("question {turn}")), "{asked}");
    }
}

#[test]
fn every_route_of_chats_has_a_stand_in() {
    let mut served = serve("");
    served.web.stop();
    let messages = json!([{"role": "user", "content": "emulate:say=All is well."}]);
    for is_streamed in [false, true] {
        let chat = json!({"model": "qwen3-max", "messages": messages, "stream": is_streamed});
        let mut message = chat.clone();
        message["max_tokens"] = json!(64);
        let response = json!({
            "model": "qwen3-max", "input": "emulate:say=All is well.", "stream": is_streamed,
        });
        for (path, body) in [
            ("/v1/chat/completions", &chat),
            ("/xml/v1/chat/completions", &chat),
            ("/v1/messages", &message),
            ("/v1/responses", &response),
            ("/api/chat", &chat),
        ] {
            let (name, answer) = served.ask(path, body);
            assert_eq!(name, "dashscope", "{path}: {answer}");
            assert!(answer.contains("well"), "{path}: {answer}");
        }
    }
}

/// One that is late is given up, and nobody waits for it.
#[test]
fn one_that_is_late_has_a_stand_in() {
    let served = serve("fallback-after = 1");
    // DashScope is as slow, and as the last one has its time.
    let messages = json!([{"role": "user", "content": "emulate:wait=1500 emulate:say=At last."}]);
    let body = json!({"model": "qwen3-max", "messages": messages});
    let (name, answer) = served.ask("/v1/chat/completions", &body);
    assert_eq!(name, "dashscope", "{answer}");
    assert!(answer.contains("At last."), "{answer}");
    let (web, dashscope) = (served.web.emulator.counters(), served.dashscope.emulator.counters());
    // It was told to stop, or has seen the connection end.
    assert!(web.abandoned + web.stops > 0, "{web:?}");
    assert_eq!(dashscope.abandoned, 0);
}

#[test]
fn where_nobody_can_answer_the_last_error_is_told() {
    let mut served = serve("");
    served.web.stop();
    served.dashscope.stop();
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let body = json!({"model": "qwen3-max", "messages": messages}).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-ann\r\n\
                content-type: application/json";
    let response = exchange(&served.proxy.origin, head, &body);
    assert!(response.starts_with("HTTP/1.1 502"), "{response}");
    assert!(response.contains("\"error\""), "{response}");
}
