//! What of a history is sent (sans-I/O).

use std::sync::Arc;

use crate::chat::{ChatRequest, Message, Role, Text};

/// What [`Dedup`](super::Dedup) does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// Everything is sent: there is no chat that holds some of it.
    Whole,
    /// The chat holds the first messages, this many, and the others are sent.
    Rest {
        /// How many are left out; at least one, and fewer than there are.
        seen: usize,
    },
    /// The chat cannot take what is left, so everything is sent to a new one.
    Replay(ReplayCause),
}

/// Why a history is replayed although its chat is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayCause {
    /// The chat is said to hold more messages than there are.
    Shorter,
    /// The chat holds them all, so there is no turn to send: the client wants the last answer
    /// continued.
    NothingNew,
    /// What is left begins with an answer, which cannot follow one: it is not the one that the
    /// chat goes on from (A15.2).
    AnswerFirst,
}

impl ReplayCause {
    /// The word that metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shorter => "shorter",
            Self::NothingNew => "nothing_new",
            Self::AnswerFirst => "answer_first",
        }
    }
}

impl Plan {
    /// The plan for `request`, from its [`conversation`](crate::chat::ChatParts::conversation) and how many
    /// messages that has [`seen`](crate::chat::ChatParts::seen).
    #[must_use]
    pub fn new(request: &ChatRequest) -> Self {
        Self::with_seen(request, request.seen)
    }

    /// The same for a conversation that nobody counted: it goes on from an answer, so it holds
    /// everything up to the last answer of the history.
    #[must_use]
    pub fn after_last_answer(request: &ChatRequest) -> Self {
        let goes_on = request.conversation.as_ref().is_some_and(|place| place.parent_id.is_some());
        let seen = if goes_on && request.seen == 0 {
            let last = request.messages.iter().rposition(|message| message.role == Role::Assistant);
            last.map_or(0, |last| last + 1)
        } else {
            request.seen
        };
        Self::with_seen(request, seen)
    }

    fn with_seen(request: &ChatRequest, seen: usize) -> Self {
        if request.conversation.is_none() || seen == 0 {
            return Self::Whole;
        }
        match request.messages.get(seen) {
            None if request.messages.len() == seen => Self::Replay(ReplayCause::NothingNew),
            None => Self::Replay(ReplayCause::Shorter),
            Some(first) if first.role == Role::Assistant => Self::Replay(ReplayCause::AnswerFirst),
            Some(_) => Self::Rest { seen },
        }
    }

    /// Makes `request` what is sent.
    ///
    /// A tool's result whose call is left out gets the name of its function, if it has none, so
    /// that it can still be told which call it answers.
    pub fn apply(self, request: &mut ChatRequest) {
        // A write copies the parts of a request that others keep a clone of.
        if request.seen != 0 {
            request.seen = 0;
        }
        match self {
            Self::Whole => {}
            Self::Replay(_) => request.conversation = None,
            Self::Rest { seen } => {
                let (left_out, rest) = request.messages.split_at(seen);
                request.messages =
                    Arc::new(rest.iter().map(|message| named(message, left_out)).collect());
            }
        }
    }
}

/// The message, with the name of the function if it is the result of a call in `left_out`.
fn named(message: &Message, left_out: &[Message]) -> Message {
    let mut message = message.clone();
    if let (Role::Tool, None, Some(id)) = (message.role, &message.name, &message.tool_call_id) {
        message.name = function(id, left_out);
    }
    message
}

/// The function of the latest call with this id.
fn function(id: &Text, messages: &[Message]) -> Option<Text> {
    messages
        .iter()
        .rev()
        .flat_map(|message| &message.tool_calls)
        .find(|call| call.id == *id)
        .map(|call| call.name.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::{Conversation, ToolCall};

    fn request(roles: &[Role], seen: usize) -> ChatRequest {
        let messages = roles
            .iter()
            .enumerate()
            .map(|(index, role)| Message::new(*role, index.to_string()))
            .collect();
        let mut request = ChatRequest::new("m", messages);
        request.conversation = Some(Conversation::new("c").with_parent("p"));
        request.seen = seen;
        request
    }

    fn sent(request: &ChatRequest) -> Vec<&str> {
        request
            .messages
            .iter()
            .map(|message| match &message.content {
                Some(crate::chat::Content::Text(text)) => text.as_str(),
                _ => "",
            })
            .collect()
    }

    #[test]
    fn several_results_and_the_question_go_in_order() {
        use Role::{Assistant, System, Tool, User};
        let mut request = request(&[System, User, Assistant, Tool, Tool, User], 3);
        let messages = Arc::make_mut(&mut request.messages);
        messages[2].tool_calls =
            vec![ToolCall::new("a", "read", "{}"), ToolCall::new("b", "write", "{}")];
        messages[3].tool_call_id = Some("b".into());
        messages[4].tool_call_id = Some("a".into());

        let plan = Plan::new(&request);
        assert_eq!(plan, Plan::Rest { seen: 3 });
        plan.apply(&mut request);
        assert_eq!(sent(&request), ["3", "4", "5"]);
        assert_eq!(request.messages[0].name.as_deref(), Some("write"));
        assert_eq!(request.messages[1].name.as_deref(), Some("read"));
        assert_eq!(request.messages[2].name, None);
        assert_eq!(request.seen, 0);
        assert!(request.conversation.is_some());
    }

    #[test]
    fn what_the_client_named_keeps_its_name() {
        let mut request = request(&[Role::User, Role::Assistant, Role::Tool], 2);
        let messages = Arc::make_mut(&mut request.messages);
        messages[1].tool_calls = vec![ToolCall::new("a", "read", "{}")];
        messages[2].tool_call_id = Some("a".into());
        messages[2].name = Some("mine".into());
        Plan::new(&request).apply(&mut request);
        assert_eq!(request.messages[0].name.as_deref(), Some("mine"));
    }

    #[test]
    fn an_instruction_that_is_new_is_sent_in_its_place() {
        use Role::{Assistant, Developer, User};
        let mut request = request(&[User, Assistant, User, Developer], 2);
        Plan::new(&request).apply(&mut request);
        assert_eq!(sent(&request), ["2", "3"]);
    }

    #[test]
    fn what_cannot_be_planned_is_replayed() {
        use Role::{Assistant, User};
        for (roles, seen, cause) in [
            (&[User, Assistant][..], 3, ReplayCause::Shorter),
            (&[User, Assistant], 2, ReplayCause::NothingNew),
            (&[User, Assistant, Assistant, User], 2, ReplayCause::AnswerFirst),
            (&[], 1, ReplayCause::Shorter),
        ] {
            let mut request = request(roles, seen);
            let plan = Plan::new(&request);
            assert_eq!(plan, Plan::Replay(cause));
            plan.apply(&mut request);
            assert_eq!(request.messages.len(), roles.len());
            assert_eq!((&request.conversation, request.seen), (&None, 0));
        }
    }

    #[test]
    fn a_conversation_that_nobody_counted_holds_all_up_to_the_last_answer() {
        use Role::{Assistant, User};
        let history = &[User, Assistant, User, Assistant, User];
        assert_eq!(Plan::after_last_answer(&request(history, 0)), Plan::Rest { seen: 4 });
        // Counted by somebody.
        assert_eq!(Plan::after_last_answer(&request(history, 2)), Plan::Rest { seen: 2 });
        // Only new messages.
        assert_eq!(Plan::after_last_answer(&request(&[User], 0)), Plan::Whole);
        // A root of the chat holds nothing.
        let mut root = request(history, 0);
        root.conversation = Some(Conversation::new("c"));
        assert_eq!(Plan::after_last_answer(&root), Plan::Whole);
    }

    fn role() -> impl Strategy<Value = Role> {
        use Role::{Assistant, Developer, Function, System, Tool, User};
        prop::sample::select(vec![System, Developer, User, Assistant, Tool, Function])
    }

    proptest! {
        #[test]
        fn nothing_is_dropped_silently(
            roles in prop::collection::vec(role(), 0..12),
            seen in 0_usize..16,
            known: bool,
            uncounted: bool,
        ) {
            let mut request = request(&roles, seen);
            if !known {
                request.conversation = None;
            }
            let whole = request.clone();
            let plan = if uncounted {
                Plan::after_last_answer(&request)
            } else {
                Plan::new(&request)
            };
            plan.apply(&mut request);

            prop_assert_eq!(request.seen, 0);
            let left_out = whole.messages.len() - request.messages.len();
            prop_assert_eq!(&whole.messages[left_out..], &request.messages[..]);
            match plan {
                Plan::Rest { seen } => {
                    prop_assert_eq!(left_out, seen);
                    prop_assert!(known && !request.messages.is_empty());
                    prop_assert!(request.messages[0].role != Role::Assistant);
                }
                Plan::Whole => prop_assert_eq!(left_out, 0),
                Plan::Replay(_) => {
                    prop_assert_eq!(left_out, 0);
                    prop_assert_eq!(&request.conversation, &None);
                }
            }
        }
    }
}
