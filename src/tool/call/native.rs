//! Calls of upstreams that have tools of their own, with their usual faults repaired.

use std::collections::{HashMap, HashSet, VecDeque};

use metrics::counter;

use super::repair::{new_id, repaired};
use crate::{
    Text,
    chat::ChatEvent,
    tool::markup::{Arguments, Fed},
};

/// The calls that the upstream has begun.
#[derive(Debug, Default)]
pub(super) struct Natives {
    calls: Vec<Native>,
    /// The latest call of each of the upstream's numbers.
    latest: HashMap<u32, usize>,
    /// The ids of the calls.
    ids: HashSet<Text>,
}

#[derive(Debug)]
struct Native {
    /// Ours, once it is announced.
    index: Option<u32>,
    id: Text,
    /// Whether the id is the upstream's own.
    given: bool,
    name: Text,
    arguments: Arguments,
    /// Arguments that came before the name.
    early: String,
    /// Whether the arguments are complete, or nothing more can be made of them.
    done: bool,
    closed: bool,
}

impl Native {
    fn new(id: Text, name: Text) -> Self {
        Self {
            index: None,
            given: !id.is_empty(),
            id,
            name,
            arguments: Arguments::new(),
            early: String::new(),
            done: false,
            closed: false,
        }
    }

    /// Whether a beginning with the same number is that of another call: some upstreams give
    /// every call the number 0.
    fn is_other(&self, id: &Text, name: &Text) -> bool {
        match (self.given, !id.is_empty()) {
            _ if name.is_empty() => false,
            (true, true) => self.id != *id,
            // An upstream that gives ids gives every call one.
            (true, false) => false,
            (false, true) => self.done || self.name != *name,
            (false, false) => self.done,
        }
    }

    /// Tells of the call, which gets the `next` number of ours.
    fn announce(&mut self, next: &mut u32, events: &mut VecDeque<ChatEvent>) {
        counter!("tower_qwen_tool_calls_total", "form" => "native").increment(1);
        let index = *next;
        *next += 1;
        self.index = Some(index);
        if self.id.is_empty() {
            repaired("id");
            self.id = new_id();
        }
        let (id, name) = (self.id.clone(), self.name.clone());
        events.push_back(ChatEvent::ToolCall { index, id, name });
        if !self.early.is_empty() {
            events.push_back(ChatEvent::ToolArguments { index, json: self.early.as_str().into() });
            self.early = String::new();
        }
    }

    /// Completes the arguments.
    fn close(&mut self, events: &mut VecDeque<ChatEvent>) {
        let Some(index) = self.index else { return };
        if self.closed {
            return;
        }
        self.closed = true;
        let mut json = String::new();
        self.arguments.finish(&mut json);
        if !self.arguments.started() {
            json.push_str("{}");
        } else if !self.done {
            repaired("arguments");
        }
        if !json.is_empty() {
            events.push_back(ChatEvent::ToolArguments { index, json: json.into() });
        }
    }
}

impl Natives {
    /// Takes the beginning of a call; `next` is the next number of ours.
    pub(super) fn begin(
        &mut self,
        upstream: u32,
        id: Text,
        name: Text,
        next: &mut u32,
        events: &mut VecDeque<ChatEvent>,
    ) {
        let taken = self.ids.contains(&id);
        if let Some(call) = self.latest.get(&upstream).map(|&at| &mut self.calls[at])
            && !call.is_other(&id, &name)
        {
            // The beginning again, or the rest of it.
            if call.index.is_some() {
                repaired("repeated");
                return;
            }
            if call.id.is_empty() && !taken {
                call.given = !id.is_empty();
                call.id = id;
                self.ids.extend(call.given.then(|| call.id.clone()));
            }
            if !name.is_empty() {
                call.name = name;
                call.announce(next, events);
            }
            return;
        }
        let id = if taken { Text::new() } else { id };
        self.ids.extend((!id.is_empty()).then(|| id.clone()));
        let mut call = Native::new(id, name);
        if !call.name.is_empty() {
            call.announce(next, events);
        }
        self.push(upstream, call);
    }

    /// Takes a call in, and gives its place.
    fn push(&mut self, upstream: u32, call: Native) -> usize {
        let at = self.calls.len();
        self.calls.push(call);
        self.latest.insert(upstream, at);
        at
    }

    /// Takes a piece of a call's arguments.
    pub(super) fn arguments(
        &mut self,
        upstream: u32,
        json: &str,
        events: &mut VecDeque<ChatEvent>,
    ) {
        let at = match self.latest.get(&upstream) {
            Some(&at) => at,
            None => self.push(upstream, Native::new(Text::new(), Text::new())),
        };
        let call = &mut self.calls[at];
        if call.done {
            return;
        }
        let mut out = String::new();
        let fed = call.arguments.feed(json, &mut out);
        call.done = fed != Fed::More;
        if let Fed::Broken(_) = fed {
            repaired("arguments");
            call.arguments.finish(&mut out);
        }
        match call.index {
            Some(index) if !out.is_empty() => {
                events.push_back(ChatEvent::ToolArguments { index, json: out.into() });
            }
            Some(_) => {}
            None => call.early.push_str(&out),
        }
    }

    /// Completes every call. One without a name is given `only`, or else left out.
    pub(super) fn finish(
        &mut self,
        only: Option<&Text>,
        next: &mut u32,
        events: &mut VecDeque<ChatEvent>,
    ) {
        for call in &mut self.calls {
            if call.index.is_none() {
                match only {
                    Some(name) => {
                        repaired("name");
                        call.name = name.clone();
                        call.announce(next, events);
                    }
                    None => repaired("nameless"),
                }
            }
            call.close(events);
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.calls.len()
    }
}
