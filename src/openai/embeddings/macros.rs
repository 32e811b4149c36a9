//! What the edges for embeddings are made with: everything but their protocol.

/// The options of the layer, and the service.
macro_rules! embeddings {
    ($layer:ident, $service:ident, $form:ty) => {
        impl $layer {
            /// An edge over a server of this kind: bodies of up to 32 MiB with up to 2,048 inputs,
            /// four batches at once, answers of up to 64 MiB a batch.
            #[must_use]
            pub const fn new(server: $crate::qwen::compatible::Server) -> Self {
                Self { config: $crate::openai::embeddings::Config::new(server) }
            }

            /// The largest body to read, in bytes; a larger one is answered with 413.
            #[must_use]
            pub const fn max_body(mut self, bytes: usize) -> Self {
                self.config.max_body = bytes;
                self
            }

            /// How fast a body must come; a slower one is answered with 408. `None`: as slowly as it likes.
            /// Default:
            /// [`BodyPace::new`](crate::edge::BodyPace::new).
            #[must_use]
            pub const fn body_pace(mut self, pace: Option<$crate::edge::BodyPace>) -> Self {
                self.config.body_pace = pace;
                self
            }

            /// How many inputs a request may hold; OpenAI's own limit is the default of 2,048.
            #[must_use]
            pub const fn max_inputs(mut self, inputs: usize) -> Self {
                self.config.max_inputs = inputs;
                self
            }

            /// How many inputs are sent at once, at least one, in place of what is known of the server: a
            /// request with more goes out in several.
            #[must_use]
            pub const fn max_batch(mut self, inputs: usize) -> Self {
                self.config.max_batch = Some(inputs);
                self
            }

            /// How many batches of one request are under way at once, at least one. Limits of the
            /// upstream's own are for a limit layer below.
            #[must_use]
            pub const fn concurrency(mut self, batches: usize) -> Self {
                self.config.concurrency = batches;
                self
            }

            /// How much of an answer to one batch is read, in bytes; a larger one is an error.
            #[must_use]
            pub const fn max_answer(mut self, bytes: usize) -> Self {
                self.config.max_answer = bytes;
                self
            }
        }

        impl<S> ::tower_layer::Layer<S> for $layer {
            type Service = $service<S>;

            fn layer(&self, inner: S) -> $service<S> {
                $service { inner, config: self.config }
            }
        }

        impl<S> $service<S> {
            service!($layer::new(server: $crate::qwen::compatible::Server));
        }

        impl<S, B, R> ::tower_service::Service<::http::Request<B>> for $service<S>
        where
            S: ::tower_service::Service<
                    ::http::Request<$crate::FullBody>,
                    Response = ::http::Response<R>,
                > + Clone
                + Send
                + Sync
                + 'static,
            S::Future: Send,
            S::Error: Into<$crate::BoxError>,
            B: ::http_body::Body<Data = ::bytes::Bytes> + Send + 'static,
            B::Error: Into<$crate::BoxError>,
            R: ::http_body::Body<Data = ::bytes::Bytes> + Send + 'static,
            R::Error: Into<$crate::BoxError>,
        {
            type Response = ::http::Response<$crate::FullBody>;
            type Error = ::std::convert::Infallible;
            type Future = $crate::openai::embeddings::ResponseFuture;

            fn poll_ready(
                &mut self,
                _cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Result<(), Self::Error>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: ::http::Request<B>) -> Self::Future {
                Self::Future::new::<$form, _, _, _>(self.inner.clone(), request, self.config)
            }
        }
    };
}

pub(crate) use embeddings;
