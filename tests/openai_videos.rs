//! The edges for videos: those that are waited for, and those that are jobs.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};
use tower_qwen::{
    FullBody,
    edge::Offer,
    openai::{
        media::{MediaLayer, model},
        videos::{Jobs, VideoJobs, VideosLayer},
    },
    qwen::{upload::UploadLayer, web::QwenWebLayer},
    timeout::TimeoutLayer,
};
use tower_qwen_emulator::Emulator;

struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn post(path: &str, kind: &str, body: impl Into<Bytes>) -> Request<FullBody> {
    let request = Request::post(path).header("content-type", kind).header("x-api-key", "sk-ann");
    request.body(FullBody::new(body.into())).unwrap()
}

/// A proxy's videos over an emulator.
struct Videos {
    emulator: Emulator,
    jobs: Jobs,
}

impl Videos {
    fn new() -> Self {
        Self { emulator: Emulator::new(), jobs: Jobs::new() }
    }

    async fn begin(&self, request: Request<FullBody>) -> Said {
        let service = ServiceBuilder::new()
            .layer(VideosLayer::new(self.jobs.clone()).offer(Offer::Web))
            .layer(TimeoutLayer::hosted())
            .layer(UploadLayer::new(self.emulator.clone(), self.emulator.clone()))
            .layer(QwenWebLayer::new())
            .service(self.emulator.clone());
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Said { status: head.status, headers: head.headers, body }
    }

    async fn begun(&self, prompt: &str) -> String {
        let body = json!({"model": "qwen3-max", "prompt": prompt}).to_string();
        let said = self.begin(post("/v1/videos", "application/json", body)).await;
        assert_eq!(said.status, StatusCode::OK, "{:?}", said.body);
        said.json()["id"].as_str().unwrap().to_owned()
    }

    async fn tell(&self, method: &str, path: &str, key: &str) -> Said {
        let request = Request::builder().method(method).uri(path).header("x-api-key", key);
        let service = VideoJobs::new(self.jobs.clone()).fetch(self.emulator.clone());
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Said { status: head.status, headers: head.headers, body }
    }

    async fn video(&self, id: &str) -> Value {
        self.tell("GET", &format!("/v1/videos/{id}"), "sk-ann").await.json()
    }
}

/// From the request to the content, with the progress between.
#[tokio::test(start_paused = true)]
async fn a_video_is_a_job() {
    let videos = Videos::new();
    let body = json!({"model": "qwen3-max", "prompt": "emulate:task=95000 A fox",
        "size": "1280x720", "seconds": "4"});
    let begun = videos.begin(post("/v1/videos", "application/json", body.to_string())).await;
    // About five seconds is what there is.
    assert_eq!(begun.headers["x-qwen-left-out"], "seconds");
    let video = begun.json();
    assert_eq!((&video["object"], &video["status"]), (&json!("video"), &json!("in_progress")));
    assert_eq!((&video["size"], &video["seconds"]), (&json!("1280x720"), &json!("4")));
    assert_eq!(video["model"], "qwen3-max");
    let id = video["id"].as_str().unwrap();

    let mut seen = Vec::new();
    let ended = loop {
        let said = videos.tell("GET", &format!("/v1/videos/{id}"), "sk-ann").await;
        let video = said.json();
        if video["status"] != "in_progress" {
            break video;
        }
        assert_eq!(said.headers["openai-poll-after-ms"], "5000");
        seen.push(video["progress"].as_u64().unwrap());
        let content = videos.tell("GET", &format!("/v1/videos/{id}/content"), "sk-ann").await;
        assert_eq!(content.json()["error"]["code"], "video_not_ready");
        sleep(Duration::from_secs(26)).await;
    };
    assert_eq!(seen, [0, 5, 14, 20]);
    assert_eq!((&ended["status"], &ended["progress"]), (&json!("completed"), &json!(100)));
    assert!(ended["completed_at"].is_u64() && ended["error"].is_null());
    assert!(ended["url"].as_str().unwrap().contains(".mp4"));
    let content =
        videos.tell("GET", &format!("/v1/videos/{id}/content?variant=video"), "sk-ann").await;
    assert_eq!(
        (content.status, &content.headers["content-type"]),
        (StatusCode::OK, &"video/mp4".parse().unwrap())
    );
    assert!(content.body[4..].starts_with(b"ftyp"));
    let other =
        videos.tell("GET", &format!("/v1/videos/{id}/content?variant=thumbnail"), "sk-ann").await;
    assert_eq!(
        (other.status, &other.json()["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("variant"))
    );
}

/// What fails before it is taken on is an error, and what fails later a status.
#[tokio::test(start_paused = true)]
async fn a_job_that_fails_says_why() {
    let videos = Videos::new();
    let body = json!({"model": "qwen3-max", "prompt": "emulate:rate_limited=7"}).to_string();
    let refused = videos.begin(post("/v1/videos", "application/json", body)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers["retry-after"], (7 * 3600).to_string().as_str());
    let list = videos.tell("GET", "/v1/videos", "sk-ann").await.json();
    assert_eq!(list["data"], json!([]), "nobody knows of it");

    for (prompt, code, words) in [
        ("emulate:task_failed", "video_generation_failed", "The task failed."),
        ("emulate:task_lost", "task_lost", "lost the task"),
    ] {
        let id = videos.begun(prompt).await;
        sleep(Duration::from_secs(60)).await;
        let video = videos.video(&id).await;
        assert_eq!((&video["status"], &video["error"]["code"]), (&json!("failed"), &json!(code)));
        assert!(video["error"]["message"].as_str().unwrap().contains(words), "{video}");
    }
}

/// Nobody but its owner knows of it.
#[tokio::test(start_paused = true)]
async fn a_job_is_its_owners() {
    let videos = Videos::new();
    let id = videos.begun("A fox").await;
    for path in [format!("/v1/videos/{id}"), format!("/v1/videos/{id}/content")] {
        let said = videos.tell("GET", &path, "sk-bob").await;
        assert_eq!(
            (said.status, &said.json()["error"]["param"]),
            (StatusCode::NOT_FOUND, &json!("id"))
        );
    }
    assert_eq!(videos.tell("DELETE", &format!("/v1/videos/{id}"), "sk-bob").await.status, 404);
    assert_eq!(videos.tell("GET", "/v1/videos", "sk-bob").await.json()["data"], json!([]));

    let deleted = videos.tell("DELETE", &format!("/v1/videos/{id}"), "sk-ann").await.json();
    assert_eq!(deleted, json!({"id": id, "object": "video.deleted", "deleted": true}));
    assert_eq!(videos.tell("GET", &format!("/v1/videos/{id}"), "sk-ann").await.status, 404);
    // The upstream is not asked about it any more.
    let before = videos.emulator.requests().len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(videos.emulator.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn jobs_are_listed_in_pages() {
    let videos = Videos::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(videos.begun("A fox").await);
    }
    let list =
        async |query: &str| videos.tell("GET", &format!("/v1/videos{query}"), "sk-ann").await;
    let of = |said: &Said| {
        let data = said.json()["data"].as_array().unwrap().clone();
        data.iter().map(|video| video["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(of(&list("").await), newest_first);
    assert_eq!(of(&list("?order=asc").await), ids);
    let page = list("?limit=2").await;
    assert_eq!((of(&page), &page.json()["has_more"]), (newest_first[..2].to_vec(), &json!(true)));
    let rest = list(&format!("?limit=2&after={}", newest_first[1])).await;
    assert_eq!((of(&rest), &rest.json()["has_more"]), (newest_first[2..].to_vec(), &json!(false)));
    for query in ["?limit=0", "?limit=x", "?limit=101", "?order=up", "?after=none"] {
        assert_eq!(list(query).await.status, 400, "{query}");
    }
}

/// What nobody serves has words of its own.
#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let videos = Videos::new();
    for (method, path, status) in [
        ("PUT", "/v1/videos", 405),
        ("POST", "/v1/videos/x", 405),
        ("POST", "/v1/videos/x/remix", 501),
        ("GET", "/v1/videos/x/y/z", 501),
        ("GET", "/v1/videos/none", 404),
    ] {
        assert_eq!(videos.tell(method, path, "sk-ann").await.status, status, "{method} {path}");
    }
    for (body, param) in [
        (json!({"model": "qwen3-max"}), "prompt"),
        (json!({"model": "qwen3-max", "prompt": "A fox", "n": 2}), "n"),
        (json!({"model": "qwen3-max", "prompt": "A fox", "seconds": "four"}), "seconds"),
        (json!({"model": "qwen3-max", "prompt": "A fox", "size": "hd"}), "size"),
        (json!({"prompt": "A fox"}), "model"),
    ] {
        let said = videos.begin(post("/v1/videos", "application/json", body.to_string())).await;
        assert_eq!(
            (said.status.as_u16(), said.json()["error"]["param"].as_str()),
            (400, Some(param))
        );
    }
}

/// Files of forms, as OpenAI's clients send them, are uploaded.
#[tokio::test(start_paused = true)]
async fn a_form_brings_the_first_frame() {
    let png = b"\x89PNG\r\n\x1a\n and so on";
    let mut form = Vec::new();
    for (name, value) in [("model", "qwen3-max"), ("prompt", "A fox"), ("seconds", "4")] {
        let part =
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        form.extend_from_slice(part.as_bytes());
    }
    form.extend_from_slice(b"--X\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n");
    form.extend_from_slice(png);
    form.extend_from_slice(b"\r\n--X--\r\n");
    let form = Bytes::from(form);
    let request = post("/v1/videos", "multipart/form-data; boundary=X", form.clone());
    assert_eq!(model(request.headers(), &form).await.unwrap().as_deref(), Some("qwen3-max"));

    let videos = Videos::new();
    let said = videos.begin(request).await;
    assert_eq!(said.status, StatusCode::OK, "{:?}", said.body);
    let asked = videos.emulator.requests();
    let asked = asked.iter().find(|it| it.path() == "/api/v2/chat/completions").unwrap();
    let message = &asked.body["messages"][0];
    assert_eq!((&message["chat_type"], &message["content"]), (&json!("i2v"), &json!("A fox")));
    assert_eq!(message["files"].as_array().unwrap().len(), 1);
    let id = said.json()["id"].as_str().unwrap().to_owned();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(videos.video(&id).await["status"], "completed");
}

/// Too many at a time are refused before anything is asked for.
#[tokio::test(start_paused = true)]
async fn only_so_many_run_at_a_time() {
    let videos = Videos::new();
    for _ in 0..4 {
        videos.begun("emulate:task=600000").await;
    }
    let before = videos.emulator.requests().len();
    let body = json!({"model": "qwen3-max", "prompt": "A fox"}).to_string();
    let said = videos.begin(post("/v1/videos", "application/json", body)).await;
    assert_eq!((said.status.as_u16(), &said.headers["retry-after"]), (429, &"30".parse().unwrap()));
    assert_eq!(videos.emulator.requests().len(), before);
}

/// A client that leaves before it knows the id has no video.
#[tokio::test(start_paused = true)]
async fn who_leaves_early_has_none() {
    let videos = Videos::new();
    let body = json!({"model": "qwen3-max", "prompt": "emulate:wait=5000"}).to_string();
    let begin = videos.begin(post("/v1/videos", "application/json", body));
    assert!(tokio::time::timeout(Duration::from_secs(1), begin).await.is_err());
    assert_eq!(videos.tell("GET", "/v1/videos", "sk-ann").await.json()["data"], json!([]));
}

/// The route of older servers waits, and a stream of it says how far it is.
#[tokio::test(start_paused = true)]
async fn a_video_can_be_waited_for() {
    let emulator = Emulator::new();
    let service = ServiceBuilder::new()
        .layer(MediaLayer::video_generations().offer(Offer::Web).fetch(emulator.clone()))
        .layer(QwenWebLayer::new())
        .service(emulator.clone());
    let begun = Instant::now();
    // As in the documents of such a server.
    let mut body = json!({"model": "qwen3-max", "prompt": "emulate:task=95000", "duration": 5,
        "size": "1920x1080"});
    let request = post("/v1/videos/generations", "application/json", body.to_string());
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().get("x-qwen-left-out").is_none());
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert!(answer["data"][0]["url"].as_str().unwrap().contains(".mp4"), "{answer}");
    assert_eq!(begun.elapsed(), Duration::from_secs(100));

    body["stream"] = json!(true);
    let request = post("/v1/videos/generations", "application/json", body.to_string());
    let answer = service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    let text = String::from_utf8(answer.to_bytes().to_vec()).unwrap();
    let progress: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<Value>(data).unwrap())
        .filter_map(|event| event["progress"].as_u64())
        .collect();
    assert_eq!(progress, [2, 5, 8, 11, 14, 17, 20, 22, 25]);
    assert!(text.contains("event: video_generation.completed\n"), "{text}");
}
