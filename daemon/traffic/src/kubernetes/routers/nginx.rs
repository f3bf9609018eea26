//! NGINX Ingress Controller: annotation `nginx.ingress.kubernetes.io/canary-weight` of the canary's own Ingress.
//!
//! The canary's share is that number out of `canary-weight-total`, 100 where that is not written, and 0 where the weight is not
//! written (<https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary>). Stable's Ingress has
//! no number, so its share is the rest; a finer total is its owner's to write. Requests that `canary-by-header` or
//! `canary-by-cookie` send to the canary come on top of the weight. The Ingress's name is the canary's.

use kube::api::DynamicObject;
use sluice_wire::policy::PlainRoute;

use crate::TargetError;
use crate::kubernetes::arm::Arm;
use crate::kubernetes::document::{Source, annotation_title};
use crate::kubernetes::marks::annotation;
use crate::kubernetes::object::{KindName, Place};
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, percent_or_finer};

pub(crate) const INGRESS: KindName = KindName {
    group: "networking.k8s.io",
    version: "v1",
    kind: "Ingress",
    plural: "ingresses",
    kubectl: "ingress",
    short: "ingress",
};

const IS_CANARY: &str = "nginx.ingress.kubernetes.io/canary";
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
const TOTAL: &str = "nginx.ingress.kubernetes.io/canary-weight-total";

pub(crate) fn describe(ingress: &PlainRoute) -> Weighted {
    Weighted {
        kind: INGRESS,
        word: "nginxIngress",
        source: Source::Annotation(WEIGHT.to_owned()),
        rules: &[&[]],
        backends: &[&[]],
        not_a_backend: None,
        weight: &[&[]],
        absent: Some(0),
        total: percent_or_finer,
        identity: &[],
        stable: StableArm::Rest(total),
        canary: Arm { called: format!("canary weight of {}", ingress.canary), marks: Vec::new() },
        choice: Choice::All,
        tell_apart: "",
        requires: is_canary,
        door: None,
    }
}

fn total(ingress: &DynamicObject) -> u64 {
    annotation(ingress, TOTAL).and_then(|total| total.trim().parse().ok()).unwrap_or(100)
}

fn is_canary(place: &Place, ingress: &DynamicObject) -> Result<(), TargetError> {
    if annotation(ingress, IS_CANARY) == Some("true") {
        return Ok(());
    }
    let why =
        "it is not \"true\", so this is no canary's Ingress; the canary needs one of its own beside stable's";
    Err(place.unfit(&annotation_title(IS_CANARY), why))
}
