//! Videos in the form of OpenAI's API.

use bytes::{BufMut, Bytes, BytesMut};

use super::jobs::{Job, Status};
use crate::json::{number_into, string_into};

/// One video.
pub(super) fn video(job: &Job) -> Bytes {
    let mut out = BytesMut::with_capacity(512 + job.prompt.len());
    video_into(&mut out, job);
    out.freeze()
}

/// A list of videos; whether there are `more` behind them.
pub(super) fn list<'a>(jobs: impl Iterator<Item = &'a Job> + Clone, more: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(1_024);
    out.put_slice(b"{\"object\":\"list\",\"data\":[");
    for (at, job) in jobs.clone().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        video_into(&mut out, job);
    }
    out.put_slice(b"],\"first_id\":");
    id_into(&mut out, jobs.clone().next());
    out.put_slice(b",\"last_id\":");
    id_into(&mut out, jobs.last());
    out.put_slice(if more { b",\"has_more\":true}" } else { b",\"has_more\":false}" });
    out.freeze()
}

/// That one is forgotten.
pub(super) fn deleted(id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(96 + id.len());
    out.put_slice(b"{\"id\":");
    string_into(&mut out, id);
    out.put_slice(b",\"object\":\"video.deleted\",\"deleted\":true}");
    out.freeze()
}

fn id_into(out: &mut BytesMut, job: Option<&Job>) {
    match job {
        Some(job) => string_into(out, &job.id),
        None => out.put_slice(b"null"),
    }
}

fn video_into(out: &mut BytesMut, job: &Job) {
    let status = job.status();
    let (word, progress) = match &status {
        Status::Queued => ("queued", 0),
        Status::Running(percent) => ("in_progress", *percent),
        Status::Done { .. } => ("completed", 100),
        Status::Failed { .. } => ("failed", 0),
    };
    out.put_slice(b"{\"id\":");
    string_into(out, &job.id);
    out.put_slice(b",\"object\":\"video\",\"model\":");
    string_into(out, &job.model);
    out.put_slice(b",\"status\":");
    string_into(out, word);
    out.put_slice(b",\"progress\":");
    number_into(out, progress.into());
    out.put_slice(b",\"created_at\":");
    number_into(out, job.created);
    out.put_slice(b",\"completed_at\":");
    match &status {
        Status::Done { at, .. } => number_into(out, *at),
        _ => out.put_slice(b"null"),
    }
    out.put_slice(b",\"expires_at\":null,\"prompt\":");
    string_into(out, &job.prompt);
    out.put_slice(b",\"size\":");
    match job.size {
        Some(size) => string_into(out, &size.to_string()),
        None => out.put_slice(b"null"),
    }
    out.put_slice(b",\"seconds\":");
    match job.seconds {
        // A string, as OpenAI has it.
        Some(seconds) => string_into(out, &seconds.to_string()),
        None => out.put_slice(b"null"),
    }
    out.put_slice(b",\"remixed_from_video_id\":null,\"error\":");
    match &status {
        Status::Failed { code, message, .. } => {
            out.put_slice(b"{\"code\":");
            string_into(out, code);
            out.put_slice(b",\"message\":");
            string_into(out, message);
            out.put_u8(b'}');
        }
        _ => out.put_slice(b"null"),
    }
    // Not OpenAI's: for clients that would rather have it from where it is.
    if let Status::Done { url, .. } = &status {
        out.put_slice(b",\"url\":");
        string_into(out, url);
    }
    out.put_u8(b'}');
}
