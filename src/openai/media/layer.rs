use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::MediaBody,
    config::{Options, Task},
    fetch::NoFetch,
    future::ResponseFuture,
};
use crate::{
    BoxError, Error, FullBody, Text,
    chat::{ChatRequest, ChatStream, Tenant},
    edge::{BodyPace, Config, Offer},
    sse::KeepAlive,
};

/// The edge for pictures: OpenAI's `POST /v1/images/generations` or `/v1/images/edits` over a chat
/// service that makes [images](crate::chat::AnswerKind::Image).
///
/// See the [module](super) for an example and for what it does. `F` is the service that
/// [fetches](Self::fetch).
#[derive(Clone, Debug)]
pub struct MediaLayer<F = NoFetch> {
    config: Config<Options>,
    fetch: F,
}

impl MediaLayer {
    /// `POST /v1/images/generations`: bodies of up to 32 MiB, four pictures at once, answers of up to
    /// 64 MiB.
    #[must_use]
    pub const fn image_generations() -> Self {
        Self::of(Task::Generate)
    }

    /// `POST /v1/images/edits`, with the same limits.
    #[must_use]
    pub const fn image_edits() -> Self {
        Self::of(Task::Edit)
    }

    /// `POST /v1/videos/generations`, which OpenAI has not: it waits for the video. One that is a job
    /// is begun by [`VideosLayer`](crate::openai::videos::VideosLayer).
    #[must_use]
    pub const fn video_generations() -> Self {
        Self::of(Task::Video)
    }

    const fn of(task: Task) -> Self {
        let options = Options { task, default_model: None, concurrency: 4 };
        Self { config: Config::new(options), fetch: NoFetch }
    }
}

impl<F> MediaLayer<F> {
    /// What fetches pictures for clients that want them in base64: an HTTP service that takes requests
    /// with a whole URL, of any host that an upstream names. At most
    /// [`max_answer`](Self::max_answer) bytes are read of one, within 60 s. Default: [`NoFetch`].
    #[must_use]
    pub fn fetch<G>(self, fetch: G) -> MediaLayer<G> {
        MediaLayer { config: self.config, fetch }
    }

    /// The model that is meant where a request names none, as OpenAI's own may. Default: none, and such
    /// a request is refused.
    #[must_use]
    pub fn default_model(mut self, model: Option<Text>) -> Self {
        self.config.options.default_model = model;
        self
    }

    /// How many of one request's pictures are made at once, at least one. Default: 4.
    #[must_use]
    pub fn concurrency(mut self, pictures: usize) -> Self {
        self.config.options.concurrency = pictures;
        self
    }

    /// The largest body to read, in bytes; a larger one is answered with 413.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.config.max_body = bytes;
        self
    }

    /// How fast a body must come; a slower one is answered with 408. With `None` it may come as slowly
    /// as it likes. Default: [`BodyPace::new`].
    #[must_use]
    pub fn body_pace(mut self, pace: Option<BodyPace>) -> Self {
        self.config.body_pace = pace;
        self
    }

    /// What the upstream has of the fields of a request; the rest is refused, or left out and named.
    /// [`Offer::Everything`] unless it is set.
    #[must_use]
    pub fn offer(mut self, offer: Offer) -> Self {
        self.config.offer = offer;
        self
    }

    /// The largest answer to give in one piece, and the largest picture to give in base64, in bytes. 64
    /// MiB unless it is set.
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.config.max_answer = bytes;
        self
    }

    /// After how much silence a client that wants a stream gets a sign of life; with `None` it never
    /// gets one. If there is no picture by then, the response begins all the same. Default: 15 s.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.config.keep_alive = keep_alive;
        self
    }

    /// Sets the function that says whose a request is, as
    /// [`OpenAiLayer::tenant`](crate::openai::OpenAiLayer::tenant) does.
    #[must_use]
    pub fn tenant<T>(mut self, tenant_of: T) -> Self
    where
        T: Fn(&Parts) -> Option<Tenant> + Send + Sync + 'static,
    {
        self.config.tenant = Some(Arc::new(tenant_of));
        self
    }
}

impl<S, F: Clone> Layer<S> for MediaLayer<F> {
    type Service = Media<S, F>;

    fn layer(&self, inner: S) -> Media<S, F> {
        Media { inner, fetch: self.fetch.clone(), config: self.config.clone() }
    }
}

/// The service of [`MediaLayer`].
///
/// It is always ready, and waits for the inner service's readiness only when the request was read and
/// found valid.
#[derive(Clone, Debug)]
pub struct Media<S, F = NoFetch> {
    inner: S,
    fetch: F,
    config: Config<Options>,
}

impl<S, F> Media<S, F> {
    service!();
}

impl<S, C, F, R, B> Service<Request<B>> for Media<S, F>
where
    S: Service<Request<ChatRequest>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Error>,
    C: ChatStream + Send + 'static,
    F: Service<Request<FullBody>, Response = Response<R>> + Clone + Send + 'static,
    F::Future: Send,
    F::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<MediaBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (service, fetch) = (self.inner.clone(), self.fetch.clone());
        ResponseFuture::new(service, fetch, self.config.clone(), request)
    }
}
