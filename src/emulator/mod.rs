//! An in-process chat.qwen.ai for demos, tests and benches.
mod answer;
mod body;
mod builder;
mod clock;
mod completion;
mod directive;
mod envelope;
mod generation;
mod models;
mod oauth;
mod prompt;
mod script;
mod serve;
mod service;
mod state;

pub use self::{
    body::Body,
    builder::{Builder, ReplayError, Style, UnknownParent},
    oauth::{OAuthAccount, RefreshFault},
    service::{Emulator, ResponseFuture},
    state::{ChatRecord, Counters, MessageRecord, ReceivedRequest},
};
