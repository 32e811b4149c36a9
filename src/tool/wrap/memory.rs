use crate::tool::markup::is_blank;

/// How much of a reply's text is remembered for its completion, in bytes; so a result, with what
/// is escaped in it, stays below the 102,400 characters at which Roo Code gives up a parameter.
pub(super) const REMEMBERED: usize = 64 * 1024;

/// The end of the visible text so far.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// At most twice what is remembered, so that forgetting costs constant time a byte; ends
    /// with a character that is not blank.
    text: String,
    /// The blanks behind it, at most twice what is remembered.
    blanks: String,
    /// Whether something was forgotten of the text, of the blanks.
    forgotten: (bool, bool),
}

impl Memory {
    /// Whether there was nothing but blanks.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn push(&mut self, text: &str) {
        let visible = text.trim_end_matches(is_blank).len();
        if visible > 0 {
            let blanks = std::mem::take(&mut self.blanks);
            self.text.push_str(&blanks);
            self.text.push_str(&text[..visible]);
            self.forgotten.0 |= self.forgotten.1 | forget(&mut self.text);
            self.forgotten.1 = false;
            // The allocation is used again.
            self.blanks = blanks;
            self.blanks.clear();
        }
        self.blanks.push_str(&text[visible..]);
        self.forgotten.1 |= forget(&mut self.blanks);
    }

    /// The result of a completion: the text without the blanks around it, or its last
    /// paragraphs where it is longer than what is remembered; every closer of the result escaped.
    pub(super) fn result(&self) -> String {
        let text = if self.forgotten.0 || self.text.len() > REMEMBERED {
            last_paragraphs(&self.text)
        } else {
            &self.text
        };
        text.trim_matches(is_blank).replace("</result>", "&lt;/result>")
    }
}

/// Cuts `text` down to what is remembered once it has grown to twice that.
fn forget(text: &mut String) -> bool {
    let forget = text.len() > 2 * REMEMBERED;
    if forget {
        let from = room(text);
        text.drain(..from);
    }
    forget
}

/// Where what is remembered of `text` begins.
fn room(text: &str) -> usize {
    let from = text.len().saturating_sub(REMEMBERED);
    (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

/// The last paragraphs of `text` that fit, or the last lines, or the last characters.
fn last_paragraphs(text: &str) -> &str {
    let room = &text[room(text)..];
    let paragraph = room.find("\n\n").map(|at| at + 2);
    paragraph.or_else(|| room.find('\n').map(|at| at + 1)).map_or(room, |at| &room[at..])
}
