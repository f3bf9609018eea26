//! `metrics:` where both versions' counters are read. Exactly one source.
//!
//! What a source is asked for are raw counters, as the pods write them; never rates. Sluice takes the differences itself.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Metrics {
    Prometheus(Prometheus),
    Scrape(Scrape),
}

/// Prometheus' HTTP API, or whatever speaks it (Thanos, Mimir, VictoriaMetrics).
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prometheus {
    /// What stands before `/api/v1/query`.
    pub url: String,
    #[serde(default)]
    pub preset: Preset,
    /// Own queries in place of a preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<Queries>,
    /// Which series are meant. With a preset: `stable`, `canary` (values of the label that tells the versions apart),
    /// `by` (that label's name), `namespace` (its value; empty: not asked for), `service` (Traefik's and Istio's),
    /// `match` and `errors` (more label matchers for all series, and other ones for errors: `status=~"5.."`).
    /// With own queries: whatever the templates call `labels.…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels by whose values requests are compared with their like only (route, method, tenant), so that a canary which
    /// gets another mix of traffic does not look worse. They must be known before the answer is: never the status. A
    /// rollout keeps the 16 busiest values apart and takes the rest as one. With a preset `method` if left out;
    /// `[]` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strata: Option<Vec<String>>,
    /// Extra request headers, such as `X-Scope-OrgID`. Not for secrets: see `tokenFile`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// File with a bearer token, read again for every query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

/// Values of headers may be secrets in spite of all advice: their names are enough for a log.
impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus")
            .field("url", &self.url.rsplit_once('@').map_or(self.url.as_str(), |(_, host)| host))
            .field("preset", &self.preset)
            .field("queries", &self.queries)
            .field("labels", &self.labels)
            .field("strata", &self.strata)
            .field("headers", &self.headers.keys())
            .field("token_file", &self.token_file)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Whose metrics they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// `http_requests_total{code}` and `http_request_duration_seconds` of the Prometheus client libraries.
    #[default]
    Http,
    /// OpenTelemetry's `http_server_request_duration_seconds{http_response_status_code}`.
    OpenTelemetry,
    /// `istio_requests_total`, `istio_request_duration_milliseconds`, as the pod's own sidecar reports them.
    Istio,
    /// `traefik_service_requests_total`, `traefik_service_request_duration_seconds`.
    Traefik,
    /// HAProxy's own exporter: `haproxy_server_http_responses_total`. It has no latency histogram.
    Haproxy,
}

/// Templates (Jinja) of plain PromQL selectors, such as `hits_total{ns="{{ namespace }}", app="{{ workload }}"}`.
/// Known names: `namespace`, `arm` (`stable` or `canary`), `workload` and `service` (that version's Deployment and
/// Service), `stable` and `canary` (both workloads), and `labels`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queries {
    /// Counter of all requests.
    pub requests: String,
    /// Counter of the failed ones among them.
    pub errors: String,
    /// `…_bucket` counters; boundaries in seconds, or in milliseconds if the name says `milliseconds`. Where a pod has none,
    /// the native histogram of that name without `_bucket` is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<String>,
    /// A series that stands on every pod as soon as it is scraped (`up{…}`), so that a pod's very first request counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<String>,
    /// When the process started, in seconds since 1970 (`process_start_time_seconds{…}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Labels that tell the counting processes apart.
    #[serde(default = "pod_and_container")]
    pub pod_labels: Vec<String>,
}

/// `/metrics` of each pod, read by Sluice itself: no Prometheus needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scrape {
    /// URLs of each version's `/metrics`.
    pub stable: Vec<String>,
    pub canary: Vec<String>,
    /// `http` or `openTelemetry`.
    #[serde(default)]
    pub preset: Preset,
    /// Labels by whose values requests are compared with their like only; as with Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strata: Option<Vec<String>>,
    #[serde(default = "five_seconds")]
    pub every: Span,
    #[serde(default = "five_seconds")]
    pub timeout: Span,
}

fn pod_and_container() -> Vec<String> {
    vec!["pod".to_owned(), "container".to_owned()]
}

fn ten_seconds() -> Span {
    Span::from_secs(10)
}

fn five_seconds() -> Span {
    Span::from_secs(5)
}
