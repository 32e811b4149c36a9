//! JSON as trees of values, which take many times the room of their text.

use serde_json::Value;

/// The value that `json` is; `None` where it is none, nests deeper than 128 levels, or would take
/// more than about `memory` bytes.
#[cfg(any(feature = "compatible", feature = "web"))]
pub(crate) fn tree_within(json: &str, memory: usize) -> Option<Value> {
    if tree_size(json) > memory {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// About how much memory the values of a text take, never much less: a list has room for four at
/// first, and a node of a map is one for eleven.
pub(crate) fn tree_size(json: &str) -> usize {
    let value = size_of::<Value>();
    let field = value + size_of::<String>();
    json.bytes().fold(json.len(), |sum, byte| {
        sum + match byte {
            b'{' => 12 * field,
            b'[' => 4 * value,
            b',' => 2 * field,
            _ => 0,
        }
    })
}
