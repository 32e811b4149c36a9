//! Looking up what upstream keeps: the state of a task, and what a chat holds.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body;
use serde_json::{Map, Value};
use tower_service::Service;

use super::{
    delete::chat_uri,
    envelope::envelope,
    error::{Call, Failure},
    head::Head,
    making::{Making, is_address, owned},
};
use crate::{
    BoxError, Error, ErrorKind, FullBody, Text,
    chat::Conversation,
    qwen::{
        redact::Secrets,
        task::{Ask, TaskState},
        transport,
    },
};

/// The largest answer about a task that is read.
const TASK_LIMIT: usize = 256 * 1024;

/// How many pictures of one answer are taken from the record of its chat.
const FOUND: usize = 16;

/// Asks upstream for what it keeps.
pub(super) struct Kept<S> {
    service: S,
    head: Head,
    /// How long an answer may take once it has begun.
    deadline: Duration,
    /// The largest record of a chat that is read.
    record_limit: usize,
    /// Whether tasks are known under the older path alone.
    older: bool,
}

impl<S, B> Kept<S>
where
    S: Service<Request<FullBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(service: S, head: Head, deadline: Duration, record_limit: usize) -> Self {
        Self { service, head, deadline, record_limit, older: false }
    }

    async fn get(
        &mut self,
        path: String,
        call: Call,
        limit: usize,
    ) -> Result<Map<String, Value>, Error> {
        let mut request = Request::new(FullBody::default());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path.parse().map_err(|error| {
            Error::new(ErrorKind::Upstream, "the upstream's id does not fit into a URL")
                .with_source(error as http::uri::InvalidUri)
        })?;
        *request.headers_mut() = self.head.headers.clone();
        *request.extensions_mut() = self.head.extensions.clone();
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let (head, body) = transport::send(&mut self.service, request).await?.into_parts();
        let read = transport::read(body, limit, self.deadline).await;
        let secrets = Secrets::new(self.head.credential.as_ref(), &head.extensions);
        envelope(call, head.status, &head.headers, &read, &secrets)
    }

    /// What the task `id` is at.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where upstream does not know it, and what else it says.
    pub(super) async fn task(&mut self, id: &str) -> Result<TaskState, Error> {
        let newer = format!("/api/v2/task/status/{id}");
        let older = format!("/api/v1/tasks/status/{id}");
        let path = if self.older { older.clone() } else { newer };
        let told = match self.get(path, Call::Task, TASK_LIMIT).await {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.older => {
                let told = self.get(older, Call::Task, TASK_LIMIT).await?;
                self.older = true;
                told
            }
            told => told?,
        };
        let secrets = Secrets::new(self.head.credential.as_ref(), &self.head.extensions);
        // The older path has it without an envelope.
        let data = told.get("data").and_then(Value::as_object).unwrap_or(&told);
        let word = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().trim();
        let content = Some(word("content")).filter(|url| is_address(url)).map(owned);
        Ok(match word("task_status").to_ascii_lowercase().as_str() {
            "running" | "pending" | "queued" | "processing" | "in_progress" => {
                let left = word("remaining_time").parse().ok().map(Duration::from_secs);
                TaskState::Running { left }
            }
            "success" | "succeeded" | "finished" | "completed" => {
                TaskState::Made(content.into_iter().collect())
            }
            "" if content.is_some() => TaskState::Made(content.into_iter().collect()),
            // Whatever else it says is a failure, as on the page.
            _ => TaskState::Failed(Failure::from_object(data).into_error(
                Call::Task,
                None,
                None,
                &secrets,
            )),
        })
    }

    /// The addresses of what was made in a chat: by the answer `response_id`, where that is known and
    /// there, and else by any. None where the chat says nothing of it.
    ///
    /// # Errors
    ///
    /// What upstream says.
    pub(super) async fn made(
        &mut self,
        chat_id: &str,
        response_id: Option<&str>,
        making: &Making,
    ) -> Result<Vec<Text>, Error> {
        let Some(uri) = chat_uri(chat_id) else { return Ok(Vec::new()) };
        let call = Call::Turn { continued: true };
        let record = self.get(uri.to_string(), call, self.record_limit).await?;
        let history = ["data", "chat", "history", "messages"];
        let mut messages = None;
        let mut at = Some(&record);
        for key in history {
            messages = at.and_then(|object| object.get(key)).and_then(Value::as_object);
            at = messages;
        }
        let Some(messages) = messages else { return Ok(Vec::new()) };
        let ours = response_id.and_then(|id| messages.get(id));
        let found = match ours {
            Some(message) => addresses(message, making),
            None => messages.values().flat_map(|message| addresses(message, making)).collect(),
        };
        Ok(found)
    }
}

/// Asks about one task, whose answer is to come at a place in a chat.
pub(super) struct WebTask<S> {
    pub(super) kept: Kept<S>,
    pub(super) id: Text,
    pub(super) place: Conversation,
    pub(super) making: Making,
}

impl<S, B> Ask for WebTask<S>
where
    S: Service<Request<FullBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn ask(&mut self) -> Result<TaskState, Error> {
        let told = self.kept.task(&self.id).await;
        // The record of the chat may hold what the task does not tell any more.
        let may_be_there = match &told {
            Ok(TaskState::Made(urls)) => urls.is_empty(),
            Err(error) => error.kind() == ErrorKind::NotFound,
            Ok(_) => false,
        };
        if may_be_there {
            let (chat_id, parent_id) = (&self.place.chat_id, self.place.parent_id.as_deref());
            match self.kept.made(chat_id, parent_id, &self.making).await {
                Ok(found) if !found.is_empty() => return Ok(TaskState::Made(found)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the chat of a task cannot be read"),
            }
        }
        told
    }
}

/// The addresses that a message of a chat's record holds.
fn addresses(message: &Value, making: &Making) -> Vec<Text> {
    let is_ours = message.get("role").and_then(Value::as_str) != Some("user");
    let items =
        message.get("content_list").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let of_list = items.iter().filter(|item| {
        let phase = item.get("phase").and_then(Value::as_str).unwrap_or_default();
        // What phase a film has is not known.
        making.is_task() || phase.starts_with("image_gen")
    });
    let mut found: Vec<Text> = Vec::new();
    for content in of_list.chain([message]).filter_map(|item| item.get("content")) {
        let Some(url) = content.as_str().map(str::trim).filter(|url| is_ours && is_address(url))
        else {
            continue;
        };
        if found.len() < FOUND && !found.iter().any(|known| *known == *url) {
            found.push(owned(url));
        }
    }
    found
}

/// The id of the task that the answer to a request for a film names.
pub(super) fn task_id(envelope: &Map<String, Value>) -> Option<&str> {
    fn of(object: &Map<String, Value>) -> Option<&str> {
        object.get("task_id").and_then(Value::as_str).filter(|id| !id.is_empty())
    }
    let data = envelope.get("data")?.as_object()?;
    let messages = data.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let extras = messages.iter().filter_map(Value::as_object).flat_map(|message| {
        let extra = message.get("extra").and_then(Value::as_object);
        // The engine has an object of its own.
        let inner = extra.into_iter().flat_map(Map::values).filter_map(Value::as_object);
        inner.chain(extra).chain([message])
    });
    extras.chain([data]).find_map(of)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{AnswerKind, MediaOptions};

    #[test]
    fn a_task_is_named_in_one_of_several_places() {
        for data in [
            json!({"messages": [{"extra": {"wanx": {"task_id": "t-1"}}}]}),
            json!({"messages": [{"extra": {"other": {"x": 1}, "wanx": {"task_id": "t-1"}}}]}),
            json!({"messages": [{}, {"extra": {"task_id": "t-1"}}]}),
            json!({"messages": [{"task_id": "t-1", "extra": null}]}),
            json!({"messages": null, "task_id": "t-1"}),
        ] {
            let envelope = json!({"success": true, "data": data});
            assert_eq!(task_id(envelope.as_object().expect("object")), Some("t-1"), "{data}");
        }
        for envelope in [
            json!({}),
            json!({"data": null}),
            json!({"data": {"messages": [{"extra": {"wanx": {"task_id": ""}}}]}}),
            json!({"data": {"messages": [{"extra": {"wanx": {"task_id": 7}}}]}}),
        ] {
            assert_eq!(task_id(envelope.as_object().expect("object")), None, "{envelope}");
        }
    }

    #[test]
    fn what_was_made_is_found_in_the_record() {
        let making = |kind| Making::new(kind, &MediaOptions::default(), 0).expect("valid");
        let (a, b) = ("https://x.example/a.png", "https://x.example/b.png");
        let picture = json!({"role": "assistant", "content": "", "content_list": [
            {"phase": "think", "content": "https://x.example/thought"},
            {"phase": "image_gen", "content": a},
            {"phase": "image_gen", "content": a},
            {"phase": "image_gen_tool", "content": b},
            {"phase": "image_gen", "content": "not an address"},
            {"phase": "image_gen", "content": null},
        ]});
        assert_eq!(addresses(&picture, &making(AnswerKind::Image)), [a, b]);
        let plain = json!({"role": "assistant", "content": a});
        assert_eq!(addresses(&plain, &making(AnswerKind::Video)), [a]);
        let of_the_user = json!({"role": "user", "content": a});
        assert!(addresses(&of_the_user, &making(AnswerKind::Image)).is_empty());
        let many: Vec<_> = (0..99)
            .map(|n| json!({"phase": "image_gen", "content": format!("https://x.example/{n}")}))
            .collect();
        let many = json!({"role": "assistant", "content_list": many});
        assert_eq!(addresses(&many, &making(AnswerKind::Image)).len(), FOUND);
    }
}
