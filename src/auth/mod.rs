//! The `auth` concern.
