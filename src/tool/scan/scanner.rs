use super::{Item, Toolset, sink::Items};
use crate::{Text, tool::markup::Reader};

/// Finds tool calls in text that comes in pieces; see the [module](super).
///
/// It scans whatever it is given: whether to scan at all is the caller's decision.
#[derive(Debug)]
pub struct Scanner {
    reader: Reader<Items>,
}

impl Scanner {
    /// A scanner for the start of an answer that may call `tools`.
    #[must_use]
    pub fn new(tools: Toolset) -> Self {
        Self { reader: Reader::new(Items::new(tools)) }
    }

    /// A scanner for text in which a think block means nothing, such as reasoning itself.
    #[must_use]
    pub fn without_think(tools: Toolset) -> Self {
        Self { reader: Reader::without_think(Items::new(tools)) }
    }

    /// The next item, in order; none until more text is pushed.
    pub fn pop(&mut self) -> Option<Item> {
        self.reader.sink.items.pop_front()
    }

    /// Whether [`pop`](Self::pop) has an item.
    #[inline]
    pub(in crate::tool) fn has_items(&self) -> bool {
        !self.reader.sink.items.is_empty()
    }

    /// Whether a call has begun and not ended.
    #[must_use]
    pub fn in_call(&self) -> bool {
        self.reader.in_call()
    }

    /// How often markup that looked like a call has been released as text.
    #[doc(hidden)]
    #[must_use]
    pub fn released(&self) -> u64 {
        self.reader.released()
    }

    /// How many bytes are held back as undecided.
    #[doc(hidden)]
    #[must_use]
    pub fn held(&self) -> usize {
        self.reader.held()
    }

    /// Takes the next piece of text.
    #[inline]
    pub fn push(&mut self, piece: Text) {
        if self.passes(&piece) {
            self.reader.sink.items.push_back(Item::Text(piece));
            return;
        }
        self.reader.push(&piece);
        self.reader.sink.flush();
    }

    /// Takes the next piece of text if it is what most are, plain prose, which leaves as it is:
    /// then there is no item for it. The items before it must have been taken.
    #[inline]
    pub(in crate::tool) fn passes(&mut self, piece: &Text) -> bool {
        self.reader.passes(piece)
    }

    /// Ends the text: what is held leaves, an open call is closed. Afterwards the scanner is where
    /// it is after a sentence, so text may be pushed again.
    pub fn finish(&mut self) {
        self.reader.finish(false);
        self.reader.sink.flush();
    }
}
