//! What the adapters have in common: an answer while it arrives, whatever the wire.
//!
//! An upstream's bytes go through a [`Reader`], which finds the events in them, reads up to the
//! commit point and knows when the answer is over. Each event goes to the adapter's [`Wire`], which
//! knows what it means, and tells that to the [`Answer`]. There text that repeats itself is cut to
//! what is new, thinking is told from text, calls are put right, and the end is what the
//! [contract](crate::chat::ChatEvent#the-contract) wants.

mod arguments;
mod calls;
mod chunk;
mod grown;
mod leftovers;
mod names;
mod pieces;
mod places;
mod reader;
mod repair;
#[cfg(feature = "compatible")]
pub(crate) mod reply;
mod state;
mod think;
mod unwrap;
mod word;

#[cfg(feature = "compatible")]
pub(crate) use self::reply::Reply;
pub(crate) use self::{
    calls::{Given, Piece},
    chunk::{Arguments, Chunk, Counts, Ours, each_of_list},
    names::Names,
    pieces::Pieces,
    reader::{GRACE, Reader, Wire, begins_as_events},
    repair::{Repair, Repairs},
    state::Answer,
    think::ThinkSplitter,
};
