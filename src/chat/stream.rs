use futures_core::Stream;

use super::ChatEvent;
use crate::{Error, ErrorKind};

/// The body of a response in the middle of the stack: a stream of [`ChatEvent`]s.
///
/// Every stream of the right item is one: the trait only gives the bound a short name. The stream
/// is past the commit point: an `Err` item ends it, and nothing is retried.
///
/// The [contract](ChatEvent#the-contract) says what the items are and how they end. The types
/// cannot say it, so the tests of a layer do, with [`checked`](super::ChatStreamExt::checked).
pub trait ChatStream: Stream<Item = Result<ChatEvent, Error>> {}

impl<S> ChatStream for S where S: Stream<Item = Result<ChatEvent, Error>> + ?Sized {}

/// What a stream that ends without [`ChatEvent::Finished`] amounts to.
pub(crate) fn truncated() -> Error {
    Error::new(ErrorKind::Truncated, "the upstream's stream ended before the answer was complete")
}
