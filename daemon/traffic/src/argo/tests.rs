//! A Rollout as its controller left it, a wish, and what is written next. No server.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_rollout::Weight;
use sluice_wire::policy::PlainRoute;

use super::rollout::Rollout;
use super::steering::{Next, next, observed};
use super::{ROLLOUT, fitness};
use crate::kubernetes::{object::Place, tests::wanted};
use crate::{TargetError, Wanted};

const V1: &str = "aaa";
const V2: &str = "bbb";

fn place() -> Place {
    Place {
        short: ROLLOUT.short,
        kubectl: ROLLOUT.kubectl,
        namespace: "shop".into(),
        name: "checkout".into(),
    }
}

fn names() -> PlainRoute {
    let [name, stable, canary] = ["checkout", "checkout", "checkout-canary"].map(str::to_owned);
    PlainRoute { name, namespace: None, stable, canary }
}

fn canary_strategy() -> Value {
    json!({"canary": {"stableService": "checkout", "canaryService": "checkout-canary",
        "trafficRouting": {"istio": {"virtualService": {"name": "checkout", "routes": ["backend-routes"]}}},
        "steps": [{"pause": {}}, {"setWeight": 30}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}]}})
}

fn blue_green_strategy() -> Value {
    json!({"blueGreen": {"activeService": "checkout", "previewService": "checkout-canary",
        "autoPromotionEnabled": false}})
}

fn object(strategy: Value, status: Value) -> Value {
    let mut object = json!({"metadata": {"name": "checkout", "uid": "u", "generation": 2, "annotations": {"team": "shop"}},
        "spec": {"strategy": strategy, "template": {"spec": {}}},
        "status": {"currentPodHash": V2, "stableRS": V1, "observedGeneration": "2", "message": ""}});
    json_patch::merge(&mut object["status"], &status);
    object
}

/// A canary at a step, with this weight.
fn at(index: u32, weight: u32, more: Value) -> Value {
    let weights = json!({"canary": {"weight": weight, "podTemplateHash": V2}});
    let mut status = json!({"currentStepIndex": index, "canary": {"weights": weights}});
    if index.is_multiple_of(2) {
        status["pauseConditions"] = json!([{"reason": "CanaryPauseStep"}]);
    }
    json_patch::merge(&mut status, &more);
    object(canary_strategy(), status)
}

fn aborted(fence: &str) -> Wanted {
    Wanted { abort: Some("errors".into()), ..wanted(0.0, fence) }
}

/// The object after our marks for this wish.
fn marked(object: Value, wanted: &Wanted) -> Value {
    match ask(&object, wanted).unwrap() {
        Next::Mark(operations) => patched(object, &operations),
        other => panic!("no marks: {other:?}"),
    }
}

fn patched(mut object: Value, operations: &[PatchOperation]) -> Value {
    // The API server takes a test with null for what is absent; this library does not.
    let operations: Vec<PatchOperation> = operations
        .iter()
        .filter(|one| !matches!(one, PatchOperation::Test(test) if test.value.is_null()))
        .cloned()
        .collect();
    json_patch::patch(&mut object, &operations).unwrap();
    object
}

fn ask(object: &Value, wanted: &Wanted) -> Result<Next, TargetError> {
    next(&place(), &read(object), wanted)
}

fn read(object: &Value) -> DynamicObject {
    serde_json::from_value(object.clone()).unwrap()
}

/// After the marks: what is written to the status, or what is waited for.
fn then(object: Value, wanted: &Wanted) -> Value {
    told(ask(&marked(object, wanted), wanted))
}

fn told(next: Result<Next, TargetError>) -> Value {
    match next {
        Ok(Next::Stands(observed)) => json!(format!("stands at {}", observed.canary)),
        Ok(Next::Wait(_)) => json!("waits"),
        Ok(Next::Mark(_)) => json!("marks"),
        Ok(Next::Undo(version)) => json!(format!("undo to {version}")),
        Ok(Next::Steer(operations)) => operations.iter().fold(json!({}), |mut written, one| {
            let at = |path: &str| path.trim_start_matches("/status/").to_owned();
            match one {
                PatchOperation::Add(add) => written[at(add.path.as_str())] = add.value.clone(),
                PatchOperation::Remove(remove) => written[at(remove.path.as_str())] = Value::Null,
                _ => {}
            }
            written
        }),
        Err(error) => json!(error.to_string()),
    }
}

#[test]
fn each_weight_is_asked_for_by_the_controllers_own_step() {
    let none = json!({});
    let table = [
        (at(0, 0, none.clone()), 30.0, json!({"pauseConditions": null, "currentStepIndex": 1})),
        (at(1, 0, none.clone()), 30.0, json!("waits")),
        (at(2, 30, none.clone()), 30.0, json!("stands at 30 %")),
        (at(2, 30, none.clone()), 60.0, json!({"pauseConditions": null, "currentStepIndex": 3})),
        (at(4, 60, none.clone()), 30.0, json!({"pauseConditions": null, "currentStepIndex": 1})),
        (at(4, 60, none.clone()), 100.0, json!({"promoteFull": true})),
        (at(4, 60, json!({"promoteFull": true})), 100.0, json!("waits")),
        (at(0, 0, none), 0.0, json!({"abort": true})),
    ];
    for (object, percent, expected) in table {
        let shown = object["status"].to_string();
        assert_eq!(then(object, &wanted(percent, "1.1")), expected, "{percent} % from {shown}");
    }
}

#[test]
fn an_abort_is_over_when_the_controller_has_taken_the_traffic_away() {
    let abort = aborted("1.2");
    assert_eq!(then(at(2, 30, json!({})), &abort), json!({"abort": true}));
    assert_eq!(
        then(at(2, 30, json!({"promoteFull": true})), &abort),
        json!({"abort": true, "promoteFull": false})
    );
    assert_eq!(then(at(0, 30, json!({"abort": true})), &abort), json!("waits"));
    assert_eq!(then(at(0, 0, json!({"abort": true})), &abort), json!("stands at 0 %"));
    // Even of a version that is overtaken: the one that overtook it is none of ours.
    let begun = marked(at(2, 30, json!({})), &wanted(30.0, "1.1"));
    let mut overtaken = begun;
    overtaken["status"]["currentPodHash"] = json!("ccc");
    assert_eq!(then(overtaken, &abort), json!("stands at 0 %"));
}

#[test]
fn an_abort_lifts_a_pause_of_the_whole_rollout_and_carries_its_reason() {
    let mut paused = at(2, 30, json!({}));
    paused["spec"]["paused"] = json!(true);
    let marked = marked(paused, &aborted("1.2"));
    assert_eq!(marked["spec"]["paused"], false);
    let seen = observed(&Rollout::of(&place(), &read(&marked)).unwrap(), &read(&marked));
    assert_eq!(seen.abort.unwrap().reason, "errors");
    let rise = ask(&marked, &wanted(60.0, "1.3")).unwrap_err().to_string();
    assert!(rise.contains("was aborted"), "{rise}");
}

#[test]
fn an_abort_after_the_promotion_brings_the_former_template_back_first() {
    let full = wanted(100.0, "1.2");
    let promoted = |more: Value| {
        let mut object = marked(at(4, 60, json!({})), &full);
        json_patch::merge(&mut object["status"], &json!({"stableRS": V2, "currentStepIndex": 5}));
        json_patch::merge(&mut object["status"], &more);
        object
    };
    assert_eq!(told(ask(&promoted(json!({})), &full)), json!("stands at 100 %"));
    let abort = aborted("1.3");
    assert_eq!(then(promoted(json!({})), &abort), json!("undo to aaa"));
    let back = json!({"currentPodHash": V1, "canary": {"weights": {"canary": {"weight": 0, "podTemplateHash": V1}}}});
    assert_eq!(then(promoted(back.clone()), &abort), json!({"promoteFull": true}));
    let mut ended = promoted(back);
    ended["status"]["stableRS"] = json!(V1);
    assert_eq!(then(ended, &abort), json!("stands at 0 %"));
}

#[test]
fn blue_green_is_switched_by_its_pause_and_aborted_or_undone() {
    let green = |more: Value| {
        let mut status = json!({"blueGreen": {"activeSelector": V1}, "pauseConditions": [{"reason": "BlueGreenPause"}],
            "controllerPause": true});
        json_patch::merge(&mut status, &more);
        object(blue_green_strategy(), status)
    };
    let full = wanted(100.0, "1.1");
    let table = [
        (green(json!({"pauseConditions": null, "controllerPause": null})), json!("waits")),
        (green(json!({})), json!({"pauseConditions": null})),
        (green(json!({"pauseConditions": null})), json!("waits")),
        (green(json!({"blueGreen": {"activeSelector": V2}})), json!("stands at 100 %")),
        (green(json!({"abort": true})), json!({"abort": false})),
    ];
    for (object, expected) in table {
        assert_eq!(then(object, &full), expected);
    }
    assert_eq!(then(green(json!({})), &aborted("1.2")), json!({"abort": true}));
    let mut switched = marked(green(json!({})), &full);
    json_patch::merge(&mut switched["status"], &json!({"blueGreen": {"activeSelector": V2}, "stableRS": V2}));
    assert_eq!(then(switched, &aborted("1.2")), json!("undo to aaa"));
}

#[test]
fn an_abort_of_somebody_else_is_not_taken_back_but_one_from_before_is() {
    let stopped = at(0, 0, json!({"abort": true, "pauseConditions": null}));
    let retry = json!({"abort": false, "currentStepIndex": 1});
    assert_eq!(
        then(stopped.clone(), &wanted(30.0, "1.1")),
        retry,
        "a new attempt at what was aborted before"
    );
    let mut running = marked(at(2, 30, json!({})), &wanted(30.0, "1.1"));
    json_patch::merge(&mut running["status"], &stopped["status"]);
    let error = then(running.clone(), &wanted(30.0, "1.2")).to_string();
    assert!(error.contains("status.abort: somebody else has aborted it"), "{error}");
    // Ours, to take away what the controller had opened before it was asked to.
    let shut = marked(at(1, 30, json!({})), &wanted(0.0, "1.1"));
    let mut shut = shut;
    shut["status"]["abort"] = json!(true);
    assert_eq!(then(shut, &wanted(30.0, "1.2"))["abort"], json!(false));
}

#[test]
fn nothing_but_the_version_that_the_rollout_began_with_is_opened() {
    let begun = marked(at(2, 30, json!({})), &wanted(30.0, "1.1"));
    let mut changed = begun.clone();
    changed["status"]["currentPodHash"] = json!("ccc");
    assert!(then(changed, &wanted(60.0, "1.2")).to_string().contains("release of its own"));
    let mut promoted = begun.clone();
    promoted["status"]["stableRS"] = json!(V2);
    assert!(then(promoted, &wanted(60.0, "1.2")).to_string().contains("somebody else has promoted"));
    let late = ask(&begun, &wanted(60.0, "1.0"));
    assert!(matches!(late, Err(TargetError::Fenced { .. })), "{late:?}");
}

#[test]
fn what_was_promoted_long_ago_is_nobodys_canary() {
    let mut over = marked(at(4, 60, json!({})), &wanted(100.0, "1.1"));
    json_patch::merge(&mut over["status"], &json!({"stableRS": V2, "currentStepIndex": 5}));
    let share =
        |object: &Value| observed(&Rollout::of(&place(), &read(object)).unwrap(), &read(object)).canary;
    assert_eq!(share(&over), Weight::FULL, "until it is released");
    over["status"]["currentPodHash"] = json!("ccc");
    assert_eq!(share(&over), Weight::ZERO, "the next version is at 0 %");
}

#[test]
fn a_rollout_that_would_go_on_by_itself_is_refused_with_field_and_remedy() {
    let steps = |steps: Value| {
        let mut object = at(0, 0, json!({}));
        object["spec"]["strategy"]["canary"]["steps"] = steps;
        object
    };
    let with = |pointer: &str, value: Value| {
        let mut object = at(0, 0, json!({}));
        *object.pointer_mut(pointer).unwrap() = value;
        object
    };
    let table = [
        (steps(json!([{"setWeight": 30}, {"pause": {}}])), "the policy asks for 60 %"),
        (
            steps(json!([{"setWeight": 30}, {"setWeight": 60}, {"pause": {}}])),
            "steps[0]: the controller goes on",
        ),
        (
            steps(json!([{"setWeight": 30}, {"pause": {}}, {"setWeight": 60}])),
            "steps[2]: the controller goes on",
        ),
        (steps(json!([{"setWeight": 30}, {"pause": {"duration": "1h"}}])), "steps[1].pause.duration"),
        (steps(json!([{"analysis": {"templates": []}}])), "steps[0].analysis: Sluice judges"),
        (
            with("/spec/strategy/canary/canaryService", json!("other")),
            "it is other, but the policy's target.argoRollout.canary is checkout-canary",
        ),
        (with("/spec/strategy", blue_green_strategy()), "leave the policy's steps out"),
        (
            with("/status/message", json!("InvalidSpec: no such Service")),
            "Argo's controller refuses it: InvalidSpec: no such",
        ),
        (with("/status/stableRS", json!("")), "no version is stable yet"),
        (with("/status/currentPodHash", json!(V1)), "there is nothing to roll out"),
    ];
    let weights = [30.0, 60.0].map(|percent| Weight::from_percent(percent).unwrap());
    let refusal = |object: &Value| {
        let rollout = Rollout::of(&place(), &read(object)).unwrap();
        fitness::check(&place(), &read(object), &rollout, &names(), &weights)
    };
    assert_eq!(refusal(&at(0, 0, json!({}))), Ok(()));
    for (object, expected) in table {
        let error = refusal(&object).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("kubectl -n shop get"), "{expected}: {error}");
    }
}
