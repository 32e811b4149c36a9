use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2, memrchr};

use crate::sse::{
    DecodeError,
    buffer::{append, take},
    decoder::BOM,
    pieces::Pieces,
};

/// A piece that is smaller is copied at once, which costs less than to keep it.
const KEEP_TAIL: usize = 64;

/// Cuts a stream of bytes anew, so that each frame holds whole events: the core of
/// [`SseReframe`](super::SseReframe), without I/O.
///
/// The frames, joined, are the input, but for its line ends, which all become LF. In lenient
/// mode a blank line is added behind each `data` line that has none.
pub(super) struct Reframer {
    max_event: usize,
    lenient: bool,
    /// The block that is not complete yet is `held`, then `tail`: the latter a slice of the last
    /// piece, if that is not small, so that it costs nothing to let go of a piece that came with a few bytes too many.
    /// A comment line at the beginning of a block does not wait for the block, so a block that
    /// begins with a colon is one comment line that is cut.
    held: Pieces,
    tail: Bytes,
    /// The last byte was a CR, of which an LF may be the second half.
    after_cr: bool,
    /// No frame was given yet.
    first: bool,
    /// Something was sent before the first frame.
    interjected: bool,
    /// Where pieces are rewritten, if they have to be.
    scratch: BytesMut,
    lines: DataLines,
}

/// What is left of a [`Reframer`] when its input ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: the input ended behind an event.
    Nothing,
    /// The last block; it lacked only what could be added without guessing.
    Completed(Bytes),
    /// The input ended within an event. This many bytes of it were there.
    Cut(usize),
}

impl Reframer {
    pub(super) fn new(max_event: usize, lenient: bool) -> Self {
        Self {
            max_event,
            lenient,
            held: Pieces::default(),
            tail: Bytes::new(),
            after_cr: false,
            first: true,
            interjected: false,
            scratch: BytesMut::new(),
            lines: DataLines::default(),
        }
    }

    /// How many bytes wait for the rest of their event.
    pub(super) fn held(&self) -> usize {
        self.held.len() + self.tail.len()
    }

    /// Notes that something is sent that is not from this stream.
    ///
    /// If it comes before the first frame, a byte order mark that stands there would no longer
    /// stand at the beginning, where clients skip it, and so has to go. Otherwise it stays: a
    /// second one behind it, which clients must not skip, would take its place.
    pub(super) fn interject(&mut self) {
        self.interjected = self.first;
    }

    /// Whether [`push`](Self::push) would give a piece that [is a frame](Self::is_frame) back as
    /// it is, and change nothing.
    pub(super) fn is_between(&self) -> bool {
        self.held() == 0 && !self.first && !self.lenient && !self.after_cr
    }

    /// Whether a piece between two events holds whole events in good form. Most pieces of most
    /// upstreams do; of some `false` says nothing.
    #[inline]
    pub(super) fn is_frame(piece: &[u8]) -> bool {
        piece.ends_with(b"\n\n") && memchr(b'\r', piece).is_none()
    }

    /// Takes a small piece in that ends no line and is not the first of its block, as
    /// [`push`](Self::push) would; `false` if it is not such a one.
    #[inline]
    pub(super) fn absorb(&mut self, piece: &[u8]) -> bool {
        let absorbs = piece.len() < KEEP_TAIL
            && !self.held.is_empty()
            && self.tail.is_empty()
            && self.held.len() + piece.len() <= self.max_event
            && !self.lenient
            && !self.after_cr
            && memchr2(b'\n', b'\r', piece).is_none();
        if absorbs {
            self.held.copy(piece);
        }
        absorbs
    }

    /// Takes a piece in, and gives the events that are complete now in one frame: the very
    /// `piece` if it holds whole events and is in good form.
    ///
    /// Time is linear in the input, and what is held is at most `max_event` bytes and a piece;
    /// the buffer for it can have twice the size. A block within one piece is never held, so the
    /// limit does not concern it.
    #[inline]
    pub(super) fn push(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, DecodeError> {
        if piece.is_empty() {
            return Ok(None);
        }
        if self.after_cr {
            self.after_cr = false;
            if piece[0] == b'\n' {
                piece.advance(1);
            }
        }
        if memchr(b'\r', &piece).is_some() {
            piece = self.unify_line_ends(&piece);
        }
        if self.lenient {
            piece = self.lines.separate(piece, &mut self.scratch);
        }
        match self.last_boundary(&piece) {
            Some(end) => Ok(Some(self.release(piece, end))),
            None => self.hold(piece).map(|()| None),
        }
    }

    /// Ends the input.
    pub(super) fn finish(&mut self) -> Tail {
        self.after_cr = false;
        self.lines = DataLines::default();
        let block = self.held.take(&mem::take(&mut self.tail));
        let mark = if self.first && block.starts_with(BOM) { BOM.len() } else { 0 };
        if block.len() == mark {
            return Tail::Nothing;
        }
        let Some(end) = missing_end(&block[mark..]) else { return Tail::Cut(block.len()) };
        let mut block = BytesMut::from(block);
        block.extend_from_slice(end);
        Tail::Completed(self.without_late_mark(block.freeze()))
    }

    /// Where behind the last blank line of `piece`, or the last comment outside of a block, its
    /// unfinished rest begins.
    #[inline]
    fn last_boundary(&self, piece: &[u8]) -> Option<usize> {
        if piece.ends_with(b"\n\n") {
            return Some(piece.len());
        }
        let before = self.tail.last().copied().or_else(|| self.held.last());
        let blank_line = last_blank_line(piece, before == Some(b'\n'));
        let first = self.held.first().or_else(|| self.tail.first().copied());
        let mut in_comment = blank_line.is_none() && first == Some(b':');
        if blank_line.is_none() && first.is_some() && !in_comment {
            return None;
        }
        let mut boundary = blank_line;
        let mut at = blank_line.unwrap_or(0);
        loop {
            match piece.get(at) {
                Some(b'\n') if !in_comment => at += 1,
                Some(&byte) if in_comment || byte == b':' => match memchr(b'\n', &piece[at..]) {
                    Some(length) => at += length + 1,
                    None => return boundary,
                },
                _ => return boundary,
            }
            in_comment = false;
            boundary = Some(at);
        }
    }

    /// Gives what is held and `piece[..end]`, and holds the rest.
    #[inline]
    fn release(&mut self, mut piece: Bytes, end: usize) -> Bytes {
        let rest = piece.split_off(end);
        let frame = if self.held() == 0 {
            piece
        } else {
            self.hold_tail();
            self.held.take(&piece)
        };
        self.tail = rest;
        if self.first { self.without_late_mark(frame) } else { frame }
    }

    /// The first frame, without the byte order mark that something was sent before.
    #[cold]
    fn without_late_mark(&mut self, mut frame: Bytes) -> Bytes {
        if mem::take(&mut self.first) && self.interjected && frame.starts_with(BOM) {
            frame.advance(BOM.len());
        }
        frame
    }

    fn hold_tail(&mut self) {
        let tail = mem::take(&mut self.tail);
        if self.held.is_empty() {
            // The first part of a block may be the small rest of a large piece.
            self.held.copy(&tail);
        } else {
            self.held.push(&tail);
        }
    }

    fn hold(&mut self, piece: Bytes) -> Result<(), DecodeError> {
        self.hold_tail();
        if piece.len() < KEEP_TAIL {
            self.held.copy(&piece);
        } else {
            self.tail = piece;
        }
        if self.held() > self.max_event {
            *self = Self::new(self.max_event, self.lenient);
            return Err(DecodeError::EventTooLong { limit: self.max_event });
        }
        Ok(())
    }

    /// Copies a piece with LF for each CR and CRLF.
    fn unify_line_ends(&mut self, piece: &[u8]) -> Bytes {
        let mut rest = piece;
        while let Some(end) = memchr(b'\r', rest) {
            append(&mut self.scratch, &rest[..end]);
            append(&mut self.scratch, b"\n");
            rest = &rest[end + 1..];
            match rest.first() {
                Some(b'\n') => rest = &rest[1..],
                Some(_) => {}
                None => self.after_cr = true,
            }
        }
        append(&mut self.scratch, rest);
        take(&mut self.scratch)
    }
}

/// Where the last blank line of `piece` ends; `after_lf` says whether an LF came before it.
fn last_blank_line(piece: &[u8], after_lf: bool) -> Option<usize> {
    let mut end = piece.len();
    while let Some(lf) = memrchr(b'\n', &piece[..end]) {
        let before = if lf == 0 { after_lf } else { piece[lf - 1] == b'\n' };
        if before {
            return Some(lf + 1);
        }
        end = lf;
    }
    None
}

/// What an unfinished block lacks, where no field of it can be cut.
fn missing_end(block: &[u8]) -> Option<&'static [u8]> {
    let is_data = |line: &[u8]| line == b"data" || line.starts_with(b"data:");
    if block.starts_with(b":") && memchr(b'\n', block).is_none() {
        // Nobody reads a comment, so it is whole wherever it ends.
        return Some(b"\n");
    }
    if let Some(lines) = block.strip_suffix(b"\n") {
        // Without data there is no event to complete.
        return lines.split(|&byte| byte == b'\n').any(is_data).then_some(b"\n");
    }
    let line = memrchr(b'\n', block).map_or(block, |lf| &block[lf + 1..]);
    // Some servers forget both newlines behind the terminal marker, and nothing can be cut of it.
    matches!(line, b"data: [DONE]" | b"data:[DONE]").then_some(b"\n\n")
}

/// Puts a blank line behind each `data` line, for streams where those are whole events.
#[derive(Default)]
struct DataLines {
    /// How much of a byte order mark was seen; `BOM.len()` where none can come any more.
    bom: usize,
    /// How much of `data:` the line that the last piece has cut begins with.
    matched: usize,
    /// A blank line was put where the piece ended, so one that follows is not needed.
    skip_blank: bool,
}

impl DataLines {
    const NAME: &[u8] = b"data:";

    /// The line begins otherwise.
    const OTHER: usize = usize::MAX;

    fn separate(&mut self, mut piece: Bytes, scratch: &mut BytesMut) -> Bytes {
        if piece.is_empty() {
            return piece;
        }
        if mem::take(&mut self.skip_blank) && piece[0] == b'\n' {
            piece.advance(1);
        }
        let (mut start, mut copied) = (self.skip_bom(&piece), 0);
        while let Some(length) = memchr(b'\n', &piece[start..]) {
            let line = self.matched_with(&piece[start..start + length]);
            self.matched = 0;
            start += length + 1;
            // A name without a colon has the empty value.
            if line != Self::NAME.len() && line != Self::NAME.len() - 1 {
                continue;
            }
            match piece.get(start) {
                Some(b'\n') => start += 1,
                next => {
                    append(scratch, &piece[copied..start]);
                    append(scratch, b"\n");
                    copied = start;
                    self.skip_blank = next.is_none();
                }
            }
        }
        self.matched = self.matched_with(&piece[start..]);
        if copied == 0 {
            return piece;
        }
        append(scratch, &piece[copied..]);
        take(scratch)
    }

    /// How much of `piece` is a byte order mark at the beginning of the stream, or a part of one.
    fn skip_bom(&mut self, piece: &[u8]) -> usize {
        let mark = &BOM[self.bom..];
        let seen = piece.iter().zip(mark).take_while(|(byte, mark)| byte == mark).count();
        if seen == mark.len() || seen == piece.len() {
            self.bom += seen;
            return seen;
        }
        // It was none; what looked like one belongs to the first line.
        if self.bom > 0 {
            self.matched = Self::OTHER;
        }
        self.bom = BOM.len();
        0
    }

    /// [`matched`](Self::matched) when the line has gone on with `more`.
    fn matched_with(&self, more: &[u8]) -> usize {
        if self.matched >= Self::NAME.len() {
            return self.matched;
        }
        let name = &Self::NAME[self.matched..];
        let length = more.len().min(name.len());
        if more[..length] == name[..length] { self.matched + length } else { Self::OTHER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frames<'a>(
        reframer: &mut Reframer,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<Option<Bytes>> {
        pieces
            .into_iter()
            .map(|piece| reframer.push(Bytes::copy_from_slice(piece)).expect("short"))
            .collect()
    }

    fn joined<'a>(lenient: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Tail) {
        let mut reframer = Reframer::new(LIMIT, lenient);
        let output = frames(&mut reframer, pieces);
        (output.into_iter().flatten().collect::<Vec<_>>().concat(), reframer.finish())
    }

    #[test]
    fn whole_events_pass_as_the_same_bytes() {
        for lenient in [false, true] {
            let mut reframer = Reframer::new(LIMIT, lenient);
            for text in ["data: a\n\n", ": x\n", "event: e\ndata: b\n\ndata: c\n\n\n", ": y\n\n"] {
                let piece = Bytes::from(text);
                let frame = reframer.push(piece.clone()).expect("short").expect("whole");
                assert_eq!((frame.as_ptr(), frame.len()), (piece.as_ptr(), piece.len()), "{text}");
            }
        }
    }

    #[test]
    fn events_that_arrive_together_leave_together() {
        let mut reframer = Reframer::new(LIMIT, false);
        let pieces = ["data: a\n\nda", "ta: b\n\ndata: c\n\nda", "ta", ": d\n", "\n"];
        let output = frames(&mut reframer, pieces.map(str::as_bytes));
        let expected =
            [Some("data: a\n\n"), Some("data: b\n\ndata: c\n\n"), None, None, Some("data: d\n\n")];
        assert_eq!(output, expected.map(|frame| frame.map(Bytes::from)));
        assert_eq!(reframer.finish(), Tail::Nothing);
    }

    #[test]
    fn comments_between_events_do_not_wait() {
        let mut reframer = Reframer::new(LIMIT, false);
        let pieces = [": pi", "ng\nda", "ta: a\n", ": in\n", "\n: b\n:", "c\n\nid: 1\n"];
        let output = frames(&mut reframer, pieces.map(str::as_bytes));
        let expected =
            [None, Some(": ping\n"), None, None, Some("data: a\n: in\n\n: b\n"), Some(":c\n\n")];
        assert_eq!(output, expected.map(|frame| frame.map(Bytes::from)));
    }

    #[test]
    fn line_ends_are_unified_wherever_they_are_cut() {
        let input = b"data: a\r\n\r\ndata: b\r\rdata: c\n\rdata: d\r\n\n\r\n";
        let expected = b"data: a\n\ndata: b\n\ndata: c\n\ndata: d\n\n\n";
        for size in 1..=input.len() {
            let output = joined(false, input.chunks(size));
            assert_eq!(output, (expected.to_vec(), Tail::Nothing), "{size}");
        }
    }

    #[test]
    fn lenient_adds_the_blank_lines_that_are_missing_and_no_others() {
        let input =
            "data: a\ndata: b\n\ndata: c\r\nevent: x\r\ndata: d\r\n\r\n\r\ndata\ndatum: e\n\n: f\n";
        let expected =
            "data: a\n\ndata: b\n\ndata: c\n\nevent: x\ndata: d\n\n\ndata\n\ndatum: e\n\n: f\n";
        for size in 1..=input.len() {
            let (output, tail) = joined(true, input.as_bytes().chunks(size));
            assert_eq!(String::from_utf8_lossy(&output), expected, "{size}");
            assert_eq!(tail, Tail::Nothing);
        }
    }

    #[test]
    fn a_byte_order_mark_goes_only_if_something_was_sent_before_it() {
        let input = "\u{feff}data: a\ndata: b\n\n".as_bytes();
        for size in 1..=input.len() {
            for interject in [false, true] {
                let mut reframer = Reframer::new(LIMIT, false);
                if interject {
                    reframer.interject();
                }
                let output = frames(&mut reframer, input.chunks(size));
                let start = if interject { 3 } else { 0 };
                assert_eq!(output.into_iter().flatten().collect::<Vec<_>>(), [&input[start..]]);
            }
        }
    }

    // Found by fuzzing: to drop the first mark would make the second one the first.
    #[test]
    fn a_second_byte_order_mark_stays_second() {
        let input = "\u{feff}\u{feff}data:\ndata: a\n\n";
        assert_eq!(joined(false, [input.as_bytes()]).0, input.as_bytes());
    }

    #[test]
    fn lenient_knows_a_data_line_behind_a_byte_order_mark() {
        for (input, expected) in [
            ("\u{feff}data: a\ndata: b\n", "\u{feff}data: a\n\ndata: b\n\n"),
            ("\u{feff}\u{feff}data: a\n\n", "\u{feff}\u{feff}data: a\n\n"),
            ("\u{feff}\u{feff}data: a\n:b\n", ""),
        ] {
            for size in 1..=input.len() {
                let (output, _) = joined(true, input.as_bytes().chunks(size));
                assert_eq!(String::from_utf8_lossy(&output), expected, "{size}");
            }
        }
        for size in 1..=4 {
            let odd = b"\xef\xbbdata: a\n:b\n";
            assert_eq!(joined(true, odd.chunks(size)).0, b"");
        }
    }

    #[test]
    fn the_end_is_completed_only_where_nothing_can_be_cut() {
        for (input, expected) in [
            ("", Tail::Nothing),
            ("data: a\n\n", Tail::Nothing),
            ("data: a\r\r", Tail::Nothing),
            ("data: a\n", Tail::Completed("data: a\n\n".into())),
            ("id: 1\ndata\nid: 2\r", Tail::Completed("id: 1\ndata\nid: 2\n\n".into())),
            ("data: [DONE]", Tail::Completed("data: [DONE]\n\n".into())),
            ("data: x\ndata:[DONE]", Tail::Completed("data: x\ndata:[DONE]\n\n".into())),
            (": bye", Tail::Completed(": bye\n".into())),
            ("data: a", Tail::Cut(7)),
            ("data: a\nda", Tail::Cut(10)),
            ("event: a\n", Tail::Cut(9)),
            ("\u{feff}", Tail::Nothing),
            ("\u{feff}data: a\n", Tail::Completed("\u{feff}data: a\n\n".into())),
            ("data: a\n\n\u{feff}data: [DONE]", Tail::Cut(15)),
            // Found by fuzzing: behind a byte order mark a comment does wait for its block.
            ("\u{feff}: a\nevent: x\n", Tail::Cut(16)),
        ] {
            for size in 1..=input.len().max(1) {
                assert_eq!(joined(false, input.as_bytes().chunks(size)).1, expected, "{input:?}");
            }
        }
    }

    #[test]
    fn what_is_held_has_a_limit() {
        let mut reframer = Reframer::new(10, false);
        assert_eq!(reframer.push("data: 7890".into()), Ok(None));
        let error = reframer.push("1".into()).expect_err("too much");
        assert_eq!(error, DecodeError::EventTooLong { limit: 10 });
        assert_eq!(reframer.held(), 0);
        let whole = Bytes::from("data: 789012\n\n");
        assert_eq!(reframer.push(whole.clone()), Ok(Some(whole)));
    }
}
