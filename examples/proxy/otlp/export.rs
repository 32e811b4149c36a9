//! Where the spans go.

use std::{
    env, fmt,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::http::HeaderMap;
use opentelemetry::{propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_http::{
    Bytes, HeaderExtractor, HeaderInjector, HttpClient, HttpError, Request, Response,
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// For how long a collector may take what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long the end of the program waits for what is still to be sent.
const LAST_SPANS: Duration = Duration::from_secs(5);

static ON: AtomicBool = AtomicBool::new(false);

/// Whether spans are sent.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Has `span` go on in the trace that the client's `traceparent` names.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if span.set_parent(context).is_err() {
        tracing::debug!("a span begins a trace of its own");
    }
}

/// Has the trace go on from the span that is entered, where whoever gets `headers` goes on with it.
pub(crate) fn hand_on(headers: &mut HeaderMap) {
    if is_on() {
        let context = Span::current().context();
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
    }
}

/// Sends spans to a collector, until it goes.
pub(crate) struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// One to the collector at `url`, such as `http://127.0.0.1:4318`.
    ///
    /// # Errors
    ///
    /// If that is no URL, in words.
    pub(crate) fn to(url: &str) -> Result<Self, String> {
        let url = url.trim_end_matches('/');
        let endpoint = match url.ends_with("/v1/traces") {
            true => url.to_owned(),
            false => format!("{url}/v1/traces"),
        };
        let client = reqwest::Client::builder().timeout(PATIENCE).build();
        let client = client.map_err(|error| format!("the exporter cannot be made: {error}"))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { client, runtime: Handle::current() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| error.to_string())?;
        let mut resource = Resource::builder();
        if env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("tower-qwen-proxy");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        ON.store(true, Ordering::Relaxed);
        Ok(Self { provider })
    }

    /// What gives it the spans of the program.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = Targets::new().with_target(super::TARGET, LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tower-qwen"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// The client of the proxy's upstreams, for a thread without a runtime.
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)?;
            let client = self.client.clone();
            let answer = self.runtime.spawn(async move {
                let response = client.execute(request).await?;
                let (status, headers) = (response.status(), response.headers().clone());
                Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
            });
            let (status, headers, body) = answer.await??;
            let mut response = Response::new(body);
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok(response)
        })
    }
}
