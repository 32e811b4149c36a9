//! What is left around calls of the markup that they were read from.

use std::collections::VecDeque;

use memchr::memrchr;

use crate::{Text, chat::ChatEvent, closer::Closer};

/// How much white space and how many closers may be held, in bytes: templates write a few line ends
/// and tags, and what is longer is the answer.
const HELD_LEN: usize = 256;

/// How much white space may be left out before a call, in bytes: a longer run is the answer.
const LAYOUT_LEN: usize = 64;

/// What stands before the calls of a dialect. A reader of calls that takes their bodies may leave it.
const OPENERS: [&str; 3] = ["<tool_call>", "<tool_calls>", "<function_calls>"];

/// How many braces too many may stand behind a call, before its closer.
const BRACES: usize = 4;

/// Holds text that may turn out to be no text: white space, which a call may follow, and around calls
/// what a server's reader of calls did not take: closing tags, doubled or mis-spelt ones too, with the
/// white space around them.
///
/// What is held and is text after all is given as it came.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    state: State,
    /// Calls may come, so that the end of each text is looked at.
    calls_may_come: bool,
    /// A call came, or stands in the same event as the text, so closers in lines of their own are held.
    is_around_calls: bool,
    /// The answer has begun, so that what comes next may stand within a line.
    has_begun: bool,
    held: Vec<Text>,
    len: usize,
    /// White space between text and a call. If more text follows, it stood between the two.
    gap: Vec<Text>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Text is the answer's.
    #[default]
    Text,
    /// Nothing but white space has come since a call.
    BehindCall,
    /// Closers have come since a call, and the white space behind them is theirs.
    BehindCloser,
}

impl Leftovers {
    /// Functions are on offer, so that calls may come.
    pub(super) fn calls_may_come(&mut self) {
        self.calls_may_come = true;
    }

    /// Whether text that [is no end](Self::is_no_end) of anything passes as it is.
    pub(super) fn is_plain(&self) -> bool {
        self.state == State::Text && self.held.is_empty() && self.has_begun
    }

    /// Whether `text` is the answer's, whatever follows it.
    #[inline]
    pub(super) fn is_no_end(&self, text: &str) -> bool {
        !(is_blank(text) || self.calls_may_come && self.may_end_held(text))
    }

    /// Takes an event of the text or of thinking.
    #[inline]
    pub(super) fn push(&mut self, event: ChatEvent, ready: &mut VecDeque<ChatEvent>) {
        match event {
            ChatEvent::Text(text)
                if self.state != State::Text || !self.held.is_empty() || !self.is_no_end(&text) =>
            {
                self.text(text, ready);
            }
            event => {
                self.has_begun |= matches!(event, ChatEvent::Text(_));
                ready.push_back(event);
            }
        }
    }

    /// Whether the end of `text` may be a leftover, by a look at its last line.
    fn may_end_held(&self, text: &str) -> bool {
        if text.ends_with(char::is_whitespace) {
            return true;
        }
        let line = match memrchr(b'\n', text.as_bytes()) {
            Some(end) => &text[end + 1..],
            None if self.has_begun => return false,
            None => text,
        };
        line.trim_start().starts_with(['<', '['])
    }

    #[inline(never)]
    fn text(&mut self, text: Text, ready: &mut VecDeque<ChatEvent>) {
        if self.state != State::Text {
            self.len += text.len();
            self.held.push(text);
            if !self.swallow() {
                self.state = State::Text;
                let held: Vec<Text> = self.held.drain(..).collect();
                self.len = 0;
                held.into_iter().for_each(|text| self.end(text, ready));
            }
            return;
        }
        if !self.held.is_empty() {
            let len = self.len + text.len();
            if len <= HELD_LEN && self.is_held(&(self.joined() + &text)) {
                self.len = len;
                self.held.push(text);
                return;
            }
            self.settle_text(ready);
        }
        self.end(text, ready);
    }

    /// Gives `text` but for what of its end is held.
    fn end(&mut self, text: Text, ready: &mut VecDeque<ChatEvent>) {
        let at = self.held_from(&text);
        if at > 0 {
            self.settle_text(ready);
            if !is_blank(&text[..at]) {
                ready.extend(self.gap.drain(..).map(ChatEvent::Text));
            }
            self.has_begun = true;
            ready.push_back(ChatEvent::Text(text.slice(..at)));
        }
        if at < text.len() {
            self.len += text.len() - at;
            self.held.push(text.slice(at..));
        }
    }

    fn joined(&self) -> String {
        self.held.iter().map(Text::as_str).collect()
    }

    /// Whether all of a text is held that begins where the held text does.
    fn is_held(&self, text: &str) -> bool {
        self.held_from(text) == 0
    }

    /// Where in `text` a leftover begins that goes on to its end.
    fn held_from(&self, text: &str) -> usize {
        let body = text.trim_end();
        let mut from = if text.len() - body.len() > LAYOUT_LEN { text.len() } else { body.len() };
        if !self.calls_may_come && from > 0 {
            return text.len();
        }
        if !self.calls_may_come || body.is_empty() {
            return from;
        }
        // From the last line backwards, as long as there is nothing but tags in them. Within a
        // line they may be what the text is about.
        let mut end = text.len();
        let mut last = body.len();
        loop {
            let line_end = memrchr(b'\n', &text.as_bytes()[..last]);
            let line = &text[line_end.map_or(0, |at| at + 1)..end];
            let is_whole = line_end.is_some() || !self.has_begun;
            let is_closers = match Run::of(line, self.is_around_calls) {
                Run::Tags => true,
                Run::Half => end == text.len(),
                Run::Text => false,
            };
            let start = text[..line_end.unwrap_or(0)].trim_end().len();
            if !is_whole || !is_closers || text.len() - start > HELD_LEN {
                return from;
            }
            from = start;
            if start == 0 {
                return 0;
            }
            (end, last) = (start, start);
        }
    }

    /// Lets go of the closers that are held; whether what is left may be white space and a closer.
    fn swallow(&mut self) -> bool {
        let all: String = self.held.iter().map(Text::as_str).collect();
        let mut rest = all.as_str();
        let is_held = loop {
            let mut closer = rest.trim_start();
            if self.state == State::BehindCloser {
                rest = closer;
            }
            let braces = closer.bytes().take_while(|byte| matches!(byte, b'}' | b']')).count();
            if (1..=BRACES).contains(&braces) {
                closer = closer[braces..].trim_start();
            }
            if rest.len() - closer.len() > HELD_LEN {
                break false;
            }
            // It may be left over from the next call, or the beginning of one that is text.
            if braces == 0 && closer.len() <= HELD_LEN && Run::of(closer, false) != Run::Text {
                break true;
            }
            match Closer::at(closer) {
                Closer::Whole { len, .. } => {
                    self.state = State::BehindCloser;
                    rest = &closer[len..];
                }
                Closer::Half => break true,
                Closer::None => break false,
            }
        };
        let mut left = all.len() - rest.len();
        self.len -= left;
        self.held.retain_mut(|text| {
            let cut = left.min(text.len());
            left -= cut;
            if cut == text.len() {
                return false;
            }
            if cut > 0 {
                *text = text.slice(cut..);
            }
            true
        });
        is_held
    }

    /// The text that follows stands in one event with calls, of which a server does not say what came
    /// first.
    pub(super) fn beside_calls(&mut self) {
        self.calls_may_come = true;
        self.is_around_calls = true;
        if self.state == State::Text && self.held.is_empty() {
            self.state = State::BehindCall;
        }
    }

    /// A call, or a piece of one: what was held before it is nothing.
    pub(super) fn call(&mut self, ready: &mut VecDeque<ChatEvent>) {
        self.calls_may_come = true;
        self.is_around_calls = true;
        if !self.held.is_empty() && Run::of(&self.joined(), true) != Run::Tags {
            self.settle_text(ready);
        }
        if self.state == State::Text && self.has_begun && is_blank(&self.joined()) {
            self.gap = std::mem::take(&mut self.held);
        }
        self.state = State::BehindCall;
        self.held.clear();
        self.len = 0;
    }

    /// The end: what is held is text, unless it is white space behind a call, or tags.
    pub(super) fn settle(&mut self, ready: &mut VecDeque<ChatEvent>) {
        let held = self.joined();
        let is_tags = Run::of(&held, true) == Run::Tags || is_cut_closer(&held);
        let is_nothing = match self.state {
            State::Text => self.is_around_calls && !is_blank(&held) && is_tags,
            State::BehindCall | State::BehindCloser => is_tags,
        };
        if is_nothing {
            self.held.clear();
        }
        self.settle_text(ready);
    }

    fn settle_text(&mut self, ready: &mut VecDeque<ChatEvent>) {
        self.len = 0;
        self.has_begun |= !self.held.is_empty();
        ready.extend(self.held.drain(..).map(ChatEvent::Text));
    }
}

/// What a text is that may be left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// Tags and white space.
    Tags,
    /// The same, and the last tag is cut.
    Half,
    Text,
}

impl Run {
    /// What a text is, in which closers count as tags, too, if `closers` says so.
    fn of(text: &str, closers: bool) -> Self {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(opener) = OPENERS.iter().find(|opener| rest.starts_with(**opener)) {
                rest = rest[opener.len()..].trim_start();
                continue;
            }
            if OPENERS.iter().any(|opener| opener.starts_with(rest)) {
                return Self::Half;
            }
            match Closer::at(rest) {
                Closer::Whole { len, .. } if closers => rest = rest[len..].trim_start(),
                Closer::Half if closers => return Self::Half,
                _ => return Self::Text,
            }
        }
        Self::Tags
    }
}

/// Whether a text ends within a closer that lacks but its end, as where that was a stop token.
fn is_cut_closer(text: &str) -> bool {
    let rest = text.trim();
    ["</tool_call", "</tool_calls", "</function_calls"].iter().any(|closer| {
        let before = rest.strip_suffix(closer);
        before.is_some_and(|before| Run::of(before, true) == Run::Tags)
    })
}

/// Whether `text` is white space; nearly all pieces show with their first character that they are
/// not.
#[inline]
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a call.
    const CALL: &str = "call";

    fn read(pieces: &[&str]) -> String {
        let (mut leftovers, mut ready) = (Leftovers::default(), VecDeque::new());
        leftovers.calls_may_come();
        for piece in pieces {
            match *piece {
                CALL => leftovers.call(&mut ready),
                text => leftovers.push(ChatEvent::Text(text.into()), &mut ready),
            }
        }
        leftovers.settle(&mut ready);
        ready
            .into_iter()
            .map(|event| match event {
                ChatEvent::Text(text) => text.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn leftovers_around_calls_are_left_out() {
        let long = " ".repeat(LAYOUT_LEN + 1);
        for (pieces, expected) in [
            (&["\n\n", CALL][..], ""),
            // What stood between two texts.
            (&["One. ", CALL, "Two."], "One. Two."),
            (&["One.", "\n", "\n", CALL, "Two.", "\n", CALL, "Three."], "One.\n\nTwo.\nThree."),
            (&["One. ", CALL, "\n</tool_call>\n", "Two."], "One. Two."),
            (&["\n", CALL, "Two."], "Two."),
            (&["One. ", CALL, "\n"], "One."),
            (&["Hi", "\n", " \n", CALL], "Hi"),
            (&["\n\n", "Hi"], "\n\nHi"),
            (&["Hi", "\n\n"], "Hi\n\n"),
            (&[&long, CALL], &long),
            (&[CALL, "\n</tool_call>"], ""),
            (&[CALL, "\n</tool", "_call>", "\n", "</tool_call>\n"], ""),
            (&[CALL, "</tool_cal>", "</tool_call>"], ""),
            (&[CALL, "</toolcall>"], ""),
            (&[CALL, "</function>\n</tool_call>", "<|im_end|>"], ""),
            (&[CALL, "</minimax:tool_call>"], ""),
            (&[CALL, "<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}>"], ""),
            (&[CALL, "[/TOOL_CALLS]"], ""),
            (&[CALL, "\n", CALL, "</parameter>"], ""),
            (&[CALL, "</func>\n</tool_call>"], ""),
            (&["\u{a0}\n", CALL], ""),
            (&[CALL, "\u{a0}</tool_call>\u{2003}", "</tool_call>"], ""),
            // The text behind closers begins behind their white space.
            (&[CALL, "\n</tool_call>\n\nDone.\n"], "Done.\n"),
            (&[CALL, "</tool_call>", "\n", "\n", "Do", "ne."], "Done."),
            (&[CALL, "</tool_call>", "The </tool_call> ends it."], "The </tool_call> ends it."),
            (&[CALL, "</tool_call>\n<b>"], "<b>"),
            (&[CALL, "</tool_call>\n</tool"], "</tool"),
            // Text, and markup of another kind.
            (&[CALL, "\nDone."], "\nDone."),
            (&[CALL, "</div>"], "</div>"),
            (&[CALL, "</tool_call>", "Done."], "Done."),
            (&[CALL, "["], "["),
            (&[CALL, "<", "b>"], "<b>"),
            (&[CALL, "</tool"], "</tool"),
            (&[CALL, "</tool_call"], ""),
            (&[CALL, "\n</function>\n</tool_call"], ""),
            (&[CALL, "Look.\n</tool_call"], "Look."),
            // Openers directly before a call, and in a closer's place.
            (&["<tool_call>\n", CALL, "\n</tool_call>"], ""),
            (&["<tool_call>", "\n", CALL], ""),
            (&["Let me look.\n<tool_call>\n", CALL], "Let me look."),
            (&["Let me look.", "\n", "<tool_", "calls>", CALL], "Let me look."),
            (&[CALL, "\n</tool_call>\n<tool_call>\n", CALL, "</tool_call>"], ""),
            (&[CALL, "\n<tool_call>"], ""),
            (&[CALL, "Look.\n<tool_call>"], "Look."),
            (&["<tool_call>"], "<tool_call>"),
            (&["<tool_call>\n{}"], "<tool_call>\n{}"),
            (&["<tool_call>", "\n{}", CALL], "<tool_call>\n{}"),
            (&[CALL, "<tool_call>\n{}"], "<tool_call>\n{}"),
            (&[CALL, "</tool_call>\n<tool_call>", "{}"], "<tool_call>{}"),
            (&["The <tool_call>", CALL], "The <tool_call>"),
            (&["</tool_call>"], "</tool_call>"),
            (&[CALL, "a < b"], "a < b"),
            // In lines of their own behind text that stands behind a call.
            (&[CALL, "Look.\n</tool_call>"], "Look."),
            (&[CALL, "Look.\n\n</function>\n</tool_call>\n"], "Look."),
            (&[CALL, "Look.\n</tool_call>\nLook."], "Look.\n</tool_call>\nLook."),
            (&[CALL, "Look.\n</tool_call>", CALL, "\n"], "Look."),
            (&[CALL, "Look. </tool_call>"], "Look. </tool_call>"),
            (&[CALL, "Look.\n</tool"], "Look.\n</tool"),
            (&[CALL, "Look.\n["], "Look.\n["),
            (&[CALL, "Look.\n"], "Look.\n"),
            // A brace too many, where a closer follows.
            (&[CALL, "}\n</tool_call>"], ""),
            (&[CALL, "\n}}</tool_call>Look."], "Look."),
            (&[CALL, "}"], "}"),
            (&[CALL, "} else {"], "} else {"),
            (&[CALL, "}}}}}</tool_call>"], "}}}}}</tool_call>"),
        ] {
            assert_eq!(read(pieces), expected, "{pieces:?}");
            if let [CALL, text @ ..] = pieces
                && !text.contains(&CALL)
            {
                let text = text.concat();
                let mut characters: Vec<&str> = text.split("").filter(|c| !c.is_empty()).collect();
                characters.insert(0, CALL);
                assert_eq!(read(&characters), expected, "{characters:?}");
                assert_eq!(read(&[CALL, &text]), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn closers_are_not_kept() {
        let (mut leftovers, mut ready) = (Leftovers::default(), VecDeque::new());
        leftovers.call(&mut ready);
        for _ in 0..10_000 {
            for piece in ["\n", "</tool", "_call>", " ", "</func", "tion>"] {
                leftovers.push(ChatEvent::Text(piece.into()), &mut ready);
                assert!(leftovers.len < 16 && leftovers.held.len() < 4 && ready.is_empty());
            }
        }
        let long = " ".repeat(HELD_LEN);
        assert_eq!(read(&[CALL, &long, "</tool_call>", "x"]), "x");
        assert_eq!(read(&[CALL, &long, "\n", "x"]), format!("{long}\nx"));
        assert_eq!(read(&[CALL, "</func>", &long, "\n</tool_call>x"]), "x");
    }
}
