//! The `dedup` concern.
