//! What should be an arguments object, read from the forms in which models write one.

pub(in super::super) use super::relay::Fed;
use super::relay::Relay;

/// Decodes a JSON string piece by piece, from after its opening quote.
#[derive(Clone, Debug)]
pub(in super::super) struct Unquote {
    quote: u8,
    /// A backslash and what followed it so far.
    escape: String,
    /// The first half of a surrogate pair.
    high: Option<u32>,
}

impl Unquote {
    pub(in super::super) const fn new(quote: u8) -> Self {
        Self { quote, escape: String::new(), high: None }
    }

    /// Writes the decoded text to `out`; the place after the closing quote, once it is there.
    pub(in super::super) fn feed(&mut self, text: &str, out: &mut String) -> Option<usize> {
        let mut at = 0;
        while at < text.len() {
            if self.escape.is_empty() {
                let rest = &text.as_bytes()[at..];
                let run = rest
                    .iter()
                    .position(|&byte| byte == self.quote || byte == b'\\')
                    .unwrap_or(rest.len());
                if run > 0 {
                    self.lone(out);
                    out.push_str(&text[at..at + run]);
                    at += run;
                }
                match rest.get(run) {
                    None => return None,
                    Some(b'\\') => self.escape.push('\\'),
                    Some(_) => {
                        self.lone(out);
                        return Some(at + 1);
                    }
                }
                at += 1;
            } else {
                let c = text[at..].chars().next().expect("`at` is before the end");
                at += self.escaped(c, out);
            }
        }
        None
    }

    /// A high surrogate that nothing completed.
    fn lone(&mut self, out: &mut String) {
        if self.high.take().is_some() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// Takes the next character of an escape; how many bytes of it were taken.
    fn escaped(&mut self, c: char, out: &mut String) -> usize {
        if self.escape.len() == 1 && c == 'u' {
            self.escape.push(c);
            return 1;
        }
        if self.escape.len() >= 2 {
            if !c.is_ascii_hexdigit() {
                self.lone(out);
                out.push_str(&self.escape);
                self.escape.clear();
                return 0;
            }
            self.escape.push(c);
            if self.escape.len() == 6 {
                let code = u32::from_str_radix(&self.escape[2..], 16).expect("four digits");
                self.escape.clear();
                match (self.high.take(), code) {
                    (Some(high), 0xdc00..=0xdfff) => {
                        let code = 0x10000 + ((high - 0xd800) << 10) + (code - 0xdc00);
                        out.push(char::from_u32(code).expect("a pair"));
                    }
                    (high, code) => {
                        if high.is_some() {
                            out.push(char::REPLACEMENT_CHARACTER);
                        }
                        match code {
                            0xd800..=0xdbff => self.high = Some(code),
                            code => out
                                .push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
                        }
                    }
                }
            }
            return 1;
        }
        self.lone(out);
        self.escape.clear();
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            '"' | '\'' | '\\' | '/' => out.push(c),
            _ => out.extend(['\\', c]),
        }
        c.len_utf8()
    }
}

/// Reads what should be an arguments object: the object, the object as a JSON string, or null;
/// and passes it on as an object.
#[derive(Clone, Debug)]
pub(in super::super) struct Arguments {
    form: Form,
    relay: Relay,
    /// Whether the object's `{` was seen.
    started: bool,
    /// Decoded text of the piece at hand.
    decoded: String,
}

#[derive(Clone, Debug)]
enum Form {
    Unknown,
    Object,
    String(Unquote),
    Null,
    Done,
}

impl Arguments {
    pub(in super::super) const fn new() -> Self {
        Self { form: Form::Unknown, relay: Relay::new(), started: false, decoded: String::new() }
    }

    /// Whether the object has begun. Before, nothing was written.
    pub(in super::super) const fn started(&self) -> bool {
        self.started
    }

    /// Nothing is known of the value that it replaces if this says [`Fed::Broken`] before it
    /// [`started`](Arguments::started): that is no object at all.
    pub(in super::super) fn feed(&mut self, text: &str, out: &mut String) -> Fed {
        let mut at = 0;
        if let Form::Unknown = self.form {
            at = text.len() - text.trim_ascii_start().len();
            match text.as_bytes().get(at) {
                None => return Fed::More,
                Some(b'{') => {
                    self.started = true;
                    self.form = Form::Object;
                }
                Some(&quote @ (b'"' | b'\'')) => {
                    self.form = Form::String(Unquote::new(quote));
                    at += 1;
                }
                Some(b'n' | b'N') => self.form = Form::Null,
                Some(_) => return Fed::Broken(at),
            }
        }
        match &mut self.form {
            Form::Unknown => Fed::More,
            Form::Object => shift(self.relay.feed(&text[at..], out), at),
            Form::Null => {
                self.decoded.clear();
                let fed = self.relay.feed(&text[at..], &mut self.decoded);
                match shift(fed, at) {
                    // A word that only began like null.
                    Fed::Done(end) if self.decoded != "null" => Fed::Broken(end),
                    fed => fed,
                }
            }
            Form::String(unquote) => {
                self.decoded.clear();
                let end = unquote.feed(&text[at..], &mut self.decoded);
                let mut decoded = self.decoded.as_str();
                if !self.started {
                    decoded = decoded.trim_ascii_start();
                    match decoded.as_bytes().first() {
                        None => {}
                        Some(b'{') => self.started = true,
                        Some(_) => return Fed::Broken(at),
                    }
                }
                if self.started {
                    // What cannot be is where the object is closed; the string goes on.
                    if let Fed::Broken(_) = self.relay.feed(decoded, out) {
                        self.relay.finish(out);
                    }
                }
                match end {
                    Some(end) => {
                        self.finish(out);
                        Fed::Done(at + end)
                    }
                    None => Fed::More,
                }
            }
            Form::Done => Fed::Done(0),
        }
    }

    /// Completes the object; the second time nothing is written.
    pub(in super::super) fn finish(&mut self, out: &mut String) {
        match self.form {
            Form::Done => return,
            _ if self.started => self.relay.finish(out),
            _ => {}
        }
        self.form = Form::Done;
    }
}

fn shift(fed: Fed, by: usize) -> Fed {
    match fed {
        Fed::More => Fed::More,
        Fed::Done(at) => Fed::Done(at + by),
        Fed::Broken(at) => Fed::Broken(at + by),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> (String, Fed) {
        let (mut reader, mut out) = (Arguments::new(), String::new());
        let fed = reader.feed(text, &mut out);
        reader.finish(&mut out);
        (out, fed)
    }

    #[test]
    fn arguments_may_be_a_string_of_json() {
        assert_eq!(arguments(r#" {"a":1}"#).0, r#"{"a":1}"#);
        assert_eq!(
            arguments(r#""{\"a\": \"x\\n\\\"y\\\" \ud83d\ude00\"}", "#),
            (r#"{"a":"x\n\"y\" 😀"}"#.into(), Fed::Done(41))
        );
        assert_eq!(arguments("\"\","), (String::new(), Fed::Done(2)));
        assert_eq!(arguments("null,"), (String::new(), Fed::Done(4)));
        for text in ["[1]", "7,", "\"text\"", "nothing,"] {
            assert!(matches!(arguments(text).1, Fed::Broken(_)), "{text}");
        }
        assert_eq!(arguments(r#""{\"a\": oops!}" "#), (r#"{}"#.into(), Fed::Done(16)));
    }
}
