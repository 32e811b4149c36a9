//! How much thinking was asked for, and what was sent in its place.

use std::fmt;

use http::{HeaderName, HeaderValue, Response};

use crate::chat::ReasoningOptions;

/// Names in a response what a request asked of the model's thinking and what the upstream was sent
/// in its place, such as `high; sent=xhigh`.
const X_QWEN_EFFORT: HeaderName = HeaderName::from_static("x-qwen-effort");

/// The most tokens of thinking that any hosted model takes for a budget.
pub(super) const LARGEST_BUDGET: i64 = 81_920;

/// The longest word that a header repeats.
const WORD_LEN: usize = 32;

/// Puts into `response` what was sent in place of what was asked for.
pub(super) fn telling<S>(mut response: Response<S>, told: Option<HeaderValue>) -> Response<S> {
    if let Some(told) = told {
        response.headers_mut().insert(X_QWEN_EFFORT, told);
    }
    response
}

/// How much to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort<'a> {
    /// Nothing is said: as much as the model does by default.
    Default,
    Off,
    On,
    /// At most so many tokens.
    Budget(i64),
    /// An effort.
    Word(&'a str),
}

impl<'a> Effort<'a> {
    /// What a client asks for; `None` where it asks for nothing.
    fn asked(options: &'a ReasoningOptions) -> Option<Self> {
        Some(match (&options.effort, options.budget) {
            _ if !options.wanted()? => Self::Off,
            (Some(effort), _) if !effort.is_off() => Self::Word(effort.as_str()),
            (_, Some(budget)) => Self::of_budget(budget),
            _ => Self::On,
        })
    }

    /// What a budget says: 0 is none, and below it there is no limit.
    pub(super) const fn of_budget(tokens: i64) -> Self {
        match tokens {
            0 => Self::Off,
            1.. => Self::Budget(tokens),
            _ => Self::On,
        }
    }

    /// The value of [`X_QWEN_EFFORT`] where `self` was sent, unless it is what was asked for.
    pub(super) fn in_place_of(self, options: &'a ReasoningOptions) -> Option<HeaderValue> {
        let asked = Self::asked(options).filter(|asked| *asked != self)?;
        HeaderValue::try_from(format!("{asked}; sent={self}")).ok()
    }
}

impl fmt::Display for Effort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        f.write_str(match self {
            Self::Default => "default",
            Self::Off => "none",
            Self::On => "on",
            Self::Budget(tokens) => return tokens.fmt(f),
            // A client may write anything.
            Self::Word(word)
                if word.is_empty() || word.len() > WORD_LEN || !word.bytes().all(is_plain) =>
            {
                "other"
            }
            Self::Word(word) => word,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;

    #[test]
    fn what_is_sent_in_place_of_what_was_asked_is_named() {
        let long = "x".repeat(33);
        let word = |word: &str| Some(Text::from(word).into());
        for (effort, enabled, budget, sent, value) in [
            (word("high"), None, None, Effort::Word("xhigh"), Some("high; sent=xhigh")),
            (word("high"), None, None, Effort::Word("high"), None),
            (word("high"), Some(false), None, Effort::Off, None),
            (word("none"), None, None, Effort::Default, Some("none; sent=default")),
            (word("none"), Some(true), None, Effort::On, None),
            (word("low"), None, Some(9), Effort::Budget(9), Some("low; sent=9")),
            (word(""), None, None, Effort::Default, Some("other; sent=default")),
            (word("a\nb: c"), None, None, Effort::Default, Some("other; sent=default")),
            (word("höher"), None, None, Effort::Default, Some("other; sent=default")),
            (word(&long), None, None, Effort::On, Some("other; sent=on")),
            (None, None, Some(31_999), Effort::Budget(4_095), Some("31999; sent=4095")),
            (None, None, Some(-1), Effort::On, None),
            (None, None, Some(0), Effort::Off, None),
            (None, Some(true), None, Effort::Word("medium"), Some("on; sent=medium")),
            (None, None, None, Effort::Off, None),
        ] {
            let options = ReasoningOptions { effort, enabled, budget };
            let written = sent.in_place_of(&options);
            let written = written.as_ref().map(|value| value.to_str().expect("plain"));
            assert_eq!(written, value, "{options:?} {sent:?}");
        }
    }
}
