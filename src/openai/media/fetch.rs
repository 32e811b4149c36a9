//! Getting what was made from where it is.

use std::{
    future::{Ready, poll_fn, ready},
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_service::Service;

use crate::{BoxError, Error, ErrorKind, Fate, FullBody, clock};

/// How long it may take to fetch a picture.
const DEADLINE: Duration = Duration::from_secs(60);

/// Fetches nothing: who wants a picture in base64 is told that it is not to be had.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoFetch;

impl Service<Request<FullBody>> for NoFetch {
    type Response = Response<FullBody>;
    type Error = Error;
    type Future = Ready<Result<Response<FullBody>, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<FullBody>) -> Self::Future {
        let message = "this server gives what was made as a URL and does not fetch it; ask with \
                       `response_format: url`";
        let error = Error::new(ErrorKind::Unsupported, message).with_param("response_format");
        ready(Err(error.with_code("fetch_not_supported")))
    }
}

/// Asks `service` for what is at `url`, and gives the response once its status says that it is there.
///
/// # Errors
///
/// Where it is not.
pub(crate) async fn open<F, R>(service: &mut F, url: &str) -> Result<Response<R>, Error>
where
    F: Service<Request<FullBody>, Response = Response<R>>,
    F::Error: Into<BoxError>,
{
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| {
        lost("the upstream's address of it is no URL").with_source(error)
    })?;
    if !matches!(uri.scheme_str(), Some("https" | "http")) || uri.host().is_none() {
        return Err(lost("the upstream's address of it is not https:"));
    }
    let mut request = Request::new(FullBody::default());
    *request.uri_mut() = uri;
    let failed = |error: F::Error| {
        Error::from_boxed(error.into(), ErrorKind::Upstream, "what was made could not be fetched")
    };
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
    let response = service.call(request).await.map_err(failed)?;
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(lost("the upstream does not keep it any more"))
        }
        status => Err(lost(format!("its address answers with {status}"))),
    }
}

/// What is at `url`, in base64; at most `limit` bytes of it.
///
/// # Errors
///
/// Where it is not there, is larger, or does not come in time.
pub(super) async fn base64<F, R>(mut service: F, url: &str, limit: usize) -> Result<String, Error>
where
    F: Service<Request<FullBody>, Response = Response<R>>,
    F::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    if let Some(inside) = url.strip_prefix("data:") {
        let is_base64 = |head: &str| head.ends_with(";base64");
        let data = inside.split_once(',').filter(|(head, _)| is_base64(head));
        return match data {
            Some((_, data)) if data.len() <= limit => Ok(data.to_owned()),
            Some(_) => Err(too_large(limit)),
            None => Err(lost("the upstream gave it in a form that is not read")),
        };
    }
    let fetched = async {
        let body = open(&mut service, url).await?.into_body();
        let whole = Limited::new(body, limit).collect().await;
        let whole = whole.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => too_large(limit),
            None => {
                Error::from_boxed(error, ErrorKind::Upstream, "what was made did not come whole")
            }
        })?;
        Ok(STANDARD.encode(whole.to_bytes()))
    };
    clock::within(DEADLINE, fetched).await.unwrap_or_else(|| {
        let message = format!("what was made did not come within {} s", DEADLINE.as_secs());
        Err(Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned))
    })
}

/// Something was made, and this is why nobody can have it. It is paid for, so nothing asks again.
fn lost(why: impl std::fmt::Display) -> Error {
    let message = format!("something was made and cannot be fetched: {why}");
    Error::new(ErrorKind::Upstream, message).with_fate(Fate::Refused)
}

fn too_large(limit: usize) -> Error {
    let message = format!(
        "what was made is larger than the {limit} bytes that are read; ask with `response_format: url`"
    );
    Error::new(ErrorKind::Upstream, message).with_code("answer_too_large").with_fate(Fate::Refused)
}
