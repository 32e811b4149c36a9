use crate::{edge::BodyPace, qwen::compatible::Server};

/// How the edge reads requests, asks for their batches and answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) max_body: usize,
    pub(crate) body_pace: Option<BodyPace>,
    pub(crate) max_inputs: usize,
    pub(crate) max_batch: Option<usize>,
    pub(crate) concurrency: usize,
    pub(crate) max_answer: usize,
}

impl Config {
    pub(crate) const fn new(server: Server) -> Self {
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
