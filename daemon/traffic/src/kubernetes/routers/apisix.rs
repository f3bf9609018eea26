//! Apache APISIX: `spec.http[i].backends[j].weight` of an ApisixRoute.
//!
//! A weight there is a proportion, and 100 where it is not written
//! (<https://apisix.apache.org/docs/ingress-controller/references/apisix_route_v2/>).

use sluice_wire::policy::RuleRoute;

use crate::kubernetes::arm::Arm;
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

const APISIX_ROUTE: KindName = KindName {
    group: "apisix.apache.org",
    version: "v2",
    kind: "ApisixRoute",
    plural: "apisixroutes",
    kubectl: "apisixroutes.apisix.apache.org",
    short: "apisixroute",
};

pub(crate) fn describe(route: &RuleRoute) -> Weighted {
    let arm = |name: &str| Arm::service(&["serviceName"], name).at_port(&["servicePort"], route.port);
    Weighted {
        kind: APISIX_ROUTE,
        word: "apisixRoute",
        source: Source::Object,
        rules: &[&["spec", "http", "*"]],
        backends: &[&["backends", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(100),
        total: percent_or_finer,
        identity: &[&["serviceName"], &["servicePort"], &["subset"]],
        stable: StableArm::Backend(arm(&route.stable)),
        canary: arm(&route.canary),
        choice: Choice::only_or(&route.rules, "rules"),
        tell_apart: "say target.apisixRoute.port",
        requires: requires_nothing,
        door: None,
    }
}
