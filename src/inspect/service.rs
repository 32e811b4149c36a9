use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    future::ResponseFuture, layer::InspectLayer, stream::Inspected, teller::Teller, view::Place,
};

/// Tells the log what streams through here.
///
/// Made by [`InspectLayer`]; the [module](super) says what is told. Requests, responses, errors and
/// readiness are the inner service's own.
#[derive(Clone, Debug)]
pub struct Inspect<S> {
    inner: S,
    place: Place,
}

impl<S> Inspect<S> {
    service!(InspectLayer);
}

impl<S> Layer<S> for InspectLayer {
    type Service = Inspect<S>;

    fn layer(&self, inner: S) -> Inspect<S> {
        Inspect { inner, place: self.place }
    }
}

impl<S, R, B> Service<Request<R>> for Inspect<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<Inspected<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let teller = Teller::listened_to(&self.place, request.extensions());
        ResponseFuture::new(self.inner.call(request), teller)
    }
}
