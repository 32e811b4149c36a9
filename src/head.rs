//! What the head of an upstream's response says besides its status.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header};

/// The longest wait that is believed: there are times that no clock can add.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

// Parsed once: the look-up by a string hashes and checks it each time.
static ACTUAL_STATUS: HeaderName = HeaderName::from_static("x-actual-status-code");
static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The status that counts: chat.qwen.ai answers failures with 200 and says in
/// `x-actual-status-code` what they are. Where that is not a status, HTTP's own counts.
pub(crate) fn effective_status(headers: &HeaderMap, status: StatusCode) -> StatusCode {
    headers
        .get(&ACTUAL_STATUS)
        .and_then(|value| StatusCode::from_bytes(value.as_bytes().trim_ascii()).ok())
        .unwrap_or(status)
}

/// How long the upstream asks to wait: by `retry-after-ms`, which OpenAI's servers send and is the
/// more exact, else by `retry-after`, in seconds with or without a fraction, or as a date in any
/// of the three forms that HTTP has. A date that is over is no wait.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |number: f64| Duration::try_from_secs_f64(number).ok();
    let by_millis = || seconds(text(&RETRY_AFTER_MS)?.parse::<f64>().ok()? / 1000.0);
    let by_seconds = || seconds(text(&header::RETRY_AFTER)?.parse().ok()?);
    let by_date = || {
        let date = http_date(text(&header::RETRY_AFTER)?)?;
        Some(date.duration_since(now).unwrap_or_default())
    };
    by_millis().or_else(by_seconds).or_else(by_date).map(|wait| wait.min(LONGEST_WAIT))
}

/// A date as [HTTP has it](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    const FORMS: [&str; 3] = [
        "%a, %d %b %Y %H:%M:%S GMT",
        // Those of RFC 850 and of C's `asctime`, which nobody should send any more.
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    ];
    let date = FORMS.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn waits_are_read_in_every_form() {
        // Ten seconds before the date in RFC 9110's examples.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        let millis = |millis| Some(Duration::from_millis(millis));
        for (value, wait) in [
            ("9", millis(9000)),
            (" 9 ", millis(9000)),
            ("0", millis(0)),
            ("1.5", millis(1500)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", millis(10_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", millis(10_000)),
            ("Sun Nov  6 08:49:37 1994", millis(10_000)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", millis(0)),
            ("Mon, 01 Jan 1990 00:00:00 GMT", millis(0)),
            ("1e300", None),
            ("-1", None),
            ("NaN", None),
            ("1e400", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 36 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(&headers(&[("retry-after", value)]), now), wait, "{value}");
        }
        let far = headers(&[("retry-after", "1e15")]);
        assert_eq!(retry_after(&far, now), Some(LONGEST_WAIT));
        let far = headers(&[("retry-after", "Thu, 31 Dec 9998 00:00:00 GMT")]);
        assert_eq!(retry_after(&far, now), Some(LONGEST_WAIT));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn milliseconds_are_the_more_exact() {
        let now = SystemTime::UNIX_EPOCH;
        for (exact, wait) in [("1500", 1500), ("0.5", 0), ("-1", 9000), ("soon", 9000)] {
            let headers = headers(&[("retry-after", "9"), ("retry-after-ms", exact)]);
            let found = retry_after(&headers, now).expect("a wait");
            assert_eq!(found.as_millis(), wait, "{exact}");
        }
    }

    #[test]
    fn the_actual_status_counts() {
        for (actual, status) in
            [("401", 401), (" 504 ", 504), ("nonsense", 200), ("7", 200), ("", 200)]
        {
            let headers = headers(&[("x-actual-status-code", actual)]);
            assert_eq!(effective_status(&headers, StatusCode::OK), status, "{actual}");
        }
        assert_eq!(effective_status(&HeaderMap::new(), StatusCode::NOT_FOUND), 404);
    }
}
