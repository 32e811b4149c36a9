//! The pass-through lane: bytes in, bytes out, where no layer is asked to look at them.

use std::convert::Infallible;

use axum::{
    body::Body as AxumBody,
    extract::Request,
    http::{HeaderMap, HeaderName, Method, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    openai::{BodyPace, error_response, read_body},
};

use super::lanes::{MAX_BODY, Route, unread};

/// What is between two hosts only (RFC 9110 7.6.1), beside what `connection` names.
const OF_THE_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a client proves itself with to the proxy, and what the proxy and its client below say
/// themselves.
const OF_THE_PROXY: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::REFERER,
    // What is compressed cannot be reframed.
    header::ACCEPT_ENCODING,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// Sends requests to `path` of `upstream` as they are, without the client's own credential.
pub(crate) fn route<U, B>(upstream: U, path: &'static str, body_pace: BodyPace) -> Route
where
    U: Service<
            axum::http::Request<Full<Bytes>>,
            Response = axum::http::Response<B>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Route::new(service_fn(move |request: Request| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(pass(upstream, request, path, body_pace).await) }
    }))
}

async fn pass<U, B>(
    upstream: U,
    request: Request,
    path: &'static str,
    body_pace: BodyPace,
) -> Response
where
    U: Service<
            axum::http::Request<Full<Bytes>>,
            Response = axum::http::Response<B>,
            Error: Into<BoxError>,
        >,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    if request.method() != Method::POST {
        let message = format!("{} is not served here; use POST", request.method());
        return error_response(&Error::new(ErrorKind::MethodNotAllowed, message)).into_response();
    }
    let (mut head, body) = request.into_parts();
    // Whole, so that it can be sent again with a newer credential.
    let body = match read_body(body, MAX_BODY, Some(body_pace)).await {
        Ok(body) => body,
        Err(error) => return unread(&error),
    };
    head.uri = Uri::from_static(path);
    head.version = axum::http::Version::HTTP_11;
    end_hop(&mut head.headers);
    remove(&mut head.headers, &OF_THE_PROXY);
    match upstream.oneshot(Request::from_parts(head, Full::new(body))).await {
        Ok(response) => {
            let mut response = response.map(AxumBody::new);
            end_hop(response.headers_mut());
            response
        }
        Err(error) => error_response(&known(error.into())).into_response(),
    }
}

/// Removes what is not for the next host.
fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    remove(headers, &named);
    remove(headers, &OF_THE_HOP);
}

fn remove(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

/// Errors of the layers and the client below keep their class.
pub(crate) fn known(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => {
            Error::new(ErrorKind::Upstream, "the upstream could not be asked").with_source(error)
        }
    }
}

#[cfg(test)]
mod tests;
