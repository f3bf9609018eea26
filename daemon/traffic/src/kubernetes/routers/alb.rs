//! AWS Load Balancer Controller: the target groups of a forward action, JSON in the annotation
//! `alb.ingress.kubernetes.io/actions.<action>` of an Ingress.
//!
//! Weights are 0 to 999 (<https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/ingress/annotations/#actions>)
//! and have to be written. Keys are read as the controller's documents write them, or in AWS's own capitals. Of the text only the
//! digits of two weights change.

use sluice_rollout::Weight;
use sluice_wire::policy::AlbIngress;

use super::nginx::INGRESS;
use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::weighted::{Choice, StableArm, Weighted, requires_nothing};

pub(crate) fn describe(ingress: &AlbIngress) -> Weighted {
    Weighted {
        kind: INGRESS,
        word: "albIngress",
        source: Source::Annotation(annotation_of(ingress)),
        rules: &[&[]],
        backends: &[&["ForwardConfig", "TargetGroups", "*"], &["forwardConfig", "targetGroups", "*"]],
        not_a_backend: None,
        weight: &[&["weight"], &["Weight"]],
        absent: None,
        total,
        identity: &[],
        stable: StableArm::Backend(target_group(&ingress.stable)),
        canary: target_group(&ingress.canary),
        choice: Choice::All,
        tell_apart: "give each Service one target group",
        requires: requires_nothing,
        door: None,
    }
}

/// The forward action's.
pub(crate) fn annotation_of(ingress: &AlbIngress) -> String {
    format!("alb.ingress.kubernetes.io/actions.{}", ingress.action)
}

/// A thousand is the most of which neither part is above 999.
fn total(weight: Weight) -> u64 {
    if weight.hundredths().is_multiple_of(100) { 100 } else { 1_000 }
}

fn target_group(service: &str) -> Arm {
    Arm {
        called: format!("target group of Service {service}"),
        marks: vec![Mark::AnyField(&[&["serviceName"], &["ServiceName"]], service.to_owned())],
    }
}
