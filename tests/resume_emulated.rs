//! Answers of the emulated upstreams that break off, with `ResumeLayer` in the stack.

use std::time::Duration;

use http::Request;
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    chat::{Answer, ChatRequest, ChatService, ChatStreamExt, Message, Role, Tenant},
    dedup::DedupLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    resume::ResumeLayer,
    session::{MemoryStore, SessionLayer},
    timeout::TimeoutLayer,
    tool::call::ToolCallLayer,
};
use tower_qwen_emulator::{Emulator, Kind};

const WHOLE: &str = "In Bergen it rains on two days of three. Take a coat, and boots, and a hat that \
                     the wind cannot have.";

/// An upstream that goes on with an answer as it is asked to.
fn upstream(kind: Kind) -> Emulator {
    let rest = |message: &str| {
        let (_, words) = message.split_once("what comes next:\n\n")?;
        let (words, _) = words.split_once("\n\nWrite only")?;
        Some(WHOLE[WHOLE.rfind(words)?..].to_owned())
    };
    let answers = move |message: &str, _: &[&str]| match message.contains("Does it rain?") {
        true => Some(WHOLE.to_owned()),
        false => rest(message),
    };
    // So slowly that what comes too late for one answer would meet the next.
    Emulator::builder().kind(kind).answers(answers).pace(Duration::from_millis(10)).build()
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

async fn asked(stack: impl ChatService, model: &str, history: &[Message]) -> Answer {
    let mut request = ChatRequest::new(model, history.to_vec());
    request.tenant = Some(Tenant::from_digest([3; 32]));
    let response = stack.oneshot(Request::new(request)).await.expect("begun");
    Answer::collect(response.into_body().checked()).await.expect("whole")
}

/// chat.qwen.ai goes on in the chat that broke off, and so does the next turn.
#[tokio::test(start_paused = true)]
async fn the_chat_goes_on_behind_the_answer_that_broke_off() {
    for fault in ["cut=14", "reset=14", "cut=14 emulate:think"] {
        let emulator = upstream(Kind::Web);
        let stack = ServiceBuilder::new()
            .layer(SessionLayer::new(MemoryStore::default()))
            .layer(DedupLayer::new())
            .layer(ToolCallLayer::prompted())
            .layer(TimeoutLayer::hosted())
            .layer(ResumeLayer::new())
            .layer(QwenWebLayer::new())
            .service(emulator.clone());
        let mut history = vec![user(&format!("Does it rain? emulate:{fault}"))];
        let answer = asked(stack.clone(), "qwen3-max", &history).await;
        assert_eq!(answer.text, WHOLE, "{fault}");
        let counters = emulator.counters();
        assert_eq!((counters.completions, counters.chats_created), (2, 1), "{fault}");

        history.push(Message::new(Role::Assistant, answer.text));
        history.push(user("emulate:path"));
        let path = asked(stack, "qwen3-max", &history).await.text;
        let counters = emulator.counters();
        assert_eq!((counters.completions, counters.chats_created), (3, 1), "{fault}");
        // Both parts are on the path of the next turn, and the question between them.
        let first = path.find("In Bergen").expect("the first part");
        let second = path.rfind("In Bergen").expect("the words, or the rest");
        assert!(first < second && path.contains("cannot have."), "{path}");
    }
}

/// A chat is not free until the upstream has noticed that the client is gone, or is told.
#[tokio::test(start_paused = true)]
async fn without_a_call_to_stop_the_chat_is_waited_for() {
    let emulator = upstream(Kind::Web);
    let stack = ServiceBuilder::new()
        .layer(ResumeLayer::new())
        .layer(QwenWebLayer::new().stop_on_drop(false))
        .service(emulator.clone());
    let answer = asked(stack, "qwen3-max", &[user("Does it rain? emulate:reset=14")]).await;
    assert_eq!(answer.text, WHOLE);
    assert_eq!(emulator.counters().stops, 0);
}

#[tokio::test(start_paused = true)]
async fn servers_without_chats_get_what_was_said() {
    for (kind, server) in [
        (Kind::Vllm, Server::Vllm),
        (Kind::SgLang, Server::SgLang),
        (Kind::Ollama, Server::Ollama),
        (Kind::LlamaCpp, Server::LlamaCpp),
        (Kind::DashScope, Server::DashScope),
    ] {
        for fault in ["cut=14", "reset=14"] {
            let emulator = upstream(kind);
            let model = &kind.models()[0];
            let stack = |resume: ResumeLayer| {
                ServiceBuilder::new()
                    .layer(ToolCallLayer::native_with_rescue())
                    .layer(TimeoutLayer::local())
                    .layer(resume)
                    .layer(CompatibleLayer::new(server))
                    .service(emulator.clone())
            };
            let question = [user(&format!("Does it rain? emulate:{fault}"))];
            let answer = asked(stack(ResumeLayer::new().replay(true)), model, &question).await;
            assert_eq!(answer.text, WHOLE, "{kind:?} {fault}");
            assert_eq!(emulator.counters().completions, 2, "{kind:?} {fault}");

            let request = ChatRequest::new(model.as_str(), question);
            let response = stack(ResumeLayer::new()).oneshot(Request::new(request)).await;
            let answer = Answer::collect(response.expect("begun").into_body().checked()).await;
            answer.expect_err("nothing is replayed by itself");
            assert_eq!(emulator.counters().completions, 3, "{kind:?} {fault}");
        }
    }
}
