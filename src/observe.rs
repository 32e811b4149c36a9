//! The counters and log events of what also compiles without `metrics` and `tracing`: without
//! them these macros do nothing.

/// Adds one to a counter.
#[cfg(feature = "metrics")]
macro_rules! count {
    ($($what:tt)*) => { metrics::counter!($($what)*).increment(1) };
}

#[cfg(not(feature = "metrics"))]
macro_rules! count {
    ($name:literal $(, $label:literal => $value:expr)*) => {{ $(let _ = $value;)* }};
}

#[cfg(feature = "tracing")]
macro_rules! debug {
    ($($what:tt)*) => { tracing::debug!($($what)*) };
}

#[cfg(feature = "tracing")]
macro_rules! warning {
    ($($what:tt)*) => { tracing::warn!($($what)*) };
}

#[cfg(not(feature = "tracing"))]
macro_rules! debug {
    ($field:ident = $value:expr, $message:literal) => {{
        let _ = $value;
    }};
}

#[cfg(not(feature = "tracing"))]
macro_rules! warning {
    ($field:ident, $message:literal) => {{
        let _ = $field;
    }};
}

pub(crate) use count;
pub(crate) use debug;
pub(crate) use warning;
