use std::{collections::VecDeque, fmt, mem, ops::Range, time::Duration};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    DecodeError, Event,
    block::{Block, Data},
    line_ends::LineEnds,
    pieces::Pieces,
    utf8::{CHECK_BLOCK, beside, text_beside, text_within},
};
use crate::Text;

/// The byte order mark in UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// What stands before and behind the data of a plain event.
const PLAIN_START: &[u8] = b"data: ";
const PLAIN_END: &[u8] = b"\n\n";

/// What [`is_plain`] looks at in one step.
const PLAIN_BLOCK: usize = 128;

/// Reads an event stream: bytes in, [`Event`]s out, no I/O.
///
/// It does all that the [WHATWG standard][spec] says: it reads a byte order mark, LF, CR and CRLF
/// in any mix, comments, and every field by its own rules, and it replaces malformed UTF-8. The
/// events are the same however the input is cut into pieces, also within a character or between CR
/// and LF.
///
/// [`push`](Self::push) a piece, then call [`next_event`](Self::next_event) until it has no more. At
/// the end of the input [`finish`](Self::finish) says whether it was cut.
///
/// ```
/// use tower_qwen::sse::Decoder;
///
/// let mut decoder = Decoder::new();
/// decoder.push("data: one\n\nda".into());
/// assert_eq!(decoder.next_event()?.expect("complete").data, "one");
/// assert_eq!(decoder.next_event()?, None);
/// decoder.push("ta: two\r\ndata: lines\r\n\r\n".into());
/// assert_eq!(decoder.next_event()?.expect("complete").data, "two\nlines");
/// assert_eq!(decoder.next_event()?, None);
/// assert!(decoder.finish()?.is_none());
/// # Ok::<_, tower_qwen::sse::DecodeError>(())
/// ```
///
/// # Cost
///
/// Time is linear in the input, whatever its shape. The fields of an event are slices of the pushed
/// piece. Two things are copied, once: a line that is cut between two pieces, and an event of
/// several `data` lines. They go into a buffer that is used again when the events before are
/// dropped, so a steady stream does not allocate. A line that goes on through whole pieces of 4 KiB
/// or more gets a buffer of its own, of the right size, when all of it is there.
///
/// # Memory
///
/// A decoder holds at most the pieces that were pushed and not yet read, one piece each for the
/// last id and the first field of a block, and two times the limits of [a line](Self::max_line) and
/// of
/// [an event](Self::max_event). It is two times because buffers grow by doubling, and because the
/// large pieces of a line stay until they are joined. A piece counts for the buffer of which it is
/// a slice. Malformed UTF-8 can become three times as long when it is replaced. The events that the
/// caller keeps hold on to their buffers besides.
///
/// [spec]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
pub struct Decoder {
    line_ends: LineEnds,
    max_line: usize,
    /// What a line may have that is the only one of an event.
    max_plain: usize,
    /// The piece being read, and up to where.
    input: Bytes,
    position: usize,
    /// No line end is between `position` and here.
    scanned: usize,
    checked: Checked,
    /// What was pushed before `input` was read.
    queue: VecDeque<Bytes>,
    /// The beginning of a line that the end of a piece has cut.
    cut_line: Pieces,
    state: State,
    /// The last byte was the CR of a line end, of which an LF may be the second half.
    after_cr: bool,
    /// How much of a byte order mark was seen; `BOM.len()` where none can come any more.
    bom: usize,
    failed: Option<DecodeError>,
    block: Block,
}

/// Where the decoder stands, so that plain events need no look at all the rest.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// At the beginning of a block, whose event will have what the block has and nothing else.
    Between,
    /// From there, what looks like a plain event has begun: its line is cut.
    InPlain,
    /// It takes a closer look, also where all is as above: only the general path has one.
    #[default]
    Other,
}

/// A plain event, as it was found.
pub(super) enum Plain {
    /// The piece is one, and ASCII.
    Piece,
    /// Where its data stands in the piece.
    Value(Range<usize>),
}

/// The piece as text, so that each event in it is a slice which needs no check of its own. The
/// first event that is not the piece's last asks for it.
enum Checked {
    NotYet,
    /// The text, and where in the piece it begins. It ends somewhere near the piece's end.
    Text(Text, usize),
    Malformed,
}

impl Checked {
    /// The text, and the part of it that is at `value` in the piece.
    #[inline(always)]
    fn part(&self, value: &Range<usize>) -> Option<(&Text, &str)> {
        let Self::Text(text, start) = self else { return None };
        Some((text, text.get(value.start - start..value.end - start)?))
    }
}

impl Decoder {
    /// The limit for a line that [`new`](Self::new) sets: 8 MiB. An image in base64 fits.
    pub const DEFAULT_MAX_LINE: usize = 8 << 20;

    /// The limit for an event's data that [`new`](Self::new) sets: 8 MiB.
    pub const DEFAULT_MAX_EVENT: usize = 8 << 20;

    /// A decoder as the standard describes it, with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            line_ends: LineEnds::new(),
            max_line: Self::DEFAULT_MAX_LINE,
            max_plain: Self::DEFAULT_MAX_LINE.min(Self::DEFAULT_MAX_EVENT),
            input: Bytes::new(),
            position: 0,
            scanned: 0,
            checked: Checked::NotYet,
            queue: VecDeque::new(),
            cut_line: Pieces::default(),
            state: State::Other,
            after_cr: false,
            bom: 0,
            failed: None,
            block: Block::new(Self::DEFAULT_MAX_EVENT),
        }
    }

    /// A decoder for streams whose every `data` line is a whole event, with or without a blank
    /// line behind it, as chat.qwen.ai sends them.
    ///
    /// All else is as in [`new`](Self::new); an event's other fields, if any, have to stand
    /// before its data.
    #[must_use]
    pub fn lenient() -> Self {
        let mut decoder = Self::new();
        decoder.block.lines_are_events = true;
        decoder
    }

    /// Takes a field named `error` for the data of an event of that type.
    ///
    /// The standard wants such a line ignored, but servers are known that report a failure in
    /// one, `error: {…}`, where they mean `data` (llama.cpp before September 2025).
    ///
    /// ```
    /// use tower_qwen::sse::Decoder;
    ///
    /// let mut decoder = Decoder::new().error_field();
    /// decoder.push("error: {\"code\":500}\n\n".into());
    /// let event = decoder.next_event()?.expect("complete");
    /// assert_eq!((event.name(), &*event.data), ("error", "{\"code\":500}"));
    /// # Ok::<_, tower_qwen::sse::DecodeError>(())
    /// ```
    #[must_use]
    pub fn error_field(mut self) -> Self {
        self.block.error_is_data = true;
        self
    }

    /// Sets how many bytes a line may have, its end not counted.
    #[must_use]
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes;
        self.with_max_plain()
    }

    /// Sets how many bytes an event's data may have, the line feeds between its lines counted.
    #[must_use]
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.block.max_event = bytes;
        self.with_max_plain()
    }

    fn with_max_plain(mut self) -> Self {
        let max_event = self.block.max_event.saturating_add(PLAIN_START.len());
        self.max_plain = self.max_line.min(max_event);
        self
    }

    /// Adds a piece of input. Of it only the part of a line is copied that began in an earlier
    /// piece or goes on in a later one.
    ///
    /// More may be pushed before [`next_event`](Self::next_event) has returned `None`: the pieces
    /// wait in line.
    #[inline]
    pub fn push(&mut self, piece: Bytes) {
        if self.state == State::Between && self.input.is_empty() && self.queue.is_empty() {
            self.load(piece);
        } else if !self.is_idle() {
            if self.failed.is_none() {
                self.queue.push_back(piece);
            }
        } else if self.cut_line.is_empty() {
            self.load(piece);
        } else if let Some(line_end) = self.continue_line(&piece) {
            self.load(piece);
            self.scanned = line_end;
        }
    }

    /// As [`push`](Self::push), with as little as can be in the caller.
    #[inline(always)]
    pub(super) fn push_frame(&mut self, piece: Bytes) {
        if self.state == State::Between && self.input.is_empty() && self.queue.is_empty() {
            self.load(piece);
        } else {
            self.push_other(piece);
        }
    }

    #[inline(never)]
    fn push_other(&mut self, piece: Bytes) {
        self.push(piece);
    }

    /// The next event of what was pushed, or `None` if more input is needed.
    ///
    /// # Errors
    ///
    /// Where a line or an event passes its limit. The decoder has then dropped its input, and
    /// returns the same error from now on: what follows would be out of step.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, DecodeError> {
        match self.next_plain_event() {
            Some(event) => Ok(Some(event)),
            None => self.next_other_event(),
        }
    }

    /// Finds the next event, if that is a plain one and whole in the piece.
    #[inline(always)]
    pub(super) fn next_plain(&mut self) -> Option<Plain> {
        if self.state == State::Between { self.find_plain() } else { None }
    }

    /// The next event, if it is such a one as nearly all are.
    #[inline(always)]
    fn next_plain_event(&mut self) -> Option<Event> {
        // The other fields are not there, and to move them takes longer than to say so.
        let plain = self.next_plain()?;
        Some(Event { event: None, data: self.take_plain(plain), id: None, retry: None })
    }

    /// The next event, where [`next_plain_event`](Self::next_plain_event) has none.
    #[inline]
    pub(super) fn next_other_event(&mut self) -> Result<Option<Event>, DecodeError> {
        if self.is_idle() {
            return Ok(None);
        }
        if self.state == State::InPlain
            && let Some(data) = self.rest_of_plain_data()
        {
            return Ok(Some(Event { event: None, data, id: None, retry: None }));
        }
        match self.next_data() {
            Ok(Some(data)) => Ok(Some(self.block.event(data))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the input, and says whether it ended within a block, which the standard wants thrown
    /// away. Call it when [`next_event`](Self::next_event) has returned `None`: what is still
    /// unread is dropped.
    ///
    /// The decoder is then ready for the stream of a reconnection. It keeps only the last event ID
    /// and the reconnection time.
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event).
    pub fn finish(&mut self) -> Result<Option<Unfinished>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if (1..BOM.len()).contains(&self.bom) {
            self.cut_line.copy(&BOM[..self.bom]);
        }
        let line = self.cut_line.take(&[]);
        // A comment is no part of a block, so it may be cut as it likes.
        let mid_line = !line.is_empty() && !line.starts_with(b":");
        let mut data = None;
        if mid_line {
            data = match self.block.line(&line, 0, line.len()) {
                Ok(data) => data,
                Err(error) => return Err(self.fail(error)),
            };
        }
        let within = mid_line || self.block.is_open();
        let event = data.or_else(|| self.block.dispatch()).map(|data| self.block.event(data));
        self.unload();
        self.queue.clear();
        self.after_cr = false;
        self.state = State::Other;
        self.bom = 0;
        Ok(within.then_some(Unfinished { event, mid_line }))
    }

    /// The last event ID: what a reconnecting client sends as `last-event-id`.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.block.last_id.as_deref()
    }

    /// The reconnection time, if the stream set one.
    #[must_use]
    pub fn reconnection_time(&self) -> Option<Duration> {
        self.block.reconnection_time
    }

    /// Whether everything was read.
    #[inline]
    fn is_idle(&self) -> bool {
        self.input.is_empty() && self.queue.is_empty() && self.failed.is_none()
    }

    /// Makes `piece` the one that is read.
    #[inline]
    fn load(&mut self, piece: Bytes) {
        self.input = piece;
        self.restart();
    }

    /// Lets go of the piece.
    #[inline]
    fn unload(&mut self) {
        self.load(Bytes::new());
    }

    #[inline]
    fn restart(&mut self) {
        self.position = 0;
        self.scanned = 0;
        if !matches!(self.checked, Checked::NotYet) {
            self.checked = Checked::NotYet;
        }
    }

    /// Takes a piece in when a line is cut, as a whole if the line does not end in it. Where it
    /// does is given back, and nothing of the piece is taken then.
    #[inline(always)]
    fn continue_line(&mut self, piece: &Bytes) -> Option<usize> {
        let line_end = self.line_ends.find(piece);
        let length = self.cut_line.len() + line_end.unwrap_or(piece.len());
        if length > self.max_line {
            self.fail(DecodeError::LineTooLong { limit: self.max_line });
            return None;
        }
        if line_end.is_none() {
            self.cut_line.push(piece);
        }
        line_end
    }

    /// The data of what nearly all events are; see [`find_plain`](Self::find_plain).
    #[inline(always)]
    fn plain_data(&mut self) -> Option<Text> {
        self.find_plain().map(|plain| self.take_plain(plain))
    }

    /// Finds what nearly all events are: one `data` line and a blank line, whole in the piece,
    /// with a single space and LF line ends. Everything else takes the general path.
    ///
    /// Only to be asked for at the beginning of a block, of which nothing was scanned.
    #[inline(always)]
    fn find_plain(&mut self) -> Option<Plain> {
        let rest = &self.input[self.position..];
        if !rest.starts_with(PLAIN_START) {
            return None;
        }
        if self.position == 0
            && let Some(line) = rest.strip_suffix(PLAIN_END)
            && is_plain(&line[PLAIN_START.len()..])
            && line.len() <= self.max_plain
        {
            return Some(Plain::Piece);
        }
        let Some(length) = self.line_ends.find(rest) else {
            self.cut_plain_data();
            return None;
        };
        let value = self.position + PLAIN_START.len()..self.position + length;
        if !rest[length..].starts_with(PLAIN_END) || length > self.max_plain {
            self.scanned = value.end;
            return None;
        }
        Some(Plain::Value(value))
    }

    /// The data of the event that was found.
    #[inline(always)]
    fn take_plain(&mut self, plain: Plain) -> Text {
        let value = match plain {
            Plain::Piece => return self.only_data(),
            Plain::Value(value) => value,
        };
        let next = value.end + PLAIN_END.len();
        if next < self.input.len() {
            self.position = next;
            return self.checked_slice(value);
        }
        self.last_slice(value)
    }

    /// As [`checked_slice`](Self::checked_slice), where the event is the last one of the piece.
    #[inline(never)]
    fn last_slice(&mut self, value: Range<usize>) -> Text {
        let around = value.start - PLAIN_START.len()..self.input.len();
        let data = text_within(&self.input, value, around);
        self.unload();
        data
    }

    /// As [`take_plain`](Self::take_plain), but the data is written where it is returned.
    #[inline(never)]
    pub(super) fn take_plain_in_place(&mut self, plain: Plain) -> Text {
        self.take_plain(plain)
    }

    /// Where the line of a plain event does not end in the piece.
    #[inline(never)]
    fn cut_plain_data(&mut self) {
        let end = self.input.len();
        self.scanned = end;
        // Otherwise the general path does it, which sees to what waits in line, and to limits.
        if self.state == State::Between
            && self.queue.is_empty()
            && end - self.position <= self.max_plain
        {
            self.cut_line(self.position);
            self.state = State::InPlain;
        }
    }

    /// The data of a plain event whose line an earlier piece began.
    #[inline(never)]
    fn rest_of_plain_data(&mut self) -> Option<Text> {
        // Where the line ends, if it does; see `continue_line`.
        let end = self.scanned;
        if !self.input[end..].starts_with(PLAIN_END) || self.cut_line.len() + end > self.max_plain {
            return None;
        }
        let value = PLAIN_START.len()..self.cut_line.len() + end;
        let beside = beside(value.len(), PLAIN_START.len(), self.input.len() - end);
        let line = self.cut_line.take(&self.input[..end + beside.1]);
        let data = text_beside(&line, value, beside);
        self.position = end + PLAIN_END.len();
        if self.position == self.input.len() {
            self.unload();
        }
        self.state = State::Between;
        Some(data)
    }

    /// The data where the piece is one plain event, and ASCII.
    #[inline]
    fn only_data(&mut self) -> Text {
        let mut piece = mem::take(&mut self.input);
        let start = PLAIN_START.len();
        let end = piece.len() - PLAIN_END.len();
        let (before, behind) = beside(end - start, start, PLAIN_END.len());
        // The piece is moved: to count one more reference, and its end, takes a while.
        piece.truncate(end + behind);
        piece.advance(start - before);
        let checked = Text::from_utf8(piece).expect("it is ASCII");
        if before + behind == 0 {
            return checked;
        }
        checked.slice_ref(&checked[before..before + (end - start)])
    }

    /// A part of the piece, which begins and ends a line's value, as text. What follows in the
    /// piece is checked at once.
    #[inline]
    fn checked_slice(&mut self, value: Range<usize>) -> Text {
        match self.checked.part(&value) {
            Some((text, part)) => text.slice_ref(part),
            None => self.check_and_slice(value),
        }
    }

    /// As [`checked_slice`](Self::checked_slice), where the value is not in what was checked.
    #[inline(never)]
    fn check_and_slice(&mut self, value: Range<usize>) -> Text {
        if matches!(self.checked, Checked::NotYet) {
            self.check(value.start);
            if let Some((text, part)) = self.checked.part(&value) {
                return text.slice_ref(part);
            }
        }
        let around = value.start - PLAIN_START.len()..value.end + PLAIN_END.len();
        text_within(&self.input, value, around)
    }

    /// Checks what a value begins and all that follows, but for the end of the piece, of which
    /// the check would look at each byte alone.
    #[inline(always)]
    fn check(&mut self, start: usize) {
        let rest = &self.input[start..];
        let mut end = rest.len() / CHECK_BLOCK * CHECK_BLOCK;
        // Not within a character.
        while rest.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) && end > 0 {
            end -= 1;
        }
        self.checked = match Text::from_utf8(self.input.slice(start..start + end)) {
            Ok(text) => Checked::Text(text, start),
            Err(_) => Checked::Malformed,
        };
    }

    #[inline]
    fn at_block_start(&self) -> bool {
        self.cut_line.is_empty()
            && !self.after_cr
            && self.bom == BOM.len()
            && matches!(self.block.data, Data::None)
    }

    /// The data of the next event, in general.
    #[inline(never)]
    fn next_data(&mut self) -> Result<Option<Text>, DecodeError> {
        let data = self.read_data();
        let between = data.is_ok() && self.at_block_start() && self.block.is_empty();
        self.state = if between { State::Between } else { State::Other };
        data
    }

    #[inline]
    fn read_data(&mut self) -> Result<Option<Text>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            if self.position == self.input.len() {
                match self.queue.pop_front() {
                    Some(piece) => self.load(piece),
                    None => {
                        self.unload();
                        return Ok(None);
                    }
                }
            }
            if self.bom < BOM.len() {
                self.skip_bom();
                continue;
            }
            if mem::take(&mut self.after_cr) && self.input[self.position] == b'\n' {
                self.position += 1;
                continue;
            }
            // Behind a blank line or a comment, the next event may be a plain one again.
            if self.scanned <= self.position
                && self.at_block_start()
                && let Some(data) = self.plain_data()
            {
                return Ok(Some(data));
            }
            match self.read_line() {
                Ok(Some(data)) => return Ok(Some(data)),
                Ok(None) => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Reads up to the next line end or the end of the piece.
    #[inline]
    fn read_line(&mut self) -> Result<Option<Text>, DecodeError> {
        let start = self.position;
        let from = self.scanned.max(start);
        let rest = &self.input[from..];
        let length = match rest.first() {
            Some(b'\n' | b'\r') => Some(0),
            _ => self.line_ends.find(rest),
        };
        let end = match length {
            Some(length) => {
                let end = from + length;
                self.after_cr = self.input[end] == b'\r';
                self.position = end + 1;
                end
            }
            None => {
                if self.cut_line.len() + (self.input.len() - start) > self.max_line {
                    return Err(DecodeError::LineTooLong { limit: self.max_line });
                }
                self.cut_line(start);
                return Ok(None);
            }
        };
        if self.cut_line.len() + (end - start) > self.max_line {
            return Err(DecodeError::LineTooLong { limit: self.max_line });
        }
        if self.cut_line.is_empty() {
            return self.block.line(&self.input, start, end);
        }
        let line = self.cut_line.take(&self.input[start..end]);
        let value = PLAIN_START.len()..line.len();
        // As in a plain event.
        if self.input[end..].starts_with(PLAIN_END)
            && line.starts_with(PLAIN_START)
            && line.len() <= self.max_plain
            && matches!(self.block.data, Data::None)
        {
            self.position = end + PLAIN_END.len();
            return Ok(Some(text_within(&line, value, 0..line.len())));
        }
        self.block.line(&line, 0, line.len())
    }

    /// Keeps the rest of the piece for later.
    #[inline(always)]
    fn cut_line(&mut self, start: usize) {
        if start == 0 {
            self.cut_line.push(&self.input);
        } else {
            self.cut_line.copy(&self.input[start..]);
        }
        self.unload();
    }

    /// Drops a byte order mark at the beginning of the stream.
    #[cold]
    fn skip_bom(&mut self) {
        while self.bom < BOM.len() && self.position < self.input.len() {
            if self.input[self.position] == BOM[self.bom] {
                self.position += 1;
                self.bom += 1;
            } else {
                // It was none; what looked like one belongs to the first line.
                self.cut_line.copy(&BOM[..self.bom]);
                self.bom = BOM.len();
            }
        }
    }

    #[cold]
    fn fail(&mut self, error: DecodeError) -> DecodeError {
        self.unload();
        self.queue.clear();
        self.cut_line = Pieces::default();
        self.state = State::Other;
        self.block.data = Data::None;
        self.block.joined = BytesMut::new();
        self.failed = Some(error);
        error
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Says how much waits, not what.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("max_line", &self.max_line)
            .field("max_event", &self.block.max_event)
            .field("lenient", &self.block.lines_are_events)
            .field("unread", &self.input.len().saturating_sub(self.position))
            .field("cut_line", &self.cut_line.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Whether a line is ASCII, and in one piece.
///
/// It may be as slow as the search for its end where it says no, and is faster where it says yes.
#[inline]
fn is_plain(line: &[u8]) -> bool {
    match line.last_chunk::<PLAIN_BLOCK>() {
        // Rather some bytes twice than a few alone.
        Some(last) => {
            line.as_chunks::<PLAIN_BLOCK>().0.iter().all(is_plain_block) && is_plain_block(last)
        }
        None => !line.iter().fold(false, |found, &byte| found | is_not_plain(byte)),
    }
}

/// Without a way out of the loop, it becomes one over vectors.
#[inline(always)]
fn is_plain_block(block: &[u8; PLAIN_BLOCK]) -> bool {
    !block.iter().fold(false, |found, &byte| found | is_not_plain(byte))
}

#[inline(always)]
fn is_not_plain(byte: u8) -> bool {
    // What is no ASCII is below zero.
    byte.cast_signed() <= b'\r'.cast_signed()
}

/// What was left when the input of a [`Decoder`] ended within a block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The event as it would be if the blank line, and the end of a last line that was cut, had
    /// come; `None` if there was no data yet.
    pub event: Option<Event>,
    /// Whether the input ended within a line, so that the last field may be cut.
    pub mid_line: bool,
}
