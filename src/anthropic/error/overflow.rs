//! The words for a history that does not fit.
//!
//! Claude Code looks for two sentences. One makes it shorten the history, the other makes it ask
//! for fewer tokens. Every server has words of its own, and most have the numbers in them.

use std::borrow::Cow;

/// What stands right before the number of tokens that fit.
const LIMITS: [&str; 13] = [
    "context length",
    "context size",
    "context window",
    "context limit",
    "max context",
    "allowed length",
    "number of tokens allowed",
    "number of tokens",
    "maximum of",
    "limit of",
    "limit is",
    "input length should be [1",
    "max_kv_size",
];

/// How much may stand between such words and their number, in bytes.
const GAP: usize = 12;

/// What stands right behind the number of tokens that went in.
const INPUT: [&str; 5] = [
    " input tokens",
    " in the messages",
    " tokens from the input",
    " tokens in the messages",
    " in the input",
];

/// What stands right behind the number of tokens that were to come out.
const OUTPUT: [&str; 3] =
    [" in the completion", " tokens for the completion", " tokens in the completion"];

/// What stands right before it.
const TOO_LARGE: &str = "is too large: ";

/// A number in a text, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: u64,
    start: usize,
    end: usize,
}

/// Upstream's words as the client acts on them.
pub(super) fn words(message: &str) -> Cow<'_, str> {
    let lower = message.to_ascii_lowercase();
    if lower.contains("prompt is too long") || lower.contains("exceed context limit") {
        return message.into();
    }
    let numbers = numbers(&lower);
    let limit = limit(&lower, &numbers);
    let before = |words: &[&str]| {
        let is_before =
            |number: &&Number| words.iter().any(|word| lower[number.end..].starts_with(word));
        numbers.iter().find(is_before).map(|number| number.value)
    };
    let input = before(&INPUT);
    let output = before(&OUTPUT).or_else(|| {
        let is_behind = |number: &&Number| lower[..number.start].ends_with(TOO_LARGE);
        numbers.iter().find(is_behind).map(|number| number.value)
    });
    match (limit, input, output) {
        (Some(limit), Some(input), Some(output)) if input <= limit => format!(
            "input length and `max_tokens` exceed context limit: {input} + {output} > {limit}"
        )
        .into(),
        (Some(limit), input, _) => {
            let asked = input.filter(|input| *input > limit).or_else(|| {
                numbers.iter().map(|number| number.value).filter(|value| *value > limit).max()
            });
            match asked {
                Some(asked) => format!("prompt is too long: {asked} tokens > {limit} maximum"),
                None => format!("prompt is too long ({message})"),
            }
            .into()
        }
        (None, ..) => format!("prompt is too long ({message})").into(),
    }
}

/// The number that the words say is the limit: the first of them that has one behind it.
fn limit(lower: &str, numbers: &[Number]) -> Option<u64> {
    numbers
        .iter()
        .filter_map(|number| {
            let from = number.start.saturating_sub(GAP);
            LIMITS
                .iter()
                .filter_map(|words| lower[..number.start].rfind(words).map(|at| at + words.len()))
                .any(|end| end >= from && !lower[end..number.start].contains('.'))
                .then_some(number.value)
        })
        .next()
}

/// The whole numbers in `text`: not the digits of names, versions and places in lists.
fn numbers(text: &str) -> Vec<Number> {
    let bytes = text.as_bytes();
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let is_word = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        let is_apart = !is_word(start.checked_sub(1).and_then(|before| bytes.get(before)))
            && !is_word(bytes.get(at));
        if let (true, Ok(value)) = (is_apart, text[start..at].parse()) {
            numbers.push(Number { value, start, end: at });
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every server's words, as they were seen.
    #[test]
    fn the_client_shortens_the_history_or_asks_for_less() {
        const TOO_LONG: &str = "prompt is too long: 9000 tokens > 8192 maximum";
        const TOO_MUCH: &str =
            "input length and `max_tokens` exceed context limit: 5000 + 4096 > 8192";
        for (server, said, told) in [
            (
                "vLLM",
                "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens in the messages, Please reduce the length of the messages.",
                TOO_LONG,
            ),
            (
                "vLLM, both",
                "This model's maximum context length is 8192 tokens. However, you requested 9096 tokens (5000 in the messages, 4096 in the completion). Please reduce the length of the messages or completion.",
                TOO_MUCH,
            ),
            (
                "vLLM, with max_tokens",
                "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 tokens and your request has 5000 input tokens (4096 > 8192 - 5000).",
                TOO_MUCH,
            ),
            (
                "vLLM, the history alone",
                "This model's maximum context length is 8192 tokens. However, you requested 13096 tokens (9000 in the messages, 4096 in the completion).",
                TOO_LONG,
            ),
            (
                "SGLang",
                "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9096 tokens: 5000 tokens from the input messages and 4096 tokens for the completion.",
                TOO_MUCH,
            ),
            (
                "SGLang, allowed length",
                "Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens). Use a shorter input or enable --allow-auto-truncate.",
                TOO_LONG,
            ),
            (
                "llama.cpp",
                "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
                TOO_LONG,
            ),
            (
                "OpenRouter",
                "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens",
                TOO_LONG,
            ),
            ("MLX", "Prompt length 9000 exceeds max_kv_size 8192", TOO_LONG),
            (
                "MLX, a server on it",
                "Prompt too long: 9000 tokens exceeds maximum of 8192 tokens",
                TOO_LONG,
            ),
            ("MLX, 404", "Prompt of 9000 tokens exceeds the model's max context of 8192", TOO_LONG),
            (
                "MLX, memory",
                "Prompt has 9000 tokens which exceeds the model context window of 8192",
                TOO_LONG,
            ),
            (
                "Vertex",
                "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
                TOO_LONG,
            ),
            ("Copilot", "prompt token count of 9000 exceeds the limit of 8192", TOO_LONG),
            (
                "Cerebras",
                "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
                TOO_LONG,
            ),
            ("the vendor", TOO_LONG, TOO_LONG),
            (
                "DashScope",
                "Range of input length should be [1, 8192]",
                "prompt is too long (Range of input length should be [1, 8192])",
            ),
            (
                "Ollama",
                "the input length exceeds the context length",
                "prompt is too long (the input length exceeds the context length)",
            ),
            ("nothing", "", "prompt is too long ()"),
            (
                "numbers that are none",
                "qwen3 v2.5 wants context length 99999999999999999999999",
                "prompt is too long (qwen3 v2.5 wants context length 99999999999999999999999)",
            ),
        ] {
            assert_eq!(words(said), told, "{server}");
        }
    }
}
