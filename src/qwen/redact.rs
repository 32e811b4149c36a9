//! Upstream's own words, made fit for an error message.

use std::{borrow::Cow, fmt::Write};

use http::Extensions;

use crate::CredentialHeaders;

/// The longest message, in characters.
const LONGEST: usize = 400;

/// What stands in the place of a secret.
const MASK: &str = "[redacted]";

/// What an exchange was authorized with, whose values an upstream may repeat in its words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets([Option<CredentialHeaders>; 2]);

impl Secrets {
    /// The credential that a request was given, and what the client below says in the extensions
    /// of the response that it sent beside it.
    pub(crate) fn new(given: Option<&CredentialHeaders>, response: &Extensions) -> Self {
        Self([given.cloned(), response.get().cloned()])
    }

    /// As [`redact`], with these values masked whatever they look like.
    pub(crate) fn redact(&self, text: &str) -> String {
        // Before it is cut: half a secret would not be found.
        let mut text = Cow::Borrowed(text);
        for credential in self.0.iter().flatten() {
            text = credential.mask(&text).into_owned().into();
        }
        redact(&text)
    }
}

/// `text` in one line of bounded length, with everything masked that looks like a credential:
/// JWTs, compressed tokens, keys, whatever follows `Bearer`, and values of `token=` and the
/// like. Ids in the form of UUIDs stay: messages name chats by them.
fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(2 * LONGEST));
    let mut left = LONGEST;
    // Whether the word before announces a secret.
    let mut announced = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if left == 0 {
            out.push('…');
            break;
        }
        if !is_word(first) {
            rest = &rest[first.len_utf8()..];
            let blank = first.is_whitespace() || first.is_control();
            if blank && (out.is_empty() || out.ends_with(' ')) {
                continue;
            }
            out.push(if blank { ' ' } else { first });
            left -= 1;
            // `Bearer: x`, `token = "x"`.
            announced &= blank || matches!(first, ':' | '=' | '"' | '\'');
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        if (announced && !is_plain(word)) || is_secret(word) {
            out.push_str(MASK);
            left = left.saturating_sub(MASK.len());
            announced = false;
            continue;
        }
        let (shown, cut) = match word.char_indices().nth(left) {
            Some((at, _)) => (&word[..at], true),
            None => (word, false),
        };
        // Writing to a string does not fail.
        let _ = write!(out, "{shown}");
        left = if cut { 0 } else { left - shown.chars().count() };
        if cut {
            out.push('…');
            break;
        }
        announced = announces(word);
    }
    out.truncate(out.trim_end().len());
    out
}

/// Whether `c` may stand in a token of any of the usual alphabets.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '~' | '%')
}

/// Whether the next word is likely a secret.
fn announces(word: &str) -> bool {
    let name = word.rsplit(['/', '.']).next().unwrap_or(word).to_ascii_lowercase();
    matches!(
        name.as_str(),
        "bearer" | "basic" | "token" | "password" | "secret" | "apikey" | "cookie" | "x5secdata"
    ) || ["_token", "-token", "_key", "-key", "_secret", "-umidtoken"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Whether a word that follows an announcement is only prose: "the token has expired".
fn is_plain(word: &str) -> bool {
    word.len() < 20 && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'.' || b == b'-')
}

fn is_secret(word: &str) -> bool {
    word.starts_with("eyJ") && word.len() >= 10
        || word.starts_with("H4sI")
        || word.starts_with("sk-") && word.len() >= 8
        || word.len() >= 24 && is_random(word) && !is_uuid(word)
}

/// Whether a long word is made of letters and digits thrown together, as keys are.
fn is_random(word: &str) -> bool {
    // A path or a name with dots is judged by its parts.
    word.split(['/', '.', '-', '_', '%']).any(|part| {
        part.len() >= 20
            && part.bytes().any(|b| b.is_ascii_digit())
            && part.bytes().any(|b| b.is_ascii_alphabetic())
    }) || word.len() >= 40
        && word.bytes().filter(u8::is_ascii_digit).count() >= 4
        && word.bytes().any(|b| b.is_ascii_uppercase())
        && word.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_uuid(word: &str) -> bool {
    let word = word.trim_end_matches('.');
    word.len() == 36
        && word.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_credential_is_masked() {
        for (text, want) in [
            ("bad eyJhbGciOi.eyJpZCI6.c2ln here", "bad [redacted] here"),
            ("H4sIAAAAAAACA6tWKi1O==", "[redacted]=="),
            ("Authorization: Bearer abc123", "Authorization: Bearer [redacted]"),
            ("key sk-demo1234567 refused", "key [redacted] refused"),
            ("?token=a1b2&x=1", "?token=[redacted]&x=1"),
            ("x5secdata=DEMO1&y", "x5secdata=[redacted]&y"),
            ("id 0123456789abcdef0123456789 done", "id [redacted] done"),
        ] {
            assert_eq!(redact(text), want, "{text}");
        }
    }

    #[test]
    fn prose_and_chat_ids_stay() {
        for text in [
            "You've reached the upper limit for today's usage.",
            "Invalid input the chat 11111111-2222-4333-8444-555555555555 is not exist.",
            "The token has expired.",
            "Range of input length should be [1, 129024]",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(redact(" a\n\tb\u{0} c "), "a b c");
        let long = redact(&"wörd ".repeat(1000));
        assert!(long.chars().count() <= LONGEST + 1, "{}", long.chars().count());
        assert!(long.ends_with('…'));
        assert!(redact(&"x".repeat(5000)).chars().count() <= LONGEST + 1);
    }
}
