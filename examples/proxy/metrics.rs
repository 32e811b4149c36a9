//! `GET /metrics`: what the layers count, for Prometheus.

use std::{sync::OnceLock, time::Duration};

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The process's recorder; there can be one only.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// How often what was counted is put in order, scraped or not.
const UPKEEP: Duration = Duration::from_secs(10);

/// Begins to count. What is built before is not counted.
///
/// # Errors
///
/// If something counts already.
pub(crate) fn install() -> Result<(), String> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| format!("--metrics: {error}"))?;
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

/// The counts.
pub(crate) async fn render() -> Response {
    let counts = RECORDER.get().map(PrometheusHandle::render).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], counts).into_response()
}
