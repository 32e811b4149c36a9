use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::Event;

/// The terminal marker of OpenAI streams, a whole event.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// The keep-alive that every client survives: one comment line with a *single* newline, to be
/// sent only between whole events. The next event's lines simply join its block.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n";

/// Writes events and comments into one buffer.
///
/// Nothing is sent anywhere: write as many events as belong together, then [`take`](Self::take)
/// the bytes as one frame. The buffer is used again when the frames taken earlier are dropped,
/// so a steady stream does not allocate.
///
/// ```
/// use tower_qwen::sse::{Encoder, Event};
///
/// let mut encoder = Encoder::new();
/// encoder.data("two\nlines");
/// encoder.event(&Event::new("{}").with_event("delta"));
/// encoder.done();
/// assert_eq!(
///     encoder.take(),
///     "data: two\ndata: lines\n\nevent: delta\ndata: {}\n\ndata: [DONE]\n\n",
/// );
/// ```
///
/// Whatever is written, the output is well formed. A line end in data begins a new `data` line. A
/// line end in a name, an id or a comment becomes a space, since those fields cannot hold one.
#[derive(Default)]
pub struct Encoder {
    buffer: BytesMut,
}

impl Encoder {
    /// An encoder that has not allocated yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An encoder with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity) }
    }

    /// Writes an event.
    ///
    /// Decoding gives the same event back, with these exceptions: CR and CRLF in data come back
    /// as LF; an empty name comes back as none; parts of a millisecond in `retry` are cut off;
    /// an id with a NUL, which every client has to ignore, is not written.
    pub fn event(&mut self, event: &Event) {
        if let Some(name) = &event.event {
            self.field("event: ", name);
        }
        if let Some(id) = event.id.as_ref().filter(|id| memchr(0, id.as_bytes()).is_none()) {
            self.field("id: ", id);
        }
        if let Some(retry) = event.retry {
            self.field("retry: ", &retry.as_millis().to_string());
        }
        self.data(&event.data);
    }

    /// Writes an event that has only data.
    pub fn data(&mut self, data: &str) {
        self.buffer.reserve(data.len() + "data: \n\n".len());
        self.data_lines(data.as_bytes());
        self.buffer.put_u8(b'\n');
    }

    /// Writes an event whose data `write` appends to the buffer, for what serialises itself.
    ///
    /// The data should be one line, as JSON is unless it is pretty-printed; line ends are found
    /// and split all the same, at the price of a copy.
    ///
    /// # Errors
    ///
    /// Those of `write`; the buffer is then as it was before the call.
    pub fn data_with<E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.buffer.len();
        self.buffer.put_slice(b"data: ");
        let data = self.buffer.len();
        if let Err(error) = write(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(error);
        }
        // `write` holds the whole buffer and might have cut it.
        let written = self.buffer.get(data..).unwrap_or_default();
        if memchr2(b'\n', b'\r', written).is_some() {
            let lines = self.buffer.split_off(data);
            self.buffer.truncate(start);
            self.data_lines(&lines);
            self.buffer.put_u8(b'\n');
        } else {
            self.buffer.put_slice(b"\n\n");
        }
        Ok(())
    }

    /// Writes a comment: one line and no blank line behind it, since some clients take *every*
    /// blank line for an event. Send it only between whole events.
    pub fn comment(&mut self, comment: &str) {
        self.field(": ", comment);
    }

    /// Writes the terminal marker of OpenAI streams.
    pub fn done(&mut self) {
        self.buffer.put_slice(DONE);
    }

    /// How many bytes wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes what was written so far, without a copy.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn data_lines(&mut self, mut rest: &[u8]) {
        loop {
            self.buffer.put_slice(b"data: ");
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.buffer.put_slice(rest);
                self.buffer.put_u8(b'\n');
                return;
            };
            self.buffer.put_slice(&rest[..end]);
            self.buffer.put_u8(b'\n');
            let skip = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
            rest = &rest[end + skip..];
        }
    }

    /// A field whose value cannot hold a line end.
    fn field(&mut self, name: &str, value: &str) {
        self.buffer.reserve(name.len() + value.len() + 1);
        self.buffer.put_slice(name.as_bytes());
        let mut rest = value.as_bytes();
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            self.buffer.put_slice(&rest[..end]);
            self.buffer.put_u8(b' ');
            rest = &rest[end + 1..];
        }
        self.buffer.put_slice(rest);
        self.buffer.put_u8(b'\n');
    }
}

/// Says how much waits, not what.
impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("len", &self.buffer.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use super::*;

    fn encoded(write: impl FnOnce(&mut Encoder)) -> Bytes {
        let mut encoder = Encoder::new();
        write(&mut encoder);
        encoder.take()
    }

    #[test]
    fn every_line_end_in_data_begins_a_line() {
        assert_eq!(
            encoded(|e| e.data("a\nb\rc\r\nd\n")),
            "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
        );
        assert_eq!(encoded(|e| e.data("")), "data: \n\n");
    }

    #[test]
    fn no_field_can_be_smuggled_into_a_name_an_id_or_a_comment() {
        let event = Event::new("x").with_event("a\ndata: evil").with_id("1\r\n2");
        assert_eq!(encoded(|e| e.event(&event)), "event: a data: evil\nid: 1  2\ndata: x\n\n");
        assert_eq!(encoded(|e| e.comment("a\n\ndata: evil")), ": a  data: evil\n");
    }

    #[test]
    fn an_id_that_clients_ignore_is_not_sent() {
        assert_eq!(encoded(|e| e.event(&Event::new("x").with_id("a\0"))), "data: x\n\n");
    }

    #[test]
    fn retry_is_in_milliseconds() {
        let event = Event::new("").with_retry(Duration::from_secs(3));
        assert_eq!(encoded(|e| e.event(&event)), "retry: 3000\ndata: \n\n");
    }

    #[test]
    fn data_that_writes_itself() {
        let written = encoded(|encoder| {
            let write = |text: &'static [u8]| {
                move |buffer: &mut BytesMut| {
                    buffer.put_slice(text);
                    Ok::<_, Infallible>(())
                }
            };
            encoder.data_with(write(b"{}")).expect("infallible");
            encoder.data_with(write(b"{\n}")).expect("infallible");
        });
        assert_eq!(written, "data: {}\n\ndata: {\ndata: }\n\n");
    }

    #[test]
    fn data_that_fails_leaves_nothing() {
        let mut encoder = Encoder::new();
        encoder.data("a");
        let failed = encoder.data_with(|buffer| {
            buffer.put_slice(b"half");
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(encoder.take(), "data: a\n\n");
    }

    #[test]
    fn the_buffer_is_used_again() {
        let mut encoder = Encoder::with_capacity(64);
        let at = encoder.buffer.as_ptr();
        for _ in 0..64 {
            encoder.data("0123456789");
            assert_eq!(encoder.take().len(), 18);
        }
        encoder.buffer.reserve(64);
        assert_eq!(encoder.buffer.as_ptr(), at);
    }
}
