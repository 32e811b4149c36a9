use memchr::memchr;

/// A parameter in the client's tags whose value is being written.
///
/// The client ends a value at the first closer of its parameter and knows no escapes, so a closer
/// inside of the value is written in a way that it does not see.
#[derive(Debug, Default)]
pub(super) struct Value {
    /// The parameter's closer; empty if the client has no such parameter, which is left out then.
    closer: String,
    /// How much of it the value's last characters match; they are kept back.
    matched: usize,
    /// What stands between the value and its tags.
    margin: &'static str,
    /// What the `<` of the closer becomes inside of the value.
    escape: &'static str,
}

/// What is to be written of a value: a range of the text at hand, or something else.
pub(super) enum Part<'a> {
    Here(std::ops::Range<usize>),
    Other(&'a str),
}

impl Value {
    /// The value of a parameter that the client has, and its opener.
    pub(super) fn new(key: &str, margin: &'static str, escape: &'static str) -> (Self, String) {
        let closer = format!("</{key}>");
        (Self { closer, matched: 0, margin, escape }, format!("<{key}>{margin}"))
    }

    /// Takes more of the value.
    pub(super) fn take(&mut self, text: &str, mut write: impl FnMut(Part<'_>)) {
        if self.closer.is_empty() {
            return;
        }
        let bytes = text.as_bytes();
        // What is written of the text, and where the match begins, or goes on.
        let (mut written, mut at) = (0, 0);
        loop {
            let carried = self.matched;
            if carried == 0 {
                let Some(found) = memchr(b'<', &bytes[at..]) else { break };
                at += found;
            }
            let wanted = &self.closer.as_bytes()[carried..];
            let equal = wanted.iter().zip(&bytes[at..]).take_while(|(a, b)| a == b).count();
            if equal == wanted.len() {
                write(Part::Here(written..at));
                write(Part::Other(self.escape));
                write(Part::Other(&self.closer[1..]));
                written = at + equal;
                self.matched = 0;
            } else if at + equal == bytes.len() {
                write(Part::Here(written..at));
                self.matched += equal;
                return;
            } else if carried > 0 {
                write(Part::Other(&self.closer[..carried]));
                self.matched = 0;
            }
            at += equal;
        }
        write(Part::Here(written..bytes.len()));
    }

    /// What is kept back, which turned out to be no closer.
    pub(super) fn rest(&self) -> &str {
        &self.closer[..self.matched]
    }

    /// What ends the value, behind its [`rest`](Self::rest).
    pub(super) fn end(&self) -> [&str; 3] {
        if self.closer.is_empty() { [""; 3] } else { [self.margin, &self.closer, "\n"] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closer_inside_of_a_value_is_escaped_wherever_it_is_cut() {
        let text = "a</path></pa</path><</path>/path></p";
        for size in 1..=text.len() {
            let (mut value, opener) = Value::new("path", "\n", "&lt;");
            let mut out = opener;
            let pieces: Vec<char> = text.chars().collect();
            for piece in pieces.chunks(size) {
                let piece: String = piece.iter().collect();
                value.take(&piece, |part| match part {
                    Part::Here(range) => out.push_str(&piece[range]),
                    Part::Other(text) => out.push_str(text),
                });
            }
            out.push_str(value.rest());
            value.end().iter().for_each(|part| out.push_str(part));
            let escaped = text.replace("</path>", "&lt;/path>");
            assert_eq!(out, format!("<path>\n{escaped}\n</path>\n"), "by {size}");
        }
    }
}
