//! `GET /ready`: whether requests can be answered here now, for load balancers and the like.
//!
//! `/health` says that the process is alive, and to start it anew would help nobody. This says
//! whether to send requests to it: somebody must be there who can be asked, with an account where it
//! takes one, and the process must not be about to end.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Json,
    http::{Request, Response, StatusCode, header::CACHE_CONTROL},
    response::IntoResponse,
};
use pin_project_lite::pin_project;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::Service;

use super::{
    access::Access,
    credentials::Health,
    lanes::{Lane, Lanes},
    shutdown::Shutdown,
};

/// After so many failed calls in a row an upstream counts as out of reach, as for those that others
/// stand in for.
const FAILURES: u32 = 5;
/// For how long after the last of them; then requests find out whether it is back.
const PAUSE: Duration = Duration::from_secs(10);

/// What the last calls of an upstream have come to. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Reach(Arc<Calls>);

#[derive(Debug)]
struct Calls {
    /// How many have failed in a row.
    failed: AtomicU32,
    /// When the last of them did, in milliseconds from `begun`.
    failed_at: AtomicU64,
    begun: Instant,
}

impl Reach {
    /// That of an upstream that was not asked yet.
    pub(crate) fn new() -> Self {
        let begun = Instant::now();
        Self(Arc::new(Calls { failed: AtomicU32::new(0), failed_at: AtomicU64::new(0), begun }))
    }

    /// `upstream`, whose calls count.
    pub(crate) fn over<S>(&self, upstream: S) -> Reached<S> {
        Reached { inner: upstream, reach: self.clone() }
    }

    /// Whether there is hope that it answers.
    pub(crate) fn is_there(&self) -> bool {
        if self.0.failed.load(Ordering::Relaxed) < FAILURES {
            return true;
        }
        let failed_at = Duration::from_millis(self.0.failed_at.load(Ordering::Relaxed));
        self.0.begun.elapsed() >= failed_at + PAUSE
    }

    fn ended(&self, is_good: bool) {
        let Calls { failed, failed_at, begun } = &*self.0;
        if !is_good {
            let at = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            failed_at.store(at, Ordering::Relaxed);
            // A count that came round would be a success.
            let one_more = |count: u32| Some(count.saturating_add(1));
            let _ = failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        } else if failed.load(Ordering::Relaxed) != 0 {
            failed.store(0, Ordering::Relaxed);
        }
    }
}

/// An upstream whose calls count for a [`Reach`].
#[derive(Clone, Debug)]
pub(crate) struct Reached<S> {
    inner: S,
    reach: Reach,
}

impl<S, R, B> Service<Request<R>> for Reached<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReachedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        if let Some(access) = request.extensions().get::<Access>() {
            access.asked();
        }
        ReachedFuture { inner: self.inner.call(request), reach: self.reach.clone() }
    }
}

pin_project! {
    /// The response of a [`Reached`].
    pub(crate) struct ReachedFuture<F> {
        #[pin]
        inner: F,
        reach: Reach,
    }
}

impl<F, B, E> Future for ReachedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        // A refusal is an answer; whose fault it is, others find out.
        this.reach.ended(matches!(&result, Ok(response) if !response.status().is_server_error()));
        Poll::Ready(result)
    }
}

/// What the route needs to know.
#[derive(Clone)]
pub(crate) struct Ready {
    lanes: Lanes,
    shutdown: Shutdown,
}

impl Ready {
    pub(crate) const fn new(lanes: Lanes, shutdown: Shutdown) -> Self {
        Self { lanes, shutdown }
    }

    /// The answer: `200` where requests are welcome, else `503`. It names upstreams as `/health` does,
    /// and no account.
    pub(crate) fn report(&self) -> axum::response::Response {
        let report = self.told();
        let status = match report.get("reason") {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, [(CACHE_CONTROL, "no-store")], Json(report)).into_response()
    }

    /// What it says.
    pub(crate) fn told(&self) -> Value {
        let lacks: Vec<_> = self.lanes.iter().map(|lane| (lane, lack(lane))).collect();
        let reason = if self.shutdown.is_draining() {
            Some("draining")
        } else if lacks.iter().all(|(_, lack)| lack.is_some()) {
            Some("no_upstream")
        } else {
            None
        };
        let upstreams: Vec<_> = lacks.iter().map(|(lane, lack)| row(lane, *lack)).collect();
        let mut report = json!({
            "status": if reason.is_none() { "ready" } else { "not_ready" },
            "upstreams": upstreams,
        });
        if let Some(reason) = reason {
            report["reason"] = reason.into();
        }
        report
    }
}

/// Why nobody can be asked there now.
fn lack(lane: &Lane) -> Option<&'static str> {
    if !lane.reach.is_there() {
        return Some("out_of_reach");
    }
    let accounts = lane.desk.pool.as_ref().map(|pool| Health::of([pool]));
    accounts.is_some_and(|accounts| accounts.is_bad()).then_some("no_usable_account")
}

fn row(lane: &Lane, lack: Option<&'static str>) -> Value {
    let mut row = json!({
        "name": String::from_utf8_lossy(lane.name.as_bytes()), "ready": lack.is_none(),
    });
    if let Some(lack) = lack {
        row["reason"] = lack.into();
    }
    row
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future};

    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn call(reach: &Reach, status: Option<u16>) {
        let upstream = service_fn(move |_: Request<()>| {
            future::ready(match status {
                Some(status) => Ok(Response::builder().status(status).body(()).expect("a status")),
                None => Err("refused"),
            })
        });
        let _ = reach.over(upstream).oneshot(Request::new(())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_fails_again_and_again_is_out_of_reach_for_a_while() {
        let reach = Reach::new();
        assert!(reach.is_there(), "nobody has asked");
        for status in [None, Some(500), None, Some(503)] {
            call(&reach, status).await;
            assert!(reach.is_there());
        }
        // A refusal comes from somebody who is there.
        call(&reach, Some(401)).await;
        for _ in 0..FAILURES {
            assert!(reach.is_there());
            call(&reach, None).await;
        }
        assert!(!reach.is_there());
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert!(!reach.is_there());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(reach.is_there(), "a request may find out");
        call(&reach, Some(502)).await;
        assert!(!reach.is_there(), "it did");
        call(&reach, Some(200)).await;
        assert!(reach.is_there());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_says_nothing() {
        let reach = Reach::new();
        let silent =
            service_fn(|_: Request<()>| future::pending::<Result<Response<()>, Infallible>>());
        for _ in 0..FAILURES {
            drop(reach.over(silent).oneshot(Request::new(())));
        }
        assert!(reach.is_there());
    }
}
