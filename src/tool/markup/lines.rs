//! Where prose stands in Markdown: inside a fence, or right after a backtick.

use memchr::memchr2;

/// Follows prose and knows whether an opener may stand next: not inside a fence, not on the line that opens one, not directly after a backtick, and
/// not directly after a tag that is text for that reason. Directly means on the same line; what a
/// quoted `<tool_call>` holds may begin on a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lines {
    place: Place,
    shield: Shield,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// At the start of a line, after so many blanks.
    Start(u8),
    /// In a run of fence characters at the start of a line.
    Run(Fence),
    /// On the line that opens a fence.
    Info(Fence),
    /// Further on in a line.
    Text,
    /// Inside a fence.
    Fence(Fence, Inner),
}

impl Default for Place {
    fn default() -> Self {
        Self::Start(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fence {
    mark: u8,
    length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Inner {
    Start(u8),
    Run(u32),
    /// After a run that closes the fence if the line ends here.
    Tail,
    Text,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Shield {
    #[default]
    None,
    /// Right after a backtick.
    Backtick,
    /// In a tag that began there: how much of it is like the wrapper's.
    Tag(u8),
    /// After such a tag, on its line; after a wrapper, on the next lines, too.
    Closed { wrapper: bool },
}

/// The tag whose content is quoted with it.
const WRAPPER: [u8; 11] = *b"<tool_call>";

impl Lines {
    #[inline]
    pub(super) fn advance(&mut self, text: &str) {
        if !text.is_empty() {
            self.advance_over(text);
        }
    }

    fn advance_over(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if self.is_inside() {
                match memchr2(b'\n', b'`', &bytes[at..]) {
                    Some(skipped) => at += skipped,
                    None => return,
                }
            }
            self.step(bytes[at]);
            at += 1;
        }
    }

    /// Whether text without line ends and backticks changes nothing: most text is the inside of a
    /// line.
    pub(super) const fn is_inside(&self) -> bool {
        matches!(self.shield, Shield::None)
            && matches!(self.place, Place::Text | Place::Fence(_, Inner::Text))
    }

    fn step(&mut self, byte: u8) {
        self.shield = match (self.shield, byte) {
            (_, b'`') => Shield::Backtick,
            (Shield::Backtick | Shield::Closed { .. }, b'<') => Shield::Tag(1),
            (Shield::Tag(like), b'>') => Shield::Closed { wrapper: like == 10 },
            (Shield::Tag(_), b'<' | b'\n') => Shield::None,
            (Shield::Tag(like), _) if WRAPPER.get(usize::from(like)) == Some(&byte) => {
                Shield::Tag(like + 1)
            }
            (Shield::Tag(_), _) => Shield::Tag(u8::MAX),
            (Shield::Closed { wrapper }, _)
                if byte == b' ' || wrapper && byte.is_ascii_whitespace() =>
            {
                self.shield
            }
            _ => Shield::None,
        };
        self.place = match (self.place, byte) {
            (Place::Start(_) | Place::Text, b'\n') => Place::Start(0),
            (Place::Start(blanks), b' ') if blanks < 3 => Place::Start(blanks + 1),
            (Place::Start(_), b'\r') => self.place,
            (Place::Start(_), b'`' | b'~') => Place::Run(Fence { mark: byte, length: 1 }),
            (Place::Start(_) | Place::Text, _) => Place::Text,

            (Place::Run(fence), _) if fence.mark == byte => {
                Place::Run(Fence { length: fence.length.saturating_add(1), ..fence })
            }
            (Place::Run(fence), b'\n') if fence.length >= 3 => Place::Fence(fence, Inner::Start(0)),
            (Place::Run(_), b'\n') => Place::Start(0),
            (Place::Run(fence), _) if fence.length >= 3 => Place::Info(fence),
            (Place::Run(_), _) => Place::Text,

            (Place::Info(fence), b'\n') => Place::Fence(fence, Inner::Start(0)),
            // A fence of backticks has none in the rest of its line; this was inline code.
            (Place::Info(fence), b'`') if fence.mark == b'`' => Place::Text,
            (Place::Info(_), _) => self.place,

            (Place::Fence(fence, Inner::Run(length)), b'\n') if length >= fence.length => {
                Place::Start(0)
            }
            (Place::Fence(_, Inner::Tail), b'\n') => Place::Start(0),
            (Place::Fence(fence, inner), _) => Place::Fence(fence, inner.step(byte, fence)),
        };
    }

    const fn in_fence(&self) -> bool {
        match self.place {
            Place::Start(_) | Place::Text => false,
            Place::Run(Fence { length, .. }) => length >= 3,
            Place::Info(_) | Place::Fence(..) => true,
        }
    }

    /// Whether an opener may stand here.
    pub(super) const fn allows_opener(&self) -> bool {
        !self.in_fence() && !matches!(self.shield, Shield::Backtick | Shield::Closed { .. })
    }

    /// Whether an opener may stand after blanks from here on, so that they are held back.
    pub(super) const fn allows_after_blanks(&self) -> bool {
        match self.place {
            Place::Fence(Fence { length, .. }, Inner::Run(run)) => run >= length,
            Place::Fence(_, Inner::Tail) => true,
            _ => !self.in_fence(),
        }
    }
}

impl Inner {
    const fn step(self, byte: u8, fence: Fence) -> Self {
        match (self, byte) {
            (_, b'\n') => Self::Start(0),
            (Self::Start(blanks), b' ') if blanks < 3 => Self::Start(blanks + 1),
            (Self::Start(_), byte) if byte == fence.mark => Self::Run(1),
            (Self::Run(length), byte) if byte == fence.mark => Self::Run(length.saturating_add(1)),
            (Self::Run(length), b' ' | b'\t' | b'\r') if length >= fence.length => Self::Tail,
            (Self::Tail, b' ' | b'\t' | b'\r') => Self::Tail,
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(text: &str) -> bool {
        let mut lines = Lines::default();
        lines.advance(text);
        let mut bytewise = Lines::default();
        text.bytes().for_each(|byte| bytewise.step(byte));
        assert_eq!(lines, bytewise, "{text:?}");
        lines.allows_opener()
    }

    #[test]
    fn fences_open_and_close() {
        for text in [
            "```\n",
            "```json\n{",
            "  ~~~~\nx\n~~~\n",
            "```\n````x\n",
            "```",
            "```js ",
            "```\n    ```\n",
            "```\na\n``` b\n",
            "~~~ a`b\n",
            "```\r\n",
        ] {
            assert!(!allows(text), "{text:?}");
        }
        for text in [
            "",
            "a\n",
            "```\nx\n```\n",
            "```\nx\n````  \n",
            "```js\nx\n   ```\t\r\n",
            "    ```\n",
            "``\n",
            "```inline``` ",
            "~~x",
            "a ```\n",
            "~~~\n`x\n~~~\n",
        ] {
            assert!(allows(text), "{text:?}");
        }
    }

    #[test]
    fn a_backtick_shields_what_directly_follows() {
        for text in ["`", "a ``", "`<tool_call>", "`<tool_call> ", "`<a><b>"] {
            assert!(!allows(text), "{text:?}");
        }
        for text in ["`<tool_call>\n", "`<tool_call> \n\t", "`<a> <tool_call>\n"] {
            assert!(!allows(text), "{text:?}");
        }
        for text in ["`<tool_call>\nx", "`<tool_call>x>\n", "`<tool_cal>\n", "`<tool_call>`\n"] {
            assert!(allows(text), "{text:?}");
        }
        for text in ["` ", "`<a>` ", "`<a>\n", "`<a> b", "`x", "`<a <"] {
            assert!(allows(text), "{text:?}");
        }
    }

    #[test]
    fn blanks_are_held_only_where_an_opener_may_follow() {
        let holds = |text: &str| {
            let mut lines = Lines::default();
            lines.advance(text);
            lines.allows_after_blanks()
        };
        assert!(holds("a") && holds("```\nx\n```") && holds("```\nx\n``` "));
        assert!(!holds("```\nx") && !holds("```\nx\n``") && !holds("````\nx\n```"));
    }
}
