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
    /// A Service whose selector is flipped from blue to green: all traffic or none.
    Service(ServiceFlip),
    /// HAProxy's runtime API; that HAProxy belongs to one daemon.
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
    /// Names of the two backend Services. Both stand in the rule already, the canary with weight 0.
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
    /// Destination hosts, short (a Service of the VirtualService's namespace) or fully qualified. Both stand in the route
    /// already, the canary with weight 0.
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
    /// Server names of each version; several share their version's weight evenly. HAProxy keeps 0 to 256 a server, so with
    /// one server each the finest share is 1 in 257 (0.39 %); weights that cannot be met to a tenth are refused.
    pub stable: Vec<String>,
    pub canary: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// PUT `{"canary": 5, "stable": 95, "rollout": …, "fence": "3.17", "abort": …}` (percent) here; GET answers with the weights
    /// in effect in the same form. The receiver refuses (409 or 412) a `Sluice-Fence` lower than the highest it has seen.
    /// No user, password or link-local address.
    pub url: String,
    /// File with a bearer token; read at each use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// For one request and its answer.
    #[serde(default = "five_seconds")]
    pub timeout: Span,
}

fn five_seconds() -> Span {
    Span::from_secs(5)
}
