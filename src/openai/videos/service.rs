use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header, request::Parts};
use http_body::Body;
use tower_service::Service;

use super::{
    body::VideoBody,
    jobs::{Jobs, Status},
    write::{deleted, list, video},
};
use crate::{
    BoxError, Error, ErrorKind, FullBody,
    chat::Tenant,
    clock,
    edge::{openai_error_into, parse::invalid_value, refuse, tenant},
    openai::media::{NoFetch, open},
};

/// Tells OpenAI's clients when to ask again, in milliseconds.
const POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");

/// When to ask again what a video is at.
const AGAIN: HeaderValue = HeaderValue::from_static("5000");

/// How long the beginning of a video may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many videos a page of the list has, unless it is asked for another number, and at most.
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;

type TenantOf = dyn Fn(&Parts) -> Option<Tenant> + Send + Sync;

type Answered<R> = Result<Response<VideoBody<R>>, Infallible>;

/// Tells of the videos that were asked for: OpenAI's `GET /v1/videos`, `GET` and `DELETE
/// /v1/videos/{id}`, and `GET /v1/videos/{id}/content`.
///
/// What stands before `/videos` in the path does not matter. `F` is an HTTP service that takes requests
/// with a whole URL: the content of a video is passed on from where the upstream has put it, as it comes.
///
/// Only whoever asked for a video is told of it. Another one gets the same 404 as for a video that never
/// was.
#[derive(Clone)]
pub struct VideoJobs<F = NoFetch> {
    jobs: Jobs,
    fetch: F,
    tenant_of: Option<Arc<TenantOf>>,
}

impl VideoJobs {
    /// Tells of `jobs`, and fetches nothing: the content of a video is where its `url` says.
    #[must_use]
    pub fn new(jobs: Jobs) -> Self {
        Self { jobs, fetch: NoFetch::default(), tenant_of: None }
    }
}

impl<F> VideoJobs<F> {
    /// What fetches the content of videos.
    #[must_use]
    pub fn fetch<G>(self, fetch: G) -> VideoJobs<G> {
        VideoJobs { jobs: self.jobs, fetch, tenant_of: self.tenant_of }
    }

    /// Sets the function that says whose a request is, as
    /// [`OpenAiLayer::tenant`](crate::openai::OpenAiLayer::tenant) does.
    #[must_use]
    pub fn tenant<T>(mut self, tenant_of: T) -> Self
    where
        T: Fn(&Parts) -> Option<Tenant> + Send + Sync + 'static,
    {
        self.tenant_of = Some(Arc::new(tenant_of));
        self
    }
}

impl<F> fmt::Debug for VideoJobs<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoJobs").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl<F, R, B> Service<Request<B>> for VideoJobs<F>
where
    F: Service<Request<FullBody>, Response = Response<R>> + Clone + Send + 'static,
    F::Future: Send,
    F::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    B: Send + 'static,
{
    type Response = Response<VideoBody<R>>;
    type Error = Infallible;
    type Future = JobsFuture<R>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> JobsFuture<R> {
        let (parts, _) = request.into_parts();
        let tenant = match &self.tenant_of {
            Some(tenant_of) => tenant_of(&parts),
            None => tenant(&parts.headers),
        };
        let (jobs, fetch) = (self.jobs.clone(), self.fetch.clone());
        JobsFuture {
            inner: Box::pin(async move {
                Ok(match answer(&jobs, fetch, tenant, &parts).await {
                    Ok(response) => response,
                    Err(error) => refuse(&error, openai_error_into)
                        .map(|body| VideoBody::json(FullBody::new(body))),
                })
            }),
        }
    }
}

/// The future of [`VideoJobs`].
///
/// # Cancel safety
///
/// Dropping it ends the call that fetches, if there is one. A deletion has happened by the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct JobsFuture<R> {
    inner: Pin<Box<dyn Future<Output = Answered<R>> + Send>>,
}

impl<R> Future for JobsFuture<R> {
    type Output = Answered<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<R> fmt::Debug for JobsFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobsFuture").finish_non_exhaustive()
    }
}

/// What is asked of the videos.
enum Asked<'a> {
    List,
    One(&'a str),
    Content(&'a str),
}

/// What a path asks for, whatever stands before `videos` in it.
fn asked(path: &str) -> Option<Asked<'_>> {
    let at = path.find("/videos")?;
    let rest = &path[at + "/videos".len()..];
    let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next(), segments.next()) {
        (None, ..) => Some(Asked::List),
        (Some(id), None, _) => Some(Asked::One(id)),
        (Some(id), Some("content"), None) => Some(Asked::Content(id)),
        _ => None,
    }
}

async fn answer<F, R>(
    jobs: &Jobs,
    mut fetch: F,
    tenant: Option<Tenant>,
    parts: &Parts,
) -> Result<Response<VideoBody<R>>, Error>
where
    F: Service<Request<FullBody>, Response = Response<R>>,
    F::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
{
    let tenant = tenant.as_ref();
    let query = parts.uri.query().unwrap_or_default();
    match (&parts.method, asked(parts.uri.path())) {
        (&Method::GET, Some(Asked::List)) => page(jobs, tenant, query).map(json),
        (&Method::GET, Some(Asked::One(id))) => {
            let job = jobs.get(tenant, id).ok_or_else(|| unknown(id))?;
            let mut response = json(video(&job));
            if matches!(job.status(), Status::Queued | Status::Running(_)) {
                response.headers_mut().insert(POLL_AFTER, AGAIN);
            }
            Ok(response)
        }
        (&Method::DELETE, Some(Asked::One(id))) => match jobs.forget(tenant, id) {
            true => Ok(json(deleted(id))),
            false => Err(unknown(id)),
        },
        (&Method::GET, Some(Asked::Content(id))) => {
            let job = jobs.get(tenant, id).ok_or_else(|| unknown(id))?;
            if let Some(other) = field(query, "variant").filter(|variant| *variant != "video") {
                let other = crate::edge::parse::clip(other);
                let message =
                    format_args!("there is no `{other}`; the upstream makes `video` alone");
                return Err(invalid_value("variant", message));
            }
            let Status::Done { url, .. } = job.status() else {
                let message =
                    "the video is not there, as its `status` says; ask for it again later";
                return Err(Error::invalid("id", message).with_code("video_not_ready"));
            };
            let opened = clock::within(DEADLINE, open(&mut fetch, &url)).await;
            let opened = opened.unwrap_or_else(|| {
                let message = format!("the video did not begin within {} s", DEADLINE.as_secs());
                Err(Error::new(ErrorKind::Timeout, message))
            })?;
            let (head, body) = opened.into_parts();
            let mut response = Response::new(VideoBody::fetched(body));
            // Of what fetching says nothing else is for the client.
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ETAG] {
                if let Some(value) = head.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            let headers = response.headers_mut();
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("video/mp4"));
            Ok(response)
        }
        (method, Some(_)) => {
            let message = format!("{method} is not served here; use GET, or DELETE a video");
            Err(Error::new(ErrorKind::MethodNotAllowed, message))
        }
        (_, None) => {
            let message = "of a video there are /v1/videos/{id} and /v1/videos/{id}/content; no \
                           upstream here makes another one of it";
            Err(Error::new(ErrorKind::Unsupported, message).with_code("videos_not_supported"))
        }
    }
}

/// One page of the list.
fn page(jobs: &Jobs, tenant: Option<&Tenant>, query: &str) -> Result<Bytes, Error> {
    let limit = match field(query, "limit") {
        None => PAGE,
        Some(limit) => {
            limit.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit)).ok_or_else(
                || invalid_value("limit", format_args!("it is a number from 1 to {LARGEST_PAGE}")),
            )?
        }
    };
    let mut all = jobs.list(tenant);
    match field(query, "order") {
        None | Some("desc") => all.reverse(),
        Some("asc") => {}
        Some(_) => return Err(invalid_value("order", "it is neither asc nor desc")),
    }
    let from = match field(query, "after") {
        None => 0,
        Some(after) => {
            let at = all.iter().position(|job| job.id == *after);
            at.map(|at| at + 1).ok_or_else(|| invalid_value("after", "there is no such video"))?
        }
    };
    let rest = &all[from..];
    let shown = &rest[..rest.len().min(limit)];
    Ok(list(shown.iter().map(Arc::as_ref), rest.len() > limit))
}

/// The value of a field of a query; none of those that are read here needs an escape.
fn field<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value).find(|value| !value.is_empty())
}

fn unknown(id: &str) -> Error {
    let id = crate::edge::parse::clip(id);
    let message = format!(
        "there is no video `{id}`: it was deleted, is older than those that are remembered, or was \
         never asked for with this key"
    );
    Error::new(ErrorKind::NotFound, message).with_param("id")
}

fn json<R>(body: Bytes) -> Response<VideoBody<R>> {
    let mut response = Response::new(VideoBody::json(FullBody::new(body)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
