//! `target:` what carries the traffic. Exactly one kind.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Target {
    /// Gateway API: `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute(HttpRoute),
    /// Istio: `networking.istio.io/v1` VirtualService, destinations by host.
    VirtualService(VirtualService),
    /// A Service whose selector is flipped from blue to green.
    Service(ServiceFlip),
    /// HAProxy's runtime API.
    Haproxy(Haproxy),
    /// Whatever answers GET and PUT of weights.
    Webhook(Webhook),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    pub name: String,
    /// The policy's namespace if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of the two backend Services.
    pub stable: String,
    pub canary: String,
    /// Needed only where several backends of a rule share a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Names (or 0-based numbers) of the rules to write; all rules that hold both backends if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualService {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Destination hosts, short or fully qualified.
    pub stable: String,
    pub canary: String,
    /// Names of the http routes to write; needed when several hold both destinations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceFlip {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Selector labels of the two versions, e.g. `{app: blue}` and `{app: green}`. Other labels of the selector stay.
    pub stable: BTreeMap<String, String>,
    pub canary: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Haproxy {
    /// The runtime socket: a path, or `host:port` on loopback.
    pub socket: String,
    pub backend: String,
    /// Server names of each version; several share their version's weight evenly.
    pub stable: Vec<String>,
    pub canary: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// PUT `{"canary": 5, "stable": 95, …}` (percent) here; GET answers with the weights in effect in the same form.
    pub url: String,
    /// File with a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    #[serde(default = "five_seconds")]
    pub timeout: Span,
}

fn five_seconds() -> Span {
    Span::from_secs(5)
}
