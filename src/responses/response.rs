//! The response as an object: in the first events, the last one, and where there is one alone.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, BytesMut};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{decode::Decoded, error::previous_not_found, names::Names};
use crate::{
    Error, ErrorKind, Text,
    chat::{Destination, Usage},
    json::{number_into, string_into},
};

/// What all pieces of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// `resp_…`.
    id: String,
    created: u64,
    /// The name that the client asked for, whatever the upstream calls it.
    model: Text,
    pub(super) names: Arc<Names>,
    pub(super) shows_reasoning: bool,
    pub(super) seals_reasoning: bool,
    /// Whether the client is Codex, to which an incomplete answer is none.
    pub(super) is_codex: bool,
    /// The fields that say what was asked for, each with a comma behind it.
    echo: Text,
    /// The answer that the client goes on from, by the id that it has.
    previous: Option<Text>,
}

impl Envelope {
    /// An answer that begins now, under a new id.
    pub(super) fn new(decoded: &Decoded) -> Self {
        Self {
            id: format!("resp_{}", Uuid::new_v4().simple()),
            created: now(),
            // A copy: the request's own may be a slice, which would keep its body.
            model: decoded.chat.model.as_str().into(),
            names: Arc::clone(&decoded.names),
            shows_reasoning: decoded.shows_reasoning,
            seals_reasoning: decoded.seals_reasoning,
            is_codex: decoded.is_codex,
            echo: decoded.echo.clone(),
            previous: match &decoded.chat.destination {
                Destination::Answer { id } => Some(id.as_str().into()),
                _ => None,
            },
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What the client is told in place of `error`: where the chat is lost that it goes on in, and
    /// of which it sent an id alone, it hears the words on which it sends the history.
    pub(super) fn known(&self, error: &Error) -> Option<Error> {
        let id = self.previous.as_ref().filter(|_| error.is_conversation_lost())?;
        Some(previous_not_found(id))
    }

    /// The id of a call, as the client knows it: always the same for the same answer.
    ///
    /// A long id of the upstream's is unlike any other. A short one, such as `call_0`, comes again
    /// in the next answer, where clients would take it for the same call.
    pub(super) fn call_id(&self, id: &Text) -> Text {
        const UNLIKE_OTHERS: usize = 16;
        if id.len() >= UNLIKE_OTHERS {
            return id.clone();
        }
        let mut hash = Sha256::new();
        hash.update(&self.id);
        hash.update(id.as_str());
        let digest: [u8; 32] = hash.finalize().into();
        let digits = digest[..12].iter().map(|byte| format!("{byte:02x}"));
        format!("call_{}", digits.collect::<String>()).into()
    }

    /// Appends the response: with `output`, the items so far, and the counts, where it is over.
    pub(super) fn response_into(
        &self,
        out: &mut BytesMut,
        status: Status<'_>,
        output: &[u8],
        usage: Option<Usage>,
    ) {
        out.put_slice(b"{\"id\":");
        string_into(out, &self.id);
        out.put_slice(b",\"object\":\"response\",\"created_at\":");
        number_into(out, self.created);
        if matches!(status, Status::Completed) {
            out.put_slice(b",\"completed_at\":");
            number_into(out, now().max(self.created));
        }
        out.put_slice(b",\"status\":");
        string_into(out, status.as_str());
        out.put_slice(b",\"error\":");
        match status {
            Status::Failed(error) => failure_into(out, error),
            _ => out.put_slice(b"null"),
        }
        out.put_slice(b",\"incomplete_details\":");
        match status {
            Status::Incomplete(reason) => {
                out.put_slice(b"{\"reason\":");
                string_into(out, reason);
                out.put_slice(b"}");
            }
            _ => out.put_slice(b"null"),
        }
        out.put_slice(b",\"model\":");
        string_into(out, &self.model);
        out.put_slice(b",");
        out.put_slice(self.echo.as_bytes());
        out.put_slice(b"\"output\":[");
        let is_over = !matches!(status, Status::InProgress);
        if is_over {
            out.put_slice(output);
        }
        out.put_slice(b"],\"usage\":");
        match usage.filter(|_| is_over) {
            Some(usage) => usage_into(out, &usage),
            None => out.put_slice(b"null"),
        }
        out.put_slice(b"}");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How a response stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status<'a> {
    InProgress,
    Completed,
    /// With the reason.
    Incomplete(&'static str),
    Failed(&'a Error),
}

impl Status<'_> {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }
}

/// What went wrong, by the words that Codex acts on.
fn failure_into(out: &mut BytesMut, error: &Error) {
    out.put_slice(b"{\"code\":");
    string_into(out, code_of(error.kind()));
    out.put_slice(b",\"message\":");
    // How long to wait is read out of the words.
    match error.retry_after() {
        Some(wait)
            if error.kind() == ErrorKind::RateLimited
                && !error.message().contains("try again in") =>
        {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let message = format!("{}; try again in {seconds}s", error.message());
            string_into(out, &message);
        }
        _ => string_into(out, error.message()),
    }
    out.put_slice(b"}");
}

/// The code in `response.failed`. Codex repeats the turn for those that it does not know, and of
/// those that it does not repeat it shows the words of `invalid_prompt` alone.
const fn code_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContentFilter
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Unsupported
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::ConversationLost
        | ErrorKind::AccountUnavailable => "invalid_prompt",
        ErrorKind::ContextLength => "context_length_exceeded",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::Auth => "invalid_api_key",
        ErrorKind::ModelNotFound => "model_not_found",
        ErrorKind::RateLimited => "rate_limit_exceeded",
        ErrorKind::Quota | ErrorKind::ModelQuota => "insufficient_quota",
        ErrorKind::Challenge | ErrorKind::Overloaded => "server_is_overloaded",
        ErrorKind::Timeout
        | ErrorKind::ConversationBusy
        | ErrorKind::Internal
        | ErrorKind::Upstream
        | ErrorKind::Truncated => "server_error",
    }
}

/// The counts: integers all, since clients add them up.
fn usage_into(out: &mut BytesMut, usage: &Usage) {
    out.put_slice(b"{\"input_tokens\":");
    number_into(out, usage.prompt_tokens);
    out.put_slice(b",\"input_tokens_details\":{\"cached_tokens\":");
    number_into(out, usage.cached_tokens.unwrap_or(0));
    out.put_slice(b",\"cache_write_tokens\":0},\"output_tokens\":");
    number_into(out, usage.completion_tokens);
    out.put_slice(b",\"output_tokens_details\":{\"reasoning_tokens\":");
    number_into(out, usage.reasoning_tokens.unwrap_or(0));
    out.put_slice(b"},\"total_tokens\":");
    number_into(out, usage.total_tokens);
    out.put_slice(b"}");
}
