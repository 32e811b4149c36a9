//! Spans for OpenTelemetry: one of kind SERVER for each request, and one of kind CLIENT for each call of an
//! upstream for it, so that what was tried again and who stood in can be seen. Their names and attributes
//! are those of [OpenTelemetry's conventions][gen-ai]; what is said is in none.
//!
//! A build with the feature `otlp` sends them to a collector (`--otlp`).
//!
//! [gen-ai]: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/

#[cfg(feature = "otlp")]
mod call;
#[cfg(feature = "otlp")]
mod export;

#[cfg(feature = "otlp")]
pub(crate) use self::{
    call::CallSpanLayer,
    export::{Export, continue_trace, is_on},
};

/// The target of these spans.
pub(crate) const TARGET: &str = "proxy::trace";

#[cfg(not(feature = "otlp"))]
mod off {
    use axum::http::HeaderMap;
    use tracing::Span;

    /// Where nothing is exported no span is made.
    pub(crate) type CallSpanLayer = tower::layer::util::Identity;

    pub(crate) enum Export {}

    impl Export {
        pub(crate) fn to(_: &str) -> Result<Self, String> {
            Err("this build exports nothing; build it with --features otlp".to_owned())
        }
    }

    pub(crate) const fn is_on() -> bool {
        false
    }

    pub(crate) const fn continue_trace(_: &Span, _: &HeaderMap) {}
}

#[cfg(not(feature = "otlp"))]
pub(crate) use self::off::{CallSpanLayer, Export, continue_trace, is_on};

/// What makes a span of each call of an upstream.
pub(crate) fn call_span() -> CallSpanLayer {
    CallSpanLayer::new()
}
