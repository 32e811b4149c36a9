//! The inside of a JSON string, decoded as it arrives.

/// Decodes a JSON string piece by piece, from after its opening quote.
#[derive(Clone, Debug)]
pub(in crate::tool) struct Unquote {
    quote: u8,
    /// A backslash and what followed it so far.
    escape: String,
    /// The first half of a surrogate pair.
    high: Option<u32>,
}

impl Unquote {
    pub(in crate::tool) const fn new(quote: u8) -> Self {
        Self { quote, escape: String::new(), high: None }
    }

    /// Writes the decoded text to `out`; the place after the closing quote, once it is there.
    pub(in crate::tool) fn feed(&mut self, text: &str, out: &mut String) -> Option<usize> {
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
