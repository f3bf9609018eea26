//! `metrics:` where both versions' counters are read. Exactly one source.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Metrics {
    Prometheus(Prometheus),
    Scrape(Scrape),
}

/// Prometheus' HTTP API, or whatever speaks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prometheus {
    pub url: String,
    #[serde(default)]
    pub preset: Preset,
    /// Own queries in place of a preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<Queries>,
    /// Values for the templates, e.g. `{stable: checkout, canary: checkout-canary}`; workload and service names are given anyway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Extra request headers, e.g. `X-Scope-OrgID`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

/// Whose metrics they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// `http_requests_total` and `http_request_duration_seconds` of the Prometheus client libraries.
    #[default]
    Http,
    /// OpenTelemetry's `http_server_request_duration_seconds`.
    OpenTelemetry,
    /// `istio_requests_total`, `istio_request_duration_milliseconds`.
    Istio,
    Traefik,
    Haproxy,
}

/// Templates of PromQL selectors; see the adapters' page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queries {
    pub requests: String,
    pub errors: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<String>,
}

/// `/metrics` of each pod, read by Sluice itself: no Prometheus needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scrape {
    /// URLs of each version's `/metrics`.
    pub stable: Vec<String>,
    pub canary: Vec<String>,
    #[serde(default)]
    pub preset: Preset,
    #[serde(default = "five_seconds")]
    pub every: Span,
    #[serde(default = "five_seconds")]
    pub timeout: Span,
}

fn ten_seconds() -> Span {
    Span::from_secs(10)
}

fn five_seconds() -> Span {
    Span::from_secs(5)
}
