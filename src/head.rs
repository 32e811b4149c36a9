//! What the head of an upstream's response says.

use http::{HeaderMap, HeaderName, StatusCode};

/// Parsed once: the look-up by a string hashes and checks it each time.
static ACTUAL_STATUS: HeaderName = HeaderName::from_static("x-actual-status-code");

/// The status that counts: chat.qwen.ai answers failures with 200 and says in
/// `x-actual-status-code` what they are. Where that is not a status, HTTP's own counts.
pub(crate) fn effective_status(headers: &HeaderMap, status: StatusCode) -> StatusCode {
    headers
        .get(&ACTUAL_STATUS)
        .and_then(|value| StatusCode::from_bytes(value.as_bytes().trim_ascii()).ok())
        .unwrap_or(status)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_actual_status_counts() {
        for (actual, status) in
            [("401", 401), (" 504 ", 504), ("nonsense", 200), ("7", 200), ("", 200)]
        {
            let headers: HeaderMap =
                [(ACTUAL_STATUS.clone(), HeaderValue::from_static(actual))].into_iter().collect();
            assert_eq!(effective_status(&headers, StatusCode::OK), status, "{actual}");
        }
        assert_eq!(effective_status(&HeaderMap::new(), StatusCode::NOT_FOUND), 404);
    }
}
