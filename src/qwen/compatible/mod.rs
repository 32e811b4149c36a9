//! The `compatible` adapter.
