//! Every fault under every pair of layers, in a new chat and in one that is known.

use std::time::Duration;

use futures_util::StreamExt;
use http::Request;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use tower_qwen::{
    chat::{ChatEvent, ChatRequest, FinishReason, Message, Role, Tenant},
    join::JoinLayer,
};

use crate::{
    chat::Chat,
    fault::{End, TABLE},
    stack::{Part, Stack},
    upstream::{Faulty, Script},
    wire::{PIECES, Wire},
};

/// How a good answer ends.
const WELL: End = End::Finished(FinishReason::Stop);

/// The longest that anybody waits for an answer here.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The question at the end of `history`.
fn request(stack: &Stack, history: &[Message]) -> Request<ChatRequest> {
    let mut request = ChatRequest::new("qwen3-max", history.to_vec());
    request.tenant = Some(Tenant::from_digest([7; 32]));
    stack.prepare(&mut request);
    Request::new(request)
}

/// How an answer to `history` ends, and what it said.
async fn asked(chat: &Chat, stack: &Stack, history: &[Message]) -> (End, String) {
    let answer = async {
        let response = match chat.clone().oneshot(request(stack, history)).await {
            Ok(response) => response,
            Err(error) => return (End::Refused(error.kind()), String::new()),
        };
        let (mut end, mut text) = (None, String::new());
        let mut events = response.into_body();
        while let Some(item) = events.next().await {
            match item {
                Ok(ChatEvent::Text(piece)) => text.push_str(&piece),
                Ok(ChatEvent::Finished(reason)) => end = Some(End::Finished(reason)),
                Ok(_) => {}
                Err(error) => end = Some(End::Broken(error.kind())),
            }
        }
        (end.expect("the checker sees to an end"), text)
    };
    timeout(PATIENCE, answer).await.unwrap_or((End::Waits, String::new()))
}

/// An upstream with a fault under a stack.
#[derive(Clone)]
pub(crate) struct Case<'a> {
    pub(crate) wire: Wire,
    pub(crate) stack: &'a Stack,
    pub(crate) script: Option<Script>,
    /// Whether the fault is gone when the upstream is asked again.
    pub(crate) is_once: bool,
    /// How it ends over the adapter alone.
    pub(crate) end: End,
    /// How often the upstream is asked.
    pub(crate) tries: usize,
    /// The longest that the end may take.
    pub(crate) at_most: Duration,
    pub(crate) what: String,
}

impl Case<'_> {
    /// Asks a turn of a chat, the first or, in a chat that is known, the second, and reads its end.
    pub(crate) async fn run(self, is_known: bool) {
        let Self { stack, end, ref what, .. } = self;
        let scene = self.begin(is_known).await;
        let (begun, before) = (Instant::now(), scene.upstream.asked());
        let (got, text) = asked(&scene.chat, stack, &scene.history).await;
        let expected = end.under(stack);
        assert_eq!(got, expected, "{what}");
        assert_in_time(begun, self.at_most, what);
        if expected == WELL {
            assert_said(&text, stack, what);
        }
        let tries = scene.upstream.asked() - before;
        assert_eq!(tries, self.tries, "{what}: how often it is asked");
        let stands_in = expected == WELL && end != WELL;
        assert_eq!(scene.stand_in.asked(), usize::from(stands_in), "{what}: who answers");
        if got == End::Waits {
            // A join lets an answer go on for a while whose client has left.
            sleep(2 * JoinLayer::DEFAULT_LINGER).await;
        }
        self.close(scene, end.is_committed(), usize::from(stands_in)).await;
    }

    /// Asks the same, and leaves behind the first event, or when there is none for 20 seconds.
    async fn leave(self, is_known: bool, is_late: bool) {
        let scene = self.begin(is_known).await;
        let leaving = async {
            let request = request(self.stack, &scene.history);
            if let Ok(response) = scene.chat.clone().oneshot(request).await {
                response.into_body().next().await;
            }
        };
        let _ = timeout(Duration::from_secs(20), leaving).await;
        sleep(2 * JoinLayer::DEFAULT_LINGER).await;
        assert_eq!(scene.stand_in.asked(), 0, "{}: it could still have answered", self.what);
        self.close(scene, self.end.is_committed() && !is_late, 0).await;
    }

    async fn begin(&self, is_known: bool) -> Scene {
        let tasks = Handle::current().metrics().num_alive_tasks();
        let (upstream, stand_in) = (Faulty::new(self.wire), Faulty::new(self.wire));
        let chat = self.stack.over(self.wire, &upstream, &stand_in);
        let mut history = vec![Message::new(Role::User, "Does it rain?")];
        if is_known {
            let (end, text) = asked(&chat, self.stack, &history).await;
            assert_eq!(end, WELL, "{}: the first turn", self.what);
            history.push(Message::new(Role::Assistant, text));
            history.push(Message::new(Role::User, "And now?"));
        }
        match self.is_once {
            true => upstream.follow_once(self.script.clone()),
            false => upstream.follow(self.script.clone()),
        }
        Scene { upstream, stand_in, chat, history, tasks, is_known }
    }

    /// Nothing is left of the turn but its chat, and that only where somebody knows of it.
    async fn close(&self, scene: Scene, is_begun: bool, stood_in: usize) {
        let Self { stack, ref what, .. } = *self;
        let Scene { upstream, stand_in, chat, history, tasks, is_known } = scene;
        // What is said to the upstream in the background takes no time here.
        sleep(Duration::from_millis(1)).await;
        assert_eq!((upstream.alive(), stand_in.alive()), (0, 0), "{what}: what is alive at once");

        // The turn is asked again and has to wait for nobody: the first left neither a lease of the chat
        // nor a permit.
        upstream.follow(None);
        let (begun, before) = (Instant::now(), upstream.asked());
        let (again, text) = asked(&chat, stack, &history).await;
        assert_eq!(again, WELL, "{what}: the next turn");
        assert_said(&text, stack, what);
        assert_eq!(upstream.asked() - before, 1, "{what}: the next turn is asked");
        assert_in_time(begun, Duration::ZERO, what);

        drop(chat);
        sleep(Duration::from_secs(300)).await;
        assert_eq!((upstream.alive(), stand_in.alive()), (0, 0), "{what}: what is alive");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "{what}: tasks");
        // A chat stays where the model has begun to answer for the adapter, be it that the format layer
        // held the answer back until it broke off.
        if self.wire == Wire::Web {
            let chats = match (is_known, stack.has(Part::Session)) {
                (true, true) => 1,
                _ => usize::from(is_known) + usize::from(is_begun) + 1,
            };
            let found = (upstream.chats(), stand_in.chats());
            assert_eq!(found, (chats, stood_in), "{what}: chats");
        }
    }
}

/// A stack over an upstream, and what is to be asked of it.
struct Scene {
    upstream: Faulty,
    stand_in: Faulty,
    chat: Chat,
    history: Vec<Message>,
    /// How many tasks were alive before.
    tasks: usize,
    is_known: bool,
}

/// The clock has not moved by more than this, and what it rounds.
pub(crate) fn assert_in_time(begun: Instant, at_most: Duration, what: &str) {
    let took = begun.elapsed();
    assert!(took <= at_most.saturating_add(Duration::from_millis(5)), "{what}: {took:?}");
}

/// A whole answer says what the upstream said, to its end.
fn assert_said(text: &str, stack: &Stack, what: &str) {
    if stack.has(Part::Format) || stack.has(Part::ToolWrap) {
        assert!(text.contains("{\"rain\":true}"), "{what}: {text}");
    } else {
        assert!(text.ends_with(&PIECES.concat()), "{what}: {text}");
    }
}

async fn all(wire: Wire) {
    let stacks = Stack::all();
    assert_eq!(stacks.len(), 1 + 12 + 66 + 4);
    for stack in &stacks {
        for &(fault, end) in TABLE {
            for is_known in [false, true] {
                let what = format!("{fault:?}, {wire:?}, {:?}, known: {is_known}", stack.0);
                let (script, tries) = (fault.script(wire), fault.tries(stack, wire));
                let at_most = fault.at_most(stack);
                let is_once = false;
                let case = Case { wire, stack, script, is_once, end, tries, at_most, what };
                if fault.is_slow() {
                    case.clone().leave(is_known, fault.is_late()).await;
                }
                case.run(is_known).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_web_ends_as_the_table_says() {
    all(Wire::Web).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_a_compatible_server_ends_as_the_table_says() {
    all(Wire::Compatible).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_dashscopes_responses_ends_as_the_table_says() {
    all(Wire::Responses).await;
}

/// What broke off is whole where the upstream goes on with it, under whatever stands above.
async fn all_resumed(wire: Wire) {
    let mut count = 0;
    for stack in Stack::all().iter().filter(|stack| stack.has(Part::Resume)) {
        for &(fault, _) in TABLE.iter().filter(|(fault, _)| fault.is_resumed(stack, wire)) {
            for is_known in [false, true] {
                let what = format!("{fault:?}, {wire:?}, {:?}, known: {is_known}", stack.0);
                let script = fault.script(wire);
                let (tries, at_most) = (2, Duration::ZERO);
                let case =
                    Case { wire, stack, script, is_once: true, end: WELL, tries, at_most, what };
                case.run(is_known).await;
                count += 1;
            }
        }
    }
    assert!(count > 150, "{count}");
}

#[tokio::test(start_paused = true)]
async fn what_broke_off_is_whole_where_the_web_goes_on() {
    all_resumed(Wire::Web).await;
}

#[tokio::test(start_paused = true)]
async fn what_broke_off_is_whole_where_dashscopes_responses_go_on() {
    all_resumed(Wire::Responses).await;
}
