//! The inside of a JSON string, decoded as it arrives.

use super::escape::{Escape, Escaped};
use crate::json;

/// Decodes a JSON string piece by piece, from after its opening quote.
#[derive(Clone, Debug)]
pub(in crate::tool) struct Unquote {
    quote: u8,
    escape: Escape,
}

impl Unquote {
    pub(in crate::tool) const fn new(quote: u8) -> Self {
        Self { quote, escape: Escape::new() }
    }

    /// Writes the decoded text to `out`; the place after the closing quote, once it is there.
    pub(in crate::tool) fn feed(&mut self, text: &str, out: &mut String) -> Option<usize> {
        let mut at = 0;
        while at < text.len() {
            if self.escape.is_open() {
                let c = text[at..].chars().next().expect("`at` is before the end");
                let taken = self.escape.feed(c, |part| match part {
                    Escaped::Json(escape) => {
                        out.extend(json::escape(escape.as_bytes()).map(|(c, _)| c));
                    }
                    Escaped::Half => out.push(char::REPLACEMENT_CHARACTER),
                    Escaped::Text(text) => out.push_str(text),
                });
                at += if taken { c.len_utf8() } else { 0 };
                continue;
            }
            let rest = &text.as_bytes()[at..];
            let run = rest
                .iter()
                .position(|&byte| byte == self.quote || byte == b'\\')
                .unwrap_or(rest.len());
            out.push_str(&text[at..at + run]);
            match rest.get(run) {
                None => return None,
                Some(b'\\') => self.escape.begin(),
                Some(_) => return Some(at + run + 1),
            }
            at += run + 1;
        }
        None
    }
}
