//! Ambassador, Emissary: `spec.weight` of the canary's own Mapping, in whole percent.
//!
//! Mappings of the same prefix share what is left, so a canary without a weight would get half of it: it has to be written, 0 at
//! first (<https://emissary-ingress.dev/docs/3.10/topics/using/canary/>). Stable's Mapping has no weight, its share is the rest.

use sluice_wire::policy::PlainRoute;

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

const MAPPING: KindName = KindName {
    group: "getambassador.io",
    version: "v3alpha1",
    kind: "Mapping",
    plural: "mappings",
    kubectl: "mappings.getambassador.io",
    short: "mapping",
};

pub(crate) fn describe(mapping: &PlainRoute) -> Weighted {
    Weighted {
        kind: MAPPING,
        word: "mapping",
        source: Source::Object,
        rules: &[&["spec"]],
        backends: &[&[]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: None,
        total: percent_or_finer,
        identity: &[&["service"]],
        stable: StableArm::Rest(|_| 100),
        canary: Arm {
            called: format!("Mapping to service {}", mapping.canary),
            marks: vec![Mark::Address(&["service"], mapping.canary.clone())],
        },
        choice: Choice::All,
        tell_apart: "",
        requires: requires_nothing,
        door: None,
    }
}
