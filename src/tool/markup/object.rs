//! What should be an arguments object, read from the forms in which models write one.

pub(in crate::tool) use super::relay::Fed;
use super::{relay::Relay, unquote::Unquote};

/// Reads what should be an arguments object: the object, the object as a JSON string, or null;
/// and passes it on as an object.
#[derive(Clone, Debug)]
pub(in crate::tool) struct Arguments {
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
    pub(in crate::tool) const fn new() -> Self {
        Self { form: Form::Unknown, relay: Relay::new(), started: false, decoded: String::new() }
    }

    /// Whether the object has begun. Before, nothing was written.
    pub(in crate::tool) const fn started(&self) -> bool {
        self.started
    }

    /// Nothing is known of the value that it replaces if this says [`Fed::Broken`] before it
    /// [`started`](Arguments::started): that is no object at all.
    pub(in crate::tool) fn feed(&mut self, text: &str, out: &mut String) -> Fed {
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
    pub(in crate::tool) fn finish(&mut self, out: &mut String) {
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
