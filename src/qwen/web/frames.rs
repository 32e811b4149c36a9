//! Stopgap line assembler until the SSE decoder lands.
use crate::{Error, ErrorKind, chat::Text};
use bytes::{Bytes, BytesMut};

#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
    taken: usize,
    ended: bool,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self::default()
    }
    pub(super) fn push(&mut self, data: Bytes) {
        self.taken += data.len();
        self.buffer.extend_from_slice(&data);
    }
    pub(super) fn taken(&self) -> usize {
        self.taken
    }
    /// Upstream is done; whether that made another event whole.
    pub(super) fn finish(&mut self) -> bool {
        if self.ended || self.buffer.is_empty() {
            return false;
        }
        self.ended = true;
        self.buffer.extend_from_slice(b"\n");
        true
    }
    pub(super) fn next(&mut self) -> Option<Result<Text, Error>> {
        loop {
            let end = self.buffer.iter().position(|&b| b == b'\n')?;
            let line = self.buffer.split_to(end + 1).freeze();
            let mut line = line.slice(..end);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if !line.starts_with(b"data:") {
                continue;
            }
            let mut line = line.slice(5..);
            if line.first() == Some(&b' ') {
                line = line.slice(1..);
            }
            return Some(
                Text::from_utf8(line)
                    .map_err(|e| Error::new(ErrorKind::Upstream, "not utf8").with_source(e)),
            );
        }
    }
}
