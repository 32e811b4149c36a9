//! `GET /metrics`: what the layers count, for Prometheus.

mod names;

use std::{sync::OnceLock, time::Duration};

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// The process's recorder; there can be one only.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// How often what was counted is put in order, scraped or not.
const UPKEEP: Duration = Duration::from_secs(10);

/// From a millisecond, for what the proxy does by itself, to a quarter of an hour, for whole answers.
const SECONDS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0,
];

/// Those that OpenTelemetry's conventions want for durations, and for tokens.
const GEN_AI_SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const GEN_AI_TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// What counts, with histograms in place of summaries: those of several proxies can be added up.
pub(crate) fn recorder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Full("gen_ai_client_token_usage".to_owned()),
            &GEN_AI_TOKENS,
        )?
        .set_buckets_for_metric(Matcher::Prefix("gen_ai_".to_owned()), &GEN_AI_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
}

/// Begins to count. What is built before is not counted.
///
/// # Errors
///
/// If something counts already.
pub(crate) fn install() -> Result<(), String> {
    let handle = recorder().and_then(PrometheusBuilder::install_recorder);
    let handle = handle.map_err(|error| format!("--metrics: {error}"))?;
    names::describe();
    let upkept = RECORDER.get_or_init(|| handle).clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkept.run_upkeep();
        }
    });
    Ok(())
}

/// Whether anything is counted.
pub(crate) fn is_on() -> bool {
    RECORDER.get().is_some()
}

/// What these counters have come to, each by its labels; nothing where nothing is counted.
pub(crate) fn sums(names: &[&str]) -> serde_json::Value {
    let counts = RECORDER.get().map(PrometheusHandle::render).unwrap_or_default();
    let rows = counts.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.strip_suffix('}').unwrap_or(labels);
        names.contains(&name).then(|| {
            serde_json::json!({"name": name, "labels": labels, "value": value.parse::<f64>().ok()})
        })
    });
    rows.collect()
}

/// The counts.
pub(crate) async fn render() -> Response {
    let counts = RECORDER.get().map(PrometheusHandle::render).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], counts).into_response()
}
