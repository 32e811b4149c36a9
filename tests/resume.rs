//! What `ResumeLayer` makes of answers that break off.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Fate,
    chat::{
        Answer, Attachment, AttachmentKind, ChatEvent, ChatRequest, ChatStreamExt, Citation,
        Conversation, FinishReason, FunctionTool, Message, ResponseFormat, Role, Tenant, Tool,
        Usage,
    },
    dedup::DedupLayer,
    resume::ResumeLayer,
    session::{MemoryStore, SessionLayer},
    timeout::TimeoutLayer,
    tool::call::ToolCallLayer,
};

mod resumed;

use resumed::words;

type Item = Result<ChatEvent, Error>;
/// The events of an answer, or the error in its place.
type Reply = Result<Vec<Item>, Error>;
type Events = Pin<Box<dyn Stream<Item = Item> + Send>>;

const WHOLE: &str = "It rains in Bergen on two days of three, more in autumn than in spring, and the \
                     people of the town say that their children are born with boots on.\n\n\
                     - In **October** take a coat.\n- In *May* take it all the same.\n";

/// How much of it came before it broke off.
const CUT: usize = 147;

/// An upstream that gives the next of these answers for each request, and keeps the requests.
#[derive(Clone)]
struct Upstream {
    answers: Arc<Mutex<Vec<Reply>>>,
    asked: Arc<Mutex<Vec<ChatRequest>>>,
    alive: Arc<()>,
}

/// A stream that can be counted.
struct Alive {
    events: stream::Iter<std::vec::IntoIter<Item>>,
    _alive: Arc<()>,
}

impl Stream for Alive {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.events.poll_next_unpin(cx)
    }
}

impl Upstream {
    fn new(answers: impl IntoIterator<Item = Vec<Item>>) -> Self {
        Self::of(answers.into_iter().map(Ok))
    }

    fn of(answers: impl IntoIterator<Item = Reply>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self {
            answers: Arc::new(Mutex::new(answers)),
            asked: Arc::default(),
            alive: Arc::default(),
        }
    }

    async fn answer(self, request: Request<ChatRequest>) -> Result<Response<Events>, Error> {
        // All that was read before is let go before anything else is asked for.
        assert_eq!(self.alive(), 0);
        self.asked.lock().expect("whole").push(request.into_body());
        let answer = self.answers.lock().expect("whole").pop().expect("it is not asked so often");
        let events = stream::iter(answer?);
        Ok(Response::new(Box::pin(Alive { events, _alive: Arc::clone(&self.alive) })))
    }

    /// How many streams are alive, beside those who ask.
    fn alive(&self) -> usize {
        Arc::strong_count(&self.alive) - Arc::strong_count(&self.asked)
    }

    fn asked(&self) -> Vec<ChatRequest> {
        self.asked.lock().expect("whole").clone()
    }

    /// What the client is given for `request`.
    async fn ask(&self, layer: ResumeLayer, request: ChatRequest) -> Vec<String> {
        let upstream = self.clone();
        let service = layer.layer(service_fn(move |request| upstream.clone().answer(request)));
        let response = service.oneshot(Request::new(request)).await.expect("it has begun");
        let events: Vec<Item> = response.into_body().checked().collect().await;
        assert_eq!(self.answers.lock().expect("whole").len(), 0, "answers that nobody asked for");
        events.iter().map(shown).collect()
    }
}

fn shown(item: &Item) -> String {
    match item {
        Ok(ChatEvent::Text(text)) => text.to_string(),
        Ok(ChatEvent::Started(started)) => format!("<started {}>", parent(started)),
        Ok(ChatEvent::Resumed(started)) => format!("<resumed {}>", parent(started)),
        Ok(ChatEvent::Usage(usage)) => {
            format!("<usage {} {}>", usage.prompt_tokens, usage.completion_tokens)
        }
        Ok(ChatEvent::Finished(reason)) => format!("<{}>", reason.as_str()),
        Ok(ChatEvent::Reasoning(text)) => format!("<think {text}>"),
        Ok(event) => format!("<{event:?}>"),
        Err(error) => format!("<{:?}: {error}>", error.kind()),
    }
}

fn parent(started: &tower_qwen::chat::Started) -> String {
    let place = started.conversation.as_ref().and_then(|place| place.parent_id.as_ref());
    place.map_or_else(String::new, ToString::to_string)
}

fn text(text: &str) -> Item {
    Ok(ChatEvent::Text(text.into()))
}

fn at(answer: &'static str) -> Item {
    Ok(ChatEvent::Started(Conversation::new("c").with_parent(answer).into()))
}

fn usage(prompt: u64, completion: u64) -> Item {
    Ok(ChatEvent::Usage(Usage::new(prompt, completion)))
}

fn stop() -> Item {
    Ok(ChatEvent::Finished(FinishReason::Stop))
}

fn reset() -> Error {
    Error::new(ErrorKind::Upstream, "the connection broke")
}

fn begun() -> Vec<Item> {
    vec![at("a1"), text(&WHOLE[..20]), text(&WHOLE[20..CUT]), Err(reset())]
}

fn request() -> ChatRequest {
    ChatRequest::new("qwen3-max", [Message::new(Role::User, "Does it rain in Bergen?")])
}

fn layer() -> ResumeLayer {
    ResumeLayer::new()
}

#[tokio::test]
async fn the_same_chat_goes_on() {
    let rest = vec![
        at("a2"),
        Ok(ChatEvent::Reasoning("Where was I?".into())),
        text(&WHOLE[80..100]),
        text(&WHOLE[100..]),
        stop(),
    ];
    let upstream = Upstream::new([begun(), rest]);
    let events = upstream.ask(layer(), request()).await;
    assert_eq!(
        events,
        ["<started a1>", &WHOLE[..20], &WHOLE[20..CUT], "<resumed a2>", &WHOLE[CUT..], "<stop>"]
    );
    let asked = upstream.asked();
    assert_eq!(asked[1].conversation(), Some(&Conversation::new("c").with_parent("a1")));
    assert_eq!(asked[1].history.len(), 1, "the chat knows the rest");
    assert!(WHOLE[..CUT].trim_end().ends_with(&words(&asked[1])));
}

#[tokio::test]
async fn whatever_the_other_answer_begins_with() {
    for other in [
        // Altogether anew.
        WHOLE.to_owned(),
        format!("\n{WHOLE}"),
        // From the middle.
        WHOLE[60..].to_owned(),
        // With an apology.
        format!("Sorry about that! Here is the rest:\n\n{}", &WHOLE[70..]),
        // In a code fence.
        format!("```\n{}", &WHOLE[70..]),
    ] {
        let pieces = other.split_inclusive(' ').map(text);
        let rest = [at("a2")].into_iter().chain(pieces).chain([stop()]).collect();
        let upstream = Upstream::new([begun(), rest]);
        let events = upstream.ask(layer(), request()).await.concat();
        let expected = format!("<started a1>{}<resumed a2>{}<stop>", &WHOLE[..CUT], &WHOLE[CUT..]);
        assert_eq!(events, expected);
    }
}

#[tokio::test]
async fn another_answer_is_not_stitched() {
    let said = format!("<started a1>{}<Upstream: the connection broke>", &WHOLE[..CUT]);
    let call = || ChatEvent::ToolCall { index: 0, id: "1".into(), name: "f".into() };
    for rest in [
        // Nothing shows that it goes on with ours.
        vec![at("a2"), text("I am sorry, I cannot go on."), stop()],
        vec![at("a2"), text(&WHOLE[CUT..]), stop()],
        vec![at("a2"), text(&WHOLE[CUT - 10..]), stop()],
        vec![at("a2"), Ok(call()), Ok(ChatEvent::Finished(FinishReason::ToolCalls))],
        vec![at("a2"), Ok(ChatEvent::Finished(FinishReason::ContentFilter))],
        vec![at("a2"), text("no "), Err(reset())],
        vec![at("a2"), text("no ")],
        std::iter::repeat_with(|| text("no ")).take(1_000).collect(),
    ] {
        let upstream = Upstream::new([begun(), rest]);
        assert_eq!(upstream.ask(layer(), request()).await.concat(), said);
        assert_eq!(upstream.alive(), 0);
    }
    let upstream = Upstream::of([Ok(begun()), Err(Error::new(ErrorKind::Quota, "used up"))]);
    assert_eq!(upstream.ask(layer(), request()).await.concat(), said);
}

#[tokio::test]
async fn only_what_broke_is_gone_on_with() {
    let error = |kind| Error::new(kind, "so it is");
    for end in [
        error(ErrorKind::ContentFilter),
        error(ErrorKind::Quota),
        error(ErrorKind::Timeout).with_fate(Fate::Abandoned),
        error(ErrorKind::Upstream).with_fate(Fate::Refused),
        error(ErrorKind::Overloaded),
    ] {
        let kind = end.kind();
        let upstream = Upstream::new([vec![at("a1"), text(&WHOLE[..CUT]), Err(end)]]);
        let events = upstream.ask(layer(), request()).await;
        assert_eq!(events[2], format!("<{kind:?}: so it is>"));
    }
}

#[tokio::test]
async fn what_cannot_be_gone_on_with_ends_as_the_error_it_is() {
    let prose = || text(&WHOLE[..CUT]);
    let tool = || vec![Tool::Function(FunctionTool::without_parameters("f"))];
    let call = |index| ChatEvent::ToolCall { index, id: "1".into(), name: "f".into() };
    let image = || Attachment::new(AttachmentKind::Image, "https://example.org/a".into());
    let mut formed = request();
    formed.response_format = Some(ResponseFormat::JsonObject);
    let mut read = request();
    read.has_calls_in_text = true;
    let mut with_tools = request();
    with_tools.tools = tool().into();
    let replay = layer().replay(true);
    for (layer, request, events) in [
        (layer().tries(0), request(), vec![at("a1"), prose()]),
        (layer(), formed, vec![at("a1"), prose()]),
        // Nothing is there to go on from.
        (layer(), request(), vec![prose()]),
        (layer(), request(), vec![Ok(ChatEvent::Started(Conversation::new("c").into())), prose()]),
        (layer(), request(), vec![at("a1"), Ok(ChatEvent::Reasoning("Hm".into()))]),
        (layer(), request(), vec![at("a1"), text(" \n")]),
        (layer(), request(), vec![at("a1"), prose(), Ok(call(0))]),
        (layer(), request(), vec![at("a1"), prose(), Ok(ChatEvent::Attachment(image()))]),
        (layer().max_kept(CUT - 1), request(), vec![at("a1"), prose()]),
        (layer(), request(), vec![at("a1"), text(&"one line\n".repeat(300))]),
        // It may be half a call.
        (layer(), read.clone(), vec![at("a1"), prose(), text("<tool")]),
        (layer(), read, vec![at("a1"), text("{\"name\""), prose()]),
        (replay, with_tools, vec![prose()]),
    ] {
        let mut expected: Vec<String> = events.iter().map(shown).collect();
        expected.push(shown(&Err(reset())));
        let events = events.into_iter().chain([Err(reset())]).collect();
        let upstream = Upstream::new([events]);
        assert_eq!(upstream.ask(layer, request).await, expected);
    }
}

#[tokio::test]
async fn a_stream_that_just_ends_is_gone_on_with() {
    let mut cut = begun();
    cut.pop();
    let upstream = Upstream::new([cut, vec![text(WHOLE), stop()]]);
    let events = upstream.ask(layer(), request()).await.concat();
    // It names no place, so the next turn goes on from the one that is known.
    assert_eq!(events, format!("<started a1>{WHOLE}<stop>"));
}

#[tokio::test]
async fn tries_are_counted() {
    let second = || vec![at("a2"), text(&WHOLE[60..170]), Err(reset())];
    let third = || vec![at("a3"), text(&WHOLE[80..]), stop()];
    let events = Upstream::new([begun(), second(), third()]).ask(layer().tries(2), request()).await;
    let (a, b, c) = (&WHOLE[..CUT], &WHOLE[CUT..170], &WHOLE[170..]);
    assert_eq!(events.concat(), format!("<started a1>{a}<resumed a2>{b}<resumed a3>{c}<stop>"));
    let events = Upstream::new([begun(), second()]).ask(layer(), request()).await;
    assert_eq!(
        events.concat(),
        format!("<started a1>{a}<resumed a2>{b}<Upstream: the connection broke>")
    );
    // One that breaks before the seam is asked for anew, from the same place.
    let upstream = Upstream::new([begun(), vec![at("a2"), text("It "), Err(reset())], third()]);
    let events = upstream.ask(layer().tries(2), request()).await;
    assert_eq!(events.concat(), format!("<started a1>{a}<resumed a3>{}<stop>", &WHOLE[CUT..]));
    let parents = upstream.asked()[1..]
        .iter()
        .map(|chat| chat.conversation().and_then(|place| place.parent_id.clone()))
        .collect::<Vec<_>>();
    assert_eq!(parents, [Some("a1".into()), Some("a1".into())]);
    let unsent = Error::new(ErrorKind::Upstream, "out of reach").with_fate(Fate::Unsent);
    let upstream = Upstream::of([Ok(begun()), Err(unsent), Ok(third())]);
    let events = upstream.ask(layer().tries(2), request()).await;
    assert_eq!(events.concat(), format!("<started a1>{a}<resumed a3>{}<stop>", &WHOLE[CUT..]));
}

#[tokio::test]
async fn costs_are_those_of_all_that_was_asked() {
    let mut first = begun();
    first.insert(2, usage(10, 3));
    first.insert(3, usage(10, 5));
    let second = vec![at("a2"), text("no "), usage(20, 1), Err(reset())];
    let third = vec![at("a3"), usage(30, 2), text(WHOLE), usage(30, 7), stop(), usage(30, 8)];
    let upstream = Upstream::new([first, second, third]);
    let events = upstream.ask(layer().tries(2), request()).await;
    let counts: Vec<_> = events.iter().filter(|event| event.starts_with("<usage")).collect();
    assert_eq!(
        counts,
        [
            "<usage 10 3>",
            "<usage 10 5>",
            "<usage 30 6>",
            "<usage 60 8>",
            "<usage 60 13>",
            "<usage 60 14>"
        ]
    );
}

#[tokio::test]
async fn sources_of_the_rest_have_no_range() {
    let source = || {
        let mut source = Citation::new("https://example.org/rain");
        source.range = Some(2..7);
        Ok(ChatEvent::Citation(source.into()))
    };
    let mut first = begun();
    first.insert(2, source());
    let upstream = Upstream::new([first, vec![at("a2"), source(), text(WHOLE), source(), stop()]]);
    let events = upstream.ask(layer(), request()).await;
    let ranges: Vec<_> = events.iter().filter(|event| event.contains("Citation")).collect();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[0].contains("Some(2..7)") && ranges[1].contains("range: None"));
}

#[tokio::test]
async fn an_upstream_without_chats_gets_the_history_and_what_was_said() {
    let first = vec![text(&WHOLE[..CUT]), Err(reset())];
    let upstream = Upstream::new([first, vec![text(&WHOLE[70..]), stop()]]);
    let events = upstream.ask(layer().replay(true), request()).await;
    assert_eq!(events.concat(), format!("{WHOLE}<stop>"));
    let asked = &upstream.asked()[1];
    let roles: Vec<_> = asked.history.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    assert_eq!(asked.history[1].text(), WHOLE[..CUT]);
    assert!(asked.conversation().is_none());
}

#[tokio::test]
async fn calls_behind_the_seam_are_calls() {
    let tools = vec![Tool::Function(FunctionTool::without_parameters("look_out"))];
    let call = "\n<tool_call>\n{\"name\": \"look_out\", \"arguments\": {}}\n</tool_call>";
    let rest = vec![at("a2"), text(&WHOLE[40..]), text(call), stop()];
    let upstream = Upstream::new([begun(), rest]);
    let asked = upstream.clone();
    let service = ServiceBuilder::new()
        .layer(ToolCallLayer::prompted())
        .layer(layer())
        .service(service_fn(move |request| asked.clone().answer(request)));
    let mut request = request();
    request.tools = tools.into();
    let response = service.oneshot(Request::new(request)).await.expect("begun");
    let answer = Answer::collect(response.into_body().checked()).await.expect("whole");
    assert_eq!(answer.text.trim_end(), WHOLE.trim_end());
    assert_eq!(answer.tool_calls[0].name, "look_out");
    assert_eq!(answer.finish_reason, Some(FinishReason::ToolCalls));
    // The tools were told with the question; nothing is told twice.
    assert!(upstream.asked()[0].history[0].text().contains("look_out"));
    assert_eq!(upstream.asked()[1].history.len(), 1);
}

/// The answer is recorded once and whole, where it ended.
#[tokio::test]
async fn a_session_goes_on_from_the_whole_answer() {
    let rest = vec![at("a2"), text(WHOLE), stop()];
    let upstream = Upstream::new([begun(), rest, vec![at("a3"), text("Yes."), stop()]]);
    let asked = upstream.clone();
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::default()))
        .layer(DedupLayer::new())
        .layer(layer())
        .service(service_fn(move |request| asked.clone().answer(request)));
    let mut request = request();
    request.tenant = Some(Tenant::from_digest([1; 32]));
    let response = service.clone().oneshot(Request::new(request.clone())).await.expect("begun");
    let answer = Answer::collect(response.into_body().checked()).await.expect("whole");
    assert_eq!(answer.text, WHOLE);

    request.history.push(Message::new(Role::Assistant, answer.text));
    request.history.push(Message::new(Role::User, "And in June?"));
    let response = service.oneshot(Request::new(request)).await.expect("begun");
    Answer::collect(response.into_body().checked()).await.expect("whole");
    let last = &upstream.asked()[2];
    assert_eq!(last.conversation(), Some(&Conversation::new("c").with_parent("a2")));
    assert_eq!(last.history.len(), 1);
    assert_eq!(last.history[0].text(), "And in June?");
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_is_busy_is_waited_for() {
    let busy = || Err(Error::new(ErrorKind::ConversationBusy, "in progress"));
    let rest = || Ok(vec![at("a2"), text(WHOLE), stop()]);
    let begun_at = Instant::now();
    let upstream = Upstream::of([Ok(begun()), busy(), busy(), busy(), rest()]);
    let events = upstream.ask(layer(), request()).await;
    assert_eq!(events.last().map(String::as_str), Some("<stop>"));
    assert_eq!(begun_at.elapsed(), Duration::from_secs(6));
    let upstream = Upstream::of([Ok(begun()), busy(), busy(), busy(), busy()]);
    let events = upstream.ask(layer(), request()).await;
    assert_eq!(events.last(), Some(&shown(&Err(reset()))));
}

/// One limit holds for all that is asked.
#[tokio::test(start_paused = true)]
async fn the_whole_answer_has_one_limit() {
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::hosted().total(Some(Duration::from_secs(100))))
        .layer(layer().tries(9))
        .service(service_fn(|_: Request<ChatRequest>| async {
            let events = stream::iter(begun()).then(|event| async {
                sleep(Duration::from_secs(6)).await;
                event
            });
            Ok::<_, Error>(Response::new(events.boxed()))
        }));
    let begun_at = Instant::now();
    let response = service.oneshot(Request::new(request())).await.expect("begun");
    let error = Answer::collect(response.into_body().checked()).await.expect_err("too long");
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(begun_at.elapsed(), Duration::from_secs(100));
}

#[tokio::test]
async fn who_leaves_lets_go_what_is_asked() {
    let alive = Arc::new(());
    let asked = Arc::clone(&alive);
    let service = layer().layer(service_fn(move |request: Request<ChatRequest>| {
        let asked = Arc::clone(&asked);
        async move {
            if request.body().conversation().is_some() {
                let _asked = asked;
                std::future::pending::<()>().await;
            }
            Ok::<_, Error>(Response::new(stream::iter(begun())))
        }
    }));
    let response = service.oneshot(Request::new(request())).await.expect("begun");
    let before = Arc::strong_count(&alive);
    let mut events = Box::pin(response.into_body());
    for _ in 0..3 {
        events.next().await.expect("said").expect("well");
    }
    assert!(tokio_test::task::spawn(events.next()).poll().is_pending());
    assert!(Arc::strong_count(&alive) > before, "it is asked");
    drop(events);
    assert_eq!(Arc::strong_count(&alive), 1);
}

fn prose() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "rain ",
        "sun ",
        "  ",
        "\n",
        "\n\n",
        "the ",
        "```rust\n",
        "}",
        "| --- ",
        "日本語",
        "é",
        "\u{3000}",
        "😀",
    ]);
    prop::collection::vec(word, 1..60).prop_map(|words| words.concat())
}

proptest! {
    /// Wherever it breaks off, and whether it is begun anew or gone on with as it was asked for.
    #[test]
    fn what_is_stitched_is_the_whole(
        whole in prose(),
        cut in 0_usize..400,
        back in prop_oneof![Just(usize::MAX), 0_usize..300],
        size in 1_usize..12,
    ) {
        tokio_test::block_on(resumed::check_whole(&whole, cut, back, size));
    }

    #[test]
    fn only_the_last_words_prove_anything(said in prose(), other in prose(), size in 1_usize..12) {
        tokio_test::block_on(resumed::check_any(&said, &other, size));
        let again = format!("{other}{said}{other}");
        tokio_test::block_on(resumed::check_any(&said, &again, size));
    }
}
