//! The escapes of a JSON string, as they arrive.

/// How long `\uXXXX` is.
const UNIT: usize = 6;

/// What has arrived of an escape, from its backslash on. The first half of a pair of surrogates waits
/// for the second.
#[derive(Clone, Debug)]
pub(super) struct Escape(String);

/// What an escape came to.
pub(super) enum Escaped<'a> {
    /// One that JSON has, as it was written; of a pair both.
    Json(&'a str),
    /// Half a pair.
    Half,
    /// Text that is no escape.
    Text(&'a str),
}

impl Escape {
    pub(super) const fn new() -> Self {
        Self(String::new())
    }

    /// Takes the backslash.
    pub(super) fn begin(&mut self) {
        self.0.clear();
        self.0.push('\\');
    }

    /// Whether more has to follow.
    pub(super) const fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes the next character; false if it belongs to what follows.
    pub(super) fn feed(&mut self, c: char, mut tell: impl FnMut(Escaped<'_>)) -> bool {
        let half = if self.0.len() < UNIT { 0 } else { UNIT };
        let goes_on = match self.0.len() - half {
            0 => c == '\\',
            1 => "u\"\\/bfnrt".contains(c),
            _ => c.is_ascii_hexdigit(),
        };
        if goes_on {
            self.0.push(c);
        }
        let own = &self.0[half..];
        let is_unicode = own.starts_with("\\u");
        if goes_on && (own.len() == 1 || is_unicode && own.len() < UNIT) {
            return true;
        }
        let unit = own.get(2..UNIT).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let is_second = matches!(unit, Some(0xdc00..=0xdfff));
        if half > 0 && !is_second {
            tell(Escaped::Half);
        }
        if matches!(unit, Some(0xd800..=0xdbff)) {
            self.0.drain(..half);
            return true;
        }
        let is_quote = c == '\'' && own == "\\";
        match own {
            _ if is_second && half > 0 => tell(Escaped::Json(&self.0)),
            _ if is_second => tell(Escaped::Half),
            _ if goes_on => tell(Escaped::Json(own)),
            _ if is_quote => tell(Escaped::Text("'")),
            own => tell(Escaped::Text(own)),
        }
        self.0.clear();
        goes_on || is_quote
    }
}
