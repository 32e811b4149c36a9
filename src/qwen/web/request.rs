//! The bodies that chat.qwen.ai wants.

use std::{
    fmt::Display,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{
    ChatType, Thinking,
    config::Config,
    fold::{self, Folded, fold, prompt},
    making::Making,
};
use crate::{
    Error, Text,
    chat::{
        AnswerKind, ChatRequest, FileKind, ReasoningEffort, ReasoningOptions, Tool, UploadedFile,
    },
    family::always_thinks,
    qwen::effort::{Effort, LARGEST_BUDGET},
};

/// How long a body is without the model's name, text and images, in bytes; some more than that.
const REST_LEN: usize = 2048;

/// How long the record of a file is without its URL and name, in bytes; some more than that.
const FILE_LEN: usize = 384;

#[derive(Serialize)]
struct NewChat<'a> {
    title: &'a str,
    models: [&'a str; 1],
    chat_mode: &'a str,
    chat_type: &'a str,
    /// Milliseconds here, seconds in a completion.
    timestamp: u64,
    project_id: &'a str,
}

/// The body of `POST /api/v2/chats/new`.
pub(super) fn new_chat(config: &Config, model: &str, chat_type: ChatType) -> Bytes {
    json(&NewChat {
        title: &config.title,
        models: [model],
        chat_mode: &config.chat_mode,
        chat_type: chat_type.as_str(),
        timestamp: u64::try_from(now().as_millis()).unwrap_or(u64::MAX),
        project_id: &config.project_id,
    })
}

#[derive(Serialize)]
struct Stop<'a> {
    chat_id: &'a str,
    response_id: &'a str,
}

/// The body of `POST /api/v2/chat/completions/stop`.
pub(super) fn stop(chat_id: &str, response_id: &str) -> Bytes {
    json(&Stop { chat_id, response_id })
}

/// What a turn needs of a request, checked before the first call is made.
pub(super) struct Turn<'a> {
    model: Text,
    folded: Folded<'a>,
    features: Features,
    wanted: Wanted,
}

/// What is to come of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The kind of the answer in upstream's words.
    pub(super) chat_type: ChatType,
    /// What is made in place of a text.
    pub(super) making: Option<Making>,
}

impl<'a> Turn<'a> {
    /// # Errors
    ///
    /// Names the part of the request that upstream cannot be given.
    pub(super) fn new(config: &Config, request: &'a ChatRequest) -> Result<Self, Error> {
        let chat_type = chat_type(config, request);
        let (folded, making) = match chat_type.makes() {
            None => (fold(&request.history)?, None),
            Some(kind) => {
                let prompt = prompt(&request.history)?;
                let making = Making::new(kind, &request.media, prompt.files.len())?;
                (prompt, Some(making))
            }
        };
        let chat_type = making.as_ref().map_or(chat_type, Making::chat_type);
        Ok(Self {
            model: request.model.clone(),
            folded,
            features: Features::new(config, request, chat_type),
            wanted: Wanted { chat_type, making },
        })
    }

    /// What is to come of it.
    pub(super) const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The body of `POST /api/v2/chat/completions`.
    pub(super) fn body(&self, config: &Config, chat_id: &str, parent_id: Option<&str>) -> Bytes {
        let Wanted { chat_type, making } = &self.wanted;
        let (chat_type, making) = (chat_type.as_str(), making.as_ref());
        let shape = making.and_then(Making::shape);
        let seconds = now().as_secs();
        let model = self.model.as_str();
        let files = self.folded.files.iter().map(|file| match file {
            fold::File::Image(url) => FILE_LEN + 2 * url.len(),
            fold::File::Uploaded(file) => FILE_LEN + file.url.len() + file.name.len(),
        });
        let files: usize = files.sum();
        let size = REST_LEN + 4 * model.len() + self.folded.escaped_len() + files;
        json_of(
            size,
            &Completion {
                stream: !making.is_some_and(Making::is_task),
                version: "2.1",
                incremental_output: config.incremental,
                chat_id,
                camel_chat_id: chat_id,
                chat_mode: &config.chat_mode,
                model,
                parent_id,
                camel_parent_id: parent_id.unwrap_or(""),
                messages: [Message {
                    id: None,
                    fid: Uuid::new_v4().to_string(),
                    camel_parent_id: parent_id,
                    parent_id,
                    children_ids: [Uuid::new_v4().to_string()],
                    role: "user",
                    content: &self.folded,
                    user_action: "chat",
                    files: self.folded.files.iter().map(File::new).collect(),
                    timestamp: seconds,
                    models: [model],
                    model: "",
                    chat_type,
                    sub_chat_type: chat_type,
                    feature_config: &self.features,
                    extra: Extra { meta: Meta { sub_chat_type: chat_type, size: shape } },
                }],
                timestamp: seconds,
                size: shape,
            },
        )
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    stream: bool,
    version: &'a str,
    incremental_output: bool,
    chat_id: &'a str,
    #[serde(rename = "chatId")]
    camel_chat_id: &'a str,
    chat_mode: &'a str,
    model: &'a str,
    parent_id: Option<&'a str>,
    #[serde(rename = "parentId")]
    camel_parent_id: &'a str,
    messages: [Message<'a>; 1],
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    id: Option<&'a str>,
    fid: String,
    #[serde(rename = "parentId")]
    camel_parent_id: Option<&'a str>,
    parent_id: Option<&'a str>,
    #[serde(rename = "childrenIds")]
    children_ids: [String; 1],
    role: &'a str,
    #[serde(serialize_with = "displayed")]
    content: &'a Folded<'a>,
    user_action: &'a str,
    files: Vec<File<'a>>,
    timestamp: u64,
    models: [&'a str; 1],
    model: &'a str,
    chat_type: &'a str,
    sub_chat_type: &'a str,
    feature_config: &'a Features,
    extra: Extra<'a>,
}

#[derive(Serialize)]
struct Extra<'a> {
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    #[serde(rename = "subChatType")]
    sub_chat_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<&'a str>,
}

/// A file's entry: the short form is enough for images that upstream fetches.
#[derive(Serialize)]
#[serde(untagged)]
enum File<'a> {
    Short(ShortFile<'a>),
    Full(FullFile<'a>),
}

#[derive(Serialize)]
struct ShortFile<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    file_type: &'a str,
    #[serde(rename = "showType")]
    show_type: &'a str,
    file_class: &'a str,
    status: &'a str,
    url: &'a str,
}

#[derive(Serialize)]
struct FullFile<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    file: Nothing,
    id: &'a str,
    url: &'a str,
    name: &'a str,
    collection_name: &'a str,
    progress: u8,
    status: &'a str,
    #[serde(rename = "greenNet")]
    green_net: &'a str,
    size: u64,
    error: &'a str,
    #[serde(rename = "itemId")]
    item_id: &'a str,
    file_type: &'a str,
    #[serde(rename = "showType")]
    show_type: &'a str,
    file_class: &'a str,
}

/// `{}`.
#[derive(Serialize)]
struct Nothing {}

impl<'a> File<'a> {
    fn new(file: &fold::File<'a>) -> Self {
        match file {
            fold::File::Image(url) => Self::image(url),
            fold::File::Uploaded(file) => Self::uploaded(file),
        }
    }

    fn uploaded(file: &'a UploadedFile) -> Self {
        let (kind, class) = match file.kind {
            FileKind::Image => ("image", "vision"),
            FileKind::Audio => ("audio", "audio"),
            FileKind::Video => ("video", "video"),
            FileKind::Document => ("file", "document"),
        };
        Self::Full(FullFile {
            kind,
            file: Nothing {},
            id: &file.id,
            url: &file.url,
            name: &file.name,
            collection_name: "",
            progress: 100,
            status: "uploaded",
            green_net: "success",
            size: file.size,
            error: "",
            item_id: &file.id,
            file_type: &file.media_type,
            show_type: kind,
            file_class: class,
        })
    }

    fn image(url: &'a str) -> Self {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let name = path.splitn(4, '/').nth(3).and_then(|path| path.rsplit('/').next());
        let name = name.filter(|name| !name.is_empty()).unwrap_or("image.png");
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let file_type = match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" => "image/jpeg",
            "webp" => "image/webp",
            "gif" => "image/gif",
            "bmp" => "image/bmp",
            _ => "image/png",
        };
        Self::Short(ShortFile {
            kind: "image",
            name,
            file_type,
            show_type: "image",
            file_class: "vision",
            status: "uploaded",
            url,
        })
    }
}

/// `feature_config`, in the captured gears.
#[derive(Serialize)]
struct Features {
    thinking_enabled: bool,
    output_schema: &'static str,
    research_mode: &'static str,
    auto_thinking: bool,
    thinking_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    auto_search: bool,
}

impl Features {
    fn new(config: &Config, request: &ChatRequest, chat_type: ChatType) -> Self {
        let thinking = gear(request, config.thinking);
        let thinks = thinking != Thinking::Fast;
        Self {
            thinking_enabled: thinks,
            output_schema: "phase",
            research_mode: match chat_type {
                ChatType::DeepResearch => "deep",
                _ => "normal",
            },
            auto_thinking: thinking == Thinking::Auto,
            thinking_mode: thinking.as_str(),
            thinking_format: thinks.then_some("summary"),
            thinking_budget: budget(request).filter(|_| thinks),
            auto_search: config.auto_search || offers_search(&request.tools),
        }
    }
}

/// What kind of answer a request asks for, or else the layer.
///
/// # Errors
///
/// For a kind that is no stream.
fn chat_type(config: &Config, request: &ChatRequest) -> ChatType {
    match request.kind {
        AnswerKind::Search => ChatType::Search,
        AnswerKind::DeepResearch => ChatType::DeepResearch,
        AnswerKind::Image => ChatType::Image,
        AnswerKind::Video => ChatType::Video,
        AnswerKind::Text if config.chat_type == ChatType::Text && must_search(request) => {
            ChatType::Search
        }
        AnswerKind::Text => config.chat_type,
    }
}

/// Whether a search of the web is asked for, in the words of chat completions.
fn must_search(request: &ChatRequest) -> bool {
    request.extra.get("web_search_options").is_some_and(|value| !value.is_null())
}

/// The gear that a request asks for: the page has no tiers, so the least thinking is none.
fn gear(request: &ChatRequest, default: Thinking) -> Thinking {
    // What makes pictures does not think.
    if request.kind.is_media() {
        return Thinking::Fast;
    }
    let ReasoningOptions { effort, enabled, .. } = &request.reasoning;
    let is_least = enabled.is_none() && *effort == Some(ReasoningEffort::Minimal);
    match request.reasoning.wanted() {
        None => default,
        Some(true) if !is_least => Thinking::Thinking,
        // These refuse whoever does not want them to think.
        _ if always_thinks(&request.model) => Thinking::Thinking,
        _ => Thinking::Fast,
    }
}

/// The budget that a request asks for, as far as there is one to send.
fn budget(request: &ChatRequest) -> Option<i64> {
    let budget = request.reasoning.budget.filter(|&budget| budget > 0);
    budget.map(|budget| budget.min(LARGEST_BUDGET))
}

/// How much the model is told to think.
pub(super) fn effort(config: &Config, request: &ChatRequest) -> Effort<'static> {
    match gear(request, config.thinking) {
        Thinking::Fast => Effort::Off,
        _ => budget(request).map_or(Effort::On, Effort::of_budget),
    }
}

/// Whether the client offers upstream's own web search as a tool.
fn offers_search(tools: &[Tool]) -> bool {
    tools.iter().any(|tool| match tool {
        Tool::Other(value) => value.get("type").is_some_and(|kind| {
            kind.as_string().is_some_and(|kind| kind.starts_with("web_search"))
        }),
        _ => false,
    })
}

fn now() -> std::time::Duration {
    // A clock before 1970 is none.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn json(body: &impl Serialize) -> Bytes {
    json_of(REST_LEN, body)
}

/// The JSON of `body`, which is about `size` bytes long: a long history is written once, into a
/// buffer that need not grow.
fn json_of(size: usize, body: &impl Serialize) -> Bytes {
    let mut json = Vec::with_capacity(size);
    serde_json::to_writer(&mut json, body)
        .expect("string keys, and no type whose serialisation fails");
    json.into()
}

/// Writes a text piece by piece.
fn displayed<T: Display, S: Serializer>(text: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
