//! What reads an answer: events of the upstream in, events for the client out.

use std::collections::VecDeque;

use metrics::counter;
use tracing::debug;

use super::{
    native::Natives,
    repair::{new_id, repaired},
    rescue::Rescue,
};
use crate::{
    Error, Text,
    chat::{ChatEvent, FinishReason, ToolChoice},
    tool::{
        scan::{Item, Scanner},
        schema::Toolset,
    },
};

#[derive(Debug)]
pub(super) struct Reader {
    /// Reads the text, unless only native calls are repaired.
    scan: Option<Scan>,
    natives: Natives,
    /// The only function that a call without a name can be.
    only: Option<Text>,
    /// The number of the next call.
    next: u32,
    /// Events that are ready; those that the scanner has come before them.
    events: VecDeque<ChatEvent>,
    /// Whether there was visible text.
    text: bool,
    state: State,
}

#[derive(Debug)]
struct Scan {
    scanner: Scanner,
    rescue: Rescue,
    /// The number of the call that the scanner is in.
    open: u32,
    /// Whether the text ended inside of a call.
    cut: bool,
}

#[derive(Debug)]
enum State {
    Running,
    /// The upstream finished; the events before that are on their way.
    Finishing(FinishReason),
    /// The upstream failed or was cut; the events before that are on their way.
    Failing(Error),
    /// The last event has been sent; token counts may follow.
    Over,
}

impl Reader {
    pub(super) fn new(tools: Toolset, choice: Option<&ToolChoice>, scans: bool) -> Self {
        let only = match choice.and_then(ToolChoice::function) {
            Some(name) => Some(name),
            _ if tools.len() == 1 => tools.iter().next().map(|function| function.name.clone()),
            _ => None,
        };
        let scan = scans.then(|| Scan {
            scanner: Scanner::new(tools.clone()),
            rescue: Rescue::new(tools),
            open: 0,
            cut: false,
        });
        Self {
            scan,
            natives: Natives::default(),
            only,
            next: 0,
            events: VecDeque::new(),
            text: false,
            state: State::Running,
        }
    }

    /// The next item for the client.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Result<ChatEvent, Error>> {
        let waits = !self.events.is_empty()
            || self.scan.as_ref().is_some_and(|scan| scan.scanner.has_items())
            || matches!(self.state, State::Finishing(_) | State::Failing(_));
        if waits { self.pop_waiting() } else { None }
    }

    fn pop_waiting(&mut self) -> Option<Result<ChatEvent, Error>> {
        loop {
            if let Some(scan) = &mut self.scan {
                while let Some(item) = scan.scanner.pop() {
                    if let Some(event) = event(item, scan, &mut self.next, &mut self.text) {
                        return Some(Ok(event));
                    }
                }
            }
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            match std::mem::replace(&mut self.state, State::Over) {
                // Now it is known what the answer was.
                State::Finishing(reason) => match self.rescued(reason) {
                    true => self.state = State::Finishing(reason),
                    false => return Some(Ok(ChatEvent::Finished(self.reason(reason)))),
                },
                State::Failing(error) => return Some(Err(error)),
                state => {
                    self.state = state;
                    return None;
                }
            }
        }
    }

    /// Takes an event of the upstream that the client gets as it is: most of them, so they are
    /// not queued. [`pop`](Self::pop) must have had nothing more.
    #[inline]
    pub(super) fn passes(&mut self, event: &ChatEvent) -> bool {
        let (ChatEvent::Text(text), State::Running, Some(scan)) =
            (event, &self.state, &mut self.scan)
        else {
            return false;
        };
        let passes = scan.scanner.passes(text);
        // Such a piece ends with something to see.
        self.text |= passes;
        passes
    }

    /// Takes an event of the upstream. After [`ChatEvent::Finished`] only token counts may come.
    pub(super) fn push(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Text(text) => match &mut self.scan {
                Some(scan) => scan.scanner.push(text),
                None => {
                    self.text = true;
                    self.events.push_back(ChatEvent::Text(text));
                }
            },
            ChatEvent::Reasoning(text) => {
                if let Some(scan) = &mut self.scan {
                    scan.rescue.push(text.clone());
                }
                self.events.push_back(ChatEvent::Reasoning(text));
            }
            ChatEvent::ToolCall { index, id, name } => {
                self.flush();
                self.natives.begin(index, id, name, &mut self.next, &mut self.events);
            }
            ChatEvent::ToolArguments { index, json } => {
                self.natives.arguments(index, &json, &mut self.events);
            }
            ChatEvent::Finished(reason) => {
                self.close();
                self.state = State::Finishing(reason);
            }
            event => self.events.push_back(event),
        }
    }

    /// The upstream failed.
    pub(super) fn fail(&mut self, error: Error) {
        self.close();
        self.state = State::Failing(error);
    }

    /// Lets go what the scanner holds, before something that is not text.
    fn flush(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        scan.scanner.finish();
        while let Some(item) = scan.scanner.pop() {
            self.events.extend(event(item, scan, &mut self.next, &mut self.text));
        }
    }

    /// Completes every call.
    fn close(&mut self) {
        self.flush();
        self.natives.finish(self.only.as_ref(), &mut self.next, &mut self.events);
        if let Some(scan) = &self.scan
            && scan.scanner.released() > 0
        {
            counter!("tower_qwen_tool_text_released_total").increment(scan.scanner.released());
        }
    }

    /// Sends the calls that stand at the end of the reasoning, if there is nothing else; whether
    /// there were any.
    fn rescued(&mut self, reason: FinishReason) -> bool {
        let is_cut = !matches!(reason, FinishReason::Stop | FinishReason::ToolCalls);
        let Some(scan) = self.scan.as_mut().filter(|_| !self.text && self.next == 0 && !is_cut)
        else {
            return false;
        };
        for (name, arguments) in scan.rescue.finish() {
            debug!("a tool call at the end of the reasoning is sent");
            counter!("tower_qwen_tool_calls_total", "form" => "reasoning").increment(1);
            let index = self.next;
            self.next += 1;
            self.events.push_back(ChatEvent::ToolCall { index, id: new_id(), name });
            self.events.push_back(ChatEvent::ToolArguments { index, json: arguments.into() });
        }
        self.next > 0
    }

    /// The reason that the client is given (where the text was cut, the upstream need not
    /// have noticed).
    fn reason(&self, upstream: FinishReason) -> FinishReason {
        let reason = match upstream {
            FinishReason::Length | FinishReason::ContentFilter => upstream,
            // chat.qwen.ai says `stop` where the token limit was met, too. A client that is told of
            // calls runs them, and half a file would be written.
            _ if self.scan.as_ref().is_some_and(|scan| scan.cut) => FinishReason::Length,
            _ if self.next > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        if reason != upstream && (self.natives.len() > 0 || upstream == FinishReason::ToolCalls) {
            repaired("finish_reason");
        }
        reason
    }
}

/// What an item of the scanner is for the client.
fn event(item: Item, scan: &mut Scan, next: &mut u32, text: &mut bool) -> Option<ChatEvent> {
    match item {
        Item::Text(piece) => {
            *text = *text || !piece.trim().is_empty();
            Some(ChatEvent::Text(piece))
        }
        Item::Reasoning(piece) => {
            scan.rescue.push(piece.clone());
            Some(ChatEvent::Reasoning(piece))
        }
        Item::Call { name, dialect } => {
            counter!("tower_qwen_tool_calls_total", "form" => dialect.as_str()).increment(1);
            scan.open = *next;
            *next += 1;
            Some(ChatEvent::ToolCall { index: scan.open, id: new_id(), name })
        }
        Item::Arguments(json) => Some(ChatEvent::ToolArguments { index: scan.open, json }),
        Item::End { complete } => {
            if !complete {
                debug!("a tool call was cut, and its arguments were closed");
                scan.cut = true;
            }
            None
        }
    }
}
