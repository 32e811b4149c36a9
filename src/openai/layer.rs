use std::time::Duration;

use super::OpenAi;
use crate::sse::KeepAlive;

/// The edge of the stack: an OpenAI `POST /v1/chat/completions` over a chat service.
///
/// Put it outermost, on the route. It reads the body once and writes the answer once, streamed
/// or whole; the services below see [`ChatRequest`](crate::chat::ChatRequest)s and give
/// [`ChatStream`](crate::chat::ChatStream)s. It does not look at the path, so that the router
/// decides; for unknown paths there is [`error_response`](super::error_response).
///
/// See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct OpenAiLayer {
    config: Config,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) api: Api,
    pub(super) max_body: usize,
    pub(super) keep_alive: Option<KeepAlive>,
}

/// Which of OpenAI's APIs the edge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
}

impl Config {
    pub(super) const fn new(api: Api) -> Self {
        Self {
            api,
            max_body: 32 * 1024 * 1024,
            keep_alive: Some(KeepAlive::new(Duration::from_secs(15))),
        }
    }
}

/// What the edges of both APIs have in common: their options, and that they are layers.
macro_rules! edge {
    ($layer:ident, $service:ident, $api:expr) => {
        impl $layer {
            /// An edge that takes bodies of up to 32 MiB and keeps quiet streams alive every 15 s.
            #[must_use]
            pub const fn new() -> Self {
                Self { config: $crate::openai::layer::Config::new($api) }
            }

            /// The largest body to read, in bytes; a larger one is answered with 413.
            #[must_use]
            pub const fn max_body(mut self, bytes: usize) -> Self {
                self.config.max_body = bytes;
                self
            }

            /// After how much quiet a stream gets a comment line, so that proxies and clients do
            /// not take it for dead; `None` for never. It is sent between events only, and does
            /// not count as progress of the upstream.
            #[must_use]
            pub const fn keep_alive(mut self, keep_alive: Option<$crate::sse::KeepAlive>) -> Self {
                self.config.keep_alive = keep_alive;
                self
            }
        }

        impl Default for $layer {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<S> ::tower_layer::Layer<S> for $layer {
            type Service = $service<S>;

            fn layer(&self, inner: S) -> $service<S> {
                $service::new(inner, self.config)
            }
        }
    };
}

pub(super) use edge;

edge!(OpenAiLayer, OpenAi, Api::Chat);
