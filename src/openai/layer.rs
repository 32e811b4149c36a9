use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;

use super::{BodyPace, Limits, Offer, OpenAi, service::tenant};
use crate::{
    chat::{ANSWER_LIMIT, Tenant},
    sse::KeepAlive,
};

/// The edge of the stack: an OpenAI `POST /v1/chat/completions` over a chat service.
///
/// Put it outermost, on the route. It reads the body once and writes the answer once, streamed or
/// whole. The services below see [`ChatRequest`](crate::chat::ChatRequest)s and give
/// [`ChatStream`](crate::chat::ChatStream)s. It does not look at the path: that is for the router,
/// which has [`error_response`](super::error_response) for paths that it does not know.
///
/// See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct OpenAiLayer {
    config: Config,
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) api: Api,
    pub(super) max_body: usize,
    pub(super) body_pace: Option<BodyPace>,
    pub(super) limits: Limits,
    pub(super) offer: Offer,
    pub(super) max_answer: usize,
    pub(super) keep_alive: Option<KeepAlive>,
    /// Whose a request is, where it is not what [`tenant`] says.
    pub(super) tenant: Option<Arc<TenantOf>>,
}

/// Tells whose a request is.
type TenantOf = dyn Fn(&Parts) -> Option<Tenant> + Send + Sync;

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("api", &self.api)
            .field("max_body", &self.max_body)
            .field("body_pace", &self.body_pace)
            .field("limits", &self.limits)
            .field("offer", &self.offer)
            .field("max_answer", &self.max_answer)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
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
            body_pace: Some(BodyPace::new()),
            limits: Limits::new(),
            offer: Offer::Everything,
            max_answer: ANSWER_LIMIT,
            keep_alive: Some(KeepAlive::new(Duration::from_secs(15))),
            tenant: None,
        }
    }

    /// Whose request this is.
    pub(super) fn tenant(&self, parts: &Parts) -> Option<Tenant> {
        match &self.tenant {
            Some(tenant_of) => tenant_of(parts),
            None => tenant(&parts.headers),
        }
    }
}

/// What the edges of both APIs have in common: their options, and that they are layers.
macro_rules! edge {
    ($path:literal, $layer:ident, $service:ident, $api:expr) => {
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

            /// How fast a body must come; a slower one is answered with 408. With `None` it may
            /// come as slowly as it likes. Default:
            /// [`BodyPace::new`](crate::openai::BodyPace::new).
            #[must_use]
            pub const fn body_pace(mut self, pace: Option<$crate::openai::BodyPace>) -> Self {
                self.config.body_pace = pace;
                self
            }

            /// How many messages, parts, calls and tools a request may hold; one with more is
            /// answered with 400.
            #[must_use]
            pub const fn limits(mut self, limits: $crate::openai::Limits) -> Self {
                self.config.limits = limits;
                self
            }

            /// What the upstream has of the fields of a request; the rest is refused, seen to here,
            /// or left out and named. [`Offer::Everything`](crate::openai::Offer::Everything) unless
            /// it is set.
            #[must_use]
            pub const fn offer(mut self, offer: $crate::openai::Offer) -> Self {
                self.config.offer = offer;
                self
            }

            /// The largest answer to give in one piece, in bytes; a larger one is an error, which
            /// says that a stream has no such limit. 64 MiB unless it is set.
            #[must_use]
            pub const fn max_answer(mut self, bytes: usize) -> Self {
                self.config.max_answer = bytes;
                self
            }

            /// After how much silence a stream gets a comment line, so that proxies and clients do
            /// not take it for dead; with `None` it never gets one. The line is sent between events
            /// only. It begins with the body, and it is no progress of the upstream's.
            #[must_use]
            pub const fn keep_alive(mut self, keep_alive: Option<$crate::sse::KeepAlive>) -> Self {
                self.config.keep_alive = keep_alive;
                self
            }

            /// Sets the function that says whose a request is. The default is
            /// [`openai::tenant`](crate::openai::tenant()), which tells clients apart by the key that
            /// they present.
            ///
            /// The function sees the request's head as it came, before the client's credentials are
            /// taken off. Name the tenant by something that stays, and a client whose key changes
            /// keeps its conversations: for example by the id of the key that matched, which the
            /// layer that checks keys puts into the request's extensions. For `None` there is no
            /// session, so nothing of clients that nobody can tell apart is mixed up.
            ///
            /// ```
            /// use sha2::{Digest, Sha256};
            #[doc = concat!("use tower_qwen::{chat::Tenant, ", $path, "::", stringify!($layer), "};")]
            ///
            /// #[derive(Clone)]
            /// struct KeyId(String);
            ///
            #[doc = concat!("let edge = ", stringify!($layer), "::new().tenant(|head| {")]
            ///     let KeyId(id) = head.extensions.get()?;
            ///     Some(Tenant::from_digest(Sha256::digest(id).into()))
            /// });
            /// # let _ = edge;
            /// ```
            #[must_use]
            pub fn tenant<F>(mut self, tenant_of: F) -> Self
            where
                F: Fn(&::http::request::Parts) -> Option<$crate::chat::Tenant>
                    + Send
                    + Sync
                    + 'static,
            {
                self.config.tenant = Some(::std::sync::Arc::new(tenant_of));
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
                $service::with(inner, self.config.clone())
            }
        }
    };
}

pub(super) use edge;

edge!("openai", OpenAiLayer, OpenAi, Api::Chat);
