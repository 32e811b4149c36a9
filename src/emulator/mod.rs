//! The `emulator` concern.
