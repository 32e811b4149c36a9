use std::{
    mem,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::task::JoinSet;
use tower_service::Service;
use tracing::Instrument;

use super::{
    FetchClient,
    client::{Failed, Fetched},
    plan::{Wanted, put, wanted},
};
use crate::{
    Error, ErrorKind, Text,
    chat::{ChatRequest, ChatStream, ResponseFuture},
};

/// Fetches what URLs in a message name; made by [`FetchLayer`](super::FetchLayer).
///
/// # Errors
///
/// The inner service's, and [`ErrorKind::InvalidRequest`] or [`ErrorKind::TooLarge`] with the code
/// `url_not_fetched` and the part as the parameter, where a URL is refused or cannot be fetched.
///
/// # Cancel safety
///
/// Dropping the future ends all that is fetched.
#[derive(Clone, Debug)]
pub struct Fetch<S> {
    inner: S,
    client: FetchClient,
    left_alone: Arc<Vec<String>>,
}

impl<S> Fetch<S> {
    service!();

    pub(super) const fn over(inner: S, client: FetchClient, left_alone: Arc<Vec<String>>) -> Self {
        Self { inner, client, left_alone }
    }
}

impl<S, B> Service<Request<ChatRequest>> for Fetch<S>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
{
    type Response = Response<B>;
    type Error = Error;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        // The service that is ready goes along, its fresh clone stays.
        let spare = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, spare);
        let wanted = wanted(&request.body().history, &self.left_alone);
        let client = self.client.clone();
        ResponseFuture::new(async move {
            if !wanted.is_empty() {
                fetch_all(&client, wanted, request.body_mut()).await?;
            }
            inner.call(request).await.map_err(Into::into)
        })
    }
}

/// Puts what all of `wanted` name in their places.
async fn fetch_all(
    client: &FetchClient,
    wanted: Vec<Wanted>,
    request: &mut ChatRequest,
) -> Result<(), Error> {
    let policy = client.policy();
    if let Some(one_too_many) = wanted.get(policy.max_urls) {
        let message = format!(
            "at most {} URLs of a request are fetched; send the others as data: URLs",
            policy.max_urls
        );
        counted("refused");
        return Err(refuse(ErrorKind::InvalidRequest, one_too_many, message));
    }
    let left = Arc::new(AtomicUsize::new(policy.max_total));
    // Dropping the set aborts its tasks.
    let mut running = JoinSet::new();
    for wanted in wanted {
        let (client, left) = (client.clone(), Arc::clone(&left));
        let fetch = async move {
            let fetched = client.fetch(&wanted.url, &left).await;
            (wanted, fetched)
        };
        running.spawn(fetch.in_current_span());
    }
    while let Some(done) = running.join_next().await {
        let (wanted, fetched) = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => {
                let message = "the server is shutting down";
                return Err(Error::new(ErrorKind::Overloaded, message).with_source(error));
            }
        };
        let data = fetched
            .map_err(|failed| error(&wanted, failed))
            .and_then(|fetched| taken(&wanted, &fetched))?;
        put(request, &wanted, data);
    }
    Ok(())
}

/// The `data:` URL of what was fetched, if it is what the part wants.
fn taken(wanted: &Wanted, fetched: &Fetched) -> Result<Text, Error> {
    match wanted.media_type(&fetched.bytes, fetched.media_type.as_deref()) {
        Ok(media_type) => {
            counted("fetched");
            metrics::counter!("tower_qwen_fetch_bytes_total").increment(fetched.bytes.len() as u64);
            Ok(crate::media::encode(&media_type, &fetched.bytes).into())
        }
        Err(what) => {
            counted("refused");
            let message = format!("{}: what is there is {what}", wanted.named());
            Err(refuse(ErrorKind::InvalidRequest, wanted, message))
        }
    }
}

fn error(wanted: &Wanted, failed: Failed) -> Error {
    let (kind, result, why) = match failed {
        Failed::Refused(why) => {
            tracing::warn!(?why, "a URL of a client is not fetched");
            (ErrorKind::InvalidRequest, "refused", why.as_str().to_owned())
        }
        Failed::Broken(why) => (ErrorKind::InvalidRequest, "failed", why),
        Failed::TooLarge(limit) => {
            let why = format!("it has more than the {limit} bytes that are taken");
            (ErrorKind::TooLarge, "refused", why)
        }
        Failed::TooSlow(limit) => {
            (ErrorKind::InvalidRequest, "failed", format!("it took longer than {limit:?}"))
        }
    };
    counted(result);
    refuse(kind, wanted, format!("{} was not fetched: {why}", wanted.named()))
}

fn refuse(kind: ErrorKind, wanted: &Wanted, message: String) -> Error {
    Error::new(kind, message).with_param(wanted.param()).with_code("url_not_fetched")
}

fn counted(result: &'static str) {
    metrics::counter!("tower_qwen_fetches_total", "result" => result).increment(1);
}
