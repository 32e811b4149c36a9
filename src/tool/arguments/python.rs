//! Python literals, which templates that print values by plain string conversion have taught
//! models to write.

use crate::{
    json::push_string,
    tool::markup::{DEPTH_LIMIT, plain},
};

pub(super) enum Literal {
    /// A dictionary, list or tuple, as compact JSON.
    Container(String),
    /// A string, decoded.
    String(String),
}

/// Reads `text` as one literal of Python. JSON with single quotes or trailing commas passes too.
pub(super) fn parse(text: &str) -> Option<Literal> {
    let mut parser = Parser { rest: text, out: String::with_capacity(text.len()) };
    let literal = match text.as_bytes().first()? {
        b'"' | b'\'' => Literal::String(parser.string()?),
        _ => {
            parser.value(0)?;
            Literal::Container(parser.out)
        }
    };
    parser.rest.trim_start().is_empty().then_some(literal)
}

struct Parser<'a> {
    rest: &'a str,
    out: String,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.as_bytes().first().copied()
    }

    /// Takes `byte`, an ASCII character, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        if next {
            self.rest = &self.rest[1..];
        }
        next
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_LIMIT {
            return None;
        }
        match self.peek()? {
            b'{' => self.sequence(b'}', depth, true),
            b'[' => self.sequence(b']', depth, false),
            b'(' => self.sequence(b')', depth, false),
            b'"' | b'\'' => {
                let text = self.string()?;
                push_string(&mut self.out, &text);
                Some(())
            }
            _ => {
                let end = self
                    .rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
                    .unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                self.out.push_str(plain(word)?);
                Some(())
            }
        }
    }

    /// The inside of a dictionary, a list or a tuple, from its opening bracket on.
    fn sequence(&mut self, close: u8, depth: usize, keys: bool) -> Option<()> {
        self.rest = &self.rest[1..];
        self.out.push(if keys { '{' } else { '[' });
        while !self.take(close) {
            if !self.out.ends_with(['{', '[']) {
                self.out.push(',');
            }
            if keys {
                if !matches!(self.peek()?, b'"' | b'\'') {
                    return None;
                }
                let key = self.string()?;
                push_string(&mut self.out, &key);
                if !self.take(b':') {
                    return None;
                }
                self.out.push(':');
            }
            self.value(depth + 1)?;
            if !self.take(b',') {
                if !self.take(close) {
                    return None;
                }
                break;
            }
        }
        self.out.push(if keys { '}' } else { ']' });
        Some(())
    }

    /// A quoted string, decoded; the quote comes next.
    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => match chars.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'x' => text.push(hex(&mut chars, 2)?),
                    'u' => text.push(hex(&mut chars, 4)?),
                    'U' => text.push(hex(&mut chars, 8)?),
                    c @ ('\\' | '\'' | '"' | '/') => text.push(c),
                    '\n' => {}
                    // Python keeps a backslash that escapes nothing.
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(text: &str) -> Option<String> {
        match parse(text)? {
            Literal::Container(json) => Some(json),
            Literal::String(_) => None,
        }
    }

    #[test]
    fn literals_become_json() {
        let json = container(r#"{'it\'s': "x\x41\u00e9", "t": (), 'n': -1.5, 'w': [True, None]}"#);
        assert_eq!(json.as_deref(), Some(r#"{"it's":"xAé","t":[],"n":-1.5,"w":[true,null]}"#));
        assert!(matches!(parse("'a\\'b'"), Some(Literal::String(text)) if text == "a'b"));
    }

    #[test]
    fn what_is_no_literal_is_none() {
        for text in ["{1: 2}", "[1", "[1 2]", "{'a' 1}", "['\\x4']", "[nan]", "[]]", "{,}", "'a"] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_none());
    }
}
