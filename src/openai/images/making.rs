//! Several pictures in the making.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, request};
use http_body::Body;
use tower_service::Service;

use super::{
    fetch::base64,
    request::{Form, ImagesRequest},
};
use crate::{
    BoxError, Error, ErrorKind, Fate, FullBody, Text,
    chat::{Answer, AttachmentKind, ChatRequest, ChatStream, Usage},
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
}

impl Making {
    /// One call of `service` for each of the pictures of `request`.
    pub(super) fn new<S, C, F, R>(
        service: S,
        fetch: F,
        parts: &request::Parts,
        request: &ImagesRequest,
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
        let one = |place| -> One {
            let chat = Request::from_parts(parts.clone(), request.chat.clone());
            Box::pin(one(service.clone(), fetch.clone(), chat, place, request.form, limit))
        };
        let at_once = at_once.max(1);
        Self {
            waiting: (0..request.count).map(one).collect(),
            running: Vec::with_capacity(at_once.min(request.count)),
            at_once,
        }
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

/// Makes one answer, and fetches its pictures where the client wants them themselves.
async fn one<S, C, F, R>(
    mut service: S,
    fetch: F,
    request: Request<ChatRequest>,
    place: usize,
    form: Form,
    limit: usize,
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
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let (head, events) = service.call(request).await.map_err(Into::into)?.into_parts();
    let answer = Answer::collect(events).limit(limit).await?;
    let urls = of_kind(answer.attachments, AttachmentKind::Image, &answer.text)?;
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

/// Where the attachments of this kind are, of an answer that also says `text`.
///
/// # Errors
///
/// Where there are none.
pub(crate) fn of_kind(
    attachments: Vec<crate::chat::Attachment>,
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
    let what = if kind == AttachmentKind::Image { "picture" } else { "film" };
    let message = match text.trim() {
        "" => format!("the upstream finished and made no {what}; ask again, or in other words"),
        said => format!("the upstream made no {what} and says: {}", clip(said)),
    };
    Err(Error::new(ErrorKind::Upstream, message).with_fate(Fate::Refused))
}
