//! Whose write counts, and what an abort leaves behind.

use serde_json::json;
use sluice_rollout::{RolloutId, Weight};
use sluice_wire::policy;

use super::super::decide::after_refusal;
use super::{Bench, fence, metadata, place, wanted};
use crate::kubernetes::routers::gateway;
use crate::kubernetes::weighted::Weighted;
use crate::{TargetError, Wanted};

fn bench() -> Bench<Weighted> {
    let config = policy::RuleRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "stable".into(),
        canary: "canary".into(),
        port: None,
        rules: Vec::new(),
    };
    let rules = json!([{"backendRefs": [{"name": "stable", "weight": 1}, {"name": "canary", "weight": 0}]}]);
    Bench::new(gateway::http(&config), json!({"metadata": metadata(), "spec": {"rules": rules}}))
}

fn abort(fence: &str) -> Wanted {
    Wanted { abort: Some("errors 4 % over 1 %".into()), ..wanted(0.0, fence) }
}

#[test]
fn a_lower_fence_and_another_write_with_the_same_one_are_refused() {
    let mut bench = bench();
    bench.set(5.0, "2.7").unwrap();
    for late in ["1.900", "2.6"] {
        let fenced = TargetError::Fenced { found: fence("2.7"), ours: fence(late) };
        assert_eq!(bench.set(0.0, late), Err(fenced));
    }
    assert!(matches!(bench.set(10.0, "2.7"), Err(TargetError::Fenced { .. })));
    let other = Wanted { rollout: RolloutId::new("shop", "checkout", "v3").unwrap(), ..wanted(5.0, "2.7") };
    assert!(matches!(bench.apply(&other), Err(TargetError::Fenced { .. })));
}

#[test]
fn the_same_write_again_is_done_already_or_is_done_again() {
    let mut bench = bench();
    let first = bench.set(5.0, "2.7").unwrap();
    let before = bench.json();
    assert_eq!(bench.set(5.0, "2.7"), Ok(first.clone()));
    assert_eq!(bench.json(), before, "nothing was written");
    bench.edit(|json| json["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(0));
    assert_eq!(bench.set(5.0, "2.7"), Ok(first), "put back from outside meanwhile");
}

#[test]
fn an_aborts_reason_stands_on_the_object_until_it_is_released() {
    let mut bench = bench();
    bench.set(5.0, "2.7").unwrap();
    let read = bench.apply(&abort("2.8")).unwrap();
    assert_eq!(read.canary, Weight::ZERO);
    let mark = read.abort.unwrap();
    assert_eq!((mark.rollout.as_str(), mark.reason.as_str()), ("shop/checkout@v2", "errors 4 % over 1 %"));
    let error = bench.set(5.0, "3.1").unwrap_err();
    assert!(matches!(&error, TargetError::Refused(words) if words.contains("errors 4 %")), "{error}");
    assert!(bench.set(0.0, "3.1").unwrap().abort.is_some(), "another write to 0 does not wipe it");
    bench.release();
    assert_eq!(bench.observe().unwrap().abort, None);
}

#[test]
fn the_next_attempt_is_not_stopped_by_a_former_ones_abort() {
    let mut bench = bench();
    bench.apply(&abort("2.8")).unwrap();
    let next = Wanted { rollout: RolloutId::new("shop", "checkout", "v3").unwrap(), ..wanted(5.0, "3.1") };
    let read = bench.apply(&next).unwrap();
    assert_eq!((read.canary.percent(), read.abort), (5.0, None));
}

#[test]
fn foreign_annotations_stay_and_unreadable_marks_count_as_none() {
    let mut bench = bench();
    bench.edit(|json| {
        json["metadata"]["annotations"] =
            json!({"note": "mine", "sluice.dev/fence": "what?", "sluice.dev/abort": "x"})
    });
    bench.set(5.0, "1.1").unwrap();
    assert_eq!(bench.json()["metadata"]["annotations"]["note"], "mine");
    assert_eq!(bench.observe().unwrap().fence, Some(fence("1.1")));
}

#[test]
fn after_a_422_only_what_was_tested_decides_between_changed_and_refused() {
    let base = bench();
    let operations = base.operations(&wanted(5.0, "1.1"));
    let refusal = |other: &Bench<Weighted>| {
        after_refusal(&place(), &base.object, &other.object, &operations, "policy says no")
    };
    let error = refusal(&bench()).unwrap_err();
    assert!(matches!(&error, TargetError::Refused(words) if words.contains("policy says no")), "{error}");
    let changes: [(&str, serde_json::Value); 3] = [
        ("/metadata/uid", json!("u-2")),
        ("/metadata/generation", json!(5)),
        ("/spec/rules/0/backendRefs/1/name", json!("other")),
    ];
    for (pointer, value) in changes {
        let mut other = bench();
        other.edit(|json| *json.pointer_mut(pointer).unwrap() = value);
        assert_eq!(refusal(&other), Ok(()), "{pointer} has changed");
    }
}
