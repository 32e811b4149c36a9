//! `QwenUpstream`, the HTTP client.
