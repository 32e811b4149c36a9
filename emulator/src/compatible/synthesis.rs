//! DashScope's own API for images and videos.

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};

use super::{
    Dialect,
    error::{Class, Fault},
};
use crate::{
    body::Body,
    completion::{due, millis},
    directive::Directives,
    envelope::json_with,
    json::{Value, json},
    media::Task,
    state::Shared,
};

/// Answers a request for `path`, without what stands before it; `None` where that is none of its own.
pub(super) fn answer(
    shared: &Shared,
    dialect: Dialect,
    parts: &Parts,
    path: &str,
    body: &Bytes,
    id: &str,
) -> Option<Result<Response<Body>, Fault>> {
    if let Some(task) = path.strip_prefix("/tasks/") {
        return (parts.method == Method::GET).then(|| Ok(told(shared, task, id)));
    }
    let service = path.strip_prefix("/services/aigc/")?;
    if parts.method != Method::POST {
        return None;
    }
    let is_task = match service {
        "multimodal-generation/generation" => false,
        "text2image/image-synthesis"
        | "image2image/image-synthesis"
        | "video-generation/video-synthesis" => true,
        _ => return None,
    };
    let is_async = parts.headers.get("x-dashscope-async").is_some_and(|value| value == "enable");
    Some(asked(shared, dialect, service, is_task, is_async, body, id))
}

fn asked(
    shared: &Shared,
    dialect: Dialect,
    service: &str,
    is_task: bool,
    is_async: bool,
    body: &Bytes,
    id: &str,
) -> Result<Response<Body>, Fault> {
    let native = |class| Fault { native: true, ..Fault::new(class) };
    let request: Value = serde_json::from_slice(body).map_err(|_| native(Class::BadRequest))?;
    let model = request["model"].as_str().ok_or_else(|| native(Class::BadRequest))?;
    // Each model has one way to be asked.
    let is_video = service.starts_with("video");
    let is_known = match service {
        "multimodal-generation/generation" => {
            model.contains("image") || model.starts_with("wan2.6")
        }
        _ => model.starts_with("wan"),
    };
    if !is_known {
        return Err(Fault { native: true, ..Fault::model_not_found(dialect, model) });
    }
    let content = request["input"]["messages"][0]["content"].as_array();
    let words = request["input"]["prompt"].as_str().map(str::to_owned).or_else(|| {
        let texts = content?.iter().filter_map(|part| part["text"].as_str());
        Some(texts.collect::<Vec<_>>().join("\n"))
    });
    let words = words.filter(|words| !words.is_empty()).ok_or_else(|| native(Class::BadRequest))?;
    if is_task && !is_async {
        return Err(native(Class::Forbidden));
    }
    let directives = due(shared, &words);
    for (name, class) in [
        ("quota", Class::Quota),
        ("rate_limited", Class::RateLimited),
        ("billing", Class::Billing),
        ("content_filter", Class::ContentFilter),
        ("unauthorized", Class::Unauthorized),
        ("overloaded", Class::Overloaded),
        ("internal", Class::Internal),
    ] {
        if directives.has(name) {
            let retry_after = directives.number(name, 0).filter(|seconds| *seconds > 0);
            return Err(Fault { retry_after, ..native(class) });
        }
    }
    let kind = if is_video { "mp4" } else { "png" };
    let key = if directives.has("expired") { "EXPIRED" } else { "DEMO" };
    let url = format!("https://dashscope-result.example.com/output/{id}/1.{kind}?key={key}");
    if !is_task {
        let part = match directives.argument("say") {
            Some(text) => json!({"text": text}),
            None => json!({"image": url}),
        };
        return Ok(json_with(
            StatusCode::OK,
            &json!({
                "output": {"choices": [{
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": [part]},
                }]},
                "usage": {"height": 1328, "image_count": 1, "width": 1328},
                "request_id": id,
            }),
        ));
    }
    let takes = millis(directives.number("task", 60_000).unwrap_or(0));
    let task = Task::new(id, "", kind, url, shared.clock.now(), takes, directives);
    shared.lock().tasks.begin(task);
    let output = json!({"task_status": "PENDING", "task_id": id});
    Ok(json_with(StatusCode::OK, &json!({"output": output, "request_id": id})))
}

/// What a task is at.
fn told(shared: &Shared, task_id: &str, id: &str) -> Response<Body> {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let say =
        |output: &Value| json_with(StatusCode::OK, &json!({"request_id": id, "output": output}));
    let unknown = json!({"task_id": task_id, "task_status": "UNKNOWN"});
    let Some(task) = state.tasks.find(task_id, "") else { return say(&unknown) };
    let polls = task.polled();
    let has = |directives: &Directives, name: &str| directives.has(name);
    let directives = &task.directives;
    if has(directives, "task_lost") {
        return say(&unknown);
    }
    if directives.number("task_flaky", 2).is_some_and(|times| polls <= times) {
        let body = json!({"code": "InternalError", "message": "try again", "request_id": id});
        return json_with(StatusCode::INTERNAL_SERVER_ERROR, &body);
    }
    let word = match () {
        () if polls == 1 => "PENDING",
        () if !task.is_over(now) => "RUNNING",
        () if has(directives, "task_failed") || has(directives, "task_filtered") => "FAILED",
        () => "SUCCEEDED",
    };
    let mut output = json!({
        "task_id": task_id, "task_status": word, "submit_time": "2026-11-30 20:00:00.000",
    });
    match word {
        "FAILED" if has(directives, "task_filtered") => {
            output["code"] = "DataInspectionFailed".into();
            output["message"] = "Output data may contain inappropriate content.".into();
        }
        "FAILED" => {
            output["code"] = "InternalError.Algo".into();
            output["message"] = "The task failed.".into();
        }
        "SUCCEEDED" if has(directives, "task_empty") => {}
        "SUCCEEDED" if task.kind == "mp4" => output["video_url"] = task.url.as_str().into(),
        "SUCCEEDED" => {
            output["results"] = json!([{"orig_prompt": "", "url": task.url.as_str()}]);
            output["task_metrics"] = json!({"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0});
        }
        _ => {}
    }
    say(&output)
}
