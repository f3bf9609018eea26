//! What a Rollout must be so that nobody but Sluice opens it further. Pure.

use kube::api::DynamicObject;
use sluice_rollout::Weight;
use sluice_wire::policy::PlainRoute;

use super::rollout::{BlueGreen, Canary, Rollout, Step};
use crate::TargetError;
use crate::kubernetes::object::Place;
use crate::workload::gitops_owner;

/// Steps that change no weight and end by themselves.
const HARMLESS: [&str; 3] = ["setCanaryScale", "setHeaderRoute", "setMirrorRoute"];

type Wrong = (String, String);

/// The first thing that is wrong, with its field and the remedy. `weights`: those that the policy asks for.
pub(super) fn check(
    place: &Place,
    object: &DynamicObject,
    rollout: &Rollout,
    names: &PlainRoute,
    weights: &[Weight],
) -> Result<(), TargetError> {
    let strategy = &rollout.spec.strategy;
    let wrong = match (&strategy.canary, &strategy.blue_green) {
        (Some(canary), None) => wrong_canary(rollout, canary, names, weights),
        (None, Some(blue_green)) => {
            wrong_blue_green(blue_green, names, weights).or_else(|| not_undone(object, rollout))
        }
        (Some(_), Some(_)) | (None, None) => {
            Some(("spec.strategy".to_owned(), "it needs one of canary and blueGreen".to_owned()))
        }
    };
    match wrong.or_else(|| wrong_state(rollout)) {
        Some((field, why)) => Err(place.unfit(&field, why)),
        None => Ok(()),
    }
}

fn wrong_canary(rollout: &Rollout, canary: &Canary, names: &PlainRoute, weights: &[Weight]) -> Option<Wrong> {
    let at = |field: &str| format!("spec.strategy.canary.{field}");
    if weights == [Weight::FULL] {
        let why = "the policy has no steps, which is for blueGreen: write steps with the weights that stand here as setWeight";
        return Some((at("steps"), why.to_owned()));
    }
    if canary.dynamic_stable_scale {
        let why =
            "it shrinks stable while the canary grows, so that an abort has nowhere to go; leave it out";
        return Some((at("dynamicStableScale"), why.to_owned()));
    }
    wrong_service(at("stableService"), &canary.stable_service, ("stable", &names.stable))
        .or_else(|| wrong_service(at("canaryService"), &canary.canary_service, ("canary", &names.canary)))
        .or_else(|| wrong_steps(&canary.steps))
        .or_else(|| missing_weight(rollout, weights))
}

fn wrong_service(field: String, found: &str, (word, wanted): (&str, &str)) -> Option<Wrong> {
    let why = if found.is_empty() {
        format!("it is not there; name the Service {wanted}, which the policy calls {word}")
    } else {
        format!(
            "it is {found}, but the policy's target.argoRollout.{word} is {wanted}; they have to be the same"
        )
    };
    (found != wanted).then_some((field, why))
}

/// Each weight has to wait for somebody, or the controller goes on by itself.
fn wrong_steps(steps: &[Step]) -> Option<Wrong> {
    let at = |index: usize, field: &str| format!("spec.strategy.canary.steps[{index}]{field}");
    let mut open = None;
    for (index, step) in steps.iter().enumerate() {
        if let Some(duration) = step.pause.as_ref().and_then(|pause| pause.duration.as_ref()) {
            let why = format!("after {duration} the controller goes on by itself; write pause: {{}}");
            return Some((at(index, ".pause.duration"), why));
        }
        if let Some(other) = step.other.keys().find(|kind| !HARMLESS.contains(&kind.as_str())) {
            let why = "Sluice judges in its place, and the controller would go on or abort by itself; take the step out";
            return Some((at(index, &format!(".{other}")), why.to_owned()));
        }
        match (step.set_weight, &step.pause, open) {
            (Some(_), _, Some(before)) => return Some((at(before, ""), unpaused())),
            (Some(_), _, None) => open = Some(index),
            (None, Some(_), _) => open = None,
            (None, None, _) => {}
        }
    }
    open.map(|last| (at(last, ""), unpaused()))
}

fn unpaused() -> String {
    "the controller goes on from this weight by itself; put pause: {} behind it".to_owned()
}

fn missing_weight(rollout: &Rollout, weights: &[Weight]) -> Option<Wrong> {
    let missing = weights.iter().find(|weight| rollout.hold_of(**weight).is_none())?;
    let there: Vec<String> = rollout.holds().iter().map(|hold| hold.weight.to_string()).collect();
    let why = format!(
        "the policy asks for {missing} (its steps, and its bake at 100 % less the holdback), but only these wait here: {}; add setWeight and pause: {{}}, or write bake: {{for: 0s}}",
        there.join(", ")
    );
    Some(("spec.strategy.canary.steps".to_owned(), why))
}

fn wrong_blue_green(blue_green: &BlueGreen, names: &PlainRoute, weights: &[Weight]) -> Option<Wrong> {
    let at = |field: &str| format!("spec.strategy.blueGreen.{field}");
    if weights.iter().any(|weight| *weight != Weight::FULL) {
        let why = "all traffic is switched at once: leave the policy's steps out; its bake is the watch after the switch";
        return Some(("spec.strategy.blueGreen".to_owned(), why.to_owned()));
    }
    if blue_green.auto_promotion_enabled != Some(false)
        || blue_green.auto_promotion_seconds.is_some_and(|s| s > 0)
    {
        let why =
            "the controller would switch by itself; set it to false, and leave autoPromotionSeconds out";
        return Some((at("autoPromotionEnabled"), why.to_owned()));
    }
    wrong_service(at("activeService"), &blue_green.active_service, ("stable", &names.stable)).or_else(|| {
        wrong_service(at("previewService"), &blue_green.preview_service, ("canary", &names.canary))
    })
}

/// After the switch the way back leads through the former template.
fn not_undone(object: &DynamicObject, rollout: &Rollout) -> Option<Wrong> {
    if rollout.spec.workload_ref.is_some() {
        let why =
            "the template stands elsewhere, so that a switch could not be undone; use the canary strategy";
        return Some(("spec.workloadRef".to_owned(), why.to_owned()));
    }
    let owner = gitops_owner(object)?;
    let why = format!(
        "a GitOps tool owns it ({owner}) and would bring the new version back after an undo; use the canary strategy, whose abort leaves the template alone"
    );
    Some(("spec.template".to_owned(), why))
}

fn wrong_state(rollout: &Rollout) -> Option<Wrong> {
    let wrong = |field: &str, why: &str| Some((field.to_owned(), why.to_owned()));
    if rollout.status.message.starts_with("InvalidSpec") {
        return wrong("spec", &format!("Argo's controller refuses it: {}", rollout.status.message));
    }
    if rollout.spec.paused {
        return wrong("spec.paused", "somebody has paused it, so nothing would happen; set it to false");
    }
    if rollout.status.stable_rs.is_empty() {
        return wrong("status.stableRS", "no version is stable yet; wait until its first one is Healthy");
    }
    if !rollout.is_under_way() {
        return wrong(
            "spec.template",
            "it is the stable version's, so there is nothing to roll out; change it first, then announce the release",
        );
    }
    None
}
