//! The calls of an answer, held back until each is whole.

use std::collections::VecDeque;

use crate::{
    Error, ErrorKind, Text,
    chat::{ANSWER_LIMIT, ToolCall},
    json::{
        compact,
        object::{Checker, Found},
    },
};

/// The calls that were begun and not told yet, in their order.
///
/// A call is told when its arguments are one object and another call has begun behind it, or the
/// answer is over: only the last may be cut.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pending: VecDeque<Pending>,
    /// The index of the first of them.
    first: u32,
    /// How many bytes they have.
    len: usize,
}

#[derive(Debug)]
struct Pending {
    id: Text,
    name: Text,
    arguments: String,
    checker: Checker,
}

impl Pending {
    fn is_whole(&self) -> bool {
        self.checker.found() == Found::Object
    }

    fn len(&self) -> usize {
        /// About what one takes beside its text.
        const ITEM: usize = 128;
        ITEM + self.id.len() + self.name.len() + self.arguments.len()
    }

    /// The call; `None` where its arguments are no object, which the contract of an answer allows
    /// for its last call alone.
    fn finish(mut self) -> Option<ToolCall> {
        match self.checker.found() {
            Found::Object => {}
            Found::Nothing => self.arguments = "{}".to_owned(),
            Found::Beginning | Found::Unknown => return None,
        }
        // An answer is one line, and a line ends where a line feed stands.
        let arguments = compact(&self.arguments).into_owned();
        Some(ToolCall::new(self.id, self.name, arguments))
    }
}

impl Calls {
    pub(super) fn begin(&mut self, id: Text, name: Text) -> Result<(), Error> {
        let call = Pending { id, name, arguments: String::new(), checker: Checker::default() };
        self.len += call.len();
        self.pending.push_back(call);
        self.check()
    }

    /// Takes the next piece of the arguments of call `index`.
    pub(super) fn arguments(&mut self, index: u32, json: &str) -> Result<(), Error> {
        let place = index.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(call) = place.and_then(|place| self.pending.get_mut(place)) else { return Ok(()) };
        // By the contract all of it is one object; what is not is left out.
        if call.checker.push(json).is_err() {
            return Ok(());
        }
        call.arguments.push_str(json);
        self.len += json.len();
        if call.checker.found() == Found::Unknown {
            let message = "the arguments of a call nest too deep to be told as an object";
            return Err(Error::new(ErrorKind::Upstream, message));
        }
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        if self.len > ANSWER_LIMIT {
            let message = "the calls of the answer are larger than can be held back until they \
                           are whole";
            return Err(Error::new(ErrorKind::Upstream, message));
        }
        Ok(())
    }

    /// The next call that is whole and has another behind it.
    pub(super) fn next(&mut self) -> Option<ToolCall> {
        if self.pending.len() < 2 || !self.pending.front().is_some_and(Pending::is_whole) {
            return None;
        }
        self.pop().and_then(Pending::finish)
    }

    /// All that are left, at the end of an answer. Where that `may_be_cut`, the last call is not
    /// told: a layer below may have closed what was open, and half a call is none to run.
    pub(super) fn finish(&mut self, may_be_cut: bool) -> impl Iterator<Item = ToolCall> {
        if may_be_cut {
            self.pending.pop_back();
        }
        self.len = 0;
        std::mem::take(&mut self.pending).into_iter().filter_map(Pending::finish)
    }

    fn pop(&mut self) -> Option<Pending> {
        let call = self.pending.pop_front()?;
        self.first = self.first.saturating_add(1);
        self.len = self.len.saturating_sub(call.len());
        Some(call)
    }
}
