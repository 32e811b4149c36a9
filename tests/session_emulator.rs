//! The session and dedup layers in front of the real adapter and the emulated chat.qwen.ai.

mod traced;

use http::Request;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    chat::{Answer, ChatRequest, ChatStream, ChatStreamExt, Message, Role, Tenant},
    dedup::DedupLayer,
    qwen::web::QwenWebLayer,
    session::{MemoryStore, SessionLayer},
};
use tower_qwen_emulator::Emulator;

async fn turn<S, B>(service: &S, history: &mut Vec<Message>, question: String) -> Answer
where
    S: Service<Request<ChatRequest>, Response = http::Response<B>, Error = tower_qwen::Error>
        + Clone,
    B: ChatStream,
{
    traced::on();
    history.push(Message::new(Role::User, question));
    let mut chat = ChatRequest::new("qwen3-max", history.clone());
    chat.tenant = Some(Tenant::from_digest([9; 32]));
    let request = Request::new(chat);
    let response = service.clone().oneshot(request).await.expect("answered");
    let answer = Answer::collect(response.into_body().checked()).await.expect("complete");
    history.push(Message::new(Role::Assistant, answer.text.clone()));
    answer
}

#[tokio::test(start_paused = true)]
async fn fifty_turns_are_one_branch_of_one_chat_and_survive_its_loss() {
    // The adapter hangs up at the terminal event, which the emulator may take for a client that
    // went away; it would keep the chat busy for a while.
    let emulator = Emulator::new();
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new())
        .layer(QwenWebLayer::new())
        .service(emulator.clone());

    let mut history = Vec::new();
    for number in 0..50 {
        turn(&service, &mut history, format!("question {number}")).await;
    }
    let [chat] = &emulator.chats()[..] else { panic!("one chat") };
    assert_eq!(chat.messages.len(), 100);
    let mut parent = None;
    for (index, message) in chat.messages.iter().enumerate() {
        assert_eq!(message.parent_id, parent, "one branch");
        if index % 2 == 0 {
            assert_eq!(message.text, format!("question {}", index / 2), "only what is new");
        }
        parent = Some(message.id.clone());
    }

    // Deleted elsewhere: one replay of everything, and then on in the new chat.
    assert!(emulator.forget_chat(&chat.id));
    turn(&service, &mut history, "after the loss".into()).await;
    turn(&service, &mut history, "and on".into()).await;
    let [chat] = &emulator.chats()[..] else { panic!("one chat") };
    assert_eq!(chat.messages.len(), 4);
    for number in 0..50 {
        let question = format!("question {number}");
        assert!(chat.messages[0].text.contains(&question), "{question} is not in the replay");
    }
    assert_eq!(chat.messages[2].text, "and on");
}
