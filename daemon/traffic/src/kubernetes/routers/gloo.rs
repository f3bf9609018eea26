//! Gloo: `spec.routes[i].routeAction.multi.destinations[j].weight` of a RouteTable.
//!
//! A weight there is a proportion, and 0 where it is not written
//! (<https://docs.solo.io/gloo-edge/latest/guides/traffic_management/destination_types/multi_destination/>). Destinations are known
//! by their upstream's name or by their Service's.

use sluice_wire::policy::RuleRoute;

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, Pattern, StableArm, Weighted, percent_or_finer, requires_nothing};

const ROUTE_TABLE: KindName = KindName {
    group: "gateway.solo.io",
    version: "v1",
    kind: "RouteTable",
    plural: "routetables",
    kubectl: "routetables.gateway.solo.io",
    short: "routetable",
};

const UPSTREAM: Pattern = &["destination", "upstream", "name"];
const SERVICE: Pattern = &["destination", "kube", "ref", "name"];

pub(crate) fn describe(table: &RuleRoute) -> Weighted {
    let arm = |name: &str| {
        let marks = vec![Mark::AnyField(&[UPSTREAM, SERVICE], name.to_owned())];
        Arm { called: format!("destination {name}"), marks }
            .at_port(&["destination", "kube", "port"], table.port)
    };
    Weighted {
        kind: ROUTE_TABLE,
        word: "routeTable",
        source: Source::Object,
        rules: &[&["spec", "routes", "*"]],
        backends: &[&["routeAction", "multi", "destinations", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(0),
        total: percent_or_finer,
        identity: &[UPSTREAM, SERVICE],
        stable: StableArm::Backend(arm(&table.stable)),
        canary: arm(&table.canary),
        choice: Choice::only_or(&table.rules, "rules"),
        tell_apart: "say target.routeTable.port",
        requires: requires_nothing,
        door: None,
    }
}
