//! What was repaired, for whoever runs the server.

use metrics::counter;

/// The deviations that the adapter repairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// A think block in the content.
    ThinkTags,
    /// Content that repeats what was sent.
    Cumulative,
    /// A call without an id, or with that of another.
    CallId,
    /// A name or an id that came again, or was empty, after the first delta of a call.
    CallRepeated,
    /// A new call under the index of another.
    CallIndex,
    /// Arguments that came before the name.
    LateName,
    /// A call that was never named.
    Nameless,
    /// Arguments that are null or no string, or whose text is not one JSON object.
    Arguments,
    /// `""` or `"null"` in the place of no finish reason.
    EmptyFinishReason,
    /// A finish reason that does not go with whether there were calls.
    FinishReason,
    /// A finish reason that more of the answer followed.
    EarlyFinishReason,
    /// A finish reason in another vendor's words, or that nobody knows.
    UnknownFinishReason,
    /// `[DONE]` without a finish reason, or a whole answer without one.
    MissingFinishReason,
    /// A finish reason and no `[DONE]`.
    MissingDone,
    /// Usage that cannot be read.
    Usage,
    /// A whole answer although a stream was asked for.
    Whole,
    /// Several chunks in one event.
    List,
    /// An event stream under another media type.
    MediaType,
    /// A status in the place of an error's code.
    ErrorCode,
    /// An error that is not under `error`.
    FlatError,
    /// An error in an `error:` line in the place of `data:`, or in an event of that type.
    ErrorEvent,
    /// A picture that did not come and was found in the record of its chat.
    #[cfg(feature = "web")]
    FromChat,
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
            Self::EarlyFinishReason => "early_finish_reason",
            Self::UnknownFinishReason => "unknown_finish_reason",
            Self::MissingFinishReason => "missing_finish_reason",
            Self::MissingDone => "missing_done",
            Self::Usage => "usage",
            Self::Whole => "whole",
            Self::List => "list",
            Self::MediaType => "media_type",
            Self::ErrorCode => "error_code",
            Self::FlatError => "flat_error",
            Self::ErrorEvent => "error_event",
            #[cfg(feature = "web")]
            Self::FromChat => "from_chat",
        }
    }

    /// Counts it under the name of a metric.
    pub(crate) fn count(self, metric: &'static str) {
        counter!(metric, "repair" => self.label()).increment(1);
        tracing::debug!(repair = self.label(), "repaired what the upstream sent");
    }
}

/// The repairs of one answer; each kind is counted once, however often it occurs.
#[derive(Debug)]
pub(crate) struct Repairs {
    metric: &'static str,
    seen: u32,
}

impl Repairs {
    /// None yet; they will be counted under the name of a metric.
    pub(crate) const fn new(metric: &'static str) -> Self {
        Self { metric, seen: 0 }
    }

    pub(crate) fn note(&mut self, repair: Repair) {
        let bit = 1 << repair as u32;
        if self.seen & bit == 0 {
            self.seen |= bit;
            repair.count(self.metric);
        }
    }
}
