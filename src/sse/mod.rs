//! The `sse` concern.
