//! How much memory requests and answers may take.

use tower_qwen::{chat::ANSWER_LIMIT, edge::Limits};

use super::options::Settings;

const MIB: usize = 1024 * 1024;

/// How many MiB of bodies there may be at once.
const BODIES: usize = 256;

/// How much memory requests and answers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// What one request may hold.
    pub(crate) limits: Limits,
    /// The largest answer in one piece, in bytes.
    pub(crate) answer: usize,
    /// What all bodies in work may take, in bytes.
    pub(crate) bodies: usize,
}

impl Bounds {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut limits = Limits::new();
        for (limit, set) in [
            (&mut limits.messages, settings.max_messages),
            (&mut limits.parts, settings.max_parts),
            (&mut limits.calls, settings.max_calls),
            (&mut limits.tools, settings.max_tools),
            (&mut limits.nesting, settings.max_nesting),
        ] {
            *limit = set.unwrap_or(*limit);
        }
        let mib = |set: Option<usize>| set.map(|count| count.saturating_mul(MIB));
        Self {
            limits,
            answer: mib(settings.max_answer).unwrap_or(ANSWER_LIMIT),
            bodies: mib(settings.max_bodies).unwrap_or(BODIES * MIB),
        }
    }
}
