//! Clients that talk through two proxies while the Redis of both is killed and started again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tower_qwen_emulator::Emulator;

use super::{proxied, redis::Server, suite::KEY};

/// A filter with which the program says when its store of sessions failed.
pub(crate) const LOG: &str = "warn,tower_qwen::session=debug";

/// What it says then.
pub(crate) const FAILED: &str = "the session store failed";

const CLIENTS: usize = 16;
/// How many turns a conversation has before the next begins.
const TURNS: usize = 10;

type Http = Client<HttpConnector, Full<Bytes>>;

/// Answers with the last question, and how many messages there were before it in its chat or in
/// a replay of the history.
pub(crate) fn model() -> Emulator {
    proxied::upstream()
        .answers(|message, earlier| {
            let questions = |text: &str| text.matches("<question ").count();
            let before: usize = earlier.iter().map(|text| questions(text)).sum();
            let (_, last) = message.rsplit_once("<question ")?;
            let (last, _) = last.split_once('>')?;
            Some(format!("<{}> is the answer to {last}", before + questions(message)))
        })
        .build()
}

/// One turn: the answer must be that to the whole conversation, whoever remembers what of it.
async fn turn(client: &Http, origin: &str, messages: &mut Vec<Value>, question: &str) {
    messages.push(json!({"role": "user", "content": format!("<question {question}>")}));
    let body = json!({"model": "qwen3-max", "messages": messages});
    let request = Request::post(format!("{origin}/v1/chat/completions"))
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    let response = client.request(request).await.expect("the proxy answers");
    let status = response.status();
    let answer = response.into_body().collect().await.expect("the whole answer").to_bytes();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let said = answer["choices"][0]["message"]["content"].as_str().expect("text");
    let asked = messages.iter().filter(|message| message["role"] == "user").count();
    assert_eq!(said, format!("<{asked}> is the answer to {question}"));
    messages.push(json!({"role": "assistant", "content": said}));
}

/// The load, and what happens to Redis meanwhile.
pub(crate) async fn run(server: &mut Server, origins: [String; 2]) {
    let client: Http = Client::builder(TokioExecutor::new()).build_http();
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (client, origins) = (client.clone(), origins.clone());
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            tokio::spawn(async move {
                let (mut messages, mut longest) = (Vec::new(), Duration::ZERO);
                for at in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    if at % TURNS == 0 {
                        messages.clear();
                    }
                    let began = Instant::now();
                    let question = format!("{at} of {number}");
                    turn(&client, &origins[at % 2], &mut messages, &question).await;
                    longest = longest.max(began.elapsed());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                longest
            })
        })
        .collect();

    let more = async |count: usize| {
        let goal = answered.load(Ordering::Relaxed) + count;
        let began = Instant::now();
        while answered.load(Ordering::Relaxed) < goal {
            let failed = clients.iter().any(tokio::task::JoinHandle::is_finished);
            assert!(!failed, "a request failed");
            assert!(began.elapsed() < Duration::from_secs(60), "requests hang");
            tokio::task::yield_now().await;
        }
    };
    let records = async |server: &Server| server.query::<u64>(&redis::cmd("DBSIZE")).await;
    more(100).await;
    assert!(records(server).await > 0, "Redis is not used");
    for _ in 0..2 {
        server.kill();
        more(100).await;
        server.run().await;
        // It comes back empty, and is used again before long.
        let began = Instant::now();
        while records(server).await == 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "it is not used again");
            more(20).await;
        }
        more(100).await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        let longest = client.await.expect("no request failed");
        // A few operations a turn, a quarter of a second each, and a busy machine.
        assert!(longest < Duration::from_secs(30), "a request took {longest:?}");
    }
}
