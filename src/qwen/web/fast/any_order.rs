//! The usual fields in any order, with or without a space behind colons and commas.

use super::{Cursor, Literal, Usual};
use crate::chat::Usage;

/// The delta in `data`, if it has no other fields than usual.
#[inline(never)]
pub(super) fn parse(data: &str) -> Option<Usual<'_>> {
    let (mut delta, mut response_id, mut usage) = (None, None, None);
    let Cursor(rest) = Cursor(data.as_bytes()).members(|name, at| match name {
        b"choices" if delta.is_none() => {
            let (found, at) = at.eat("[")?.choice(data)?;
            delta = Some(found);
            at.eat("]")
        }
        b"response_id" if response_id.is_none() => {
            let (id, at) = at.plain_string(data)?;
            response_id = Some(id);
            Some(at)
        }
        b"usage" if usage.is_none() => {
            let (counts, at) = at.usage()?;
            usage = Some(counts);
            Some(at)
        }
        b"timestamp" => Some(at.count()?.1),
        _ => None,
    })?;
    let (is_thinking, content) = delta.filter(|_| rest.is_empty())?;
    Some(Usual { is_thinking, content, response_id, usage })
}

impl<'a> Cursor<'a> {
    /// Whether the delta of a choice is of thinking, and its content.
    #[inline(always)]
    fn choice(self, data: &'a str) -> Option<((bool, Literal<'a>), Self)> {
        let mut delta = None;
        let at = self.members(|name, at| match name {
            b"delta" if delta.is_none() => {
                let (found, at) = at.delta(data)?;
                delta = Some(found);
                Some(at)
            }
            b"index" => Some(at.count()?.1),
            b"finish_reason" => at.eat("null"),
            _ => None,
        })?;
        Some((delta?, at))
    }

    #[inline(always)]
    fn delta(self, data: &'a str) -> Option<((bool, Literal<'a>), Self)> {
        let (mut content, mut is_thinking) = (None, None);
        let at = self.members(|name, at| match name {
            b"content" if content.is_none() => {
                let (text, at) = at.eat("\"")?.string(data)?;
                content = Some(text);
                Some(at)
            }
            b"phase" if is_thinking.is_none() => {
                let answer = at.eat("\"answer\"");
                is_thinking = Some(answer.is_none());
                answer.or_else(|| at.eat("\"think\""))
            }
            b"role" => at.eat("\"assistant\""),
            b"status" => at.eat("\"typing\""),
            _ => None,
        })?;
        Some(((is_thinking?, content?), at))
    }

    #[inline(always)]
    fn usage(self) -> Option<(Usage, Self)> {
        let [mut input, mut output, mut total, mut cached] = [None; 4];
        let mut reasoning = None;
        let at = self.members(|name, at| {
            let field = match name {
                b"input_tokens" => &mut input,
                b"output_tokens" => &mut output,
                b"total_tokens" => &mut total,
                b"cached_tokens" => &mut cached,
                b"characters" => return Some(at.count()?.1),
                b"input_tokens_details" => {
                    return at.members(|name, at| match name {
                        b"text_tokens" => Some(at.count()?.1),
                        _ => None,
                    });
                }
                b"output_tokens_details" if reasoning.is_none() => {
                    reasoning = Some(None);
                    return at.members(|name, at| {
                        let (count, at) = at.count()?;
                        match name {
                            b"text_tokens" => {}
                            b"reasoning_tokens" => reasoning = Some(Some(count)),
                            _ => return None,
                        }
                        Some(at)
                    });
                }
                _ => return None,
            };
            let (count, at) = at.count()?;
            // One that comes twice is the general parser's to choose from.
            field.replace(count).is_none().then_some(at)
        })?;
        let mut usage = Usage::new(input?, output?);
        usage.total_tokens = total?;
        usage.cached_tokens = cached;
        usage.reasoning_tokens = reasoning.flatten();
        Some((usage, at))
    }
}
