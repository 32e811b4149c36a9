use crate::{edge::BodyPace, qwen::compatible::Server};

/// How the edge reads requests, asks for their batches and answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) max_body: usize,
    pub(super) body_pace: Option<BodyPace>,
    pub(super) max_inputs: usize,
    pub(super) max_batch: Option<usize>,
    pub(super) concurrency: usize,
    pub(super) max_answer: usize,
}

impl Config {
    pub(super) const fn new(server: Server) -> Self {
        Self {
            server,
            max_body: 32 * 1024 * 1024,
            body_pace: Some(BodyPace::new()),
            max_inputs: 2048,
            max_batch: None,
            concurrency: 4,
            max_answer: 64 * 1024 * 1024,
        }
    }
}
