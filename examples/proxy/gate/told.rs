//! How near its limits a key is, in the headers of each answer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

/// One limit of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Of what: `requests`, `tokens`, `budget`.
    pub(super) what: &'static str,
    pub(super) limit: u64,
    pub(super) left: u64,
    /// How long it takes until all of it is there again.
    pub(super) reset: Duration,
}

impl Told {
    /// Adds it as OpenAI's clients read it, or as those of the Messages API do.
    pub(super) fn into(self, headers: &mut HeaderMap, is_messages: bool, now: Timestamp) {
        let Self { what, limit, left, reset } = self;
        let mut insert = |name: String, value: String| {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        };
        if is_messages {
            let name = |field: &str| format!("anthropic-ratelimit-{what}-{field}");
            let at = now.checked_add(reset).unwrap_or(Timestamp::MAX);
            let at = at.round(jiff::Unit::Second).unwrap_or(at);
            insert(name("limit"), limit.to_string());
            insert(name("remaining"), left.to_string());
            insert(name("reset"), at.to_string());
        } else {
            let name = |field: &str| format!("x-ratelimit-{field}-{what}");
            insert(name("limit"), limit.to_string());
            insert(name("remaining"), left.to_string());
            insert(name("reset"), span(reset));
        }
    }
}

/// As OpenAI writes times: `6m0s`, `1.5s`, `20ms`.
fn span(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, 0) => format!("{millis}ms"),
        (0, 0, _) if millis > 0 => format!("{rest}.{millis:03}s"),
        (0, 0, _) => format!("{rest}s"),
        (0, ..) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_clients_know_them() {
        for (millis, text) in [
            (0, "0ms"),
            (20, "20ms"),
            (1_000, "1s"),
            (1_500, "1.500s"),
            (360_000, "6m0s"),
            (86_399_000, "23h59m59s"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn each_protocol_has_its_names() {
        let told = Told { what: "tokens", limit: 100, left: 7, reset: Duration::from_secs(90) };
        let now = "2026-11-30T23:59:00Z".parse().expect("a time");
        let headers = |is_messages| {
            let mut headers = HeaderMap::new();
            told.into(&mut headers, is_messages, now);
            let all = headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")));
            all.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            headers(false),
            "x-ratelimit-limit-tokens: 100, x-ratelimit-remaining-tokens: 7, \
             x-ratelimit-reset-tokens: 1m30s"
        );
        assert_eq!(
            headers(true),
            "anthropic-ratelimit-tokens-limit: 100, anthropic-ratelimit-tokens-remaining: 7, \
             anthropic-ratelimit-tokens-reset: 2026-12-01T00:00:30Z"
        );
    }
}
