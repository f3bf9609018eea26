//! Traefik: `spec.weighted.services[i].weight` of a TraefikService.
//!
//! A weight there is a proportion, and 1 where it is not written
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/crd/http/traefikservice/>). The two versions are
//! Services; other TraefikServices in the list stay as they are.

use sluice_wire::policy::PlainRoute;

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer, requires_nothing};

const TRAEFIK_SERVICE: KindName = KindName {
    group: "traefik.io",
    version: "v1alpha1",
    kind: "TraefikService",
    plural: "traefikservices",
    kubectl: "traefikservices.traefik.io",
    short: "traefikservice",
};

pub(crate) fn describe(service: &PlainRoute) -> Weighted {
    Weighted {
        kind: TRAEFIK_SERVICE,
        word: "traefikService",
        source: Source::Object,
        rules: &[&["spec", "weighted"]],
        backends: &[&["services", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(1),
        total: percent_or_finer,
        identity: &[&["name"], &["namespace"], &["kind"], &["port"]],
        stable: StableArm::Backend(arm(&service.stable)),
        canary: arm(&service.canary),
        choice: Choice::All,
        tell_apart: "name each Service once",
        requires: requires_nothing,
        door: None,
    }
}

fn arm(name: &str) -> Arm {
    let mut arm = Arm::service(&["name"], name);
    arm.marks.push(Mark::FieldOrAbsent(&["kind"], "Service"));
    arm
}
