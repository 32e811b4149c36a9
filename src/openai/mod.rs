//! The `openai` concern.
