//! The same for requests that pass as bytes.

use std::time::SystemTime;

use http::{Request, Response, StatusCode};
use tower::retry::Policy;

use super::{policy::RetryPolicy, wait::Wait};
use crate::{Error, ErrorKind, Fate, FullBody, retry_after::retry_after};

/// For an HTTP service under which nothing reads the bodies: it goes by the head of the response.
impl<B> Policy<Request<FullBody>, Response<B>, Error> for RetryPolicy {
    type Future = Wait;

    fn retry(
        &mut self,
        _: &mut Request<FullBody>,
        result: &mut Result<Response<B>, Error>,
    ) -> Option<Wait> {
        match result {
            Err(error) => self.again(error),
            Ok(response) => match refusal(response) {
                Some(error) => self.again(&error),
                None => {
                    self.answered();
                    None
                }
            },
        }
    }

    fn clone_request(&mut self, request: &Request<FullBody>) -> Option<Request<FullBody>> {
        Some(request.clone())
    }
}

/// What the head says of a request that may be sent once more.
fn refusal<B>(response: &Response<B>) -> Option<Error> {
    let wait = retry_after(response.headers(), SystemTime::now());
    let kind = match response.status() {
        // Whether a quota is used up stands in the body; one that comes back soon says when.
        StatusCode::TOO_MANY_REQUESTS if wait.is_some() => ErrorKind::RateLimited,
        StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Overloaded,
        status if status.as_u16() == 529 => ErrorKind::Overloaded,
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => ErrorKind::Upstream,
        _ => return None,
    };
    let error = Error::new(kind, "the upstream refused").with_fate(Fate::Refused);
    Some(match wait {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use bytes::Bytes;
    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};
    use tower_layer::Layer;

    use super::*;

    /// How often a service is asked that answers with this head, and for how long.
    async fn asked(status: u16, after: Option<&'static str>) -> (usize, Duration) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let service = service_fn(move |request: Request<FullBody>| {
            assert_eq!(request.body().as_bytes(), b"the same");
            counted.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::builder().status(status);
            if let Some(after) = after {
                response = response.header("retry-after", after);
            }
            async { Ok::<_, Error>(response.body(()).expect("a head")) }
        });
        let policy = RetryPolicy::new().pause(Duration::from_secs(2));
        let layer = tower::retry::RetryLayer::<RetryPolicy>::new(policy);
        let request = Request::new(FullBody::new(Bytes::from_static(b"the same")));
        let begun = Instant::now();
        let response = layer.layer(service).oneshot(request).await.expect("a response");
        assert_eq!(response.status(), status, "the last is the client's");
        (count.load(Ordering::SeqCst), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_by_the_head() {
        for status in [500, 502, 503, 529] {
            let (count, took) = asked(status, None).await;
            assert_eq!(count, 3, "{status}");
            assert!((3..=9).contains(&took.as_secs()), "{status}: {took:?}");
        }
        // No try comes earlier than it says, and one that is far away is none.
        let (count, took) = asked(429, Some("7")).await;
        assert_eq!(count, 3);
        assert!(took >= Duration::from_secs(14), "{took:?}");
        assert_eq!(asked(503, Some("3600")).await.0, 1);
        for status in [200, 400, 401, 404, 429, 504] {
            assert_eq!(asked(status, None).await, (1, Duration::ZERO), "{status}");
        }
    }
}
