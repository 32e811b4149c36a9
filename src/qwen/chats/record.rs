//! Chats as chat.qwen.ai keeps them: a page of the list, and the messages of one.

use std::{collections::HashSet, fmt::Write as _};

use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Text, chat::Role};

/// A chat as the list of an account has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatSummary {
    /// Its id.
    pub id: Text,
    /// Its title, which upstream makes up after the first turn.
    pub title: Option<Text>,
    /// The kind of its answers in upstream's words, such as `t2t`.
    pub chat_type: Option<Text>,
    /// When it was opened, in seconds since 1970.
    pub created: Option<u64>,
    /// When something was last said in it, in seconds since 1970.
    pub updated: Option<u64>,
}

/// A chat with what was said in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatRecord {
    /// What the list says of it.
    pub summary: ChatSummary,
    /// The messages in their order. A chat is a tree: this is the branch that ends with its current
    /// message, which is what the page shows.
    pub messages: Vec<ChatMessage>,
}

/// A message of a chat, as upstream keeps it: what a user's says is what the adapter has sent, with
/// tools and earlier turns where they were told in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatMessage {
    /// Its id.
    pub id: Text,
    /// The message before it.
    pub parent_id: Option<Text>,
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub text: Text,
    /// What was thought before.
    pub reasoning: Option<Text>,
    /// The model that was asked, or that answered.
    pub model: Option<Text>,
    /// When it was said, in seconds since 1970.
    pub created: Option<u64>,
}

impl ChatRecord {
    /// The conversation as Markdown, for people: a title, and a heading for each message. What was
    /// thought stands in a quote.
    #[must_use]
    pub fn markdown(&self) -> String {
        let title = self.summary.title.as_deref().unwrap_or("Chat");
        let mut text = format!("# {}\n", one_line(title));
        for message in &self.messages {
            let who = match message.role {
                Role::Assistant => message.model.as_deref().unwrap_or("assistant"),
                Role::Tool => "tool",
                role if role.is_instruction() => "system",
                _ => "user",
            };
            let _ = write!(text, "\n## {}\n\n", one_line(who));
            for line in message.reasoning.iter().flat_map(|thought| thought.lines()) {
                let _ = writeln!(text, "> {line}");
            }
            if message.reasoning.is_some() {
                text.push('\n');
            }
            text.push_str(message.text.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A heading ends at the end of its line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How long a branch may be. A tree that goes in circles ends there.
const MESSAGES: usize = 100_000;

/// The chats of a page; some versions have them in a field of their own.
pub(super) fn summaries(data: Value) -> Result<Vec<ChatSummary>, Error> {
    let list = match data {
        Value::Object(mut inner) => inner.remove("chats"),
        list => Some(list),
    };
    let Some(Value::Array(chats)) = list else {
        return Err(no_answer("the upstream's list of chats is none"));
    };
    let chats = chats.iter().filter_map(Value::as_object);
    Ok(chats.filter_map(|chat| summary(chat, None)).collect())
}

/// One chat with the branch of its tree that ends with the current message.
pub(super) fn record(data: Value, id: &str) -> Result<ChatRecord, Error> {
    let Value::Object(chat) = data else {
        return Err(no_answer("the upstream's record of the chat is none"));
    };
    let history = chat.get("chat").and_then(|inner| inner.get("history"));
    let messages = history.and_then(|history| history.get("messages")).and_then(Value::as_object);
    let empty = Map::new();
    let messages = messages.unwrap_or(&empty);
    let current = ["currentId", "currentID", "current_id"]
        .into_iter()
        .find_map(|name| history.and_then(|history| history.get(name)?.as_str()));
    let summary = summary(&chat, Some(id));
    let summary = summary.ok_or_else(|| no_answer("the upstream's record names no chat"))?;
    Ok(ChatRecord { summary, messages: branch(messages, current) })
}

fn summary(chat: &Map<String, Value>, id: Option<&str>) -> Option<ChatSummary> {
    let text = |name: &str| chat.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let inner = |name: &str| chat.get("chat")?.get(name)?.as_str();
    Some(ChatSummary {
        id: text("id").or(id)?.into(),
        title: text("title").or_else(|| inner("title")).map(Text::from),
        chat_type: text("chat_type").map(Text::from),
        created: seconds(chat.get("created_at")),
        updated: seconds(chat.get("updated_at")),
    })
}

/// The messages from the root to `current`, or where that is not said, to the newest.
fn branch(messages: &Map<String, Value>, current: Option<&str>) -> Vec<ChatMessage> {
    let newest = || {
        let by_time = messages.iter().max_by_key(|(_, message)| seconds(message.get("timestamp")));
        by_time.map(|(id, _)| id.as_str())
    };
    let mut at = current.filter(|id| messages.contains_key(*id)).or_else(newest);
    let mut branch = Vec::new();
    let mut seen = HashSet::new();
    while let Some(id) = at
        && branch.len() < MESSAGES
        && seen.insert(id)
        && let Some(message) = messages.get(id)
    {
        let parent =
            ["parentId", "parent_id"].into_iter().find_map(|name| message.get(name)?.as_str());
        branch.push(read(id, parent, message));
        at = parent.filter(|id| !id.is_empty());
    }
    branch.reverse();
    branch
}

fn read(id: &str, parent: Option<&str>, message: &Value) -> ChatMessage {
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let (mut content, mut reasoning) =
        (text("content").unwrap_or_default().to_owned(), String::new());
    // The answer of an answer stands in pieces by phase, and its `content` may be empty then.
    let pieces = message.get("content_list").and_then(Value::as_array);
    for piece in pieces.into_iter().flatten() {
        let Some(said) = piece.get("content").and_then(Value::as_str) else { continue };
        match piece.get("phase").and_then(Value::as_str) {
            Some("think" | "thinking_summary") => reasoning.push_str(said),
            Some("answer" | "image_gen") | None if text("content").is_none_or(str::is_empty) => {
                content.push_str(said);
            }
            _ => {}
        }
    }
    ChatMessage {
        id: id.into(),
        parent_id: parent.filter(|id| !id.is_empty()).map(Text::from),
        role: match text("role") {
            Some("assistant") => Role::Assistant,
            Some("function" | "tool") => Role::Tool,
            Some("system") => Role::System,
            _ => Role::User,
        },
        text: content.into(),
        reasoning: (!reasoning.is_empty()).then(|| reasoning.into()),
        model: text("model").filter(|model| !model.is_empty()).map(Text::from),
        created: seconds(message.get("timestamp")),
    }
}

/// A time in seconds; one that can only be in milliseconds is.
fn seconds(value: Option<&Value>) -> Option<u64> {
    const YEAR_5000: u64 = 95_617_584_000;
    let number = value?.as_u64()?;
    Some(if number > YEAR_5000 { number / 1000 } else { number })
}

fn no_answer(message: &'static str) -> Error {
    Error::new(ErrorKind::Upstream, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_read_in_both_forms() {
        let chat = json!({"id": "c-1", "title": "Cats", "chat_type": "t2t",
            "created_at": 1_790_000_000, "updated_at": 1_790_000_007_000_u64});
        for data in [json!([chat, {"title": "of nothing"}, 7]), json!({"chats": [chat]})] {
            let chats = summaries(data).expect("a list");
            assert_eq!(chats.len(), 1);
            assert_eq!((chats[0].id.as_str(), chats[0].title.as_deref()), ("c-1", Some("Cats")));
            assert_eq!(
                (chats[0].created, chats[0].updated),
                (Some(1_790_000_000), Some(1_790_000_007))
            );
        }
        for data in [json!("x"), json!({"data": []}), json!(null)] {
            assert_eq!(summaries(data).expect_err("no list").kind(), ErrorKind::Upstream);
        }
    }

    #[test]
    fn the_branch_is_the_one_that_the_page_shows() {
        let messages = json!({
            "u": {"role": "user", "content": "Hi", "parentId": null, "timestamp": 1},
            "a": {"role": "assistant", "content": "", "parentId": "u", "model": "m", "timestamp": 2,
                "content_list": [{"phase": "think", "content": "Hm."},
                    {"phase": "web_search", "content": "x"}, {"phase": "answer", "content": "Hello"}]},
            "b": {"role": "assistant", "content": "Hey", "parent_id": "u", "timestamp": 3,
                "content_list": [{"phase": "answer", "content": "Hey"}]},
        });
        let of = |current: Value| {
            let data = json!({"title": "T", "chat": {"history": {
                "messages": messages, "currentId": current}}});
            let record = record(data, "c-1").expect("a record");
            assert_eq!(record.summary.id, "c-1");
            let said = record.messages.iter();
            said.map(|m| (m.text.to_string(), m.reasoning.clone())).collect::<Vec<_>>()
        };
        let hi = ("Hi".to_owned(), None);
        assert_eq!(of(json!("a")), [hi.clone(), ("Hello".to_owned(), Some("Hm.".into()))]);
        assert_eq!(of(json!("b")), [hi.clone(), ("Hey".to_owned(), None)]);
        // The newest, where the page says nothing that is there.
        assert_eq!(of(json!(null)), of(json!("b")));
        assert_eq!(of(json!("gone")), of(json!("b")));
    }

    #[test]
    fn a_tree_that_goes_in_circles_has_an_end() {
        let data = json!({"id": "c", "chat": {"history": {"currentId": "a", "messages": {
            "a": {"role": "user", "content": "1", "parentId": "b"},
            "b": {"role": "user", "content": "2", "parentId": "a"}}}}});
        assert_eq!(record(data, "c").expect("a record").messages.len(), 2);
        let empty = record(json!({"id": "c"}), "c").expect("a record");
        assert!(empty.messages.is_empty());
    }

    #[test]
    fn a_conversation_is_read_by_people() {
        let message = |role, text: &'static str, reasoning: Option<&'static str>| ChatMessage {
            id: "m".into(),
            parent_id: None,
            role,
            text: text.into(),
            reasoning: reasoning.map(Text::from),
            model: Some("qwen3-max".into()),
            created: None,
        };
        let summary = ChatSummary {
            id: "c".into(),
            title: Some("Cats\nand dogs".into()),
            chat_type: None,
            created: None,
            updated: None,
        };
        let messages = vec![
            message(Role::User, "Hi\n", None),
            message(Role::Assistant, "Hello.", Some("Who?\nA user.")),
        ];
        assert_eq!(
            ChatRecord { summary, messages }.markdown(),
            "# Cats and dogs\n\n## user\n\nHi\n\n## qwen3-max\n\n> Who?\n> A user.\n\nHello.\n"
        );
    }
}
