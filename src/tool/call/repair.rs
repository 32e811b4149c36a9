//! What is done, and noted, where an upstream's calls lack something.

use metrics::counter;
use tracing::debug;

use crate::Text;

/// Notes a repair of what an upstream sent.
pub(super) fn repaired(repair: &'static str) {
    debug!(repair, "a native tool call was repaired");
    counter!("tower_qwen_tool_repairs_total", "repair" => repair).increment(1);
}

/// An id as OpenAI's look.
pub(super) fn new_id() -> Text {
    let mut buffer = [0; uuid::fmt::Simple::LENGTH];
    let id = uuid::Uuid::new_v4();
    ["call_", id.simple().encode_lower(&mut buffer)].concat().into()
}
