//! Responses that are no event stream: the JSON around what was asked for, and what stands in its place.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::{
    error::{Call, Failure, has_challenge_mark},
    wire::Event,
};
use crate::{
    Error, ErrorKind,
    head::{effective_status, is_sent_to_sign_in},
    json::lenient::tree,
    qwen::{redact::Secrets, transport::Read},
    retry_after::retry_after,
};

/// How much memory an envelope may take while it is read, in bytes. The largest holds a catalogue.
const ENVELOPE: usize = 32 * 1024 * 1024;

/// The JSON object that a response which is no event stream holds, if it is a good one.
///
/// # Errors
///
/// What the envelope, the page or the status says.
pub(in crate::qwen) fn envelope(
    call: Call,
    status: StatusCode,
    headers: &HeaderMap,
    body: &Read,
    secrets: &Secrets,
) -> Result<Map<String, Value>, Error> {
    let status = effective_status(headers, status);
    let retry_after = retry_after(headers, SystemTime::now());
    let refuse =
        |failure: Failure| Err(failure.into_error(call, Some(status), retry_after, secrets));
    if status.is_redirection() {
        let target = headers.get(header::LOCATION).map_or(&[][..], |target| target.as_bytes());
        if has_challenge_mark(target) {
            return refuse(Failure::challenge());
        }
        if is_sent_to_sign_in(status, headers) {
            return refuse(Failure::signed_out());
        }
    }
    let json = str::from_utf8(&body.bytes).ok().and_then(|json| tree(json, ENVELOPE));
    match json {
        Some(Value::Object(envelope)) => {
            let refused = envelope.get("success") == Some(&Value::Bool(false))
                || !status.is_success()
                || envelope.get("error").is_some_and(|error| !error.is_null())
                || !envelope.contains_key("success")
                    && !envelope.contains_key("choices")
                    && envelope.contains_key("code");
            if envelope.contains_key("ret") && has_challenge_mark(&body.bytes) {
                return refuse(Failure::challenge());
            }
            if refused { refuse(Failure::from_envelope(&envelope)) } else { Ok(envelope) }
        }
        Some(other) => refuse(other.as_str().map_or_else(Failure::default, Failure::from_text)),
        None if has_challenge_mark(&body.bytes) => refuse(Failure::challenge()),
        None => {
            let text = String::from_utf8_lossy(&body.bytes);
            let text = text.trim_ascii();
            if let Some(failure) = failure_of_events(text) {
                return refuse(failure);
            }
            // A page says nothing that a client could use.
            if !text.is_empty() && !text.starts_with('<') && !status.is_success() {
                return refuse(Failure::from_text(text));
            }
            if !status.is_success() {
                return refuse(Failure::default());
            }
            let what = if body.complete {
                "the upstream answered with neither an event stream nor JSON"
            } else {
                "the upstream's answer broke off or did not end"
            };
            Err(Error::new(ErrorKind::Upstream, what))
        }
    }
}

/// The failure in the first events of a body whose status already said that it failed.
fn failure_of_events(text: &str) -> Option<Failure> {
    text.lines().filter_map(|line| line.strip_prefix("data:")).find_map(|data| {
        match Event::parse(&data.trim_ascii().into()) {
            Ok(Event::Failed { failure, .. }) => Some(failure),
            _ => None,
        }
    })
}
