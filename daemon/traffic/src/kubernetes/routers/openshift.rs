//! OpenShift: `spec.to.weight` and `spec.alternateBackends[i].weight` of a Route.
//!
//! Each is 0 to 256, and 100 where it is not written; up to three alternates stand beside `to`
//! (<https://docs.redhat.com/en/documentation/openshift_container_platform/4.18/html/network_apis/route-route-openshift-io-v1>).
//! Whole percents are written as 5/95; finer ones with the smallest numbers that say them. The router shares a backend's weight
//! among its endpoints and gives each at least 1, so that many pods skew a small weight: `share.rs` beside this file knows.

use sluice_rollout::Weight;
use sluice_wire::policy::PlainRoute;

use crate::kubernetes::arm::Arm;
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, requires_nothing, smallest_total};

pub(crate) const ROUTE: KindName = KindName {
    group: "route.openshift.io",
    version: "v1",
    kind: "Route",
    plural: "routes",
    kubectl: "routes.route.openshift.io",
    short: "route",
};

/// The largest weight of a backend.
pub(crate) const MOST: u64 = 256;

pub(crate) fn describe(route: &PlainRoute) -> Weighted {
    Weighted {
        kind: ROUTE,
        word: "openShiftRoute",
        source: Source::Object,
        rules: &[&["spec"]],
        backends: &[&["to"], &["alternateBackends", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(100),
        total,
        identity: &[&["kind"], &["name"]],
        stable: StableArm::Backend(Arm::service(&["name"], &route.stable)),
        canary: Arm::service(&["name"], &route.canary),
        choice: Choice::All,
        tell_apart: "name each Service once",
        requires: requires_nothing,
        door: None,
    }
}

fn total(weight: Weight) -> u64 {
    smallest_total(weight, 100, MOST)
}
