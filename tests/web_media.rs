//! Pictures and films of chat.qwen.ai.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use http::{HeaderMap, Request};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, ErrorKind, Fate,
    chat::{
        Answer, AnswerKind, AttachmentKind, ChatEvent, ChatRequest, ChatStreamExt, Content,
        MediaSize, Message, Part, Role,
    },
    qwen::web::QwenWebLayer,
    timeout::TimeoutLayer,
};
use tower_qwen_emulator::Emulator;

fn asked(kind: AnswerKind, prompt: &str, size: &str, image: Option<&str>) -> ChatRequest {
    let mut message = Message::new(Role::User, prompt);
    if let Some(url) = image {
        message.content = Some(Content::Parts(vec![Part::text(prompt), Part::image(url)]));
    }
    let mut request = ChatRequest::new("qwen3-max", [message]);
    request.kind = kind;
    request.media.size = MediaSize::parse(size);
    request
}

fn image(prompt: &str) -> ChatRequest {
    asked(AnswerKind::Image, prompt, "", None)
}

fn video(prompt: &str) -> ChatRequest {
    asked(AnswerKind::Video, prompt, "", None)
}

type Made = Result<(Answer, HeaderMap), Error>;

/// What becomes of `request`: the failure before the commit point, or the whole answer, or its failure.
async fn made_by(layer: QwenWebLayer, emulator: &Emulator, request: ChatRequest) -> Made {
    let service = ServiceBuilder::new().layer(layer).service(emulator.clone());
    let (head, events) = service.oneshot(Request::new(request)).await?.into_parts();
    Ok((Answer::collect(events.checked()).await?, head.headers))
}

async fn made(emulator: &Emulator, request: ChatRequest) -> Made {
    made_by(QwenWebLayer::new(), emulator, request).await
}

/// The body of the only request for an answer.
fn completion(emulator: &Emulator) -> serde_json::Value {
    let requests = emulator.requests();
    let of = |path: &str| requests.iter().find(|request| request.path() == path).cloned();
    of("/api/v2/chat/completions").unwrap().body
}

fn paths(emulator: &Emulator) -> Vec<String> {
    let requests = emulator.requests();
    requests.iter().map(|request| format!("{} {}", request.method, request.path())).collect()
}

/// The word of a kind of request stands in all places where the page has it.
#[tokio::test(start_paused = true)]
async fn every_kind_is_asked_for_as_the_page_does() {
    let picture = Some("https://x.example/a.png");
    for (kind, size, from, word, shape, told) in [
        (AnswerKind::Image, "", None, "t2i", Some("1:1"), None),
        (AnswerKind::Image, "1536x1024", None, "t2i", Some("4:3"), Some("1536x1024; sent=4:3")),
        (AnswerKind::Image, "", picture, "image_edit", None, None),
        (AnswerKind::Video, "720x1280", None, "t2v", Some("9:16"), None),
        (AnswerKind::Video, "", picture, "i2v", None, None),
    ] {
        let emulator = Emulator::new();
        let request = asked(kind, "A fox", size, from);
        let (answer, headers) = made(&emulator, request).await.unwrap();
        let [attachment] = &answer.attachments[..] else { panic!("{word}: {answer:?}") };
        let made = match kind {
            AnswerKind::Image => AttachmentKind::Image,
            _ => AttachmentKind::Video,
        };
        assert_eq!(attachment.kind, made, "{word}");
        let header = headers.get("x-qwen-size").map(|value| value.to_str().unwrap());
        assert_eq!(header, told, "{word}");

        let body = completion(&emulator);
        let message = &body["messages"][0];
        for place in ["chat_type", "sub_chat_type"] {
            assert_eq!(message[place], word);
        }
        assert_eq!(message["extra"]["meta"]["subChatType"], word);
        assert_eq!(
            (body["size"].as_str(), message["extra"]["meta"]["size"].as_str()),
            (shape, shape)
        );
        assert_eq!(body["stream"], kind == AnswerKind::Image, "{word}");
        assert_eq!(message["feature_config"]["thinking_enabled"], false);
        assert_eq!(message["content"], "A fox");
        let files = message["files"].as_array().unwrap();
        assert_eq!(files.len(), usize::from(from.is_some()), "{word}");
        let new = emulator.requests().into_iter().find(|r| r.path() == "/api/v2/chats/new");
        assert_eq!(new.unwrap().body["chat_type"], word);
    }
}

/// What was said before is no part of what a picture shows.
#[tokio::test(start_paused = true)]
async fn the_last_words_of_the_user_are_the_prompt() {
    let emulator = Emulator::new();
    let mut request = image("A fox");
    let said = [
        Message::new(Role::System, "Answer in verse."),
        Message::new(Role::User, "Hello"),
        Message::new(Role::Assistant, "Hello!"),
    ];
    let last = request.history.iter().cloned().collect::<Vec<_>>();
    let mut history = ChatRequest::new("qwen3-max", said.into_iter().chain(last)).history;
    history.push(Message::new(Role::Assistant, "I will"));
    request.history = history;
    made(&emulator, request.clone()).await.unwrap();
    assert_eq!(completion(&emulator)["messages"][0]["content"], "A fox");

    request.history = ChatRequest::new("m", [Message::new(Role::System, "A fox")]).history;
    let error = made(&emulator, request).await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("messages")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_have_several_pictures() {
    let emulator = Emulator::new();
    let (answer, _) = made(&emulator, image("emulate:images=3")).await.unwrap();
    assert_eq!(answer.attachments.len(), 3);
    assert!(answer.conversation.is_some_and(|place| place.parent_id.is_some()));
}

/// A picture that was made and did not come stands in the record of its chat.
#[tokio::test(start_paused = true)]
async fn a_picture_that_did_not_come_is_looked_up() {
    for (prompt, is_found) in [
        ("emulate:no_image", true),
        ("emulate:cut=0", true),
        ("emulate:reset=0", true),
        ("emulate:stall=0", true),
        ("emulate:no_image emulate:nowhere", false),
        ("emulate:cut=0 emulate:nowhere", false),
    ] {
        let emulator = Emulator::new();
        let layer = QwenWebLayer::new().idle_events(Some(Duration::from_secs(60)));
        let result = made_by(layer, &emulator, image(prompt)).await;
        let looked = paths(&emulator).iter().any(|path| path.starts_with("GET /api/v2/chats/"));
        assert!(looked, "{prompt}");
        match (result, is_found) {
            (Ok((answer, _)), true) => {
                assert_eq!(answer.attachments.len(), 1, "{prompt}");
                let place = answer.conversation.unwrap();
                assert_eq!(emulator.chat(&place.chat_id).unwrap().messages.len(), 2, "{prompt}");
            }
            // The upstream says that it has finished, and nothing else.
            (Ok((answer, _)), false) => assert!(answer.attachments.is_empty(), "{prompt}"),
            (Err(error), false) => assert_eq!(error.kind(), ErrorKind::Truncated, "{prompt}"),
            (Err(error), true) => panic!("{prompt}: {error:?}"),
        }
    }
}

/// Failures before anything was made: each keeps its meaning, and nothing is looked up.
#[tokio::test(start_paused = true)]
async fn what_upstream_refuses_keeps_its_meaning() {
    for (prompt, kind, wait) in [
        ("emulate:content_filter", ErrorKind::ContentFilter, None),
        ("emulate:rate_limited=5", ErrorKind::Quota, Some(5 * 3600)),
        ("emulate:quota", ErrorKind::Quota, None),
        ("emulate:overloaded", ErrorKind::Overloaded, None),
        ("emulate:invalid_input", ErrorKind::InvalidRequest, None),
        ("emulate:unauthorized", ErrorKind::Auth, None),
        ("emulate:challenge_json", ErrorKind::Challenge, None),
    ] {
        for request in [image(prompt), video(prompt)] {
            // In a stream the failure is an event, which a film has not.
            let is_film = request.kind == AnswerKind::Video;
            if is_film && !["rate", "quot", "unau", "chal"].contains(&&prompt[8..12]) {
                continue;
            }
            let emulator = Emulator::new();
            let error = made(&emulator, request).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{prompt} {error:?}");
            assert_eq!(error.retry_after(), wait.map(Duration::from_secs), "{prompt}");
            let looked = paths(&emulator).iter().any(|path| path.starts_with("GET "));
            assert!(!looked, "{prompt}");
            // Nobody knows of the chat that was opened for it.
            tokio::time::sleep(Duration::from_secs(61)).await;
            assert!(emulator.chats().is_empty(), "{prompt}");
        }
    }
}

/// A picture takes longer than the first word of a text may.
#[tokio::test(start_paused = true)]
async fn the_limit_on_the_whole_is_the_one_that_holds() {
    let stack = |layer: TimeoutLayer, emulator: &Emulator| {
        ServiceBuilder::new().layer(layer).layer(QwenWebLayer::new()).service(emulator.clone())
    };
    let emulator = Emulator::new();
    for request in [image("emulate:draw=300000"), video("emulate:task=600000")] {
        let stack = stack(TimeoutLayer::hosted(), &emulator);
        let answer = stack.oneshot(Request::new(request)).await.unwrap().into_body();
        assert_eq!(Answer::collect(answer).await.unwrap().attachments.len(), 1);
    }
    let short = TimeoutLayer::hosted().total(Some(Duration::from_secs(30)));
    let failed = stack(short, &emulator).oneshot(Request::new(image("emulate:draw=300000"))).await;
    assert_eq!(failed.err().unwrap().kind(), ErrorKind::Timeout);
}

/// A film is told of as it becomes ready.
#[tokio::test(start_paused = true)]
async fn the_progress_of_a_film_is_seen() {
    let emulator = Emulator::new();
    let service = QwenWebLayer::new();
    let service = ServiceBuilder::new().layer(service).service(emulator.clone());
    let begun = Instant::now();
    let response = service.oneshot(Request::new(video("emulate:task=95000"))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "it is committed when the task is begun");
    let events: Vec<_> = response.into_body().checked().map(Result::unwrap).collect().await;
    assert!(matches!(&events[0], ChatEvent::Started(at)
        if at.conversation.as_ref().is_some_and(|place| place.parent_id.is_some())));
    let told = events.iter().filter_map(|event| match event {
        ChatEvent::Progress(percent) => Some(*percent),
        _ => None,
    });
    // After 10 s, 20 s and so on of the 350 s that are usual.
    assert_eq!(told.collect::<Vec<_>>(), [0, 2, 5, 8, 11, 14, 17, 20, 22, 25]);
    assert_eq!(begun.elapsed(), Duration::from_secs(100));
    let [.., ChatEvent::Attachment(film), ChatEvent::Finished(_)] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(film.kind == AttachmentKind::Video && film.url.contains(".mp4"));

    // Where upstream says how long it still takes, that counts.
    let (kind, from) = (AnswerKind::Video, Some("https://x.example/a.png"));
    let request = asked(kind, "emulate:task=12000 emulate:task_left", "", from);
    let service = ServiceBuilder::new().layer(QwenWebLayer::new()).service(emulator.clone());
    let response = service.oneshot(Request::new(request)).await.unwrap();
    let events: Vec<_> = response.into_body().checked().map(Result::unwrap).collect().await;
    let told = events.iter().filter_map(|event| match event {
        ChatEvent::Progress(percent) => Some(*percent),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [0, 25, 50, 75]);
}

/// What becomes of a task, by what upstream says of it.
#[tokio::test(start_paused = true)]
async fn a_task_comes_to_something_or_says_why_not() {
    use ErrorKind::{ContentFilter, Timeout, Upstream};
    for (prompt, failed) in [
        ("emulate:task=1", None),
        ("emulate:task_older", None),
        ("emulate:task_flaky=3", None),
        // The record of the chat knows it.
        ("emulate:task_kept", None),
        ("emulate:task_empty", None),
        ("emulate:task_failed", Some((Upstream, "The task failed."))),
        ("emulate:task_filtered", Some((ContentFilter, "inappropriate"))),
        ("emulate:task_lost", Some((Upstream, "lost the task"))),
        ("emulate:task_flaky=9", Some((Upstream, "failed"))),
        ("emulate:task=9000000", Some((Timeout, "not there within 1200 s"))),
    ] {
        let emulator = Emulator::new();
        match (made(&emulator, video(prompt)).await, failed) {
            (Ok((answer, _)), None) => {
                let [film] = &answer.attachments[..] else { panic!("{prompt}: {answer:?}") };
                assert!(film.url.contains(".mp4?key="), "{prompt}: {film:?}");
            }
            (Err(error), Some((kind, words))) => {
                assert_eq!(error.kind(), kind, "{prompt}: {error:?}");
                assert!(error.message().contains(words), "{prompt}: {error:?}");
                let fate = match kind {
                    Timeout => Fate::Abandoned,
                    _ if prompt.contains("flaky") => error.fate(),
                    _ => Fate::Refused,
                };
                assert_eq!(error.fate(), fate, "{prompt}");
            }
            other => panic!("{prompt}: {other:?}"),
        }
        // Somebody may go on in the chat of a task that was begun.
        assert_eq!(emulator.chats().len(), 1, "{prompt}");
    }
}

/// The older path is asked once more only until it is known to be the one.
#[tokio::test(start_paused = true)]
async fn the_older_path_is_remembered() {
    let emulator = Emulator::new();
    made(&emulator, video("emulate:task_older emulate:task=25000")).await.unwrap();
    let count = |part: &str| paths(&emulator).iter().filter(|path| path.contains(part)).count();
    assert_eq!((count("/v2/task/status"), count("/v1/tasks/status")), (1, 3));
}

/// The interval and the limit are set.
#[tokio::test(start_paused = true)]
async fn how_often_and_for_how_long_is_set() {
    let emulator = Emulator::new();
    let layer = QwenWebLayer::new()
        .task_interval(Some(Duration::from_secs(1)))
        .task_limit(Duration::from_secs(4));
    let begun = Instant::now();
    let error = made_by(layer, &emulator, video("emulate:task=60000")).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::Timeout, 4));
}

/// Nobody waits for it any more: nothing more is asked, and nothing is deleted.
#[tokio::test(start_paused = true)]
async fn a_film_that_nobody_waits_for_is_left_alone() {
    let emulator = Emulator::new();
    let service = ServiceBuilder::new().layer(QwenWebLayer::new()).service(emulator.clone());
    let response = service.oneshot(Request::new(video("A fox"))).await.unwrap();
    let mut events = response.into_body();
    events.next().await.unwrap().unwrap();
    drop(events);
    let before = emulator.requests().len();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((emulator.requests().len(), emulator.chats().len()), (before, 1));
}

/// A request that is large is read off the runtime's threads, and is the same request.
#[tokio::test(start_paused = true)]
async fn a_large_prompt_is_a_prompt() {
    let emulator = Emulator::new();
    let prompt = "A fox. ".repeat(60_000);
    let (answer, _) = made(&emulator, image(&prompt)).await.unwrap();
    assert_eq!(answer.attachments.len(), 1);
    assert_eq!(completion(&emulator)["messages"][0]["content"], *prompt);
}

/// A film begins with one picture at most, which is said before a chat is opened.
#[tokio::test]
async fn a_film_from_two_pictures_is_refused() {
    let emulator = Emulator::new();
    let mut request = video("A fox");
    let picture = Part::image("https://x.example/a.png");
    let message = request.history.get_mut(0).unwrap();
    message.content = Some(Content::Parts(vec![picture.clone(), picture]));
    let error = made(&emulator, request).await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("messages")));
    assert!(emulator.requests().is_empty());
}

/// What has no clock cannot wait.
#[test]
fn without_a_runtime_there_are_no_films() {
    let emulator = Arc::new(Emulator::new());
    let made = made(&emulator, video("A fox"));
    let error = futures_util::FutureExt::now_or_never(made).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
}
