//! The `web` adapter.
