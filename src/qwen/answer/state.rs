//! An answer while it arrives.

use std::collections::VecDeque;

use super::{
    calls::{Calls, Closed, Piece},
    leftovers::Leftovers,
    names::Names,
    pieces::Pieces,
    repair::{Repair, Repairs},
    think::ThinkSplitter,
    word::{Ending, ending, is_usual},
};
use crate::{
    Error, ErrorKind, Fate, Text,
    chat::{ChatEvent, Extra, FinishReason, Started, Usage, truncated},
    json::lenient::Half,
};

/// What came of an answer so far.
///
/// Why it ends is told when nothing more can come: some servers say it with every piece.
#[derive(Debug)]
pub(crate) struct Answer {
    content: Pieces,
    reasoning: Pieces,
    think: ThinkSplitter,
    leftovers: Leftovers,
    calls: Calls,
    /// There was text, or thinking.
    is_begun: bool,
    /// There was more than thinking, beside calls.
    has_answered: bool,
    usage: Option<Usage>,
    /// Why it ends, as the upstream said last.
    finish: Option<FinishReason>,
    /// More came behind that, so the upstream does not keep it for the end.
    went_on: bool,
    /// What it says of the answer behind the reason, which is told behind it.
    behind: Vec<ChatEvent>,
    repairs: Repairs,
    /// Whether text passes as it is: all of the above has come to rest.
    is_plain: bool,
    /// A piece of text that passed, before all that is ready.
    passed: Option<Text>,
    ready: VecDeque<ChatEvent>,
}

impl Answer {
    /// An answer whose pieces are such, and whose repairs are counted under this name.
    pub(crate) fn new(pieces: fn() -> Pieces, think: ThinkSplitter, repairs: Repairs) -> Self {
        Self {
            content: pieces(),
            reasoning: pieces(),
            think,
            leftovers: Leftovers::default(),
            calls: Calls::default(),
            is_begun: false,
            has_answered: false,
            usage: None,
            finish: None,
            went_on: false,
            behind: Vec::new(),
            repairs,
            is_plain: false,
            passed: None,
            ready: VecDeque::new(),
        }
    }

    /// The same, to a request that offers functions of these names.
    pub(crate) fn offering(mut self, names: Names) -> Self {
        if !names.is_empty() {
            self.leftovers.calls_may_come();
            self.calls.offer(names);
        }
        self
    }

    /// The next event that is ready.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<ChatEvent> {
        match self.passed.take() {
            Some(text) => Some(ChatEvent::Text(text)),
            None => self.ready.pop_front(),
        }
    }

    /// How many events are ready.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        usize::from(self.passed.is_some()) + self.ready.len()
    }

    /// Whether something is ready that the client will see, of what came behind the first `seen`.
    #[inline]
    pub(crate) fn has_content_behind(&self, seen: usize) -> bool {
        match (&self.passed, seen.checked_sub(1)) {
            (Some(_), None) => true,
            (Some(_), Some(seen)) => self.is_content_ready(seen),
            (None, _) => !self.ready.is_empty() && self.is_content_ready(seen),
        }
    }

    fn is_content_ready(&self, seen: usize) -> bool {
        self.ready.range(seen..).any(ChatEvent::is_content)
    }

    /// Whether the model finished: then the answer is complete, whatever goes wrong now. Where the
    /// upstream has said so before and was not through, nobody knows.
    pub(crate) const fn is_finished(&self) -> bool {
        self.finish.is_some() && !self.went_on
    }

    /// There is more of it.
    fn goes_on(&mut self) {
        if self.is_finished() {
            self.went_on = true;
            self.repairs.note(Repair::EarlyFinishReason);
        }
    }

    pub(crate) fn repaired(&mut self, repair: Repair) {
        self.repairs.note(repair);
    }

    /// The upstream has opened the answer.
    pub(crate) fn started(&mut self, started: Box<Started>) {
        self.ready.push_back(ChatEvent::Started(started));
    }

    /// A piece of what is visible.
    #[inline]
    pub(crate) fn text(&mut self, piece: Text) {
        // Most of an answer is such pieces, of which nothing is to be found out.
        if self.is_plain
            && self.waiting() == 0
            && !Half::is_in(&piece)
            && self.leftovers.is_no_end(&piece)
        {
            self.passed = Some(piece);
        } else {
            self.any_text(piece);
        }
    }

    #[inline(never)]
    fn any_text(&mut self, piece: Text) {
        if piece.is_empty() {
            return;
        }
        self.goes_on();
        self.is_begun = true;
        self.settle_reasoning();
        self.settle_calls();
        let Self { content, think, leftovers, ready, .. } = self;
        content.push(piece, |new| {
            think.push(new, |event| leftovers.push(event, ready));
        });
        if self.content.is_repeating() {
            self.repairs.note(Repair::Cumulative);
        }
        if self.think.found() {
            self.repairs.note(Repair::ThinkTags);
        }
        self.has_answered |= self.think.is_plain();
        // Of thinking and calls nothing waits, and whatever comes of them says so.
        self.is_plain =
            self.content.is_plain() && self.think.is_plain() && self.leftovers.is_plain();
    }

    /// A piece of the model's thinking.
    #[inline]
    pub(crate) fn reasoning(&mut self, piece: Text) {
        if piece.is_empty() {
            return;
        }
        self.goes_on();
        self.is_begun = true;
        self.is_plain = false;
        self.settle_content();
        self.settle_calls();
        let Self { reasoning, ready, .. } = self;
        reasoning.push(piece, |new| ready.push_back(ChatEvent::Reasoning(new)));
        if self.reasoning.is_repeating() {
            self.repairs.note(Repair::Cumulative);
        }
    }

    /// What is neither text nor a call.
    pub(crate) fn other(&mut self, event: ChatEvent) {
        self.goes_on();
        self.settle_calls();
        self.has_answered |= matches!(event, ChatEvent::Attachment(_));
        self.ready.push_back(event);
    }

    /// The text that follows stands in one event with calls.
    pub(crate) fn beside_calls(&mut self) {
        self.settle_content();
        self.leftovers.beside_calls();
    }

    /// What the upstream says of its answer, which may come behind the end.
    pub(crate) fn server_fields(&mut self, fields: Extra) {
        if !fields.is_empty() {
            let fields = ChatEvent::ServerFields(fields);
            match self.is_finished() {
                true => self.behind.push(fields),
                false => self.ready.push_back(fields),
            }
        }
    }

    /// What it says of the one choice.
    pub(crate) fn choice_fields(&mut self, fields: Extra) {
        if !fields.is_empty() && !self.is_finished() {
            self.ready.push_back(ChatEvent::ChoiceFields(fields));
        }
    }

    /// What it says of the message. Behind a reason for the end it is no more of the answer.
    pub(crate) fn message_fields(&mut self, fields: Extra) {
        if !fields.is_empty() {
            self.ready.push_back(ChatEvent::MessageFields(fields));
        }
    }

    /// What it says of the token counts, which may come behind the end.
    pub(crate) fn usage_fields(&mut self, fields: Extra) {
        if !fields.is_empty() {
            self.behind.push(ChatEvent::UsageFields(fields));
        }
    }

    /// A piece of a call.
    ///
    /// # Errors
    ///
    /// Where there are too many calls, or too much of them waits for a name.
    pub(crate) fn call(&mut self, piece: Piece) -> Result<(), Error> {
        self.is_plain = false;
        self.settle_reasoning();
        self.settle_content();
        let Self { think, leftovers, calls, repairs, ready, .. } = self;
        think.settle(|event| leftovers.push(event, ready));
        leftovers.call(ready);
        if calls.push(piece, repairs, ready)? {
            self.goes_on();
        }
        Ok(())
    }

    /// Token counts; the last ones stand.
    pub(crate) fn counts(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// Gives the token counts that are known.
    pub(crate) fn give_counts(&mut self) {
        self.ready.extend(self.usage.take().map(ChatEvent::Usage));
    }

    /// The upstream says why the answer ends, if it does.
    ///
    /// # Errors
    ///
    /// Where it says that the answer failed.
    pub(crate) fn ends(&mut self, word: &str) -> Result<(), Error> {
        if !is_usual(word) && ending(word) != Ending::GoesOn {
            self.repairs.note(Repair::UnknownFinishReason);
        }
        match ending(word) {
            Ending::GoesOn => {
                self.repairs.note(Repair::EmptyFinishReason);
                Ok(())
            }
            Ending::Finished(reason) => {
                self.finished(reason);
                Ok(())
            }
            Ending::Failed(kind) => {
                // It is a known word, so none of the model's.
                let message = format!("the upstream ended its answer with `{word}`");
                Err(Error::new(kind, message).with_fate(Fate::Refused))
            }
        }
    }

    /// The model finished, which is told with [`conclude`](Self::conclude). Of several reasons for one
    /// end the first stands.
    pub(crate) fn finished(&mut self, reason: FinishReason) {
        // What follows is looked at, should it be more of the answer.
        self.is_plain = false;
        if !self.is_finished() {
            self.finish = Some(reason);
            self.went_on = false;
        }
    }

    /// Nothing more comes of an answer that went on behind the reason for its end. The reason stands
    /// where the upstream `is_done`; where it did not say so, the answer may have been cut.
    pub(crate) fn settle_reason(&mut self, is_done: bool) {
        if std::mem::take(&mut self.went_on) && !is_done {
            self.finish = Some(FinishReason::Length);
        }
    }

    /// Nothing more comes of an answer that the model finished: tells why it ended.
    ///
    /// # Errors
    ///
    /// Where the arguments of a call before the last are no JSON: a client would run that call. Where
    /// a call has arguments and no name, or calls were announced and nothing at all was sent.
    pub(crate) fn conclude(&mut self) -> Result<(), Error> {
        match self.finish {
            Some(reason) => self.ended(reason, true),
            None => Ok(()),
        }
    }

    /// The answer ends for this reason, which the upstream itself may not have told.
    fn ended(&mut self, reason: FinishReason, is_told: bool) -> Result<(), Error> {
        self.settle();
        let is_cut = matches!(reason, FinishReason::Length | FinishReason::ContentFilter);
        let closed = self.calls.close(is_cut, is_told, &mut self.repairs, &mut self.ready);
        if self.calls.is_any_nameless() {
            self.repairs.note(Repair::Nameless);
        }
        if let Some(number) = self.calls.lost() {
            return Err(Error::new(
                ErrorKind::Upstream,
                format!("the upstream did not name the function of call {number} of its answer"),
            ));
        }
        if let Closed::Cut(name) = closed {
            return Err(Error::new(
                ErrorKind::Upstream,
                format!("the arguments of the upstream's call of `{name}` are not one JSON object"),
            ));
        }
        let called = self.calls.is_any_named();
        if reason == FinishReason::ToolCalls && !called && !self.is_begun {
            return Err(Error::new(
                ErrorKind::Upstream,
                "the upstream ended its answer for calls that it did not send",
            ));
        }
        let told = match reason {
            // A client that is told of calls runs them, and half a file would be written.
            FinishReason::Stop | FinishReason::ToolCalls if closed == Closed::LastCut => {
                FinishReason::Length
            }
            FinishReason::Stop if called => FinishReason::ToolCalls,
            // A call that was never named cannot be answered.
            FinishReason::ToolCalls if !called => FinishReason::Stop,
            reason => reason,
        };
        if told != reason {
            self.repairs.note(Repair::FinishReason);
        }
        self.ready.push_back(ChatEvent::Finished(told));
        self.ready.extend(self.behind.drain(..));
        Ok(())
    }

    /// The upstream said that its answer is over and did not say why; `reason` is why, as far as the
    /// answer itself does not say something else. One whose calls are whole ended for them. One that
    /// is nothing but thinking, or whose last call has no arguments or half of them, is told as cut:
    /// nobody said that it is complete, and it does not look so.
    ///
    /// # Errors
    ///
    /// As those of [`conclude`](Self::conclude).
    pub(crate) fn finished_somehow(&mut self, reason: FinishReason) -> Result<(), Error> {
        self.repairs.note(Repair::MissingFinishReason);
        self.settle();
        let has_text =
            self.has_answered || self.ready.iter().any(|event| matches!(event, ChatEvent::Text(_)));
        let reason = match self.calls.is_any_named() {
            true => FinishReason::ToolCalls,
            false if self.is_begun && !has_text => FinishReason::Length,
            false => reason,
        };
        self.ended(reason, false)
    }

    /// Whether there was anything of the answer.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun || self.has_answered || self.calls.is_any_named()
    }

    /// The error of an answer that ended before the model finished: closes what is open.
    pub(crate) fn cut(&mut self) -> Error {
        self.settle();
        self.fail();
        truncated()
    }

    /// The answer failed: closes what must be closed before that is told.
    pub(crate) fn fail(&mut self) {
        self.is_plain = false;
        self.calls.close(true, true, &mut self.repairs, &mut self.ready);
    }

    /// Gives what is held of the content, since something else follows.
    fn settle_content(&mut self) {
        let Self { content, think, leftovers, ready, .. } = self;
        content.settle(|new| think.push(new, |event| leftovers.push(event, ready)));
    }

    /// Gives what is held of the reasoning, since something else follows.
    fn settle_reasoning(&mut self) {
        let Self { reasoning, ready, .. } = self;
        reasoning.settle(|new| ready.push_back(ChatEvent::Reasoning(new)));
    }

    /// Gives a call that waits for its id, since something else follows.
    #[inline]
    fn settle_calls(&mut self) {
        self.calls.settle(&mut self.repairs, &mut self.ready);
    }

    /// Gives all that is held, since the end follows.
    fn settle(&mut self) {
        self.is_plain = false;
        self.settle_reasoning();
        self.settle_content();
        let Self { think, leftovers, ready, .. } = self;
        think.finish(|event| leftovers.push(event, ready));
        leftovers.settle(ready);
    }
}
