use bytes::{Bytes, BytesMut};

use super::buffer::{append, take};

/// A piece that is smaller is copied at once, so that what is kept is not much more than what
/// the pieces hold, whatever buffers they are slices of.
const KEEP_PIECE: usize = 4 * 1024;

/// The beginning of a line, or of an event, that the end of a piece has cut.
///
/// It is `kept`, then `copied`. What comes in many large pieces is copied once, when all of it is
/// there and its length is known; a buffer that grows with it would copy all of it several times.
#[derive(Default)]
pub(super) struct Pieces {
    kept: Vec<Bytes>,
    kept_len: usize,
    copied: BytesMut,
}

impl Pieces {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.kept_len + self.copied.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn first(&self) -> Option<u8> {
        self.kept.first().map_or(&*self.copied, |piece| piece).first().copied()
    }

    pub(super) fn last(&self) -> Option<u8> {
        self.copied.last().or_else(|| self.kept.last()?.last()).copied()
    }

    /// Appends a copy.
    #[inline(always)]
    pub(super) fn copy(&mut self, part: &[u8]) {
        append(&mut self.copied, part);
    }

    /// Appends a whole piece, which is kept as it is if it is large.
    #[inline]
    pub(super) fn push(&mut self, piece: &Bytes) {
        if piece.len() < KEEP_PIECE { self.copy(piece) } else { self.keep(piece.clone()) }
    }

    fn keep(&mut self, piece: Bytes) {
        let copied = take(&mut self.copied);
        for part in [copied, piece] {
            if !part.is_empty() {
                self.kept_len += part.len();
                self.kept.push(part);
            }
        }
    }

    /// Takes all of it, of which `end` is the rest.
    #[inline(always)]
    pub(super) fn take(&mut self, end: &[u8]) -> Bytes {
        if self.kept.is_empty() {
            append(&mut self.copied, end);
            take(&mut self.copied)
        } else {
            self.join(end)
        }
    }

    #[cold]
    fn join(&mut self, end: &[u8]) -> Bytes {
        let mut whole = Vec::with_capacity(self.len() + end.len());
        for part in std::mem::take(&mut self.kept) {
            whole.extend_from_slice(&part);
        }
        whole.extend_from_slice(&take(&mut self.copied));
        whole.extend_from_slice(end);
        self.kept_len = 0;
        whole.into()
    }
}
