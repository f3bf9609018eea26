//! Skipper: annotation `zalando.org/backend-weights` of an Ingress, a map in JSON from Services to weights.
//!
//! A weight there is a proportion among the Services of a path
//! (<https://opensource.zalando.com/skipper/kubernetes/ingress-usage/>). Both versions stand in the map, and as backends of the
//! same path. Of the text only the digits of two weights change.

use sluice_wire::policy::PlainRoute;

use super::nginx::INGRESS;
use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

pub(crate) fn describe(ingress: &PlainRoute) -> Weighted {
    let arm =
        |name: &str| Arm { called: format!("weight of {name}"), marks: vec![Mark::Key(name.to_owned())] };
    Weighted {
        kind: INGRESS,
        word: "skipperIngress",
        source: Source::Annotation("zalando.org/backend-weights".to_owned()),
        rules: &[&[]],
        backends: &[&["*"]],
        not_a_backend: None,
        weight: &[&[]],
        absent: None,
        total: percent_or_finer,
        identity: &[],
        stable: StableArm::Backend(arm(&ingress.stable)),
        canary: arm(&ingress.canary),
        choice: Choice::All,
        tell_apart: "",
        requires: requires_nothing,
        door: None,
    }
}
