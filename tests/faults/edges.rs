//! Every fault under the full stack and every edge: streaming, whole, and with a client that leaves.

use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use tower_qwen::{join::JoinLayer, usage::Outcome};

use crate::{
    fault::{End, TABLE},
    pairs::assert_in_time,
    protocol::{Asks, EDGES, Edge, EdgeBody, Route},
    stack::{Stack, settled},
    upstream::{Faulty, Script},
    wire::{PIECES, Wire},
};

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// The answer in one piece.
    Whole,
    /// A stream, to its end.
    Stream,
    /// A stream, which is left behind the first frame, or when there is none for 20 seconds.
    Leaves,
}

/// A question at an edge of the full stack, over an upstream with a fault.
pub(crate) struct Turn<'a> {
    pub(crate) wire: Wire,
    pub(crate) stack: &'a Stack,
    pub(crate) edge: Edge,
    pub(crate) asks: Asks,
    pub(crate) mode: Mode,
    pub(crate) script: Option<Script>,
    /// How it ends over the adapter alone.
    pub(crate) end: End,
    /// Whether the first event, or the error in its place, takes longer than the keep-alive of an edge.
    pub(crate) is_late: bool,
    /// Whether the client hears of either only then.
    pub(crate) is_told_late: bool,
    /// The longest that the end may take.
    pub(crate) at_most: Duration,
    pub(crate) what: String,
}

impl Turn<'_> {
    pub(crate) async fn run(self) {
        let Self { wire, stack, edge, mode, ref what, .. } = self;
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let begun_with = tasks();
        let (upstream, stand_in) = (Faulty::new(wire), Faulty::new(wire));
        let route = edge.over(stack.over(wire, &upstream, &stand_in));
        upstream.follow(self.script.clone());
        settled();

        if mode == Mode::Leaves {
            let begin = async {
                let response = self.ask(&route).await;
                let mut body = response.into_body();
                body.frame().await;
            };
            let _ = timeout(Duration::from_secs(20), begin).await;
            // A join lets the answer go on for a while.
            sleep(2 * JoinLayer::DEFAULT_LINGER).await;
        } else {
            let begun = Instant::now();
            let end = self.end.under(&self.asked_of());
            self.assert_ends(self.ask(&route).await, end).await;
            assert_in_time(begun, self.at_most, what);
            let stands_in = end == WELL && self.end != WELL;
            assert_eq!(stand_in.asked(), usize::from(stands_in), "{what}: who answers");
        }

        sleep(Duration::from_millis(1)).await;
        assert_eq!((upstream.alive(), stand_in.alive()), (0, 0), "{what}: what is alive at once");
        let outcomes: Vec<_> = settled().iter().map(|settled| settled.outcome).collect();
        let [outcome] = outcomes[..] else { panic!("{what}: settled as {outcomes:?}") };
        let expected = match self.end.under(&self.asked_of()) {
            // The join may have gone on for nobody, to the end or not.
            _ if mode == Mode::Leaves => outcome,
            End::Finished(reason) => Outcome::Finished(reason),
            End::Refused(kind) | End::Broken(kind) => Outcome::Failed(kind),
            End::Waits => Outcome::Gone,
        };
        assert_eq!(outcome, expected, "{what}: how it is settled");

        // Neither a lease nor a permit is left, so the same question waits for nothing.
        upstream.follow(None);
        let (begun, before) = (Instant::now(), upstream.asked());
        let next = Self {
            script: None,
            end: WELL,
            is_told_late: false,
            what: what.clone() + ", next",
            ..self
        };
        let response = next.ask(&route).await;
        next.assert_ends(response, WELL).await;
        assert_eq!(upstream.asked() - before, 1, "{what}: the next turn is asked");
        assert_in_time(begun, Duration::ZERO, what);
        assert_eq!(settled().len(), 1, "{what}: the next turn is settled");

        drop(route);
        sleep(Duration::from_secs(300)).await;
        assert_eq!((upstream.alive(), stand_in.alive()), (0, 0), "{what}: what is alive");
        assert_eq!(tasks(), begun_with, "{what}: tasks");
        if wire == Wire::Web {
            // Who leaves before an answer has begun leaves no chat.
            let is_left = mode == Mode::Leaves && self.is_late;
            let first = usize::from(self.end.is_committed() && !is_left);
            assert_eq!(upstream.chats(), first + 1, "{what}: chats");
        }
    }

    /// The layers that do something about the question.
    fn asked_of(&self) -> Stack {
        match self.asks {
            Asks::Json => self.stack.clone(),
            Asks::Words | Asks::Xml => self.stack.as_asked_in_words(),
        }
    }

    async fn ask(&self, route: &Route) -> Response<EdgeBody> {
        let question = self.edge.question(self.asks, self.mode != Mode::Whole);
        route.clone().oneshot(question).await.expect("infallible")
    }

    /// The response has the right status, or ends in the right frame and has no other such.
    async fn assert_ends(&self, response: Response<EdgeBody>, end: End) {
        let Self { edge, ref what, .. } = *self;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("errors are written, not thrown").to_bytes();
        let body = std::str::from_utf8(&bytes).expect("UTF-8");
        let status = match end {
            End::Finished(_) => StatusCode::OK,
            End::Refused(kind) if self.mode == Mode::Whole || !self.is_told_late => kind.status(),
            End::Broken(kind) if self.mode == Mode::Whole => kind.status(),
            End::Refused(_) | End::Broken(_) => StatusCode::OK,
            End::Waits => panic!("{what}: there is a limit of time"),
        };
        assert_eq!(head.status, status, "{what}: {body}");
        let is_stream = self.mode != Mode::Whole && status == StatusCode::OK;
        let said = if is_stream {
            let (text, terminals, is_last) = edge.read(body);
            assert_eq!(terminals, edge.terminals(end == WELL), "{what}: {body}");
            assert!(is_last, "{what}: something is behind the end: {body}");
            text
        } else {
            let object: Value = serde_json::from_str(body).expect("one JSON value");
            assert_eq!(edge.is_error(&object), end != WELL, "{what}: {object}");
            edge.whole(&object).to_owned()
        };
        match end {
            End::Finished(_) if self.asks == Asks::Words => {
                assert!(said.ends_with(&PIECES.concat()), "{what}: {body}");
            }
            End::Finished(_) if self.asks == Asks::Json => {
                assert_eq!(said.trim(), "{\"rain\":true}", "{what}: {body}");
            }
            End::Finished(_) => assert!(said.contains("{\"rain\":true}"), "{what}: {body}"),
            End::Broken(_) if is_stream => {
                let is_given =
                    said.find(PIECES[0]).is_some_and(|at| at == 0 || self.asks == Asks::Xml);
                assert!(is_given, "{what}: what came before is given: {body}");
            }
            _ => assert_eq!(said, "", "{what}"),
        }
    }
}

/// How long a client waits for the first sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const WELL: End = End::Finished(tower_qwen::chat::FinishReason::Stop);

async fn all(wire: Wire) {
    for (stack, asks) in [
        (Stack::alone(), Asks::Words),
        (Stack::full(), Asks::Words),
        (Stack::alone(), Asks::Json),
        (Stack::full_of_xml(), Asks::Xml),
    ] {
        for edge in EDGES {
            if asks == Asks::Json && !edge.has_forms() {
                continue;
            }
            for &(fault, end) in TABLE {
                for mode in [Mode::Whole, Mode::Stream, Mode::Leaves] {
                    let is_late = fault.is_late();
                    // What is checked as a whole is told when it has ended.
                    let is_told_late =
                        is_late || (asks == Asks::Json && fault.at_most(&stack) > KEEP_ALIVE);
                    let what = format!(
                        "{fault:?}, {edge:?} over {wire:?}, {mode:?}, {asks:?}, {:?}",
                        stack.0
                    );
                    let script = fault.script(wire);
                    let stack = &stack;
                    let at_most = fault.at_most(stack);
                    Turn {
                        wire,
                        stack,
                        edge,
                        asks,
                        mode,
                        script,
                        end,
                        is_late,
                        is_told_late,
                        at_most,
                        what,
                    }
                    .run()
                    .await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_web_is_told_once_at_every_edge() {
    all(Wire::Web).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_a_compatible_server_is_told_once_at_every_edge() {
    all(Wire::Compatible).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_dashscopes_responses_is_told_once_at_every_edge() {
    all(Wire::Responses).await;
}
