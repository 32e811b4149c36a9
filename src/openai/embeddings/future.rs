use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use tower_service::Service;

use super::{
    answer::Batch, config::Config, encoded::Encoded, form::Form, none::no_embeddings,
    request::EmbeddingsRequest,
};
use crate::{
    BoxError, Error, ErrorKind, FullBody, Text,
    edge::{Outcome, ReadBody, Times, acceptable, of_edge, parse, refuse, strip_credentials},
    json::{ReadError, lenient},
    qwen::{
        compatible::refusal,
        redact::Secrets,
        transport::{self, Read},
    },
};

type Answered = Result<Response<FullBody>, Infallible>;

/// How long the end of an answer may take once its head was there.
const DEADLINE: Duration = Duration::from_secs(120);

/// The future of [`Embeddings`](super::Embeddings): reads the request, sends its batches, and
/// merges their answers.
///
/// # Cancel safety
///
/// Dropping it drops the calls under way, which cancels the upstream's work.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Answered> + Send>>,
}

impl ResponseFuture {
    /// The future of an edge that speaks `F`, over `upstream`.
    pub(crate) fn new<F, S, B, R>(upstream: S, request: Request<B>, config: Config) -> Self
    where
        F: Form,
        S: Service<Request<FullBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let answer = answer::<F, _, _, _>(upstream, request, config);
        let inner = Box::pin(async move {
            Ok(match answer.await {
                Ok(json) => {
                    let mut response = Response::new(FullBody::new(json));
                    let json = HeaderValue::from_static("application/json");
                    response.headers_mut().insert(header::CONTENT_TYPE, json);
                    response
                }
                Err(error) => of_edge(refuse(&error, F::error_into)).map(FullBody::new),
            })
        });
        Self { inner }
    }
}

impl Future for ResponseFuture {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Answers a request, whatever becomes of it.
async fn answer<F, S, B, R>(
    upstream: S,
    request: Request<B>,
    config: Config,
) -> Result<Bytes, Error>
where
    F: Form,
    S: Service<Request<FullBody>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    acceptable(&parts)?;
    strip_credentials(&mut parts.headers);
    let body = parse::text(&ReadBody::new(body, config.max_body, config.body_pace).await?)?;
    let request = F::read(&body, &config)?;
    let mut times = Times::now();
    let mut outcome = Outcome::new(F::EDGE, false);
    let exchange = Exchange {
        upstream,
        headers: headers(&parts.headers),
        extensions: parts.extensions,
        batch_len: request.batch_len(&config),
        request,
        config,
    };
    match exchange.run::<F>().await {
        Ok(batches) => {
            outcome.ended();
            times.end();
            Ok(F::whole(&exchange.request.named, &batches, &times))
        }
        Err(error) => {
            outcome.failed(&error);
            Err(error)
        }
    }
}

/// What a request of the upstream has beside its body.
fn headers(of_client: &HeaderMap) -> HeaderMap {
    let mut headers = transport::headers(of_client, None);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json.clone());
    headers.insert(header::ACCEPT, json);
    headers
}

/// The calls that one request takes.
struct Exchange<'a, S> {
    upstream: S,
    headers: HeaderMap,
    /// Of the client's request: for the layers below.
    extensions: Extensions,
    request: EmbeddingsRequest<'a>,
    batch_len: usize,
    config: Config,
}

impl<S, R> Exchange<'_, S>
where
    S: Service<Request<FullBody>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    /// Sends the batches, some at once, and gives their answers in order.
    ///
    /// All that run are polled when one wakes: there are a few, each is a call over the network,
    /// and so nothing has to be spawned.
    async fn run<F: Form>(&self) -> Result<Vec<Encoded>, Error> {
        let count = self.request.len().div_ceil(self.batch_len);
        let at_once = self.config.concurrency.max(1);
        let mut answers: Vec<Option<Encoded>> = (0..count).map(|_| None).collect();
        let mut running = Vec::with_capacity(at_once.min(count));
        let mut next = 0;
        poll_fn(|cx| {
            loop {
                while running.len() < at_once && next < count {
                    running.push((next, Box::pin(self.batch::<F>(next))));
                    next += 1;
                }
                let started = running.len();
                let mut at = 0;
                while let Some((number, batch)) = running.get_mut(at) {
                    match batch.as_mut().poll(cx) {
                        Poll::Pending => at += 1,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Ready(Ok(answer)) => {
                            answers[*number] = Some(answer);
                            drop(running.swap_remove(at));
                        }
                    }
                }
                if running.is_empty() && next == count {
                    return Poll::Ready(Ok(()));
                }
                if running.len() == started {
                    return Poll::Pending;
                }
            }
        })
        .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn batch<F: Form>(&self, number: usize) -> Result<Encoded, Error> {
        let Self { request, config, .. } = self;
        let first = number * self.batch_len;
        let len = self.batch_len.min(request.len() - first);
        let mut wire = Request::new(FullBody::new(request.batch(first, len, config)));
        *wire.method_mut() = Method::POST;
        *wire.uri_mut() = Uri::from_static("/embeddings");
        *wire.headers_mut() = self.headers.clone();
        *wire.extensions_mut() = self.extensions.clone();
        metrics::counter!("tower_qwen_embedding_batches_total").increment(1);
        tracing::debug!(first, len, "asking for embeddings");
        let response = transport::send(&mut self.upstream.clone(), wire).await?;
        let (head, body) = response.into_parts();
        let (bytes, cut) =
            transport::read_until(body, config.max_answer, DEADLINE, |_| false).await;
        let read = Read { bytes, complete: cut.is_none() };
        let secrets = Secrets::new(None, &head.extensions);
        if !head.status.is_success() {
            let error = refusal(head.status, &head.headers, &read, config.server, &secrets);
            return Err(match error.kind() {
                // The path is what is unknown: an unknown model is said to be one.
                ErrorKind::NotFound | ErrorKind::Unsupported => {
                    no_embeddings(config.server.name()).with_source(error)
                }
                _ if head.status == http::StatusCode::METHOD_NOT_ALLOWED => {
                    no_embeddings(config.server.name()).with_source(error)
                }
                _ => error,
            });
        }
        if let Some(cut) = cut {
            return Err(cut.into_error());
        }
        let refused = || refusal(head.status, &head.headers, &read, config.server, &secrets);
        let text = Text::from_utf8(read.bytes.clone()).map_err(|_| refused())?;
        let encoded = lenient::read(&text, |text| {
            let batch = Batch::read(text)?;
            Ok(batch.map(|batch| batch.encode::<F>(first, len, request.encoding)))
        });
        match encoded {
            Ok(Some(encoded)) => encoded,
            // An error with a good status, or something else altogether.
            Ok(None) => Err(refused()),
            Err(error) => Err(refused().with_source(ReadError::from(error))),
        }
    }
}
