use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    cache::Cache,
    config::Config,
    exchange::Exchange,
    future::ResponseFuture,
    plan::{Place, Plan, has_files, omission, plan},
};
use crate::{
    BoxError, Error, ErrorKind, FullBody,
    chat::{ChatRequest, ChatStream, Content, Part, PartKind},
    offload::{is_large, offload},
};

/// Uploads what parts of a message hold; made by
/// [`UploadLayer`](super::UploadLayer).
///
/// # Errors
///
/// The inner service's, and those of an upload. The [module](super) lists them.
///
/// # Cancel safety
///
/// Dropping the future cancels the uploads that are under way. A file that has arrived stays with the
/// account, for upstream has no call to delete one.
#[derive(Clone, Debug)]
pub struct Upload<S, U, O> {
    pub(super) inner: S,
    pub(super) upstream: U,
    pub(super) store: O,
    pub(super) config: Arc<Config>,
    pub(super) cache: Cache,
}

impl<S, U, O> Upload<S, U, O> {
    service!();
}

impl<S, U, O, B, UB, OB> Service<Request<ChatRequest>> for Upload<S, U, O>
where
    S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
    B: ChatStream + Send + 'static,
    U: Service<Request<FullBody>, Response = Response<UB>> + Clone + Send + Sync + 'static,
    U::Error: Into<BoxError>,
    U::Future: Send,
    UB: Body<Data = Bytes> + Send + 'static,
    UB::Error: Into<BoxError>,
    O: Service<Request<FullBody>, Response = Response<OB>> + Clone + Send + Sync + 'static,
    O::Error: Into<BoxError>,
    O::Future: Send,
    OB: Body<Data = Bytes> + Send + 'static,
    OB::Error: Into<BoxError>,
{
    type Response = Response<B>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ChatRequest>) -> Self::Future {
        if !has_files(&request.body().history) {
            return ResponseFuture::through(self.inner.call(request));
        }
        // The service that is ready goes along, its fresh clone stays.
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare);
        let exchange =
            Exchange::new(self.upstream.clone(), self.store.clone(), &self.cache, &request);
        let config = Arc::clone(&self.config);
        ResponseFuture::uploading(uploading(ready, exchange, config, request))
    }
}

async fn uploading<S, U, O, B, UB, OB>(
    mut inner: S,
    exchange: Exchange<U, O>,
    config: Arc<Config>,
    mut request: Request<ChatRequest>,
) -> Result<Response<B>, Error>
where
    S: Service<Request<ChatRequest>, Response = Response<B>>,
    S::Error: Into<Error>,
    U: Service<Request<FullBody>, Response = Response<UB>> + Clone + Send + Sync + 'static,
    U::Error: Into<BoxError>,
    U::Future: Send,
    UB: Body<Data = Bytes> + Send + 'static,
    UB::Error: Into<BoxError>,
    O: Service<Request<FullBody>, Response = Response<OB>> + Clone + Send + Sync + 'static,
    O::Error: Into<BoxError>,
    O::Future: Send,
    OB: Body<Data = Bytes> + Send + 'static,
    OB::Error: Into<BoxError>,
{
    let Plan { items, omitted } = if is_large(request.body()) {
        let (history, config) = (request.body().history.clone(), Arc::clone(&config));
        offload("decode", move || plan(&history, &config)).await??
    } else {
        plan(&request.body().history, &config)?
    };
    let places: Vec<_> = items.iter().map(|item| item.place).collect();
    let keys: Vec<_> = items.iter().filter_map(|item| exchange.key(item)).collect();
    let cache = exchange.cache();
    let files = exchange.all(items, config).await?;
    for (place, file) in places.into_iter().zip(files) {
        put(request.body_mut(), place, PartKind::Uploaded(file));
    }
    for (place, kind) in omitted {
        put(request.body_mut(), place, PartKind::Text(omission(kind)));
    }
    inner.call(request).await.map_err(Into::into).inspect_err(|error| {
        // The files may be what upstream does not take: it says so of an address that is too old.
        if error.kind() == ErrorKind::InvalidRequest {
            cache.forget(&keys);
        }
    })
}

/// Puts a part of this kind into the place of one that held data.
fn put(request: &mut ChatRequest, place: Place, kind: PartKind) {
    let message = request.history.get_mut(place.message);
    if let Some(Content::Parts(parts)) = message.and_then(|message| message.content.as_mut())
        && let Some(slot) = parts.get_mut(place.part)
    {
        *slot = Part::new(kind);
    }
}
