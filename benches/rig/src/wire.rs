//! What the load asks for, and how the two upstreams say it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// What the upstream shall do. It stands in the prompt, which is what gets through every rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// How many events.
    pub(crate) events: u32,
    /// How many microseconds lie between two, of which the first comes at once. With 0 all are
    /// ready.
    pub(crate) gap: u32,
    /// How many of those that are ready stand in one chunk, at least 1.
    pub(crate) together: u32,
}

const ORDER: &[u8] = b"rig:";

impl Order {
    /// The body of a request that asks for it.
    pub(crate) fn body(self, streams: bool) -> String {
        format!(
            "{{\"model\":\"qwen-plus\",\"stream\":{streams},\"messages\":[{{\"role\":\"user\",\
             \"content\":\"rig:{}:{}:{};\"}}]}}",
            self.events, self.gap, self.together
        )
    }

    /// The last order in a request.
    pub(crate) fn find(body: &[u8]) -> Option<Self> {
        let at = memchr::memmem::rfind(body, ORDER)? + ORDER.len();
        let end = at + memchr::memchr(b';', &body[at..])?;
        let mut numbers = std::str::from_utf8(&body[at..end]).ok()?.split(':');
        let mut number = || numbers.next()?.parse().ok();
        Some(Self { events: number()?, gap: number()?, together: number()? })
    }
}

/// Which words an upstream has for its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// An OpenAI-compatible API; each delta with usage on it, as DashScope writes it.
    Chat,
    /// The API of chat.qwen.ai.
    Web,
}

/// What each event of a load says; the count goes by it.
pub(crate) const WORD: &str = "word ";
/// What stands before the time at which an event was made.
pub(crate) const CLOCK: u8 = b'@';

/// Nanoseconds, of the one clock that all processes here have.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970");
    u64::try_from(since.as_nanos()).expect("before 2554")
}

impl Wire {
    /// What comes before the events.
    pub(crate) fn begin(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Chat => b"",
            Self::Web => {
                b"data: {\"response.created\":{\"chat_id\": \"c-1\", \"parent_id\": \"u-1\", \
                  \"response_id\":\"r-1\"}}\n\n"
            }
        })
    }

    /// An event, with the time in it.
    pub(crate) fn event(self, now: u64) -> Bytes {
        self.word(&format!("@{now} {WORD}"))
    }

    /// An event without a time, of which one is enough for a whole stream.
    pub(crate) fn word(self, word: &str) -> Bytes {
        Bytes::from(match self {
            Self::Chat => format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null,\
                 \"index\":0,\"logprobs\":null}}],\"object\":\"chat.completion.chunk\",\"usage\":{{\
                 \"prompt_tokens\":36,\"completion_tokens\":12,\"total_tokens\":48,\
                 \"prompt_tokens_details\":{{\"cached_tokens\":0}}}},\"created\":1790000000,\
                 \"system_fingerprint\":null,\"model\":\"qwen-plus\",\"id\":\"chatcmpl-demo\"}}\n\n"
            ),
            Self::Web => format!(
                "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": \
                 \"{word}\", \"phase\": \"answer\", \"status\": \"typing\"}}}}], \"usage\": {{\
                 \"input_tokens\": 1033, \"output_tokens\": 12, \"characters\": 0, \
                 \"total_tokens\": 1045, \"input_tokens_details\": {{\"text_tokens\": 1033}}, \
                 \"output_tokens_details\": {{\"text_tokens\": 12}}, \"cached_tokens\": 0}}}}\n\n"
            ),
        })
    }

    /// What comes behind them.
    pub(crate) fn end(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Chat => {
                b"data: {\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{\"content\":\"\"},\
                  \"index\":0,\"logprobs\":null}],\"object\":\"chat.completion.chunk\",\
                  \"usage\":null,\"created\":1790000000,\"model\":\"qwen-plus\",\
                  \"id\":\"chatcmpl-demo\"}\n\ndata: [DONE]\n\n"
            }
            Self::Web => {
                b"data: {\"choices\": [{\"delta\": {\"content\": \"\", \"role\": \"assistant\", \
                  \"status\": \"finished\", \"phase\": \"answer\"}}]}\n\n"
            }
        })
    }
}

/// An answer of the compatible upstream in one piece.
pub(crate) const WHOLE: &str = "{\"id\":\"chatcmpl-demo\",\"object\":\"chat.completion\",\
    \"created\":1790000000,\"model\":\"qwen-plus\",\"choices\":[{\"index\":0,\"message\":{\
    \"role\":\"assistant\",\"content\":\"word \"},\"finish_reason\":\"stop\",\"logprobs\":null}],\
    \"usage\":{\"prompt_tokens\":36,\"completion_tokens\":2,\"total_tokens\":38}}";

/// A chat of the web upstream.
pub(crate) const CHAT: &str = "{\"success\":true,\"request_id\":\"q\",\"data\":{\"id\":\"c-1\"}}";

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn the_last_order_counts() {
        let order = Order { events: 3, gap: 20, together: 1 };
        assert_eq!(Order::find(order.body(true).as_bytes()), Some(order));
        assert_eq!(Order::find(b"rig:1:1:1; and rig:3:20:1; again"), Some(order));
        assert_eq!(Order::find(b"rig:3:20:1"), None);
        assert_eq!(Order::find(b"rig:3:20;"), None);
    }
}
