//! An upstream with faults under every pair of layers, the full stack and every edge.
//!
//! Each fault ends in the way that [one table](fault::TABLE) states, whatever stands above: an
//! answer has one end, nothing of it stays alive, and the next turn of the conversation works.

mod chat;
mod cuts;
mod edges;
mod fault;
mod pairs;
mod protocol;
mod sockets;
mod stack;
mod upstream;
mod wire;
