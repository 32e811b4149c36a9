use crate::tool::markup::{Fed, Relay, Unquote};

/// Reads the members of an object of compact JSON that is known to parse, as it arrives.
///
/// The reader of markup gives arguments in that form, whatever the model wrote; so nothing has to
/// be repaired here.
#[derive(Debug, Default)]
pub(super) struct Members {
    state: State,
    key: String,
    /// What has come of the value at hand, decoded where it is a string.
    decoded: String,
}

#[derive(Debug, Default)]
enum State {
    /// Before a key, or behind the object.
    #[default]
    Outside,
    Key(Unquote),
    Colon,
    Value,
    Text(Unquote),
    /// In a value that is no string; a null is told of to nobody.
    Other {
        relay: Relay,
        is_null: bool,
    },
}

/// What a member comes to.
pub(super) enum Event<'a> {
    /// A member begins that is a string, or (`false`) something else; null is left out.
    Begin {
        key: &'a str,
        string: bool,
    },
    /// More of its value: decoded text, or JSON.
    Value(&'a str),
    End,
}

impl Members {
    pub(super) fn feed(&mut self, json: &str, mut tell: impl FnMut(Event<'_>)) {
        let bytes = json.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match &mut self.state {
                State::Outside => {
                    if byte == b'"' {
                        self.key.clear();
                        self.state = State::Key(Unquote::new(b'"'));
                    }
                    at += 1;
                }
                State::Key(unquote) => match unquote.feed(&json[at..], &mut self.key) {
                    Some(read) => {
                        at += read;
                        self.state = State::Colon;
                    }
                    None => return,
                },
                State::Colon => {
                    at += 1;
                    self.state = State::Value;
                }
                State::Value => {
                    let (string, is_null) = (byte == b'"', byte == b'n');
                    if !is_null {
                        tell(Event::Begin { key: &self.key, string });
                    }
                    self.state = match string {
                        true => State::Text(Unquote::new(b'"')),
                        false => State::Other { relay: Relay::new(), is_null },
                    };
                    at += usize::from(string);
                }
                State::Text(unquote) => {
                    self.decoded.clear();
                    let end = unquote.feed(&json[at..], &mut self.decoded);
                    tell(Event::Value(&self.decoded));
                    let Some(read) = end else { return };
                    at += read;
                    tell(Event::End);
                    self.state = State::Outside;
                }
                State::Other { relay, is_null } => {
                    self.decoded.clear();
                    let fed = relay.feed(&json[at..], &mut self.decoded);
                    if !*is_null {
                        tell(Event::Value(&self.decoded));
                    }
                    // It parses, so nothing in it is broken.
                    let (Fed::Done(read) | Fed::Broken(read)) = fed else { return };
                    at += read;
                    if !*is_null {
                        tell(Event::End);
                    }
                    self.state = State::Outside;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_of_wherever_the_json_is_cut() {
        let json = r#"{"a\n":"x\"\ud83d\ude00","b":null,"c":{"d":["}\"",1]},"e":-1.5,"f":""}"#;
        let expected = "s[a\n]x\"😀.o[c]{\"d\":[\"}\\\"\",1]}.o[e]-1.5.s[f].";
        for size in 1..=json.len() {
            let (mut members, mut told) = (Members::default(), String::new());
            for piece in json.as_bytes().chunks(size) {
                let piece = std::str::from_utf8(piece).expect("ASCII");
                members.feed(piece, |event| match event {
                    Event::Begin { key, string } => {
                        told += &format!("{}[{key}]", if string { 's' } else { 'o' });
                    }
                    Event::Value(text) => told += text,
                    Event::End => told.push('.'),
                });
            }
            assert_eq!(told, expected, "by {size}");
        }
    }
}
