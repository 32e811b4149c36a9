//! About how large a request is.

use super::{ChatRequest, Content, Part, PartKind};

/// What stands around an item of a request, in bytes: a message, a part, a call, a tool.
const ITEM: usize = 32;

/// Whether the history and the tools of `chat` are about `limit` bytes, or more. It stops looking as soon
/// as it knows that they are.
pub(crate) fn exceeds(chat: &ChatRequest, limit: usize) -> bool {
    let messages = chat.history.iter().map(|message| {
        let calls: usize = (message.tool_calls.iter())
            .map(|call| ITEM + call.arguments.len() + call.name.len() + call.id.len())
            .sum();
        let reasoning = message.reasoning.as_ref().map_or(0, |text| text.len());
        let content = message.content.as_ref().map_or(0, size);
        ITEM + content + calls + reasoning + message.extra.byte_len()
    });
    let tools = chat.tools.iter().map(|tool| {
        let schema = tool.as_function().and_then(|function| function.parameters.as_ref());
        ITEM + schema.map_or(0, |schema| schema.as_str().len())
    });
    let mut left = limit.saturating_sub(chat.extra.byte_len());
    messages.chain(tools).any(|size| {
        left = left.saturating_sub(size);
        left == 0
    })
}

fn size(content: &Content) -> usize {
    let part = |part: &Part| {
        let kind = match &part.kind {
            PartKind::Text(text)
            | PartKind::Refusal(text)
            | PartKind::Image { url: text, .. }
            | PartKind::Video { url: text }
            | PartKind::Audio { data: text, .. }
            | PartKind::ToolReference { name: text }
            | PartKind::File { data: Some(text), .. } => text.len(),
            PartKind::File { data: None, .. } => 0,
            PartKind::Uploaded(file) => file.url.len() + file.name.len(),
            PartKind::Other(whole) => whole.byte_len(),
        };
        ITEM + kind + part.extra.byte_len() + part.inner_extra.byte_len()
    };
    match content {
        Content::Text(text) => text.len(),
        Content::Parts(parts) => parts.iter().map(part).sum(),
    }
}
