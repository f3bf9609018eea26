//! Gateway API: `spec.rules[i].backendRefs[j].weight` of an HTTPRoute, GRPCRoute, TLSRoute or TCPRoute.
//!
//! A weight there is a proportion from 0 to 1,000,000, and 1 where it is not written
//! (<https://gateway-api.sigs.k8s.io/reference/spec/#backendref>). The pair's total is 10,000, hundredths of a percent, always:
//! every weight is then exact and the numbers can be read. No status is looked at: a route that is not accepted can still be put
//! back.

use sluice_wire::policy::RuleRoute;

use crate::kubernetes::arm::Arm;
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, requires_nothing};

const fn kind(
    kind: &'static str,
    plural: &'static str,
    kubectl: &'static str,
    short: &'static str,
) -> KindName {
    KindName { group: "gateway.networking.k8s.io", version: "v1", kind, plural, kubectl, short }
}

pub(crate) fn http(route: &RuleRoute) -> Weighted {
    let name = kind("HTTPRoute", "httproutes", "httproutes.gateway.networking.k8s.io", "httproute");
    describe(name, "httpRoute", "say target.httpRoute.port", route)
}

pub(crate) fn grpc(route: &RuleRoute) -> Weighted {
    let name = kind("GRPCRoute", "grpcroutes", "grpcroutes.gateway.networking.k8s.io", "grpcroute");
    describe(name, "grpcRoute", "say target.grpcRoute.port", route)
}

pub(crate) fn tls(route: &RuleRoute) -> Weighted {
    let name = kind("TLSRoute", "tlsroutes", "tlsroutes.gateway.networking.k8s.io", "tlsroute");
    describe(name, "tlsRoute", "say target.tlsRoute.port", route)
}

pub(crate) fn tcp(route: &RuleRoute) -> Weighted {
    let name = kind("TCPRoute", "tcproutes", "tcproutes.gateway.networking.k8s.io", "tcproute");
    describe(name, "tcpRoute", "say target.tcpRoute.port", route)
}

fn describe(kind: KindName, word: &'static str, tell_apart: &'static str, route: &RuleRoute) -> Weighted {
    let arm = |name: &str| Arm::service(&["name"], name).at_port(&["port"], route.port);
    Weighted {
        kind,
        word,
        source: Source::Object,
        rules: &[&["spec", "rules", "*"]],
        backends: &[&["backendRefs", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(1),
        total: |_| 10_000,
        identity: &[&["name"], &["namespace"], &["port"]],
        stable: StableArm::Backend(arm(&route.stable)),
        canary: arm(&route.canary),
        choice: Choice::all_or(&route.rules),
        tell_apart,
        requires: requires_nothing,
        door: None,
    }
}
