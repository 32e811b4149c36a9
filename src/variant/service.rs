use std::{
    mem,
    task::{Context, Poll},
};

use http::Request;
use tower_service::Service;

use super::{ResponseFuture, Variants};
use crate::{Error, chat::ChatRequest};

/// Has requests for virtual models go to the models that are there.
///
/// Made by [`VariantLayer`](super::VariantLayer); the [module](super) says how it works. A request
/// whose name has no suffix passes at once, and costs a comparison of its end.
///
/// # Errors
///
/// The inner service's; [`ModelNotFound`](crate::ErrorKind::ModelNotFound) where the model in front
/// of the suffix has not what the suffix is for; and
/// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) for functions and forms that its kind of
/// answer has no place for.
///
/// # Cancel safety
///
/// Dropping the future before the catalogue was asked sends nothing.
#[derive(Clone, Debug)]
pub struct VariantService<S> {
    inner: S,
    variants: Variants,
}

impl<S> VariantService<S> {
    service!();

    pub(super) const fn over(inner: S, variants: Variants) -> Self {
        Self { inner, variants }
    }
}

impl<S> Service<Request<ChatRequest>> for VariantService<S>
where
    S: Service<Request<ChatRequest>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> Self::Future {
        if !self.variants.may_be(&request.body().model) {
            return ResponseFuture::through(self.inner.call(request));
        }
        // The service that is ready goes along, its fresh clone stays.
        let spare = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, spare);
        let variants = self.variants.clone();
        ResponseFuture::resolving(async move {
            if let Some(variant) = variants.resolve(&request.body().model).await? {
                variant.apply(request.body_mut())?;
            }
            Ok(ready.call(request))
        })
    }
}
