//! Answers in the form of OpenAI's images API.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};

use super::making::{Made, Picture};
use crate::{
    chat::Usage,
    json::{number_into, string_into},
};

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    // A clock before 1970 is none.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The whole answer.
pub(super) fn whole(created: u64, made: &[Made]) -> Bytes {
    let size: usize = made.iter().map(|made| made.len() + 64).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    out.put_slice(b"{\"created\":");
    number_into(&mut out, created);
    out.put_slice(b",\"data\":[");
    let pictures = made.iter().flat_map(|made| &made.pictures);
    for (at, picture) in pictures.enumerate() {
        out.put_slice(if at == 0 { b"{" } else { b",{" });
        picture_into(&mut out, picture);
        out.put_u8(b'}');
    }
    out.put_u8(b']');
    usage_into(&mut out, made.iter().filter_map(|made| made.usage));
    out.put_u8(b'}');
    out.freeze()
}

/// Appends the event that brings one picture.
pub(super) fn event_into(
    out: &mut BytesMut,
    name: &str,
    created: u64,
    picture: &Picture,
    usage: Option<Usage>,
) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: {\"type\":\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\",\"created_at\":");
    number_into(out, created);
    out.put_u8(b',');
    picture_into(out, picture);
    usage_into(out, usage.into_iter());
    out.put_slice(b"}\n\n");
}

/// Appends the event that says how far a video is.
pub(super) fn progress_into(out: &mut BytesMut, percent: u8) {
    const NAME: &str = "video_generation.in_progress";
    out.put_slice(b"event: ");
    out.put_slice(NAME.as_bytes());
    out.put_slice(b"\ndata: {\"type\":\"");
    out.put_slice(NAME.as_bytes());
    out.put_slice(b"\",\"progress\":");
    number_into(out, percent.into());
    out.put_slice(b"}\n\n");
}

fn picture_into(out: &mut BytesMut, picture: &Picture) {
    match picture {
        Picture::Url(url) => {
            out.put_slice(b"\"url\":");
            string_into(out, url);
        }
        Picture::Base64(data) => {
            out.put_slice(b"\"b64_json\":");
            string_into(out, data);
        }
    }
}

/// Appends what was counted, if anything was.
fn usage_into(out: &mut BytesMut, counts: impl Iterator<Item = Usage>) {
    let [mut input, mut output, mut total] = [0_u64; 3];
    for usage in counts {
        input = input.saturating_add(usage.prompt_tokens);
        output = output.saturating_add(usage.completion_tokens);
        total = total.saturating_add(usage.total_tokens);
    }
    if total == 0 {
        return;
    }
    out.put_slice(b",\"usage\":{\"input_tokens\":");
    number_into(out, input);
    out.put_slice(b",\"output_tokens\":");
    number_into(out, output);
    out.put_slice(b",\"total_tokens\":");
    number_into(out, total);
    out.put_slice(b",\"input_tokens_details\":{\"text_tokens\":");
    number_into(out, input);
    out.put_slice(b",\"image_tokens\":0}}");
}
