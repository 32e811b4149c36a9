//! The usual delta of the servers, read by hand.
//!
//! Between the first event of an answer and the one that ends it, nearly all events say a piece of text
//! or of thinking, beside fields that are the same each time: in whatever order, and with or without the
//! space behind colons and commas, which tells servers in Python from others. Those are read here. Whatever else an event
//! holds leaves it to the general path, [`Chunk`](crate::qwen::answer::Chunk) and what the translator makes of it. A test
//! holds that both always agree.

use std::fmt;

use crate::{
    chat::Usage,
    json::clean_len,
    qwen::cursor::{Cursor, Literal},
};

/// What the usual event says, in slices of it: nothing is counted, copied or kept before all of
/// it is known to be usual.
#[derive(Clone, Copy, Default)]
pub(super) struct Usual<'a> {
    /// The number of its choice.
    pub(super) index: u64,
    pub(super) reasoning: Option<Literal<'a>>,
    pub(super) content: Option<Literal<'a>>,
    pub(super) usage: Option<Usage>,
}

/// What stood around the text of the last usual event. Of most servers it is the same at each event
/// of an answer, and then nothing but the text has to be looked at.
#[derive(Default)]
pub(super) struct Frame {
    /// The event without its text; empty where there was none.
    around: String,
    /// Where the text stood.
    at: usize,
    is_reasoning: bool,
    index: u64,
    usage: Option<Usage>,
}

impl Frame {
    /// The longest frame that is kept, in bytes.
    const LONGEST: usize = 1024;
    /// A text that is longer is better read another way.
    const NEAR: usize = 64;

    /// The delta in `data`, if it is of the usual shape.
    #[inline]
    pub(super) fn read<'a>(&mut self, data: &'a str) -> Option<Usual<'a>> {
        self.same(data).or_else(|| {
            let usual = parse(data)?;
            self.keep(data, &usual);
            Some(usual)
        })
    }

    /// The same, if it differs from the last in its text alone.
    #[inline]
    fn same<'a>(&self, data: &'a str) -> Option<Usual<'a>> {
        let (before, behind) = self.around.split_at(self.at);
        let text = data.strip_prefix(before)?.strip_suffix(behind)?;
        // What has no quotation mark, backslash or control character is a string as it stands.
        if behind.is_empty() || text.len() > Self::NEAR || clean_len(text.as_bytes()) < text.len() {
            return None;
        }
        let text = Some(Literal { text, is_escaped: false });
        let (reasoning, content) = if self.is_reasoning { (text, None) } else { (None, text) };
        Some(Usual { index: self.index, reasoning, content, usage: self.usage })
    }

    fn keep(&mut self, data: &str, usual: &Usual<'_>) {
        self.around.clear();
        self.at = 0;
        let (text, is_reasoning) = match (usual.reasoning, usual.content) {
            (Some(text), None) => (text.text, true),
            (None, Some(text)) => (text.text, false),
            _ => return,
        };
        if data.len() - text.len() > Self::LONGEST {
            return;
        }
        let at = text.as_ptr().addr() - data.as_ptr().addr();
        self.around.push_str(&data[..at]);
        self.around.push_str(&data[at + text.len()..]);
        (self.at, self.is_reasoning) = (at, is_reasoning);
        (self.index, self.usage) = (usual.index, usual.usage);
    }
}

/// Shows nothing of what the upstream says.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").finish_non_exhaustive()
    }
}

/// The delta in `data`, if it has no other fields than usual.
#[inline(never)]
fn parse(data: &str) -> Option<Usual<'_>> {
    let mut usual = Usual::default();
    let (mut has_choices, mut has_usage) = (false, false);
    let Cursor(rest) = Cursor(data.as_bytes()).members(|name, at| match name {
        b"choices" if !std::mem::replace(&mut has_choices, true) => {
            choice(at.eat("[")?, data, &mut usual)?.eat("]")
        }
        b"usage" if !std::mem::replace(&mut has_usage, true) => match at.eat("null") {
            Some(at) => Some(at),
            None => {
                let (usage, at) = counts(at)?;
                usual.usage = Some(usage);
                Some(at)
            }
        },
        b"id" | b"object" | b"model" | b"system_fingerprint" | b"service_tier" => {
            plain_or_null(at, data)
        }
        b"created" => Some(at.count()?.1),
        _ => None,
    })?;
    (has_choices && rest.is_empty()).then_some(usual)
}

/// A string without escapes, which is not looked at, or none.
#[inline(always)]
fn plain_or_null<'a>(at: Cursor<'a>, data: &'a str) -> Option<Cursor<'a>> {
    match at.eat("null") {
        Some(at) => Some(at),
        None => at.plain_string(data).map(|(_, at)| at),
    }
}

#[inline(always)]
fn choice<'a>(at: Cursor<'a>, data: &'a str, usual: &mut Usual<'a>) -> Option<Cursor<'a>> {
    let (mut has_index, mut has_delta) = (false, false);
    let at = at.members(|name, at| match name {
        b"index" if !std::mem::replace(&mut has_index, true) => {
            let (index, at) = at.count()?;
            usual.index = index;
            Some(at)
        }
        b"delta" if !std::mem::replace(&mut has_delta, true) => delta(at, data, usual),
        b"finish_reason" | b"logprobs" | b"stop_reason" | b"token_ids" | b"matched_stop" => {
            at.eat("null")
        }
        _ => None,
    })?;
    has_delta.then_some(at)
}

#[inline(always)]
fn delta<'a>(at: Cursor<'a>, data: &'a str, usual: &mut Usual<'a>) -> Option<Cursor<'a>> {
    let (mut has_content, mut has_reasoning) = (false, false);
    at.members(|name, at| {
        let said = match name {
            b"content" if !std::mem::replace(&mut has_content, true) => &mut usual.content,
            // Of a server that has both the general path decides which counts.
            b"reasoning_content" | b"reasoning" if !std::mem::replace(&mut has_reasoning, true) => {
                &mut usual.reasoning
            }
            b"role" => return at.eat("\"assistant\"").or_else(|| at.eat("null")),
            b"tool_calls" | b"function_call" | b"refusal" => return at.eat("null"),
            _ => return None,
        };
        match at.eat("null") {
            Some(at) => Some(at),
            None => {
                let (text, at) = at.eat("\"")?.string(data)?;
                *said = Some(text);
                Some(at)
            }
        }
    })
}

#[inline(always)]
fn counts(at: Cursor<'_>) -> Option<(Usage, Cursor<'_>)> {
    let [mut prompt, mut completion, mut total, mut cached, mut reasoning] = [None; 5];
    let at = at.members(|name, at| {
        let (field, inner): (_, &[u8]) = match name {
            b"prompt_tokens" => (&mut prompt, b""),
            b"completion_tokens" => (&mut completion, b""),
            b"total_tokens" => (&mut total, b""),
            b"prompt_tokens_details" => (&mut cached, b"cached_tokens"),
            b"completion_tokens_details" => (&mut reasoning, b"reasoning_tokens"),
            _ => return None,
        };
        // What comes twice is the general path's to choose from.
        if field.is_some() {
            return None;
        }
        if inner.is_empty() {
            let (count, at) = at.count()?;
            *field = Some(count);
            return Some(at);
        }
        at.members(|name, at| {
            let (count, at) = at.count()?;
            (name == inner && field.replace(count).is_none()).then_some(at)
        })
    })?;
    let mut usage = Usage::new(prompt?, completion?);
    usage.total_tokens = total?;
    usage.cached_tokens = cached;
    usage.reasoning_tokens = reasoning;
    Some((usage, at))
}

#[cfg(test)]
#[path = "fast_tests.rs"]
mod tests;
