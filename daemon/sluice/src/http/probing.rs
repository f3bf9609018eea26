//! What an orchestrator and Prometheus ask.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::House;

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Readiness {
    pub ready: bool,
    /// What is missing, in words.
    pub missing: Vec<String>,
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "probes", responses((status = 200, description = "alive", body = str, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Bus and store can be reached, and work is being taken.
#[utoipa::path(get, path = "/readyz", tag = "probes", responses(
    (status = 200, description = "ready", body = ref("#/components/schemas/Readiness")),
    (status = 503, description = "not ready; says what is missing", body = ref("#/components/schemas/Readiness"))))]
pub(super) async fn readyz(State(house): State<House>) -> Response {
    let missing = house.control.ready().await.err().unwrap_or_default();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: missing.is_empty(), missing })).into_response()
}

/// Our own metrics.
#[utoipa::path(get, path = "/metrics", tag = "probes", responses((status = 200, description = "Prometheus or OpenMetrics text", body = str, content_type = "text/plain")))]
pub(super) async fn metrics(State(house): State<House>) -> Response {
    let text = house.control.metrics();
    // Told apart by the end mark that OpenMetrics demands, so that the header never lies.
    let kind = if text.trim_end().ends_with("# EOF") {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
