//! What the edges of chats and of the API before them are made with.

/// What the edges of both APIs have in common: the options of their layers, and their services.
macro_rules! edge {
    ($path:literal, $layer:ident, $service:ident, $api:expr) => {
        impl $layer {
            /// An edge that takes bodies of up to 32 MiB and keeps quiet streams alive every 15 s.
            #[must_use]
            pub const fn new() -> Self {
                Self { config: $crate::openai::config::Config::new($api) }
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
                $service { inner, config: self.config.clone() }
            }
        }

        impl<S> $service<S> {
            service!($layer::new());
        }

        impl<S, B, C> ::tower_service::Service<::http::Request<B>> for $service<S>
        where
            S: ::tower_service::Service<
                    ::http::Request<$crate::chat::ChatRequest>,
                    Response = ::http::Response<C>,
                > + Clone,
            S::Error: Into<$crate::Error>,
            C: $crate::chat::ChatStream,
            B: ::http_body::Body<Data = ::bytes::Bytes>,
            B::Error: Into<$crate::BoxError>,
        {
            type Response = ::http::Response<$crate::openai::OpenAiBody<C>>;
            type Error = ::std::convert::Infallible;
            type Future = $crate::openai::ResponseFuture<S, B, C>;

            fn poll_ready(
                &mut self,
                _cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Result<(), Self::Error>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: ::http::Request<B>) -> Self::Future {
                $crate::openai::ResponseFuture::new(&self.inner, &self.config, request)
            }
        }
    };
}

pub(super) use edge;
