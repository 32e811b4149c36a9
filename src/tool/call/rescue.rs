//! Calls at the end of reasoning. A model may never close its think block and mean the call, or only
//! show in it how one is written; so calls count if nothing follows them.

use crate::{
    Text,
    tool::{
        scan::{Item, Scanner},
        schema::Toolset,
    },
};

/// How much of calls in reasoning is kept, in bytes.
const KEPT_LIMIT: usize = 1 << 20;

/// Follows the reasoning and knows the calls that it ends with.
///
/// It looks at reasoning while that passes, so that nothing of it has to be kept but calls; what
/// it finds counts only at the end.
#[derive(Debug)]
pub(super) struct Rescue {
    tools: Toolset,
    scanner: Scanner,
    /// Names and arguments.
    calls: Vec<(Text, String)>,
    kept: usize,
    /// Whether the call at hand is one that does not count.
    ignores: bool,
}

impl Rescue {
    pub(super) fn new(tools: Toolset) -> Self {
        Self {
            scanner: Scanner::without_think(tools.clone()),
            tools,
            calls: Vec::new(),
            kept: 0,
            ignores: false,
        }
    }

    pub(super) fn push(&mut self, reasoning: Text) {
        self.scanner.push(reasoning);
        self.read();
    }

    /// The complete calls that the reasoning ends with.
    pub(super) fn finish(&mut self) -> Vec<(Text, String)> {
        self.scanner.finish();
        self.read();
        std::mem::take(&mut self.calls)
    }

    fn forget(&mut self) {
        self.calls.clear();
        self.kept = 0;
    }

    fn read(&mut self) {
        while let Some(item) = self.scanner.pop() {
            match item {
                Item::Text(text) if text.trim().is_empty() => {}
                Item::Call { name, .. } => {
                    self.ignores = self.tools.get(&name).is_none();
                    if self.ignores {
                        self.forget();
                    } else {
                        self.calls.push((name, String::new()));
                    }
                }
                Item::Arguments(_) if self.ignores => {}
                Item::Arguments(json) => {
                    self.kept += json.len();
                    if self.kept > KEPT_LIMIT {
                        self.ignores = true;
                        self.forget();
                    } else if let Some((_, arguments)) = self.calls.last_mut() {
                        arguments.push_str(&json);
                    }
                }
                Item::End { complete: true } => {}
                // Text after the calls, or half a call.
                Item::Text(_) | Item::Reasoning(_) | Item::End { complete: false } => self.forget(),
            }
        }
    }
}
