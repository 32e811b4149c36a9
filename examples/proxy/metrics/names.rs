//! What is counted, in words: the help texts of `/metrics`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Counters, which end in `_total`.
pub(super) const COUNTERS: [(&str, &str); 68] = [
    ("tower_qwen_answers_total", "Answers of the edges, by outcome."),
    ("tower_qwen_auth_challenges_total", "Challenges of an anti-bot layer that were reported."),
    ("tower_qwen_auth_refresh_total", "Refreshes of credentials, by result."),
    ("tower_qwen_auth_requests_total", "Requests that were sent as an account."),
    ("tower_qwen_auth_retry_total", "Requests that were sent once more with another credential."),
    (
        "tower_qwen_bodies_refused_total",
        "Requests refused since the bodies in work took all memory.",
    ),
    ("tower_qwen_bodies_waited_total", "Requests that waited for memory for their bodies."),
    ("tower_qwen_client_errors_total", "Calls of an upstream that failed, by kind."),
    ("tower_qwen_compatible_repairs_total", "Repairs of what compatible upstreams sent."),
    ("tower_qwen_dedup_messages_total", "Messages that were left out, as the chat had them."),
    ("tower_qwen_dedup_replays_total", "Histories sent whole into a new chat, by cause."),
    ("tower_qwen_dedup_tokens_saved_total", "Tokens that sessions saved, estimated."),
    ("tower_qwen_early_responses_total", "Responses begun by a keep-alive before the answer."),
    ("tower_qwen_embedding_batches_total", "Further calls for lists of texts to embed."),
    ("tower_qwen_fallback_circuit_total", "Upstreams left alone (open) or back (closed)."),
    ("tower_qwen_fallback_total", "Requests that another upstream was asked for."),
    ("tower_qwen_fetch_bytes_total", "Bytes of what URLs in messages named."),
    ("tower_qwen_fetches_total", "URLs in messages, by whether they were fetched."),
    ("tower_qwen_format_answers_total", "Answers in JSON, by what was done to them."),
    ("tower_qwen_join_joined_total", "Repeated requests that got the answer being made."),
    ("tower_qwen_join_lingered_total", "Answers that went on without a client, by outcome."),
    ("tower_qwen_large_requests_total", "Large requests worked on beside the others."),
    ("tower_qwen_models_hits_total", "Lists of models that were at hand."),
    ("tower_qwen_models_refreshes_total", "Lists of models asked for, by result."),
    ("tower_qwen_models_stale_total", "Lists of models served though they were old."),
    ("tower_qwen_models_unavailable_total", "Lists of models that could not be had."),
    ("tower_qwen_proxy_key_requests_total", "Requests of a key, by outcome."),
    ("tower_qwen_proxy_key_tokens_total", "Tokens of a key, by kind."),
    ("tower_qwen_proxy_limited_total", "Requests refused by a limit of the proxy's own."),
    ("tower_qwen_proxy_log_lines_dropped_total", "Lines of the log that were dropped."),
    ("tower_qwen_proxy_passed_total", "Requests passed byte by byte, by outcome."),
    ("tower_qwen_proxy_requests_total", "Requests that were settled, by model and outcome."),
    ("tower_qwen_proxy_tokens_total", "Tokens of settled requests, by model and kind."),
    ("tower_qwen_proxy_usage_writes_total", "Times that what keys use was written, by outcome."),
    ("tower_qwen_proxy_write_timeouts_total", "Clients let go that took nothing of an answer."),
    ("tower_qwen_responses_errors_total", "Errors of a Responses upstream, by kind."),
    ("tower_qwen_responses_repairs_total", "Repairs of what a Responses upstream sent."),
    ("tower_qwen_responses_turns_total", "Turns of a Responses upstream, by chat."),
    ("tower_qwen_resume_refused_total", "Answers that broke off and were not gone on with."),
    ("tower_qwen_resume_tries_total", "Tries to go on with answers that broke off."),
    ("tower_qwen_retries_total", "Requests that were sent again, by cause and result."),
    ("tower_qwen_session_foreign_chats_total", "Chats named by clients that were not given them."),
    ("tower_qwen_session_lookups_total", "Histories looked up among the sessions, by result."),
    ("tower_qwen_session_replays_total", "Conversations begun anew, by cause."),
    ("tower_qwen_session_store_errors_total", "Failures of the store of sessions."),
    (
        "tower_qwen_session_tools_changed_total",
        "Turns that brought other tools than the chat knew.",
    ),
    ("tower_qwen_shutdown_cut_total", "Answers ended by the shutdown."),
    ("tower_qwen_slow_bodies_total", "Requests whose bodies came too slowly."),
    ("tower_qwen_sse_errors_total", "Event streams that broke off, by kind."),
    ("tower_qwen_sse_keep_alives_total", "Comments sent to keep streams alive."),
    ("tower_qwen_sse_stalls_total", "Event streams given up for their silence."),
    ("tower_qwen_sse_streams_total", "Event streams that were made well formed."),
    ("tower_qwen_timeouts_total", "Answers given up, by limit."),
    ("tower_qwen_tool_calls_total", "Calls of tools, by the form they were found in."),
    ("tower_qwen_tool_repairs_total", "Repairs of calls, by repair."),
    ("tower_qwen_tool_text_released_total", "Texts held back for a call that was none."),
    ("tower_qwen_tool_wrap_total", "Answers in XML, by what was made of them."),
    ("tower_qwen_upload_bytes_total", "Bytes of files that were uploaded, by kind."),
    ("tower_qwen_uploads_total", "Files of messages, by kind and whether they were uploaded."),
    ("tower_qwen_usage_settled_total", "Requests that were settled, by outcome."),
    ("tower_qwen_usage_tokens_total", "Tokens of settled requests, by who counted."),
    ("tower_qwen_variant_requests_total", "Requests for virtual models, by what they ask for."),
    ("tower_qwen_web_errors_total", "Errors of chat.qwen.ai, by kind."),
    ("tower_qwen_web_orphans_total", "Chats nobody learnt of, by whether they were deleted."),
    ("tower_qwen_web_repairs_total", "Repairs of what chat.qwen.ai sent."),
    ("tower_qwen_web_stops_total", "Answers that chat.qwen.ai was told to stop."),
    ("tower_qwen_tasks_total", "Images and videos made by tasks, by upstream and outcome."),
    ("tower_qwen_web_turns_total", "Turns of chat.qwen.ai."),
];

/// Gauges.
pub(super) const GAUGES: [(&str, &str); 3] = [
    ("tower_qwen_auth_account_state", "1 for the state that an account is in."),
    ("tower_qwen_proxy_open_streams", "Answers under way to clients."),
    ("tower_qwen_proxy_queued", "Requests that wait for a place."),
];

/// Histograms, of seconds where they end in `_seconds`.
pub(super) const HISTOGRAMS: [(&str, &str); 12] = [
    ("gen_ai_client_operation_duration_seconds", "GenAI operation duration."),
    (
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "Time to the first chunk of an answer.",
    ),
    ("gen_ai_client_token_usage", "Number of input and output tokens used."),
    ("gen_ai_server_request_duration_seconds", "GenAI server request duration."),
    ("gen_ai_server_time_to_first_token_seconds", "Time to generate the first token."),
    ("tower_qwen_client_first_byte_seconds", "From a call of an upstream to its response's head."),
    ("tower_qwen_proxy_answer_seconds", "From a request below the edge to the end of its answer."),
    ("tower_qwen_proxy_first_event_seconds", "From a request below the edge to its first event."),
    (
        "tower_qwen_proxy_longest_gap_seconds",
        "The longest wait within an answer, behind its beginning.",
    ),
    (
        "tower_qwen_proxy_overhead_seconds",
        "From a request's arrival to the first call of an upstream.",
    ),
    ("tower_qwen_proxy_request_seconds", "From a request's arrival to the end of its response."),
    ("tower_qwen_upload_seconds", "From a file's upload to the time that a turn can show it."),
];

/// Tells the recorder.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, Unit::Count, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, Unit::Count, help);
    }
    for (name, help) in HISTOGRAMS {
        let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        describe_histogram!(name, unit, help);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the package") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// The names between quotes in the code that begin as ours do.
    fn names() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        sources(&root.join("src"), &mut found);
        sources(&root.join("examples/proxy"), &mut found);
        let mut names = BTreeSet::new();
        for path in found.iter().filter(|path| !path.ends_with("metrics/names.rs")) {
            let code = fs::read_to_string(path).expect("a source");
            for quoted in code.split('"') {
                let is_name =
                    |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let is_ours = |name: &str| {
                    let begins = name.starts_with("tower_qwen_") || name.starts_with("gen_ai_");
                    let ends =
                        ["_total", "_seconds", "_state", "_streams", "_queued", "_token_usage"];
                    begins && ends.iter().any(|end| name.ends_with(end))
                };
                if is_name(quoted) && is_ours(quoted) {
                    names.insert(quoted.to_owned());
                }
            }
        }
        names
    }

    /// A metric without a help text, or one that nobody counts any more, is a slip.
    #[test]
    fn every_metric_has_a_help_text_and_is_counted() {
        let all = COUNTERS.iter().chain(&GAUGES).chain(&HISTOGRAMS);
        let described: BTreeSet<_> = all.map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(described, names());
        assert!(COUNTERS.iter().all(|(name, _)| name.ends_with("_total")));
        assert!(GAUGES.iter().chain(&HISTOGRAMS).all(|(name, _)| !name.ends_with("_total")));
        assert_eq!(described.len(), COUNTERS.len() + GAUGES.len() + HISTOGRAMS.len());
        let guide = include_str!("../../../docs/operating.md");
        for name in &described {
            assert!(guide.contains(name.as_str()), "docs/operating.md does not say {name}");
        }
    }
}
