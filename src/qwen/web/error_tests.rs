use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::qwen::{transport::Read, web::envelope::envelope};

const TURN: Call = Call::Turn { continued: true };
const FIRST: Call = Call::Turn { continued: false };

fn read(body: &'static str) -> Read {
    Read { bytes: Bytes::from_static(body.as_bytes()), complete: true }
}

fn refused_by(call: Call, status: u16, headers: &[(&'static str, &str)], body: Read) -> Error {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    envelope(call, StatusCode::from_u16(status).unwrap(), &map, &body, &Secrets::default())
        .expect_err("a refusal")
}

/// An error by its envelope, as it comes with status 200.
fn enveloped(code: &str, details: &str) -> Error {
    let body = serde_json::json!({
        "success": false,
        "request_id": "11111111-2222-4333-8444-555555555555",
        "data": {"code": code, "details": details},
    });
    let read = Read { bytes: body.to_string().into(), complete: true };
    refused_by(TURN, 200, &[], read)
}

/// An error by its event (shape 2).
fn in_stream(code: &str, details: &str) -> Error {
    let error = serde_json::json!({"code": code, "details": details}).to_string();
    Failure::from_value(&error).into_error(TURN, None, None, &Secrets::default())
}

/// What was seen: code, details, kind, the client's status, seconds to wait.
const TABLE: [(&str, &str, ErrorKind, u16, Option<u64>); 32] = [
    // A word of this crate's own: from an upstream it means nothing.
    ("account_unavailable", "", ErrorKind::Upstream, 502, None),
    (
        "RateLimited",
        "You've reached the upper limit for today's usage.",
        ErrorKind::Quota,
        429,
        None,
    ),
    ("RateLimited", "The chat is in progress", ErrorKind::ConversationBusy, 503, Some(3)),
    ("Bad_Request", "The chat is in progress!", ErrorKind::ConversationBusy, 503, Some(3)),
    ("ParallelLimited", "", ErrorKind::RateLimited, 429, Some(5)),
    ("Too_Many_Requests", "", ErrorKind::RateLimited, 429, Some(5)),
    ("quotaLimited", "", ErrorKind::Quota, 429, None),
    ("ExceedLimit", "", ErrorKind::Quota, 429, None),
    ("quota_exhausted", "", ErrorKind::Quota, 429, None),
    ("quota_limit", "The model is in high demand", ErrorKind::Overloaded, 503, None),
    ("Unauthorized", "未授权", ErrorKind::Auth, 401, None),
    ("", "401 Unauthorized", ErrorKind::Auth, 401, None),
    ("", "Invalid token", ErrorKind::Auth, 401, None),
    ("Forbidden", "", ErrorKind::Permission, 403, None),
    ("Not_Found", "Model not found", ErrorKind::ModelNotFound, 404, None),
    ("Not_Found", "Chat not found", ErrorKind::ConversationLost, 404, None),
    ("CHAT_NOT_FOUND", "", ErrorKind::ConversationLost, 404, None),
    (
        "Bad_Request",
        "Invalid input the chat c-1 is not exist.",
        ErrorKind::ConversationLost,
        404,
        None,
    ),
    ("PARENT_NOT_FOUND", "", ErrorKind::ConversationLost, 400, None),
    (
        "Bad_Request",
        "Invalid input chat parent_id r-1 is not exist.",
        ErrorKind::ConversationLost,
        400,
        None,
    ),
    (
        "Bad_Request",
        "The first message must not be assistant",
        ErrorKind::ConversationLost,
        400,
        None,
    ),
    ("Bad_Request", "Invalid input too many messages.", ErrorKind::Internal, 502, None),
    (
        "RequestValidationError",
        "[\"Field 'chat_id': Field required\"]",
        ErrorKind::Internal,
        502,
        None,
    ),
    ("Bad_Request", "internal error", ErrorKind::Upstream, 502, None),
    ("Internal_Server_Error", "", ErrorKind::Upstream, 502, None),
    ("internal_error", "", ErrorKind::Upstream, 502, None),
    ("Bad_Request", "Something wrong with request!", ErrorKind::Internal, 502, None),
    (
        "invalid_input",
        "The input or attachment is not valid.",
        ErrorKind::InvalidRequest,
        400,
        None,
    ),
    ("data_inspection_failed", "", ErrorKind::ContentFilter, 400, None),
    (
        "InternalError.Algo.InvalidParameter",
        "Range of input length should be [1, 129024]",
        ErrorKind::ContextLength,
        400,
        None,
    ),
    (
        "Throttling.AllocationQuota",
        "Allocated quota exceeded, see docs#token-limit",
        ErrorKind::RateLimited,
        429,
        Some(60),
    ),
    ("", "Internal error!", ErrorKind::Upstream, 502, None),
];

#[test]
fn every_row_of_the_table_has_its_kind_in_either_shape() {
    for (code, details, kind, status, wait) in TABLE {
        for error in [enveloped(code, details), in_stream(code, details)] {
            assert_eq!(error.kind(), kind, "{code} {details}");
            assert_eq!(error.status().as_u16(), status, "{code} {details}");
            assert_eq!(error.retry_after(), wait.map(Duration::from_secs), "{code} {details}");
            assert!(error.message().contains(details), "{error}");
        }
    }
}

#[test]
fn codes_and_words_are_matched_in_any_case() {
    for (code, details, kind, ..) in TABLE {
        assert_eq!(enveloped(&code.to_uppercase(), details).kind(), kind, "{code} {details}");
        assert_eq!(enveloped(code, &details.to_uppercase()).kind(), kind, "{code} {details}");
    }
}

#[test]
fn a_code_outweighs_words() {
    assert!(enveloped("Unauthorized", "internal error").is_auth());
    assert!(enveloped("quota_exhausted", "the chat is not exist").is_quota());
}

#[test]
fn the_hours_of_a_quota_are_a_wait() {
    for (num, hours) in [("5", 5), ("\"7\"", 7), ("1.5", 2), ("1e300", 24 * 31)] {
        let body = format!(
            "{{\"success\":false,\"data\":{{\"code\":\"RateLimited\",\"details\":\"x\",\
              \"template\":\"wait {{{{num}}}} hours\",\"num\":{num}}}}}"
        );
        let read = Read { bytes: body.into(), complete: true };
        let error = refused_by(TURN, 200, &[], read);
        assert!(error.is_quota());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(hours * 3600)), "{num}");
    }
}

#[test]
fn what_was_asked_decides_about_localised_words() {
    let not_found =
        || Failure { code: "Not_Found".into(), text: "未找到".into(), ..Failure::default() };
    let kind = |call| not_found().into_error(call, None, None, &Secrets::default()).kind();
    assert_eq!(kind(TURN), ErrorKind::ConversationLost);
    assert_eq!(kind(FIRST), ErrorKind::ModelNotFound);
    assert_eq!(kind(Call::Models), ErrorKind::NotFound);
}

#[test]
fn a_refusal_is_read_at_the_top_as_well() {
    for body in [
        r#"{"success":false,"code":"Unauthorized","details":"x"}"#,
        r#"{"code":"Unauthorized","detail":"x"}"#,
        r#"{"success":false,"data":{},"code":"Unauthorized"}"#,
        r#"{"error":{"code":"Unauthorized","message":"x"}}"#,
        r#""401 Unauthorized""#,
    ] {
        assert!(refused_by(TURN, 200, &[], read(body)).is_auth(), "{body}");
    }
}

#[test]
fn the_effective_status_outweighs_http() {
    let error = refused_by(TURN, 200, &[("x-actual-status-code", "401")], read("{}"));
    assert!(error.is_auth());
    let error =
        refused_by(TURN, 200, &[("x-actual-status-code", "429"), ("retry-after", "9")], read(""));
    assert!(error.is_rate_limited());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    // What does not parse does not count.
    let ok =
        HeaderMap::from_iter([("x-actual-status-code".parse().unwrap(), "ok".parse().unwrap())]);
    assert!(
        envelope(TURN, StatusCode::OK, &ok, &read(r#"{"success":true}"#), &Secrets::default())
            .is_ok()
    );
}

#[test]
fn a_bare_status_has_its_kind() {
    for (status, kind) in [
        (302, ErrorKind::Upstream),
        (400, ErrorKind::Internal),
        (401, ErrorKind::Auth),
        (403, ErrorKind::Permission),
        (404, ErrorKind::ConversationLost),
        (405, ErrorKind::Challenge),
        (413, ErrorKind::TooLarge),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Upstream),
        (502, ErrorKind::Upstream),
        (503, ErrorKind::Overloaded),
        (504, ErrorKind::Timeout),
    ] {
        for body in ["", "<html><body>nginx</body></html>", "{}"] {
            assert_eq!(refused_by(TURN, status, &[], read(body)).kind(), kind, "{status} {body}");
        }
    }
    assert!(refused_by(TURN, 504, &[], read("stream timeout")).is_timeout());
    assert!(refused_by(TURN, 500, &[], read("stream timeout")).is_timeout());
}

#[test]
fn an_error_event_in_a_refused_body_is_read() {
    let body = "data: {\"error\":{\"code\":\"quota_exhausted\",\"details\":\"x\"}}\n\n";
    assert!(refused_by(TURN, 500, &[], read(body)).is_quota());
}

#[test]
fn every_form_of_the_anti_bot_layer_is_recognised() {
    for body in [
        // Form 1.
        "<!doctypehtml><html lang=zh><head></head></html>",
        "<html><head><meta name=\"aliyun_waf_aa\" content=\"0\"></head></html>",
        "<html><script src=\"//g.example/AWSC/awsc.js\"></script></html>",
        "<html><div id=\"nocaptcha\"></div></html>",
        "<html>baxia</html>",
        // Form 2.
        "<html><script>location=\"/x/_____tmd_____/punish?x5secdata=DEMO\"</script></html>",
        // Form 3.
        r#"{"ret":["FAIL_SYS_USER_VALIDATE","RGV587_ERROR::SM::busy, try again later"],
            "data":{"url":"https://chat.qwen.ai:443//api/v2/_____tmd_____/punish?x5secdata=DEMO",
            "dialogSize":{"width":"300px","height":"500px"}}}"#,
    ] {
        for status in [200, 403, 405] {
            let error = refused_by(TURN, status, &[], read(body));
            assert!(error.is_challenge() && !error.is_retryable(), "{body}");
            assert!(!error.to_string().contains("DEMO"));
        }
    }
}

#[test]
fn an_answer_that_speaks_of_captchas_is_no_challenge() {
    let body = r#"{"success":true,"data":{"choices":[{"message":{"content":"a captcha"}}]}}"#;
    assert!(
        envelope(TURN, StatusCode::OK, &HeaderMap::new(), &read(body), &Secrets::default()).is_ok()
    );
    let error = enveloped("invalid_input", "the captcha is not valid");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}

#[test]
fn a_page_that_is_no_challenge_is_an_upstream_error() {
    let error = refused_by(TURN, 200, &[], read("<html>Welcome</html>"));
    assert_eq!(error.kind(), ErrorKind::Upstream);
}

#[test]
fn upstreams_words_are_redacted_and_bounded() {
    let error = enveloped("Bad_Request", "token eyJhbGciOiJIUzI1NiJ9.eyJpZCI6MX0.c2ln is bad");
    assert!(!error.to_string().contains("eyJ"), "{error}");
    let error = enveloped("Bad_Request", &"long ".repeat(10_000));
    assert!(error.to_string().len() < 600);
}
