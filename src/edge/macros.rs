//! What the edges are made with: everything that their types have in common.

/// The future and the body of the edges of a protocol, under their public names.
macro_rules! edge_types {
    ($protocol:ty, $writer:ty, $service:literal, $(#[$of_body:meta])* $body:ident) => {
        ::pin_project_lite::pin_project! {
            #[doc = concat!("The future of ", $service, ": reads the body, calls the inner service")]
            /// when that is ready, and, for a client that wants no stream, collects the answer.
            ///
            /// # Cancel safety
            ///
            /// Dropping it drops whatever it waits for, which cancels the upstream's work.
            #[must_use = "futures do nothing unless polled"]
            pub struct ResponseFuture<S, B, C>
            where
                S: ::tower_service::Service<::http::Request<$crate::chat::ChatRequest>>,
            {
                #[pin]
                edge: $crate::edge::EdgeFuture<S, B, C, $protocol>,
            }
        }

        impl<S, B, C> ResponseFuture<S, B, C>
        where
            S: ::tower_service::Service<::http::Request<$crate::chat::ChatRequest>>,
        {
            pub(super) const fn new(
                edge: $crate::edge::EdgeFuture<S, B, C, $protocol>,
            ) -> Self {
                Self { edge }
            }
        }

        impl<S, B, C> ::std::fmt::Debug for ResponseFuture<S, B, C>
        where
            S: ::tower_service::Service<::http::Request<$crate::chat::ChatRequest>>,
        {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct("ResponseFuture").finish_non_exhaustive()
            }
        }

        impl<S, B, C> ::std::future::Future for ResponseFuture<S, B, C>
        where
            S: ::tower_service::Service<
                    ::http::Request<$crate::chat::ChatRequest>,
                    Response = ::http::Response<C>,
                >,
            S::Error: Into<$crate::Error>,
            C: $crate::chat::ChatStream,
            B: ::http_body::Body<Data = ::bytes::Bytes>,
            B::Error: Into<$crate::BoxError>,
        {
            type Output = Result<::http::Response<$body<S::Future, C>>, ::std::convert::Infallible>;

            fn poll(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Self::Output> {
                let Ok(response) = ::std::task::ready!(self.project().edge.poll(cx));
                ::std::task::Poll::Ready(Ok(response.map(|edge| $body { edge })))
            }
        }

        ::pin_project_lite::pin_project! {
            $(#[$of_body])*
            ///
            /// Either one piece, or an event stream. Of a stream, events that arrived together
            /// leave together, in frames of whole events; nothing waits for more. The body never
            /// fails: what goes wrong after the response was begun is written into the stream.
            ///
            /// `F` is the future of the inner service, and `C` the stream that it gives.
            ///
            /// Dropping the body drops the upstream's answer with it, which cancels the work there.
            #[derive(Debug)]
            pub struct $body<F, C> {
                #[pin]
                edge: $crate::edge::EdgeBody<F, C, $writer>,
            }
        }

        impl<F, C, E> ::http_body::Body for $body<F, C>
        where
            F: ::std::future::Future<Output = Result<::http::Response<C>, E>>,
            E: Into<$crate::Error>,
            C: $crate::chat::ChatStream,
        {
            type Data = ::bytes::Bytes;
            type Error = ::std::convert::Infallible;

            fn poll_frame(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Option<Result<::http_body::Frame<::bytes::Bytes>, Self::Error>>>
            {
                self.project().edge.poll_frame(cx)
            }

            fn is_end_stream(&self) -> bool {
                self.edge.is_end_stream()
            }

            fn size_hint(&self) -> ::http_body::SizeHint {
                self.edge.size_hint()
            }
        }
    };
}

/// What the edges have in common: the options of their layers, and their services.
macro_rules! edge {
    ($path:literal, $layer:ident, $service:ident, $options:expr, $future:ident, $body:ident) => {
        impl $layer {
            /// An edge that takes bodies of up to 32 MiB and keeps quiet streams alive every 15 s.
            #[must_use]
            pub const fn new() -> Self {
                Self { config: $crate::edge::Config::new($options) }
            }

            /// The largest body to read, in bytes; a larger one is answered with 413.
            #[must_use]
            pub const fn max_body(mut self, bytes: usize) -> Self {
                self.config.max_body = bytes;
                self
            }

            /// How fast a body must come; a slower one is answered with 408. With `None` it may
            /// come as slowly as it likes. Default:
            /// [`BodyPace::new`](crate::edge::BodyPace::new).
            #[must_use]
            pub const fn body_pace(mut self, pace: Option<$crate::edge::BodyPace>) -> Self {
                self.config.body_pace = pace;
                self
            }

            /// How many messages, parts, calls and tools a request may hold; one with more is
            /// answered with 400.
            #[must_use]
            pub const fn limits(mut self, limits: $crate::edge::Limits) -> Self {
                self.config.limits = limits;
                self
            }

            /// What the upstream has of the fields of a request; the rest is refused, seen to here,
            /// or left out and named. [`Offer::Everything`](crate::edge::Offer::Everything) unless
            /// it is set.
            #[must_use]
            pub const fn offer(mut self, offer: $crate::edge::Offer) -> Self {
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

            /// After how much silence a client that wants a stream gets a sign of life, so that it
            /// and the proxies between do not take the stream for dead; with `None` it never gets
            /// one. It is sent between events only, and it is no progress of the upstream's. If the
            /// upstream has not begun its answer by then, the response begins all the same.
            #[must_use]
            pub const fn keep_alive(mut self, keep_alive: Option<$crate::sse::KeepAlive>) -> Self {
                self.config.keep_alive = keep_alive;
                self
            }

            /// Sets the function that says whose a request is. The default is
            /// [`edge::tenant`](crate::edge::tenant()), which tells clients apart by the key that
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
            type Response = ::http::Response<$body<S::Future, C>>;
            type Error = ::std::convert::Infallible;
            type Future = $future<S, B, C>;

            fn poll_ready(
                &mut self,
                _cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Result<(), Self::Error>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: ::http::Request<B>) -> Self::Future {
                $future::new($crate::edge::EdgeFuture::new(&self.inner, &self.config, request))
            }
        }
    };
}

pub(crate) use {edge, edge_types};
