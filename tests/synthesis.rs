//! Images and videos of DashScope's own API.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use http::{HeaderMap, Request};
use tokio::time::Duration;
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    Error, ErrorKind, Fate,
    chat::{
        Answer, AnswerKind, AttachmentKind, ChatEvent, ChatRequest, ChatStreamExt, Message, Role,
    },
    qwen::synthesis::SynthesisLayer,
};
use tower_qwen_emulator::{Emulator, Kind};

const VIDEO: &str = "wan2.6-t2v";
const IMAGE: &str = "qwen-image-plus";
const OLDER: &str = "wan2.2-t2i-flash";

fn emulator() -> Emulator {
    Emulator::builder().kind(Kind::DashScope).build()
}

fn asked(kind: AnswerKind, model: &str, prompt: &str) -> ChatRequest {
    let mut request = ChatRequest::new(model, [Message::new(Role::User, prompt)]);
    request.kind = kind;
    request
}

async fn made(emulator: &Emulator, request: ChatRequest) -> Result<(Answer, HeaderMap), Error> {
    let service = ServiceBuilder::new().layer(SynthesisLayer::new()).service(emulator.clone());
    let (head, events) = service.oneshot(Request::new(request)).await?.into_parts();
    Ok((Answer::collect(events.checked()).await?, head.headers))
}

/// Each kind of model, at once and by a task.
#[tokio::test(start_paused = true)]
async fn images_and_videos_are_made() {
    for (kind, model, calls, attachment) in [
        (AnswerKind::Image, IMAGE, 1, AttachmentKind::Image),
        (AnswerKind::Image, OLDER, 3, AttachmentKind::Image),
        (AnswerKind::Video, VIDEO, 3, AttachmentKind::Video),
    ] {
        let emulator = emulator();
        let mut request = asked(kind, model, "A fox");
        request.extra.insert("quality", serde_json::json!("hd"));
        let (answer, headers) = made(&emulator, request).await.unwrap();
        let [one] = &answer.attachments[..] else { panic!("{model}: {answer:?}") };
        assert_eq!(one.kind, attachment, "{model}");
        assert_eq!(headers["x-qwen-left-out"], "quality", "{model}");
        let requests = emulator.requests();
        assert_eq!(requests.len(), calls, "{model}");
        let is_task = calls > 1;
        assert_eq!(requests[0].headers.contains_key("x-dashscope-async"), is_task, "{model}");
        assert!(requests[1..].iter().all(|it| it.path().starts_with("/tasks/")), "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_progress_of_a_task_is_seen() {
    let service = ServiceBuilder::new().layer(SynthesisLayer::new()).service(emulator());
    let request = asked(AnswerKind::Video, VIDEO, "emulate:task=95000");
    let response = service.oneshot(Request::new(request)).await.unwrap();
    let events: Vec<_> = response.into_body().checked().map(Result::unwrap).collect().await;
    let told = events.iter().filter_map(|event| match event {
        ChatEvent::Progress(percent) => Some(*percent),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [0, 2, 5, 8, 11, 14, 17, 20, 22, 25]);
}

/// What the API refuses, and what becomes of a task, by what it says.
#[tokio::test(start_paused = true)]
async fn failures_keep_their_meaning() {
    use ErrorKind::{
        Auth, ContentFilter, Internal, ModelNotFound, Overloaded, RateLimited, Upstream,
    };
    for (model, prompt, kind) in [
        (IMAGE, "emulate:content_filter", ContentFilter),
        (VIDEO, "emulate:rate_limited=9", RateLimited),
        (IMAGE, "emulate:unauthorized", Auth),
        (VIDEO, "emulate:overloaded", Overloaded),
        ("qwen3-max", "A fox", ModelNotFound),
        (VIDEO, "emulate:task_failed", Upstream),
        (OLDER, "emulate:task_filtered", ContentFilter),
        (VIDEO, "emulate:task_lost", Upstream),
        (VIDEO, "emulate:task_empty", Upstream),
        (VIDEO, "emulate:task_flaky=9", Upstream),
        (VIDEO, "emulate:task=9000000", ErrorKind::Timeout),
    ] {
        let emulator = emulator();
        let of = if model == VIDEO { AnswerKind::Video } else { AnswerKind::Image };
        let error = made(&emulator, asked(of, model, prompt)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{prompt}: {error:?}");
        assert_ne!(error.kind(), Internal);
        if kind == RateLimited {
            assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
        }
        if kind == ErrorKind::Timeout {
            assert_eq!(error.fate(), Fate::Abandoned);
        }
    }
    let request = asked(AnswerKind::Video, VIDEO, "emulate:task_flaky=3");
    assert_eq!(made(&emulator(), request).await.unwrap().0.attachments.len(), 1);
}

/// A model may say something in the place of a picture.
#[tokio::test(start_paused = true)]
async fn words_are_handed_on() {
    let request = asked(AnswerKind::Image, IMAGE, "emulate:say=No.");
    let (answer, _) = made(&emulator(), request).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.attachments.len()), ("No.", 0));
}

/// What is no image and no video is for another adapter.
#[tokio::test]
async fn chats_are_refused() {
    let emulator = emulator();
    let error = made(&emulator, asked(AnswerKind::Text, IMAGE, "Hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(emulator.requests().is_empty());
}
