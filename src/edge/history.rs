//! The history, put in the form that it has however the client writes it.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Text,
    chat::{Content, Message, Part, PartKind, Role, ToolCall},
};

/// What is said of a result whose call is no longer in the history.
const LOST_CALL: &str = "Result of an earlier tool call:";

/// What stands in place of a result that never came: the person has broken off.
const NO_RESULT: &str = "[no result: interrupted]";

/// The turns so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    turns: Vec<Turn>,
    /// The last turn that has calls.
    calling: Option<usize>,
    /// The results of calls that are in the answer which the history goes on from, where it goes on
    /// from one that is not in it.
    #[cfg(feature = "responses")]
    behind: Option<Vec<Message>>,
    /// What the messages say of the tools on offer, in order.
    #[cfg(feature = "anthropic")]
    pub(crate) changes: Vec<Change>,
}

/// What a message says of the tools on offer.
#[cfg(feature = "anthropic")]
#[derive(Debug)]
pub(crate) enum Change {
    Added(crate::chat::Tool),
    Removed(Text),
}

#[derive(Debug)]
struct Turn {
    role: Role,
    parts: Vec<Part>,
    calls: Vec<ToolCall>,
    /// The results of the calls, as they came.
    results: Vec<Message>,
    /// The calls that have no result yet, and how many there are with each id.
    open: HashMap<Text, u32>,
    reasoning: Option<String>,
    reasoning_signature: Option<Text>,
}

impl Turn {
    fn new(role: Role) -> Self {
        Self {
            role,
            parts: Vec::new(),
            calls: Vec::new(),
            results: Vec::new(),
            open: HashMap::new(),
            reasoning: None,
            reasoning_signature: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.calls.is_empty() && self.reasoning.is_none()
    }

    /// The message, and what follows it.
    fn finish(self, is_last: bool, out: &mut Vec<Arc<Message>>) {
        if self.is_empty() {
            return;
        }
        // An answer is written in blocks where something else stood between them; what a client
        // says in blocks are paragraphs.
        let separator = if self.role == Role::Assistant { "" } else { "\n" };
        let mut message = Message::empty(self.role);
        message.content = content(self.parts, separator);
        message.reasoning = self.reasoning.map(Text::from);
        message.reasoning_signature = self.reasoning_signature;
        message.tool_calls = self.calls;
        let results = out.len() + 1;
        out.push(Arc::new(message));
        let is_waiting = is_last && self.results.is_empty();
        out.extend(self.results.into_iter().map(Arc::new));
        if is_waiting || self.open.is_empty() {
            return;
        }
        let mut open = self.open;
        let calls = &out[results - 1].tool_calls;
        let missing: Vec<Text> = calls
            .iter()
            .filter(|call| open.get_mut(&call.id).is_some_and(take_one))
            .map(|call| call.id.clone())
            .collect();
        out.extend(missing.into_iter().map(|id| {
            let mut result = Message::new(Role::Tool, NO_RESULT);
            result.tool_call_id = Some(id);
            Arc::new(result)
        }));
    }
}

/// Adds to what is nearly always alone: otherwise there would be room for four at once.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(item);
}

fn take_one(left: &mut u32) -> bool {
    let is_left = *left > 0;
    *left -= u32::from(is_left);
    is_left
}

impl History {
    /// The turn of `role` that the next block belongs to. Neighbours of one role are one turn;
    /// results stand between two turns, also where the person has said nothing else.
    fn turn(&mut self, role: Role) -> &mut Turn {
        if self.turns.last().is_none_or(|turn| turn.role != role || !turn.results.is_empty()) {
            self.turns.push(Turn::new(role));
        }
        self.turns.last_mut().expect("there is one by now")
    }

    pub(crate) fn part(&mut self, role: Role, part: Part) {
        if part.as_text().is_some_and(|text| text.is_empty()) {
            return;
        }
        push(&mut self.turn(role).parts, part);
    }

    pub(crate) fn call(&mut self, call: ToolCall) {
        let turn = self.turn(Role::Assistant);
        *turn.open.entry(call.id.clone()).or_default() += 1;
        push(&mut turn.calls, call);
        self.calling = Some(self.turns.len() - 1);
    }

    pub(crate) fn reasoning(&mut self, text: &str, signature: Option<Text>) {
        let turn = self.turn(Role::Assistant);
        match &mut turn.reasoning {
            Some(before) => {
                before.push('\n');
                before.push_str(text);
            }
            None => turn.reasoning = Some(text.to_owned()),
        }
        if signature.is_some() {
            turn.reasoning_signature = signature;
        }
    }

    /// Puts the result of a call behind it, whatever stands between.
    ///
    /// `texts` are what it says, and `media` what it shows, which has no place in a result upstream:
    /// it follows as the user's. Where the last turn that has calls has not got this one, or has a
    /// result of it, the result is told by the user, too.
    pub(crate) fn result(&mut self, id: &Text, texts: Vec<Part>, media: Vec<Part>) {
        #[cfg(feature = "responses")]
        if self.calling.is_none()
            && let Some(results) = &mut self.behind
        {
            results.push(result(id, texts));
            media.into_iter().for_each(|part| self.part(Role::User, part));
            return;
        }
        let mut turn = self.calling.and_then(|at| self.turns.get_mut(at));
        let left = turn.as_mut().and_then(|turn| turn.open.get_mut(id));
        let is_open = left.is_some_and(take_one);
        if let Some(turn) = turn.filter(|_| is_open) {
            push(&mut turn.results, result(id, texts));
        } else {
            self.part(Role::User, Part::text(LOST_CALL));
            texts.into_iter().for_each(|part| self.part(Role::User, part));
        }
        media.into_iter().for_each(|part| self.part(Role::User, part));
    }

    /// Puts a system message in front of everything, as part of the one that is there, if any.
    pub(crate) fn system(&mut self, parts: Vec<Part>) {
        if parts.is_empty() {
            return;
        }
        match self.turns.first_mut() {
            Some(first) if first.role == Role::System => {
                first.parts.splice(0..0, parts);
            }
            _ => {
                let turn = Turn { parts, ..Turn::new(Role::System) };
                self.turns.insert(0, turn);
            }
        }
    }

    /// The history goes on from an answer that is not in it: results whose calls are not either
    /// belong to that answer, and stand in front of everything but instructions.
    #[cfg(feature = "responses")]
    pub(crate) fn goes_on(&mut self) {
        self.behind = Some(Vec::new());
    }

    pub(crate) fn finish(self) -> Vec<Arc<Message>> {
        let mut out = Vec::with_capacity(self.turns.len());
        let last = self.turns.len().saturating_sub(1);
        #[cfg(feature = "responses")]
        let mut behind = self.behind.unwrap_or_default();
        for (at, turn) in self.turns.into_iter().enumerate() {
            #[cfg(feature = "responses")]
            if turn.role != Role::System {
                out.extend(behind.drain(..).map(Arc::new));
            }
            turn.finish(at == last, &mut out);
        }
        #[cfg(feature = "responses")]
        out.extend(behind.into_iter().map(Arc::new));
        out
    }
}

/// The message that the result of call `id` is.
fn result(id: &Text, texts: Vec<Part>) -> Message {
    let mut message = Message::empty(Role::Tool);
    message.tool_call_id = Some(id.clone());
    message.content = content(texts, "\n").or(Some(Content::Text(Text::new())));
    message
}

/// The content that `parts` are: one text where all are texts and none is marked.
///
/// Texts that stand together are joined up to the next mark, so that what is said does not depend
/// on how it was cut.
pub(crate) fn content(parts: Vec<Part>, separator: &str) -> Option<Content> {
    let mut joined: Vec<Part> = Vec::with_capacity(1);
    let mut texts: Vec<Text> = Vec::new();
    let mut is_behind_text = false;
    let flush = |texts: &mut Vec<Text>, joined: &mut Vec<Part>, is_behind_text: bool| {
        if texts.is_empty() {
            return;
        }
        let text = match (&**texts, is_behind_text) {
            ([only], false) => only.clone(),
            _ => {
                let len = texts.iter().map(|text| text.len() + separator.len()).sum();
                let mut all = String::with_capacity(len);
                for (at, text) in texts.iter().enumerate() {
                    if at > 0 || is_behind_text {
                        all.push_str(separator);
                    }
                    all.push_str(text);
                }
                all.into()
            }
        };
        texts.clear();
        joined.push(Part::text(text));
    };
    for part in parts {
        match part.kind {
            PartKind::Text(text) => {
                texts.push(text);
                if part.cache_control.is_some() {
                    flush(&mut texts, &mut joined, is_behind_text);
                    if let Some(last) = joined.last_mut() {
                        last.cache_control = part.cache_control;
                    }
                    is_behind_text = true;
                }
            }
            _ => {
                flush(&mut texts, &mut joined, is_behind_text);
                is_behind_text = false;
                joined.push(part);
            }
        }
    }
    flush(&mut texts, &mut joined, is_behind_text);
    match &*joined {
        [] => None,
        [Part { kind: PartKind::Text(text), cache_control: None, .. }] => {
            Some(Content::Text(text.clone()))
        }
        _ => Some(Content::Parts(joined)),
    }
}
