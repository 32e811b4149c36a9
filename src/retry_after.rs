//! For how long a server says to wait.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// The longest wait that is believed: quotas are a month's at most.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// What `retry-after-ms` says, in milliseconds, or else `Retry-After`, in seconds or as a date (RFC
/// 9110, section 10.2.3); `None` where neither can be read. Either number may have a fraction.
///
/// A date is counted from the server's own clock where it gives that in `Date`, and from `now`
/// otherwise; one in the past is no wait. A wait of more than a month is a month.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim_ascii());
    let number = |name: &str| {
        let number: f64 = text(name)?.parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number)
    };
    // Some write it as mail has it (RFC 5322).
    let date = |name: &str| {
        let date = text(name)?;
        let in_gmt = ["+0000", "-0000", "UTC"].iter().find_map(|zone| date.strip_suffix(*zone));
        match in_gmt {
            Some(moment) => httpdate::parse_http_date(&format!("{moment}GMT")).ok(),
            None => httpdate::parse_http_date(date).ok(),
        }
    };
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"));
    let wait = match seconds {
        // What does not fit is too long.
        Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST),
        None => {
            let until = date(header::RETRY_AFTER.as_str())?;
            let now = date(header::DATE.as_str()).unwrap_or(now);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").expect("a date");
        let ms = Duration::from_millis;
        for (fields, wait) in [
            (&[("retry-after", "9")][..], Some(ms(9000))),
            (&[("retry-after", " 9 ")], Some(ms(9000))),
            (&[("retry-after", "1.5")], Some(ms(1500))),
            (&[("retry-after", "0")], Some(ms(0))),
            (&[("retry-after-ms", "1500")], Some(ms(1500))),
            (&[("retry-after-ms", "0.5")], Some(Duration::from_micros(500))),
            (&[("retry-after-ms", "250"), ("retry-after", "9")], Some(ms(250))),
            (&[("retry-after-ms", "soon"), ("retry-after", "9")], Some(ms(9000))),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")], Some(ms(30_000))),
            (&[("retry-after", "Wednesday, 21-Oct-26 07:28:30 GMT")], Some(ms(30_000))),
            (&[("retry-after", "Wed Oct 21 07:28:30 2026")], Some(ms(30_000))),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:30 +0000")], Some(ms(30_000))),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:30 UTC")], Some(ms(30_000))),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:30 +0200")], None),
            (&[("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT")], Some(ms(0))),
            // The server's clock is ten minutes behind.
            (
                &[
                    ("retry-after", "Wed, 21 Oct 2026 07:18:30 GMT"),
                    ("date", "Wed, 21 Oct 2026 07:18:00 GMT"),
                ],
                Some(ms(30_000)),
            ),
            (&[("retry-after", "1e30")], Some(LONGEST)),
            (&[("retry-after", "Wed, 21 Oct 2099 07:28:30 GMT")], Some(LONGEST)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "")], None),
            (&[], None),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| {
                    let name = http::HeaderName::from_static(name);
                    (name, http::HeaderValue::from_static(value))
                })
                .collect();
            assert_eq!(retry_after(&headers, now), wait, "{fields:?}");
        }
    }
}
