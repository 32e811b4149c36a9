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
mod http;

#[cfg(feature = "otlp")]
pub(crate) use self::{
    call::CallSpanLayer,
    export::{Export, continue_trace, hand_on, is_on},
    http::{CallOf, HttpSpanLayer},
};

/// The target of these spans.
pub(crate) const TARGET: &str = "proxy::trace";

#[cfg(not(feature = "otlp"))]
mod off {
    use axum::http::HeaderMap;
    use tower::layer::util::Identity;
    use tower_qwen::{ErrorKind, chat::Usage};
    use tracing::Span;

    /// Where nothing is exported no span is made.
    pub(crate) type CallSpanLayer = Identity;
    pub(crate) type HttpSpanLayer = Identity;

    /// And so no response has one.
    #[derive(Clone, Debug)]
    pub(crate) enum CallOf {}

    impl CallOf {
        pub(crate) fn used(&self, _: Usage) {
            match *self {}
        }

        pub(crate) fn failed(&self, _: ErrorKind) {
            match *self {}
        }
    }

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

    pub(crate) const fn hand_on(_: &mut HeaderMap) {}
}

#[cfg(not(feature = "otlp"))]
pub(crate) use self::off::{
    CallOf, CallSpanLayer, Export, HttpSpanLayer, continue_trace, hand_on, is_on,
};

/// What makes a span of each call of an adapter's of the upstream of this name.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "no span names it"))]
pub(crate) fn call_span(upstream: &str) -> CallSpanLayer {
    #[cfg(feature = "otlp")]
    return CallSpanLayer::new(upstream);
    #[cfg(not(feature = "otlp"))]
    CallSpanLayer::new()
}

/// The same of each call that no adapter makes.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "no span names it"))]
pub(crate) fn http_span(upstream: &str) -> HttpSpanLayer {
    #[cfg(feature = "otlp")]
    return HttpSpanLayer::new(upstream);
    #[cfg(not(feature = "otlp"))]
    HttpSpanLayer::new()
}
