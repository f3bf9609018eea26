//! Knative: `spec.traffic[i].percent` of a Service, in whole percent.
//!
//! All percents sum to 100, and one that is not written is 0 (<https://knative.dev/docs/serving/traffic-management/>). The
//! versions are known by their tag, which stays when the revision behind it changes, or by their revision. Knative starts pods for
//! the canary by itself, so its workload is `external`.

use sluice_wire::policy::PlainRoute;

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, Pattern, StableArm, Weighted, requires_nothing};

const SERVICE: KindName = KindName {
    group: "serving.knative.dev",
    version: "v1",
    kind: "Service",
    plural: "services",
    kubectl: "services.serving.knative.dev",
    short: "knativeservice",
};

const TAG: Pattern = &["tag"];
const REVISION: Pattern = &["revisionName"];

pub(crate) fn describe(service: &PlainRoute) -> Weighted {
    let arm = |name: &str| Arm {
        called: format!("traffic with tag (or revision) {name}"),
        marks: vec![Mark::AnyField(&[TAG, REVISION], name.to_owned())],
    };
    Weighted {
        kind: SERVICE,
        word: "knativeService",
        source: Source::Object,
        rules: &[&["spec"]],
        backends: &[&["traffic", "*"]],
        not_a_backend: None,
        weight: &[&["percent"]],
        absent: Some(0),
        total: |_| 100,
        identity: &[TAG, REVISION, &["latestRevision"]],
        stable: StableArm::Backend(arm(&service.stable)),
        canary: arm(&service.canary),
        choice: Choice::All,
        tell_apart: "give each version a tag of its own",
        requires: requires_nothing,
        door: None,
    }
}
