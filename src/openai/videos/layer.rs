use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    jobs::{Asked, Job, Jobs, Status},
    write::video,
};
use crate::{
    BoxError, Error, ErrorKind, FullBody, Text,
    chat::{Answer, AttachmentKind, ChatRequest, ChatStream, Tenant},
    clock,
    edge::{
        BodyPace, Config, Decided, Offer, Outcome, ReadBody, X_QWEN_LEFT_OUT, describe, of_edge,
        openai_error_into, parse::invalid_value, refuse, strip_credentials,
    },
    openai::media::{Fields, Task, Watched, now, of_kind},
};

/// What the edge is told of videos.
#[derive(Clone, Debug)]
struct Options {
    jobs: Jobs,
    default_model: Option<Text>,
}

/// The edge that begins videos: OpenAI's `POST /v1/videos` over a chat service that makes
/// [videos](crate::chat::AnswerKind::Video).
///
/// See the [module](super) for an example and for what it does.
#[derive(Clone, Debug)]
pub struct VideosLayer {
    config: Config<Options>,
}

impl VideosLayer {
    /// An edge that puts what it begins into `jobs`, and takes bodies of up to 32 MiB.
    #[must_use]
    pub const fn new(jobs: Jobs) -> Self {
        Self { config: Config::new(Options { jobs, default_model: None }) }
    }

    /// The model that is meant where a request names none, as OpenAI's own may. Default: none, and such
    /// a request is refused.
    #[must_use]
    pub fn default_model(mut self, model: Option<Text>) -> Self {
        self.config.options.default_model = model;
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

impl<S> Layer<S> for VideosLayer {
    type Service = Videos<S>;

    fn layer(&self, inner: S) -> Videos<S> {
        Videos { inner, config: self.config.clone() }
    }
}

/// The service of [`VideosLayer`].
///
/// It is always ready, and waits for the inner service's readiness only when the request was read and
/// found valid.
#[derive(Clone, Debug)]
pub struct Videos<S> {
    inner: S,
    config: Config<Options>,
}

impl<S> Videos<S> {
    service!(made by VideosLayer::new(jobs: Jobs));
    service!();
}

impl<S, C, B> Service<Request<B>> for Videos<S>
where
    S: Service<Request<ChatRequest>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Error>,
    C: ChatStream + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<FullBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let begun = begin(self.inner.clone(), self.config.clone(), request);
        ResponseFuture {
            inner: Box::pin(async move {
                Ok(match begun.await {
                    Ok(response) => response,
                    Err(error) => of_edge(refuse(&error, openai_error_into)).map(FullBody::new),
                })
            }),
        }
    }
}

/// The future of [`Videos`]: reads the request, and is ready when the upstream has taken it on.
///
/// # Cancel safety
///
/// Dropping it gives the video up, since nobody will ever know its id. An upstream that has taken it on
/// by then goes on with it.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Result<Response<FullBody>, Infallible>> + Send>>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<FullBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Forgets a video that nobody knows of, unless somebody does by then.
struct Unknown {
    jobs: Jobs,
    job: Option<Arc<Job>>,
    tenant: Option<Tenant>,
}

impl Drop for Unknown {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.jobs.forget(self.tenant.as_ref(), &job.id);
        }
    }
}

async fn begin<S, C, B>(
    mut service: S,
    config: Config<Options>,
    request: Request<B>,
) -> Result<Response<FullBody>, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Error>,
    C: ChatStream + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if !clock::is_there() {
        let message = "a video is made in the background, and there is no runtime of tokio";
        return Err(Error::new(ErrorKind::Internal, message));
    }
    let (mut parts, body) = request.into_parts();
    let form = Fields::form(&parts)?;
    let tenant = config.tenant(&parts);
    strip_credentials(&mut parts.headers);
    let body = ReadBody::new(body, config.max_body, config.body_pace).await?;
    let fields = Fields::read(body, form).await?;
    let Options { jobs, default_model } = &config.options;
    let asked = fields.request(Task::Video, default_model.as_ref())?;
    if asked.count > 1 {
        return Err(invalid_value("n", "one video is begun at a time; ask once for each"));
    }
    let mut chat = asked.chat;
    let Decided { left_out, .. } = config.offer.decide(&mut chat, &[])?;
    chat.tenant = tenant;
    parts.headers.remove(header::CONTENT_TYPE);
    let prompt = chat.history[0].text();
    let job = jobs.begin(Asked {
        tenant,
        model: &chat.model,
        prompt: &prompt,
        size: chat.media.size,
        seconds: chat.media.seconds,
        created: now(),
    })?;
    let mut unknown = Unknown { jobs: jobs.clone(), job: Some(Arc::clone(&job)), tenant };
    let mut outcome = Outcome::new("videos", false);
    let called = async {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        service.call(Request::from_parts(parts, chat)).await.map_err(Into::into)
    };
    let (head, events) = match called.await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            outcome.failed(&error);
            return Err(error);
        }
    };
    job.set(Status::Running(0));
    let limit = config.max_answer;
    let made = Arc::clone(&job);
    let task = tokio::spawn(async move { make(&made, events, limit, outcome).await });
    job.made_by(task.abort_handle());
    unknown.job = None;
    Ok(told(video(&job), head.headers, left_out))
}

/// Waits for a video, and takes note of what it is at.
async fn make<C: ChatStream>(job: &Job, events: C, limit: usize, mut outcome: Outcome) {
    let events = Watched::new(events, |percent| job.set(Status::Running(percent)));
    let made = Answer::collect(events).limit(limit).await.and_then(|answer| {
        let mut urls = of_kind(answer.attachments, AttachmentKind::Video, &answer.text)?;
        Ok(urls.swap_remove(0))
    });
    match made {
        Ok(url) => {
            outcome.ended();
            job.set(Status::Done { url, at: now() });
        }
        Err(error) => {
            outcome.failed(&error);
            let code = error.code().unwrap_or("video_generation_failed");
            let (code, message) = (Text::from(code), Text::from(error.message()));
            job.set(Status::Failed { code, message });
        }
    }
}

fn told(json: Bytes, headers: HeaderMap, left_out: Option<HeaderValue>) -> Response<FullBody> {
    let mut response = Response::new(FullBody::new(json));
    *response.headers_mut() = headers;
    describe(&mut response, HeaderValue::from_static("application/json"));
    if let Some(names) = left_out {
        response.headers_mut().insert(X_QWEN_LEFT_OUT, names);
    }
    response
}
