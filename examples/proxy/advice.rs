//! What to do about a request that failed, in a sentence for whoever runs the proxy.

/// By the kind of the error, as the settlement names it, or else by the status that the client got.
pub(crate) fn on(kind: Option<&str>, status: Option<u16>) -> &'static str {
    match kind {
        Some("Auth" | "AccountUnavailable") => {
            return "No account was let in: see their states above; sign in again, or renew the token.";
        }
        Some("Challenge") => {
            return "The upstream asks whether a person is there: open its page in a browser on this \
                    network, and wait.";
        }
        Some("Quota" | "ModelQuota") => {
            return "A quota is used up: wait for the next period, add an account, or name a stand-in \
                    with --fallback.";
        }
        Some("RateLimited") => {
            return "The upstream wants fewer requests: add accounts, or limit clients with a keys file.";
        }
        Some("Overloaded") => {
            return "The upstream has no room now: retries are under way by themselves; a stand-in \
                    (--fallback) answers meanwhile.";
        }
        Some("Timeout") => {
            return "The upstream was silent for too long: see whether it is loading a model; the limits \
                    are --first-event-timeout and --idle-timeout.";
        }
        Some("ContextLength") => {
            return "The prompt is longer than the model takes: the client should compact its history, or \
                    ask a model with a longer context.";
        }
        Some("ContentFilter") => return "The upstream's filter refused the prompt or the answer.",
        Some("ModelNotFound") => {
            return "No upstream has a model of that name: GET /v1/models lists them; an [[alias]] of \
                    the configuration gives one another name.";
        }
        Some("Truncated") => {
            return "The upstream broke off in the middle: see its log; --resume goes on with plain text.";
        }
        Some("Upstream") => {
            return "The upstream failed or could not be reached: see whether it runs, and the proxy's log.";
        }
        _ => {}
    }
    match status {
        Some(401) => "No key of the proxy was presented, or an unknown one.",
        Some(402 | 429) => "A limit is reached: `GET /v1/usage` tells whose.",
        Some(403) => "It is not for this client: see the message that it got.",
        Some(404 | 405) => {
            "Nothing is served there: the client's base URL may lack or double `/v1`."
        }
        Some(408) => "The client sent its request too slowly.",
        Some(413) => "The request is larger than 32 MiB.",
        Some(415) => "The request's media type or coding is not one that is read.",
        Some(400..=499) => {
            "The request is not one that is understood: the client was told which field."
        }
        Some(503) => "The proxy has no place for it, or is about to end.",
        _ => "See the proxy's log, which has the request's id.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_word() {
        for status in (400..600).map(Some).chain([None]) {
            assert!(on(None, status).ends_with('.'), "{status:?}");
        }
        assert_ne!(on(Some("Timeout"), Some(504)), on(None, Some(504)));
    }
}
