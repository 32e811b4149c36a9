use bytes::{BufMut, Bytes, BytesMut};

/// A batch as the client is given it.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Its items, with commas between.
    pub(super) items: Bytes,
    pub(super) prompt_tokens: u64,
    pub(super) total_tokens: u64,
}

impl Encoded {
    /// How many bytes the items of all batches take, joined.
    pub(crate) fn size(batches: &[Self]) -> usize {
        batches.iter().map(|batch| batch.items.len() + 1).sum()
    }

    /// Appends the items of all batches.
    pub(crate) fn join(out: &mut BytesMut, batches: &[Self]) {
        for (at, batch) in batches.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            out.put_slice(&batch.items);
        }
    }

    pub(crate) fn prompt_tokens(batches: &[Self]) -> u64 {
        batches.iter().map(|batch| batch.prompt_tokens).fold(0, u64::saturating_add)
    }

    pub(super) fn total_tokens(batches: &[Self]) -> u64 {
        batches.iter().map(|batch| batch.total_tokens).fold(0, u64::saturating_add)
    }
}
