//! Avi's cloud connector: `poolgroup.members[i].ratio` in the annotation `avi_proxy` of the Service that has the listener.
//!
//! The annotation is JSON in a string; of it only the digits of two ratios change. A member is known by its `pool_ref`, whose
//! name begins with its Service's: `/api/pool/?name=shop-a-pool-http-tcp`. A ratio is 1 where it is not written, and 0 drains.
//! Written are the smallest numbers that say a weight, 1 : 10 or 0 : 1. The Service with the annotation anchors listener and
//! pool group: it stays, whichever version its own pool serves. (With AKO the weights stand in an OpenShift Route or an HTTPRoute.)

use sluice_rollout::Weight;
use sluice_wire::policy::PlainRoute;

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::selector::SERVICE;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, requires_nothing, smallest_total};

/// A ratio of Avi's own pool groups goes up to this.
const MOST: u64 = 1_000;

pub(crate) fn describe(group: &PlainRoute) -> Weighted {
    Weighted {
        kind: SERVICE,
        word: "aviPoolGroup",
        source: Source::Annotation("avi_proxy".to_owned()),
        rules: &[&["poolgroup"]],
        backends: &[&["members", "*"]],
        not_a_backend: None,
        weight: &[&["ratio"]],
        absent: Some(1),
        total: |weight: Weight| smallest_total(weight, 1, MOST),
        identity: &[],
        stable: StableArm::Backend(member(&group.stable)),
        canary: member(&group.canary),
        choice: Choice::All,
        tell_apart: "give each Service one member",
        requires: requires_nothing,
        door: None,
    }
}

fn member(service: &str) -> Arm {
    Arm {
        called: format!("member with a pool_ref of Service {service}"),
        marks: vec![Mark::Pool(&["pool_ref"], service.to_owned())],
    }
}
