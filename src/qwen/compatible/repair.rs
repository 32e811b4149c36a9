//! What was repaired, for whoever runs the server.

use metrics::counter;

/// The deviations that the adapter repairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// A think block in the content (B9, C2).
    ThinkTags,
    /// Content that repeats what was sent (B9).
    Cumulative,
    /// A call without an id (C1), or with that of another.
    CallId,
    /// A name or an id that came again, or was empty, after the first delta of a call (C1).
    CallRepeated,
    /// A new call under the index of another (C2).
    CallIndex,
    /// Arguments that came before the name.
    LateName,
    /// A call that was never named.
    Nameless,
    /// Arguments that are null or no string (C1), or whose text is not one JSON object.
    Arguments,
    /// `""` or `"null"` in the place of no finish reason (C1, C2).
    EmptyFinishReason,
    /// A finish reason that does not go with whether there were calls (C2).
    FinishReason,
    /// A finish reason that nobody knows.
    UnknownFinishReason,
    /// `[DONE]` without a finish reason, or a whole answer without one (C1).
    MissingFinishReason,
    /// A finish reason and no `[DONE]` (C2).
    MissingDone,
    /// Usage that cannot be read.
    Usage,
    /// A whole answer although a stream was asked for (C1).
    Whole,
    /// An event stream under another media type.
    MediaType,
    /// A status in the place of an error's code (C2).
    ErrorCode,
    /// An error that is not under `error` (C1, C2).
    FlatError,
    /// An error in an `error:` line in the place of `data:`, or in an event of that type (C2).
    ErrorEvent,
}

impl Repair {
    /// The metric's label.
    const fn label(self) -> &'static str {
        match self {
            Self::ThinkTags => "think_tags",
            Self::Cumulative => "cumulative",
            Self::CallId => "call_id",
            Self::CallRepeated => "call_repeated",
            Self::CallIndex => "call_index",
            Self::LateName => "late_name",
            Self::Nameless => "nameless",
            Self::Arguments => "arguments",
            Self::EmptyFinishReason => "empty_finish_reason",
            Self::FinishReason => "finish_reason",
            Self::UnknownFinishReason => "unknown_finish_reason",
            Self::MissingFinishReason => "missing_finish_reason",
            Self::MissingDone => "missing_done",
            Self::Usage => "usage",
            Self::Whole => "whole",
            Self::MediaType => "media_type",
            Self::ErrorCode => "error_code",
            Self::FlatError => "flat_error",
            Self::ErrorEvent => "error_event",
        }
    }

    /// Counts it.
    pub(super) fn count(self) {
        counter!("tower_qwen_compatible_repairs_total", "repair" => self.label()).increment(1);
        tracing::debug!(repair = self.label(), "repaired what the upstream sent");
    }
}

/// The repairs of one answer; each kind is counted once, however often it occurs.
#[derive(Debug, Default)]
pub(super) struct Repairs(u32);

impl Repairs {
    pub(super) fn note(&mut self, repair: Repair) {
        let bit = 1 << repair as u32;
        if self.0 & bit == 0 {
            self.0 |= bit;
            repair.count();
        }
    }
}
