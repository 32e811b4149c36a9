//! The `session` concern.
