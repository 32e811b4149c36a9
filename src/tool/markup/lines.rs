//! Where prose stands in Markdown: inside a fence, or right after a backtick.

use memchr::memchr2;

/// Follows prose and knows whether an opener may stand next: not inside a fence, not on the line that opens one, not directly after a backtick, and
/// not directly after a tag that is text for that reason. Directly means on the same line; what a
/// quoted `<tool_call>` holds may begin on a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lines {
    /// The fence that it is in.
    fence: Option<Fence>,
    place: Place,
    shield: Shield,
}

/// Where in its line it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// At the start, after so many blanks.
    Start(u8),
    /// In a run of fence characters at the start.
    Run(Fence),
    /// Behind a run that opens a fence.
    Info(Fence),
    /// Behind a run that closes the fence if the line ends here.
    Tail,
    /// Further on.
    Text,
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
        matches!((self.shield, self.place), (Shield::None, Place::Text))
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
            (place, b'\n') => {
                self.fence = match (self.fence, place) {
                    (Some(_), _) if self.may_close() => None,
                    (None, Place::Info(opened)) => Some(opened),
                    (None, Place::Run(opened)) if opened.length >= 3 => Some(opened),
                    (fence, _) => fence,
                };
                Place::Start(0)
            }
            (Place::Start(blanks), b' ') if blanks < 3 => Place::Start(blanks + 1),
            (Place::Start(_), b'\r') if self.fence.is_none() => self.place,
            (Place::Start(_), b'`' | b'~') if self.fence.is_none_or(|fence| fence.mark == byte) => {
                Place::Run(Fence { mark: byte, length: 1 })
            }
            (Place::Run(run), _) if run.mark == byte => {
                Place::Run(Fence { length: run.length.saturating_add(1), ..run })
            }
            (_, b' ' | b'\t' | b'\r') if self.may_close() => Place::Tail,
            (Place::Run(run), _) if run.length >= 3 && self.fence.is_none() => Place::Info(run),
            // A fence of backticks has none in the rest of its line; this was inline code.
            (Place::Info(fence), _) if (fence.mark, byte) != (b'`', b'`') => self.place,
            _ => Place::Text,
        };
    }

    /// Whether the fence closes if the line ends here.
    fn may_close(&self) -> bool {
        self.fence.is_some_and(|fence| match self.place {
            Place::Run(run) => run.length >= fence.length,
            place => place == Place::Tail,
        })
    }

    fn in_fence(&self) -> bool {
        self.fence.is_some()
            || match self.place {
                Place::Run(run) => run.length >= 3,
                place => matches!(place, Place::Info(_)),
            }
    }

    /// Whether an opener may stand here.
    pub(super) fn allows_opener(&self) -> bool {
        !self.in_fence() && !matches!(self.shield, Shield::Backtick | Shield::Closed { .. })
    }

    /// Whether an opener may stand after blanks from here on, so that they are held back.
    pub(super) fn allows_after_blanks(&self) -> bool {
        self.may_close() || !self.in_fence()
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
