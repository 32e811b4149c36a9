//! What of a history is sent (sans-I/O).

use std::collections::HashMap;

use crate::{
    Text,
    chat::{ChatRequest, Destination, History, Message, Messages, Role},
};

/// What [`Dedup`](super::Dedup) does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Everything is sent: there is no chat that holds some of it.
    Whole,
    /// What the chat has seen is left out, and what is fresh is sent.
    Fresh,
    /// The chat cannot take what is fresh, so everything is sent to a new one.
    Replay(ReplayCause),
}

/// Why a history is replayed although its chat is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayCause {
    /// The chat holds all messages, so there is no turn to send: the client wants the last answer
    /// continued.
    NothingNew,
    /// What is fresh begins with an answer, which cannot follow one: it is not the one that the
    /// chat goes on from.
    AnswerFirst,
}

impl ReplayCause {
    /// The word that metrics use.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NothingNew => "nothing_new",
            Self::AnswerFirst => "answer_first",
        }
    }
}

impl Plan {
    /// The plan for `request`, from where it goes and what was seen of its history.
    pub(super) fn new(request: &ChatRequest) -> Self {
        let History { seen, fresh, .. } = &request.history;
        if request.conversation().is_none() || seen.is_empty() {
            return Self::Whole;
        }
        match fresh.first() {
            None => Self::Replay(ReplayCause::NothingNew),
            Some(first) if first.role == Role::Assistant => Self::Replay(ReplayCause::AnswerFirst),
            Some(_) => Self::Fresh,
        }
    }

    /// Makes `request` what is sent; nothing of it counts as seen afterwards.
    ///
    /// A tool's result whose call is left out gets the name of its function, if it has none, so
    /// that it can still be told which call it answers.
    pub(super) fn apply(self, request: &mut ChatRequest) {
        match self {
            Self::Whole => request.history.forget_seen(),
            Self::Fresh => {
                let seen = std::mem::take(&mut request.history.seen);
                name_results(&mut request.history.fresh, &seen);
            }
            Self::Replay(_) => {
                request.destination = Destination::NEW;
                request.history.forget_seen();
            }
        }
    }
}

/// Takes a conversation that goes on from an answer, and of which nobody has said what it has
/// seen, to hold everything up to the last answer of the history.
pub(super) fn see_answered(request: &mut ChatRequest) {
    let goes_on = request.conversation().is_some_and(|place| place.parent_id.is_some());
    if goes_on && request.history.seen.is_empty() {
        let fresh = &request.history.fresh;
        let last = fresh.iter().rposition(|message| message.role == Role::Assistant);
        request.history.mark_seen(last.map_or(0, |last| last + 1));
    }
}

/// Gives the results among `fresh` the names of their functions, where their calls are in `seen`.
///
/// One pass over each, however many results there are.
fn name_results(fresh: &mut Messages, seen: &Messages) {
    fn nameless(message: &Message) -> Option<&Text> {
        let is_nameless = message.role == Role::Tool && message.name.is_none();
        message.tool_call_id.as_ref().filter(|_| is_nameless)
    }

    if fresh.iter().all(|message| nameless(message).is_none()) {
        return;
    }
    // Of several calls with one id the latest counts.
    let functions: HashMap<&Text, &Text> = seen
        .iter()
        .flat_map(|message| &message.tool_calls)
        .map(|call| (&call.id, &call.name))
        .collect();
    fresh.replace_each(|message| {
        let name = functions.get(nameless(message)?)?;
        Some(Message { name: Some((*name).clone()), ..message.clone() })
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::{Conversation, ToolCall};

    fn request(roles: &[Role], seen: usize) -> ChatRequest {
        let messages: Vec<_> = roles
            .iter()
            .enumerate()
            .map(|(index, role)| Message::new(*role, index.to_string()))
            .collect();
        let mut request = ChatRequest::new("m", messages);
        request.destination = Conversation::new("c").with_parent("p").into();
        request.history.mark_seen(seen);
        request
    }

    fn sent(request: &ChatRequest) -> Vec<String> {
        request.history.iter().map(|message| message.text().to_string()).collect()
    }

    #[test]
    fn several_results_and_the_question_go_in_order() {
        use Role::{Assistant, System, Tool, User};
        let mut request = request(&[System, User, Assistant, Tool, Tool, User], 3);
        let message = |request: &mut ChatRequest, index, change: fn(&mut Message)| {
            change(request.history.get_mut(index).expect("six"));
        };
        message(&mut request, 2, |message| {
            message.tool_calls =
                vec![ToolCall::new("a", "read", "{}"), ToolCall::new("b", "write", "{}")];
        });
        message(&mut request, 3, |message| message.tool_call_id = Some("b".into()));
        message(&mut request, 4, |message| message.tool_call_id = Some("a".into()));

        let plan = Plan::new(&request);
        assert_eq!(plan, Plan::Fresh);
        plan.apply(&mut request);
        assert_eq!(sent(&request), ["3", "4", "5"]);
        assert_eq!(request.history[0].name.as_deref(), Some("write"));
        assert_eq!(request.history[1].name.as_deref(), Some("read"));
        assert_eq!(request.history[2].name, None);
        assert!(request.history.seen.is_empty());
        assert!(request.conversation().is_some());
    }

    #[test]
    fn of_calls_with_one_id_the_latest_names_the_result() {
        use Role::{Assistant, Tool, User};
        let mut request = request(&[User, Assistant, Tool, Assistant, Tool], 4);
        for (index, name) in [(1, "old"), (3, "new")] {
            let message = request.history.get_mut(index).expect("five");
            message.tool_calls = vec![ToolCall::new("a", name, "{}")];
        }
        request.history.get_mut(4).expect("five").tool_call_id = Some("a".into());
        Plan::new(&request).apply(&mut request);
        assert_eq!(request.history[0].name.as_deref(), Some("new"));
    }

    #[test]
    fn what_the_client_named_keeps_its_name() {
        let mut request = request(&[Role::User, Role::Assistant, Role::Tool], 2);
        request.history.get_mut(1).expect("three").tool_calls =
            vec![ToolCall::new("a", "read", "{}")];
        let result = request.history.get_mut(2).expect("three");
        result.tool_call_id = Some("a".into());
        result.name = Some("mine".into());
        Plan::new(&request).apply(&mut request);
        assert_eq!(request.history[0].name.as_deref(), Some("mine"));
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
            (&[User, Assistant][..], 2, ReplayCause::NothingNew),
            (&[User, Assistant, Assistant, User], 2, ReplayCause::AnswerFirst),
        ] {
            let mut request = request(roles, seen);
            let plan = Plan::new(&request);
            assert_eq!(plan, Plan::Replay(cause));
            plan.apply(&mut request);
            assert_eq!(request.history.fresh.len(), roles.len());
            assert!(request.history.seen.is_empty());
            assert_eq!(request.destination, Destination::NEW);
        }
    }

    #[test]
    fn a_conversation_that_nobody_counted_holds_all_up_to_the_last_answer() {
        use Role::{Assistant, User};
        let history = &[User, Assistant, User, Assistant, User];
        let seen = |mut request: ChatRequest| {
            see_answered(&mut request);
            request.history.seen.len()
        };
        assert_eq!(seen(request(history, 0)), 4);
        // Counted by somebody.
        assert_eq!(seen(request(history, 2)), 2);
        // Only new messages.
        assert_eq!(seen(request(&[User], 0)), 0);
        // A root of the chat holds nothing.
        let mut root = request(history, 0);
        root.destination = Conversation::new("c").into();
        assert_eq!(seen(root), 0);
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
            let mut request = request(&roles, if uncounted { 0 } else { seen });
            if !known {
                request.destination = Destination::NEW;
            }
            let whole = request.clone();
            if uncounted {
                see_answered(&mut request);
            }
            let seen = request.history.seen.len();
            let plan = Plan::new(&request);
            plan.apply(&mut request);

            prop_assert!(request.history.seen.is_empty());
            let left_out = whole.history.len() - request.history.len();
            prop_assert!(whole.history.iter().skip(left_out).eq(request.history.iter()));
            match plan {
                Plan::Fresh => {
                    prop_assert_eq!(left_out, seen);
                    prop_assert!(known && !request.history.is_empty());
                    prop_assert!(request.history[0].role != Role::Assistant);
                }
                Plan::Whole => prop_assert_eq!(left_out, 0),
                Plan::Replay(_) => {
                    prop_assert_eq!(left_out, 0);
                    prop_assert_eq!(&request.destination, &Destination::NEW);
                }
            }
        }
    }
}
