//! Buffers that are used again when what was taken from them is dropped.

use bytes::{BufMut, Bytes, BytesMut};

/// The least that is allocated, so that a stream of small pieces does so seldom.
const CAPACITY: usize = 4 * 1024;

/// A buffer that one large event has grown beyond this is not kept for the next.
const KEEP_CAPACITY: usize = 64 * 1024;

/// Appends to a buffer whose earlier contents may still be shared.
#[inline]
pub(super) fn append(buffer: &mut BytesMut, bytes: &[u8]) {
    if buffer.capacity() - buffer.len() < bytes.len() {
        // Takes the room of what was dropped back, if that is enough.
        buffer.reserve(bytes.len().max(CAPACITY));
    }
    // A copy of unknown length is a call.
    if let [byte] = bytes { buffer.put_u8(*byte) } else { buffer.extend_from_slice(bytes) }
}

/// Takes the contents, without a copy.
#[inline(always)]
pub(super) fn take(buffer: &mut BytesMut) -> Bytes {
    let taken = buffer.split().freeze();
    if taken.len() > KEEP_CAPACITY {
        *buffer = BytesMut::new();
    }
    taken
}
