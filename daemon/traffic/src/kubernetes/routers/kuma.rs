//! Kuma: `spec.to[i].rules[j].default.backendRefs[k].weight` of a MeshHTTPRoute.
//!
//! A weight there is a proportion, and 1 where it is not written (<https://kuma.io/docs/latest/policies/meshhttproute/>). Backends are
//! MeshServices by name, or subsets of one by their tag `version`. Rules have no names: a policy numbers them from 0, over all of
//! `to` in the object's order.

use sluice_wire::policy::RuleRoute;

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

const MESH_HTTP_ROUTE: KindName = KindName {
    group: "kuma.io",
    version: "v1alpha1",
    kind: "MeshHTTPRoute",
    plural: "meshhttproutes",
    kubectl: "meshhttproutes.kuma.io",
    short: "meshhttproute",
};

pub(crate) fn describe(route: &RuleRoute) -> Weighted {
    let arm = |name: &str| {
        let marks = vec![Mark::AnyField(&[&["tags", "version"], &["name"]], name.to_owned())];
        Arm { called: format!("backend {name}"), marks }.at_port(&["port"], route.port)
    };
    Weighted {
        kind: MESH_HTTP_ROUTE,
        word: "meshHttpRoute",
        source: Source::Object,
        rules: &[&["spec", "to", "*", "rules", "*"]],
        backends: &[&["default", "backendRefs", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(1),
        total: percent_or_finer,
        identity: &[&["kind"], &["name"], &["namespace"], &["port"], &["tags"]],
        stable: StableArm::Backend(arm(&route.stable)),
        canary: arm(&route.canary),
        choice: Choice::all_or(&route.rules),
        tell_apart: "say target.meshHttpRoute.port",
        requires: requires_nothing,
        door: None,
    }
}
