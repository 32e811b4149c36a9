//! Why an answer ended, in the words of servers.

use crate::{ErrorKind, chat::FinishReason};

/// What the word in the place of a finish reason says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The answer goes on: `""`, `"null"` and `0` occur.
    GoesOn,
    Finished(FinishReason),
    /// The server itself says that it failed or was stopped.
    Failed(ErrorKind),
}

/// Reads the word, whatever its case and whatever stands between its parts.
///
/// Only what is known to mean success is told as such. A word that nobody knows means that the
/// answer may not be whole, which is what a client makes of [`FinishReason::Length`].
pub(crate) fn ending(word: &str) -> Ending {
    // No known word is longer.
    let mut plain = String::with_capacity(word.len().min(64));
    plain.extend(word.trim_ascii().chars().take(64).map(|c| match c {
        '-' | ' ' | '.' => '_',
        c => c.to_ascii_lowercase(),
    }));
    Ending::Finished(match &*plain {
        "" | "null" | "none" | "0" => return Ending::GoesOn,
        "stop" | "stop_sequence" | "stop_token" | "eos" | "eos_token" | "eot" | "end_turn"
        | "end_of_turn" | "end_of_sequence" | "end" | "complete" | "completed" | "finished"
        | "done" | "success" => FinishReason::Stop,
        "tool_calls" | "tool_call" | "tool_use" | "tools" | "function_call" | "function_calls" => {
            FinishReason::ToolCalls
        }
        "content_filter"
        | "content_filtered"
        | "contentfilter"
        | "safety"
        | "recitation"
        | "refusal"
        | "refused"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "sensitive"
        | "moderation"
        | "guardrail_intervened"
        | "data_inspection_failed"
        | "datainspectionfailed"
        | "error_toxic"
        | "image_safety" => FinishReason::ContentFilter,
        "error"
        | "engine_error"
        | "internal_error"
        | "server_error"
        | "network_error"
        | "fail"
        | "failed"
        | "failure"
        | "abort"
        | "aborted"
        | "cancel"
        | "cancelled"
        | "canceled"
        | "interrupted"
        | "killed"
        | "malformed_function_call" => {
            return Ending::Failed(ErrorKind::Upstream);
        }
        "insufficient_system_resource"
        | "load"
        | "out_of_memory"
        | "oom"
        | "overloaded"
        | "preempted" => {
            return Ending::Failed(ErrorKind::Overloaded);
        }
        "timeout" | "timed_out" | "time_limit" => return Ending::Failed(ErrorKind::Timeout),
        // `max_tokens` and all that vendors call it, and every word that nobody knows.
        _ => FinishReason::Length,
    })
}

/// Whether the word is one of OpenAI's own.
pub(crate) fn is_usual(word: &str) -> bool {
    matches!(word, "stop" | "length" | "tool_calls" | "content_filter" | "function_call")
}
