//! The `tool` concern.
