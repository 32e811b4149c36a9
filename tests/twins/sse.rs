//! A twin of `sse::Decoder` that is too simple to be wrong: the oracle of its tests and fuzzers.

use std::time::Duration;

use tower_qwen::sse::Event;

/// The standard as slow and simple as it can be said: decode all, cut lines, look at each.
pub(crate) fn naive(input: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let Some((complete, _cut)) = text.rsplit_once('\n') else { return Vec::new() };
    let (mut events, mut data, mut kind, mut retry) = (Vec::new(), String::new(), "", None);
    let mut id: Option<&str> = None;
    for line in complete.split('\n') {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                let mut event = Event::new(data);
                event.event = Some(kind.into()).filter(|_| !kind.is_empty());
                event.id = id.map(Into::into);
                event.retry = retry;
                events.push(event);
            }
            (data, kind, retry) = (String::new(), "", None);
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => data = data + value + "\n",
            "event" => kind = value,
            "id" if !value.contains('\0') => id = Some(value),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                retry = Some(Duration::from_millis(value.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    events
}
