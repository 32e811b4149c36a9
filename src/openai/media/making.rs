//! Several pictures in the making.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Request, Response, request};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    config::Task,
    fetch::base64,
    request::{Form, MediaRequest},
};
use crate::{
    BoxError, Error, ErrorKind, Fate, FullBody, Text,
    chat::{Answer, Attachment, AttachmentKind, ChatEvent, ChatRequest, ChatStream, Usage},
    edge::parse::clip,
};

/// A picture as its client is given it.
#[derive(Debug)]
pub(super) enum Picture {
    Url(Text),
    Base64(String),
}

impl Picture {
    fn len(&self) -> usize {
        match self {
            Self::Url(url) => url.len(),
            Self::Base64(data) => data.len(),
        }
    }
}

/// What one answer brought.
#[derive(Debug)]
pub(super) struct Made {
    /// Which of the answers it is.
    pub(super) place: usize,
    pub(super) pictures: Vec<Picture>,
    pub(super) usage: Option<Usage>,
    /// Of the response below.
    pub(super) headers: HeaderMap,
}

impl Made {
    pub(super) fn len(&self) -> usize {
        self.pictures.iter().map(Picture::len).sum()
    }
}

type One = Pin<Box<dyn Future<Output = Result<Made, Error>> + Send>>;

/// The answers to one request: a few at a time, as they come. The first that fails fails all.
///
/// All that run are polled when one wakes: there are a few, each is a call over the network, and so
/// nothing has to be spawned. Dropping it drops them, which cancels the upstream's work.
pub(super) struct Making {
    waiting: VecDeque<One>,
    running: Vec<One>,
    at_once: usize,
    /// How far each is, in percent.
    progress: Vec<Arc<AtomicU8>>,
}

impl Making {
    /// One call of `service` for each of the pictures of `request`.
    pub(super) fn new<S, C, F, R>(
        service: S,
        fetch: F,
        parts: &request::Parts,
        request: &MediaRequest,
        task: Task,
        at_once: usize,
        limit: usize,
    ) -> Self
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
    {
        let progress: Vec<_> = (0..request.count).map(|_| Arc::new(AtomicU8::new(0))).collect();
        let one = |place: usize| -> One {
            let chat = Request::from_parts(parts.clone(), request.chat.clone());
            let (form, progress) = (request.form, Arc::clone(&progress[place]));
            let wanted = Wanted { place, form, kind: task.attachment(), limit, progress };
            Box::pin(one(service.clone(), fetch.clone(), chat, wanted))
        };
        let at_once = at_once.max(1);
        Self {
            waiting: (0..request.count).map(one).collect(),
            running: Vec::with_capacity(at_once.min(request.count)),
            at_once,
            progress,
        }
    }

    /// About how many percent of all are made; 99 at most as long as any is not.
    pub(super) fn progress(&self) -> u8 {
        let sum: usize = self.progress.iter().map(|one| usize::from(one.load(Relaxed))).sum();
        u8::try_from(sum / self.progress.len().max(1)).unwrap_or(99).min(99)
    }

    /// The next answer; `None` when there are no more.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Made, Error>>> {
        while self.running.len() < self.at_once
            && let Some(next) = self.waiting.pop_front()
        {
            self.running.push(next);
        }
        for at in 0..self.running.len() {
            if let Poll::Ready(made) = self.running[at].as_mut().poll(cx) {
                drop(self.running.swap_remove(at));
                if made.is_err() {
                    self.waiting.clear();
                    self.running.clear();
                }
                return Poll::Ready(Some(made));
            }
        }
        if self.running.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Making")
            .field("waiting", &self.waiting.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

/// What is wanted of one answer.
struct Wanted {
    place: usize,
    form: Form,
    kind: AttachmentKind,
    limit: usize,
    progress: Arc<AtomicU8>,
}

/// Makes one answer, and fetches its pictures where the client wants them themselves.
async fn one<S, C, F, R>(
    mut service: S,
    fetch: F,
    request: Request<ChatRequest>,
    wanted: Wanted,
) -> Result<Made, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<C>>,
    S::Error: Into<Error>,
    C: ChatStream,
    F: Service<Request<FullBody>, Response = Response<R>> + Clone,
    F::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let Wanted { place, form, kind, limit, progress } = wanted;
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let (head, events) = service.call(request).await.map_err(Into::into)?.into_parts();
    let events = Watched::new(events, |percent| progress.store(percent, Relaxed));
    let answer = Answer::collect(events).limit(limit).await?;
    progress.store(100, Relaxed);
    let urls = of_kind(answer.attachments, kind, &answer.text)?;
    let mut pictures = Vec::with_capacity(urls.len());
    let mut left = limit;
    for url in urls {
        let picture = match form {
            Form::Url => Picture::Url(url),
            Form::Base64 => Picture::Base64(base64(fetch.clone(), &url, left).await?),
        };
        left = left.saturating_sub(picture.len());
        pictures.push(picture);
    }
    Ok(Made { place, pictures, usage: answer.usage, headers: head.headers })
}

pin_project! {
    /// A stream whose progress is told as it comes.
    pub(crate) struct Watched<S, T> {
        #[pin]
        inner: S,
        tell: T,
    }
}

impl<S, T: FnMut(u8)> Watched<S, T> {
    pub(crate) const fn new(inner: S, tell: T) -> Self {
        Self { inner, tell }
    }
}

impl<S: ChatStream, T: FnMut(u8)> Stream for Watched<S, T> {
    type Item = Result<ChatEvent, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let item = this.inner.poll_next(cx);
        if let Poll::Ready(Some(Ok(ChatEvent::Progress(percent)))) = &item {
            (this.tell)(*percent);
        }
        item
    }
}

/// Where the attachments of this kind are, of an answer that also says `text`.
///
/// # Errors
///
/// Where there are none.
pub(crate) fn of_kind(
    attachments: Vec<Attachment>,
    kind: AttachmentKind,
    text: &str,
) -> Result<Vec<Text>, Error> {
    let urls: Vec<_> = attachments
        .into_iter()
        .filter(|attachment| attachment.kind == kind)
        .map(|attachment| attachment.url)
        .collect();
    if !urls.is_empty() {
        return Ok(urls);
    }
    let what = if kind == AttachmentKind::Image { "picture" } else { "video" };
    let message = match text.trim() {
        "" => format!("the upstream finished and made no {what}; ask again, or in other words"),
        said => format!("the upstream made no {what} and says: {}", clip(said)),
    };
    Err(Error::new(ErrorKind::Upstream, message).with_fate(Fate::Refused))
}
