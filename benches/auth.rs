//! What `AuthRefreshLayer` costs a request whose credential is valid, beside the same service
//! without it in the same run.
//!
//! Two references: `pass-through` does nothing, `copy-and-stamp` does what a plain layer does which
//! may have to send a request again: it keeps a clone and puts one header on. The budget is 200 ns
//! over `pass-through` for everything: keeping, choosing, checking, stamping and counting.

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    future::{self, Future, Ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant, SystemTime},
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Request, Response, header};
use tower::{Layer, Service};
use tower_qwen::{
    Error, FullBody,
    auth::{
        AccountPolicy, AuthRefreshLayer, BoxFuture, Credential, CredentialPool, CredentialProvider,
        DefaultPolicy, RefreshError, Renewal, StaticCredential,
    },
    chat::{ChatRequest, Conversation, Message, Role},
};

/// Answers at once.
#[derive(Clone)]
struct Upstream;

impl<B> Service<Request<B>> for Upstream {
    type Response = Response<()>;
    type Error = Error;
    type Future = Ready<Result<Response<()>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        black_box(&request);
        future::ready(Ok(Response::new(())))
    }
}

/// Passes everything through, as a layer that does nothing would.
#[derive(Clone)]
struct PassThrough<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for PassThrough<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.0.call(request)
    }
}

/// The least that a layer does which may have to send a request again: it keeps a copy, and puts
/// a fixed header on.
#[derive(Clone)]
struct CopyAndStamp<S>(S, HeaderValue);

impl<S: Service<Request<B>>, B: Clone> Service<Request<B>> for CopyAndStamp<S> {
    type Response = (S::Response, Request<B>);
    type Error = S::Error;
    type Future = Copied<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let copy = request.clone();
        request.headers_mut().insert(header::AUTHORIZATION, self.1.clone());
        Copied { future: self.0.call(request), copy: Some(copy) }
    }
}

pin_project_lite::pin_project! {
    struct Copied<F, B> {
        #[pin]
        future: F,
        copy: Option<Request<B>>,
    }
}

impl<F: Future<Output = Result<T, E>>, T, E, B> Future for Copied<F, B> {
    type Output = Result<(T, Request<B>), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        let copy = this.copy.take().expect("polled once");
        Poll::Ready(result.map(|response| (response, copy)))
    }
}

/// A login that ends, and whose store is looked at.
struct Login;

impl CredentialProvider for Login {
    fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
        let end = SystemTime::now() + Duration::from_secs(86_400);
        let login = Credential::oauth("at-demo", Some("rt-demo"), Some(end));
        Box::pin(future::ready(login.map_err(Into::into)))
    }

    fn refresh(&self, current: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
        Box::pin(future::ready(Ok(Renewal::granted(current))))
    }

    fn reload_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(5))
    }
}

/// Sends one request and takes the answer, without a runtime's help.
fn exchange<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>>,
    S::Error: std::fmt::Debug,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(response) => response.expect("nothing fails here"),
        Poll::Pending => unreachable!("nothing waits here"),
    }
}

fn bytes_request() -> Request<FullBody> {
    Request::builder()
        .method("POST")
        .uri("/v1/chat/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "text/event-stream")
        .body(FullBody::from("{}"))
        .expect("a request")
}

fn chat_request() -> Request<ChatRequest> {
    let mut chat = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, "Hello")]);
    chat.destination = Conversation::new("chat").with_parent("p").with_account("a").into();
    Request::builder().header("x-request-id", "00000000").body(chat).expect("a request")
}

fn compare<B>(
    criterion: &mut Criterion,
    runtime: &tokio::runtime::Runtime,
    body: &str,
    request: impl Fn() -> Request<B>,
) where
    DefaultPolicy: AccountPolicy<B>,
    B: Clone + Send + 'static,
{
    let pools = [
        (
            "key",
            CredentialPool::new(
                "a",
                StaticCredential::new(Credential::api_key("sk-demo").expect("a key")),
            ),
        ),
        ("login", CredentialPool::new("a", Login)),
        (
            "two-logins",
            CredentialPool::builder()
                .account("a", Login)
                .account("b", Login)
                .build()
                .expect("two accounts"),
        ),
    ];
    // A request that came over the wire shares its buffers already; so do the clones of one.
    // And its header map has room, as a parser's has.
    let base = request();
    let request = || {
        let mut request = base.clone();
        request.headers_mut().reserve(8);
        request
    };
    let mut group = criterion.benchmark_group(format!("auth/{body}"));
    // The request is made and the answer dropped outside of what is measured, in all alike.
    let mut plain = PassThrough(Upstream);
    group.bench_function("pass-through", |bencher| {
        bencher.iter_batched(
            &request,
            |request| exchange(&mut plain, request),
            BatchSize::SmallInput,
        );
    });
    let mut copying =
        PassThrough(CopyAndStamp(Upstream, HeaderValue::from_static("Bearer sk-demo")));
    group.bench_function("copy-and-stamp", |bencher| {
        bencher.iter_batched(
            request,
            |request| exchange(&mut copying, request),
            BatchSize::SmallInput,
        );
    });
    println!("{body} {}", ratio(&request, &mut plain, &mut copying, "copy-and-stamp"));
    for (name, pool) in pools {
        runtime.block_on(pool.load());
        let _guard = runtime.enter();
        let mut service = PassThrough(AuthRefreshLayer::from_pool(pool).layer(Upstream));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                request,
                |request| exchange(&mut service, request),
                BatchSize::SmallInput,
            );
        });
        println!("{body} {}", ratio(&request, &mut plain, &mut service, name));
    }
    group.finish();
}

/// The difference and the ratio, from interleaved rounds of the same run.
fn ratio<B, P, S>(
    request: &impl Fn() -> Request<B>,
    plain: &mut P,
    service: &mut S,
    name: &str,
) -> String
where
    P: Service<Request<B>, Error = Error>,
    S: Service<Request<B>, Error = Error>,
{
    const ROUND: usize = 1000;
    let mut best = [Duration::MAX; 2];
    for _ in 0..300 {
        let requests: Vec<_> = (0..ROUND).map(|_| request()).collect();
        let begun = Instant::now();
        for request in requests {
            black_box(exchange(plain, request));
        }
        best[0] = best[0].min(begun.elapsed());
        let requests: Vec<_> = (0..ROUND).map(|_| request()).collect();
        let begun = Instant::now();
        for request in requests {
            black_box(exchange(service, request));
        }
        best[1] = best[1].min(begun.elapsed());
    }
    let [plain, with] = best.map(|best| best.as_secs_f64() * 1e9 / ROUND as f64);
    format!(
        "{name}: pass-through {plain:.0} ns, with the layer {with:.0} ns: {:.0} ns more, {:.2} ×",
        with - plain,
        with / plain
    )
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    compare(criterion, &runtime, "bytes", bytes_request);
    compare(criterion, &runtime, "chat", chat_request);
}

criterion_group!(auth, benches);
criterion_main!(auth);
