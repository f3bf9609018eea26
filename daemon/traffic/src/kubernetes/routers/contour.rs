//! Contour: `spec.routes[i].services[j].weight` of an HTTPProxy, and `spec.tcpproxy.services[j].weight`.
//!
//! A weight there is a proportion, and 0 where it is not written beside others that are
//! (<https://projectcontour.io/docs/1.33/config/request-routing/>). Routes have no names: a policy numbers them from 0, in the
//! object's order, and `tcpproxy` comes after them. A mirror is no backend.

use sluice_wire::policy::RuleRoute;

use crate::kubernetes::arm::Arm;
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

const HTTP_PROXY: KindName = KindName {
    group: "projectcontour.io",
    version: "v1",
    kind: "HTTPProxy",
    plural: "httpproxies",
    kubectl: "httpproxies.projectcontour.io",
    short: "httpproxy",
};

pub(crate) fn describe(proxy: &RuleRoute) -> Weighted {
    let arm = |name: &str| Arm::service(&["name"], name).at_port(&["port"], proxy.port);
    Weighted {
        kind: HTTP_PROXY,
        word: "httpProxy",
        source: Source::Object,
        rules: &[&["spec", "routes", "*"], &["spec", "tcpproxy"]],
        backends: &[&["services", "*"]],
        not_a_backend: Some(&["mirror"]),
        weight: &[&["weight"]],
        absent: Some(0),
        total: percent_or_finer,
        identity: &[&["name"], &["port"]],
        stable: StableArm::Backend(arm(&proxy.stable)),
        canary: arm(&proxy.canary),
        choice: Choice::all_or(&proxy.rules),
        tell_apart: "say target.httpProxy.port",
        requires: requires_nothing,
        door: None,
    }
}
