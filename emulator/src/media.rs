//! Pictures and films of the web API: what makes them, and where they are fetched.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{
    body::{Body, Step},
    builder::Style,
    completion::millis,
    directive::Directives,
    envelope::{Refusal, json_with, mean, success, with_type},
    script::Wire,
    state::Shared,
};
use crate::json::{Value, json};

/// How many tasks are remembered.
const TASKS: usize = 1_024;

/// How many pictures one answer has at most.
const PICTURES: usize = 16;

/// How often the web API says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A picture of one point, grey.
pub(super) const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0,
    1, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0x0a, b'I', b'D', b'A', b'T',
    0x78, 0x9c, 0x63, 0x68, 0, 0, 0, 0x82, 0, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0, 0, 0, 0, b'I', b'E',
    b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// The beginning of a film, which is all of it.
pub(super) const MP4: &[u8] = b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2";

/// The pictures of one answer.
pub(super) struct Pictures {
    pub(super) urls: Vec<String>,
    width: u64,
    height: u64,
    /// They are in the record of the chat, and not in the stream.
    hidden: bool,
}

impl Pictures {
    /// Those that a request asks for: of its shape, and as many as its words say.
    pub(super) fn new(directives: &Directives, response_id: &str, size: &str) -> Self {
        let count = directives.count("images", 1).unwrap_or(1).min(PICTURES);
        let key = key(directives);
        let (width, height) = sides(size);
        Self {
            urls: (1..=count)
                .map(|n| {
                    format!(
                        "https://cdn.qwenlm.ai/output/emulated/t2i/{response_id}/{n}.png?key={key}"
                    )
                })
                .collect(),
            width,
            height,
            hidden: directives.has("no_image"),
        }
    }

    /// What comes before them, where they take a while.
    pub(super) fn opening(directives: &Directives, wire: &Wire) -> Vec<Step> {
        let mut left = millis(directives.number("draw", 30_000).unwrap_or(0));
        let mut steps = Vec::new();
        while left > KEEP_ALIVE {
            left -= KEEP_ALIVE;
            steps.extend([Step::Wait(KEEP_ALIVE), Step::Send(wire.keep_alive())]);
        }
        if !left.is_zero() {
            steps.push(Step::Wait(left));
        }
        steps
    }

    /// They and the end of the turn.
    pub(super) fn events(&self, wire: &Wire) -> Vec<Bytes> {
        let urls = if self.hidden { &[][..] } else { &self.urls };
        let mut events: Vec<_> =
            urls.iter().map(|url| wire.value(&self.event(wire, url))).collect();
        events.push(wire.finished("image_gen"));
        events
    }

    fn event(&self, wire: &Wire, url: &str) -> Value {
        let (width, height) = (self.width, self.height);
        let mut event = json!({
            "choices": [{"delta": {
                "role": "assistant", "content": url, "phase": "image_gen",
                "extra": {"output_image_hw": [[height, width]]}, "status": "typing",
            }}],
            "response_id": wire.response_id,
            "usage": {
                "input_tokens": 0, "output_tokens": 0, "characters": 0, "width": width,
                "image_count": 1, "height": height,
            },
        });
        if wire.style == Style::Autumn2026 {
            event["timestamp"] = wire.clock.unix_seconds().into();
        }
        event
    }
}

/// What the addresses of the words' pictures or films end with.
fn key(directives: &Directives) -> &'static str {
    if directives.has("expired") { "EXPIRED" } else { "DEMO" }
}

/// The sides of a picture of the shape `ratio`.
fn sides(ratio: &str) -> (u64, u64) {
    match ratio {
        "16:9" => (1792, 1024),
        "9:16" => (1024, 1792),
        "4:3" => (1472, 1104),
        "3:4" => (1104, 1472),
        _ => (1024, 1024),
    }
}

/// What a chat's record says of what an answer holds beside its text.
pub(super) fn content_list(media: &[String]) -> Value {
    let item = |url: &String| {
        let is_film = url.contains(".mp4");
        let phase = if is_film { "video_gen" } else { "image_gen" };
        json!({"content": url, "phase": phase, "status": "finished"})
    };
    media.iter().map(item).collect()
}

/// The tasks that make films.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: VecDeque<Task>,
}

#[derive(Debug)]
pub(super) struct Task {
    id: String,
    account: String,
    /// What is made, in the words of the API.
    pub(super) kind: String,
    pub(super) url: String,
    begun: Instant,
    takes: Duration,
    polls: u64,
    pub(super) directives: Directives,
}

impl Task {
    pub(super) fn new(
        id: &str,
        account: &str,
        kind: &str,
        url: String,
        begun: Instant,
        takes: Duration,
        directives: Directives,
    ) -> Self {
        let [id, account, kind] = [id, account, kind].map(str::to_owned);
        Self { id, account, kind, url, begun, takes, polls: 0, directives }
    }

    /// Somebody asks once more; how many times that was so.
    pub(super) fn polled(&mut self) -> u64 {
        self.polls += 1;
        self.polls
    }

    /// Whether it is done. Whoever asks first is told that it runs, however soon it is.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.polls > 1 && self.spent(now) >= self.takes
    }

    fn spent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }
}

impl Tasks {
    pub(super) fn begin(&mut self, task: Task) {
        if self.tasks.len() == TASKS {
            self.tasks.pop_front();
        }
        self.tasks.push_back(task);
    }

    pub(super) fn find(&mut self, id: &str, account: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.id == id && task.account == account)
    }
}

/// A film that was asked for.
pub(super) struct Film<'a> {
    pub(super) chat_id: &'a str,
    pub(super) parent_id: &'a str,
    pub(super) response_id: &'a str,
    pub(super) account: &'a str,
    pub(super) chat_type: &'a str,
    pub(super) size: &'a str,
    pub(super) directives: &'a Directives,
}

/// Begins a film, and says which task makes it.
pub(super) fn film(shared: &Shared, film: &Film<'_>) -> Response<Body> {
    let Film { chat_id, parent_id, response_id, account, chat_type, size, directives } = *film;
    let id = format!("task-{response_id}");
    let key = key(directives);
    let url =
        format!("https://cdn.qwenlm.ai/output/emulated/{chat_type}/{chat_id}/{id}.mp4?key={key}");
    let mut state = shared.lock();
    if directives.has("task_empty") || directives.has("task_kept") {
        state.hold_media(chat_id, response_id, vec![url.clone()]);
    }
    let takes = millis(directives.number("task", 60_000).unwrap_or(0));
    let begun = shared.clock.now();
    let task = Task::new(&id, account, chat_type, url, begun, takes, directives.clone());
    state.tasks.begin(task);
    drop(state);
    success(json!({
        "chat_id": chat_id, "parent_id": parent_id, "message_id": response_id,
        "messages": [{
            "role": "assistant", "content": "", "chat_type": chat_type, "done": false,
            "size": size, "extra": {"wanx": {"task_id": id}},
        }],
    }))
}

/// What a task is at; `older` is the path of before.
pub(super) fn task(shared: &Shared, account: &str, id: &str, older: bool) -> Response<Body> {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let unknown = || mean(Refusal::new(404, "Not_Found", "Task not found").response(), 404);
    let Some(task) = state.tasks.find(id, account) else { return unknown() };
    let has = |name: &str| task.directives.has(name);
    if has("task_older") && !older {
        return json_with(StatusCode::NOT_FOUND, &json!({"detail": "Not Found"}));
    }
    if has("task_lost") || has("task_kept") {
        return unknown();
    }
    let polls = task.polled();
    if task.directives.number("task_flaky", 2).is_some_and(|times| polls <= times) {
        return with_type(StatusCode::BAD_GATEWAY, "text/html", "<html>Bad Gateway</html>\n");
    }
    let is_over = task.is_over(now);
    let left = task.takes.saturating_sub(task.spent(now)).as_secs();
    let has = |name: &str| task.directives.has(name);
    let (status, message, content) = match () {
        () if !is_over => ("running", "", ""),
        () if has("task_failed") => ("failed", "The task failed.", ""),
        () if has("task_filtered") => {
            ("failed", "Output data may contain inappropriate content.", "")
        }
        () if has("task_empty") => ("success", "", ""),
        () => ("success", "", &*task.url),
    };
    let left = if has("task_left") && !is_over { left.to_string() } else { String::new() };
    let data = json!({
        "chat_type": task.kind.as_str(), "task_status": status, "message": message,
        "content": content, "remaining_time": left, "sub_chat_type": null, "duration": null,
    });
    if older { json_with(StatusCode::OK, &data) } else { success(data) }
}

/// What is at an address of a picture or a film.
pub(super) fn fetched(path: &str, query: Option<&str>) -> Response<Body> {
    if query.is_none_or(|query| !query.contains("key=DEMO")) {
        let text = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";
        return with_type(StatusCode::FORBIDDEN, "application/xml", text);
    }
    match path.rsplit_once('.') {
        Some((_, "png")) => with_type(StatusCode::OK, "image/png", PNG),
        Some((_, "mp4")) => with_type(StatusCode::OK, "video/mp4", MP4),
        _ => with_type(StatusCode::NOT_FOUND, "application/xml", "<Error/>"),
    }
}
