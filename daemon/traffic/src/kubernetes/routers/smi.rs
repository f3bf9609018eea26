//! SMI: `spec.backends[i].weight` of a TrafficSplit.
//!
//! A weight there is a proportion and has to be written
//! (<https://github.com/servicemeshinterface/smi-spec/blob/main/apis/traffic-split/v1alpha4/traffic-split.md>).

use sluice_wire::policy::PlainRoute;

use crate::kubernetes::arm::Arm;
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

const TRAFFIC_SPLIT: KindName = KindName {
    group: "split.smi-spec.io",
    version: "v1alpha4",
    kind: "TrafficSplit",
    plural: "trafficsplits",
    kubectl: "trafficsplits.split.smi-spec.io",
    short: "trafficsplit",
};

pub(crate) fn describe(split: &PlainRoute) -> Weighted {
    Weighted {
        kind: TRAFFIC_SPLIT,
        word: "trafficSplit",
        source: Source::Object,
        rules: &[&["spec"]],
        backends: &[&["backends", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: None,
        total: percent_or_finer,
        identity: &[&["service"]],
        stable: StableArm::Backend(Arm::service(&["service"], &split.stable)),
        canary: Arm::service(&["service"], &split.canary),
        choice: Choice::All,
        tell_apart: "name each Service once",
        requires: requires_nothing,
        door: None,
    }
}
