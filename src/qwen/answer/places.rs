//! Which call of an answer a delta belongs to.

use std::collections::{HashMap, HashSet};

use crate::{Text, steps};

/// The places of calls, by how the server tells them apart: the number, the id, or both.
///
/// Each question is one look, however many calls there are.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The latest call of a number.
    by_index: HashMap<u64, usize>,
    /// The one of a number that has no id yet.
    without_id: HashMap<u64, usize>,
    /// The latest of a number and an id.
    by_both: HashMap<(u64, Text), usize>,
    /// The latest of an id.
    by_id: HashMap<Text, usize>,
    /// The ids that the client has been given, or would have been.
    announced: HashSet<Text>,
}

impl Places {
    /// The call that a delta with this number and id belongs to; with neither, the caller knows
    /// better.
    ///
    /// The number decides, except where an id that is new comes with a number that is taken: then
    /// the server does not count.
    pub(super) fn find(&self, index: Option<u64>, id: Option<&Text>) -> Option<usize> {
        steps::count(1);
        match (index, id) {
            (Some(index), Some(id)) => {
                let same = self.by_both.get(&(index, id.clone()));
                same.max(self.without_id.get(&index)).copied()
            }
            (Some(index), None) => self.by_index.get(&index).copied(),
            (None, Some(id)) => self.by_id.get(id).copied(),
            (None, None) => None,
        }
    }

    /// Takes a call in; if it has an id, [`name`](Self::name) is told of that.
    pub(super) fn enter(&mut self, place: usize, index: u64, has_id: bool) {
        self.by_index.insert(index, place);
        if !has_id {
            self.without_id.insert(index, place);
        }
    }

    /// The call at `place`, with this number, has this id.
    pub(super) fn name(&mut self, place: usize, index: u64, id: &Text) {
        if self.without_id.get(&index) == Some(&place) {
            self.without_id.remove(&index);
        }
        latest(self.by_both.entry((index, id.clone())).or_default(), place);
        latest(self.by_id.entry(id.clone()).or_default(), place);
    }

    /// The client is told of a call with this id; whether it is the first with it.
    pub(super) fn announce(&mut self, id: &Text) -> bool {
        self.announced.insert(id.clone())
    }
}

fn latest(known: &mut usize, place: usize) {
    *known = place.max(*known);
}
