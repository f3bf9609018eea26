//! `target:` what carries the traffic. Exactly one kind.
//!
//! One list, [`Target`], and what the rest of the program asks of any of them: which object, which Services, and the same
//! with the versions in each other's place.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Target {
    /// Gateway API: `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute(RuleRoute),
    /// Gateway API: `gateway.networking.k8s.io/v1` GRPCRoute.
    GrpcRoute(RuleRoute),
    /// Gateway API: `gateway.networking.k8s.io/v1` TLSRoute. A weight is a share of connections.
    TlsRoute(RuleRoute),
    /// Gateway API: `gateway.networking.k8s.io/v1` TCPRoute. A weight is a share of connections.
    TcpRoute(RuleRoute),
    /// Istio: `networking.istio.io/v1` VirtualService, destinations by host or by subset.
    VirtualService(VirtualService),
    /// OpenShift: `route.openshift.io/v1` Route, `to` and `alternateBackends`. Each weight is 0 to 256.
    OpenShiftRoute(PlainRoute),
    /// Avi's cloud connector: the ratios of a pool group in annotation `avi_proxy` of the Service that has the listener.
    AviPoolGroup(PlainRoute),
    /// Contour: `projectcontour.io/v1` HTTPProxy; rules are its routes, by number, with `tcpproxy` last.
    HttpProxy(RuleRoute),
    /// Traefik: `traefik.io/v1alpha1` TraefikService, weighted.
    TraefikService(PlainRoute),
    /// SMI: `split.smi-spec.io/v1alpha4` TrafficSplit.
    TrafficSplit(PlainRoute),
    /// NGINX Ingress Controller: the canary's own Ingress, annotation `canary-weight`.
    NginxIngress(PlainRoute),
    /// AWS Load Balancer Controller: an Ingress with a forward action in an annotation. Each weight is 0 to 999.
    AlbIngress(AlbIngress),
    /// Apache APISIX: `apisix.apache.org/v2` ApisixRoute; rules are its http routes, by name.
    ApisixRoute(RuleRoute),
    /// Gloo: `gateway.solo.io/v1` RouteTable; rules are its routes, by name, backends are upstreams or Services.
    RouteTable(RuleRoute),
    /// Kuma: `kuma.io/v1alpha1` MeshHTTPRoute; backends are MeshServices, or subsets by their tag `version`.
    MeshHttpRoute(RuleRoute),
    /// Ambassador, Emissary: the canary's own `getambassador.io/v3alpha1` Mapping. Whole percents.
    Mapping(PlainRoute),
    /// Skipper: an Ingress with annotation `zalando.org/backend-weights`.
    SkipperIngress(PlainRoute),
    /// Knative: `serving.knative.dev/v1` Service; the versions are tags (or revisions) of its traffic. Whole percents.
    KnativeService(PlainRoute),
    /// A Service whose selector is flipped from blue to green: all traffic or none.
    Service(ServiceFlip),
    /// Two workloads behind one Service, without a router: the weight is the canary's share of the pods, 50 % at most.
    Replicas(PodShare),
    /// Argo Rollouts: `argoproj.io/v1alpha1` Rollout, which runs both versions itself. `stable` and `canary` are its Services
    /// (`activeService` and `previewService` for blue/green, which has no steps).
    ArgoRollout(PlainRoute),
    /// No router: the stable workload carries all traffic, and its pods are replaced (`strategy: rolling` or `recreate`).
    InPlace(InPlace),
    /// HAProxy's runtime API; that HAProxy belongs to one daemon.
    Haproxy(Haproxy),
    /// Whatever answers GET and PUT of weights.
    Webhook(Webhook),
}

/// An object with rules, each with a list of backend Services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleRoute {
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

/// An object with one list of backends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlainRoute {
    pub name: String,
    /// The policy's namespace if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of the two backends, as they stand in the object already, the canary with weight 0.
    pub stable: String,
    pub canary: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlbIngress {
    pub name: String,
    /// The policy's namespace if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The action's name: `shop` for annotation `alb.ingress.kubernetes.io/actions.shop`.
    pub action: String,
    /// Names of the Services in the action's target groups.
    pub stable: String,
    pub canary: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualService {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Destination hosts, short (a Service of the VirtualService's namespace) or fully qualified; with `host` given, subsets of
    /// that host. Both stand in the route already, the canary with weight 0.
    pub stable: String,
    pub canary: String,
    /// The host whose DestinationRule has `stable` and `canary` as subsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Which of the VirtualService's lists of routes is meant.
    #[serde(default)]
    pub protocol: Protocol,
    /// Names (or 0-based numbers) of the routes to write; needed when several hold both destinations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

/// Of a VirtualService's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    #[default]
    Http,
    Tls,
    Tcp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceFlip {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Selector labels of the two versions, such as `{app: blue}` and `{app: green}`. Other labels of the selector stay.
    pub stable: BTreeMap<String, String>,
    pub canary: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodShare {
    /// The Service that selects the pods of both versions, in the policy's namespace. `workloads` names what runs them.
    pub service: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InPlace {
    /// The stable workload's name, as under `workloads.stable`: one rollout at a time replaces its pods.
    pub name: String,
    /// Its kind.
    #[serde(default, skip_serializing_if = "InPlaceKind::is_deployment")]
    pub kind: InPlaceKind,
}

/// What can get another template, and its former one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum InPlaceKind {
    #[default]
    Deployment,
    /// OpenShift's.
    DeploymentConfig,
}

impl InPlaceKind {
    fn is_deployment(&self) -> bool {
        *self == InPlaceKind::Deployment
    }
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

/// A Kubernetes object as a policy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectName<'a> {
    /// The policy's own if `None`.
    pub namespace: Option<&'a str>,
    pub name: &'a str,
}

/// Hosts of the Services behind the two versions: short, or fully qualified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services<'a> {
    pub stable: &'a str,
    pub canary: &'a str,
}

impl Target {
    /// The Kubernetes object that is written; `None` for what lives elsewhere.
    pub fn object(&self) -> Option<ObjectName<'_>> {
        if let Target::Service(flip) = self {
            return Some(ObjectName { namespace: flip.namespace.as_deref(), name: &flip.name });
        }
        self.routed().map(|(object, _)| object)
    }

    /// What the two versions are called, stable first; `None` where that is not one name each.
    pub fn arms(&self) -> Option<(&str, &str)> {
        self.routed().map(|(_, arms)| arms)
    }

    /// The object and the versions' names in it, where each version has one.
    fn routed(&self) -> Option<(ObjectName<'_>, (&str, &str))> {
        let (namespace, name, stable, canary) = match self {
            Target::HttpRoute(route)
            | Target::GrpcRoute(route)
            | Target::TlsRoute(route)
            | Target::TcpRoute(route)
            | Target::HttpProxy(route)
            | Target::ApisixRoute(route)
            | Target::RouteTable(route)
            | Target::MeshHttpRoute(route) => (&route.namespace, &route.name, &route.stable, &route.canary),
            Target::OpenShiftRoute(route)
            | Target::AviPoolGroup(route)
            | Target::TraefikService(route)
            | Target::TrafficSplit(route)
            | Target::NginxIngress(route)
            | Target::Mapping(route)
            | Target::SkipperIngress(route)
            | Target::KnativeService(route)
            | Target::ArgoRollout(route) => (&route.namespace, &route.name, &route.stable, &route.canary),
            Target::AlbIngress(ingress) => {
                (&ingress.namespace, &ingress.name, &ingress.stable, &ingress.canary)
            }
            Target::VirtualService(service) => {
                (&service.namespace, &service.name, &service.stable, &service.canary)
            }
            Target::Service(_)
            | Target::Replicas(_)
            | Target::InPlace(_)
            | Target::Haproxy(_)
            | Target::Webhook(_) => return None,
        };
        Some((ObjectName { namespace: namespace.as_deref(), name }, (stable, canary)))
    }

    /// `None` where no Service belongs to one version alone: upstreams, subsets and tags have names of their own.
    pub fn services(&self) -> Option<Services<'_>> {
        let are_services = match self {
            Target::RouteTable(_) | Target::MeshHttpRoute(_) | Target::KnativeService(_) => false,
            Target::VirtualService(service) => service.host.is_none(),
            Target::HttpRoute(_)
            | Target::GrpcRoute(_)
            | Target::TlsRoute(_)
            | Target::TcpRoute(_)
            | Target::OpenShiftRoute(_)
            | Target::AviPoolGroup(_)
            | Target::HttpProxy(_)
            | Target::TraefikService(_)
            | Target::TrafficSplit(_)
            | Target::NginxIngress(_)
            | Target::AlbIngress(_)
            | Target::ApisixRoute(_)
            | Target::Mapping(_)
            | Target::SkipperIngress(_)
            | Target::Service(_)
            | Target::Replicas(_)
            | Target::ArgoRollout(_)
            | Target::InPlace(_)
            | Target::Haproxy(_)
            | Target::Webhook(_) => true,
        };
        self.arms().filter(|_| are_services).map(|(stable, canary)| Services { stable, canary })
    }

    /// Puts each version in the other's place; false where the target's arms have fixed places.
    pub(super) fn swap(&mut self) -> bool {
        match self {
            Target::HttpRoute(route)
            | Target::GrpcRoute(route)
            | Target::TlsRoute(route)
            | Target::TcpRoute(route)
            | Target::HttpProxy(route)
            | Target::ApisixRoute(route)
            | Target::RouteTable(route)
            | Target::MeshHttpRoute(route) => std::mem::swap(&mut route.stable, &mut route.canary),
            Target::OpenShiftRoute(route)
            | Target::AviPoolGroup(route)
            | Target::TraefikService(route)
            | Target::TrafficSplit(route)
            | Target::SkipperIngress(route)
            | Target::KnativeService(route) => std::mem::swap(&mut route.stable, &mut route.canary),
            Target::AlbIngress(ingress) => std::mem::swap(&mut ingress.stable, &mut ingress.canary),
            Target::VirtualService(service) => std::mem::swap(&mut service.stable, &mut service.canary),
            Target::Service(flip) => std::mem::swap(&mut flip.stable, &mut flip.canary),
            Target::Haproxy(haproxy) => std::mem::swap(&mut haproxy.stable, &mut haproxy.canary),
            // The weights of a webhook are named, these two have the canary's weight only, a Rollout's Services have fixed parts, and
            // without a router nothing is swapped.
            Target::Webhook(_)
            | Target::NginxIngress(_)
            | Target::Mapping(_)
            | Target::Replicas(_)
            | Target::InPlace(_)
            | Target::ArgoRollout(_) => return false,
        }
        true
    }
}
