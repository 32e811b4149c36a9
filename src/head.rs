//! What the head of an upstream's response says.

use http::{HeaderMap, HeaderName, StatusCode, header};

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

/// Whether a response sends its reader to a page where people sign in: whoever asked is not known.
pub(crate) fn is_sent_to_sign_in(status: StatusCode, headers: &HeaderMap) -> bool {
    let target = headers.get(header::LOCATION).and_then(|target| target.to_str().ok());
    status.is_redirection() && target.is_some_and(is_sign_in)
}

/// Whether an address is that of a page where people sign in.
pub(crate) fn is_sign_in(target: &str) -> bool {
    const PAGES: [&str; 12] = [
        "auth",
        "login",
        "signin",
        "sign-in",
        "sign_in",
        "sso",
        "passport",
        "oauth",
        "oauth2",
        "authorize",
        "signup",
        "account",
    ];
    let target = target.to_ascii_lowercase();
    let place = target.split(['?', '#']).next().unwrap_or_default();
    place.split(['/', '.', ':']).any(|part| PAGES.contains(&part))
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

    #[test]
    fn pages_to_sign_in_are_known() {
        for target in [
            "/auth",
            "/login?next=%2Fapi",
            "https://chat.qwen.ai/auth?action=signin",
            "https://login.example.com/",
            "https://passport.example.com/x",
            "/user/Sign-In",
            "/oauth2/start?rd=%2Fv1",
        ] {
            assert!(is_sign_in(target), "{target}");
        }
        for target in ["/", "/api/v2/chats/new", "https://chat.qwen.ai/authors", "/x?auth=1", ""] {
            assert!(!is_sign_in(target), "{target}");
        }
    }
}
