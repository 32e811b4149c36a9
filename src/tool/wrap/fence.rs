/// Whether text stands in a Markdown fence, or directly behind a backtick.
///
/// A fence is opened by a line that begins with up to three blanks and at least three backticks
/// or tildes, and closed by at least as many of the same alone on a line (tool-calls.md e.2
/// rule 3).
#[derive(Debug, Default)]
pub(super) struct Fence {
    line: Line,
    open: Option<(u8, usize)>,
    last: u8,
}

#[derive(Clone, Copy, Debug)]
enum Line {
    /// So many blanks since the line began.
    Start(u8),
    /// A run of fence characters.
    Run(u8, usize),
    /// Blanks behind a run that closes the fence, if nothing else follows.
    Closing,
    /// No fence on this line.
    Rest,
}

impl Default for Line {
    fn default() -> Self {
        Self::Start(0)
    }
}

impl Fence {
    /// Whether code is quoted here, so that markup is an example rather than meant.
    pub(super) fn quotes(&self) -> bool {
        self.last == b'`' || matches!(self.line, Line::Run(_, 3..)) || self.open.is_some()
    }

    pub(super) fn push(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if let Some(&last) = bytes.last() {
            self.last = last;
        }
        let mut at = 0;
        while at < bytes.len() {
            if let Line::Rest = self.line {
                match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(newline) => at += newline,
                    None => return,
                }
            }
            self.byte(bytes[at]);
            at += 1;
        }
    }

    fn byte(&mut self, byte: u8) {
        self.line = match (self.line, byte) {
            (Line::Start(_), b'\n') | (Line::Rest, b'\n') => Line::Start(0),
            (Line::Start(blanks @ 0..3), b' ') => Line::Start(blanks + 1),
            (Line::Start(_), b'`' | b'~') => Line::Run(byte, 1),
            (Line::Run(own, count), _) if own == byte => Line::Run(own, count + 1),
            (Line::Run(own, count), _) => match (self.open, byte) {
                (None, _) => {
                    if count >= 3 {
                        self.open = Some((own, count));
                    }
                    if byte == b'\n' { Line::Start(0) } else { Line::Rest }
                }
                (Some((fence, length)), b'\n' | b' ' | b'\t' | b'\r')
                    if fence == own && count >= length =>
                {
                    self.closing(byte)
                }
                (_, b'\n') => Line::Start(0),
                _ => Line::Rest,
            },
            (Line::Closing, b'\n' | b' ' | b'\t' | b'\r') => self.closing(byte),
            _ => Line::Rest,
        };
    }

    fn closing(&mut self, byte: u8) -> Line {
        if byte == b'\n' {
            self.open = None;
            return Line::Start(0);
        }
        Line::Closing
    }
}
