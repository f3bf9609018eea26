//! An OpenShift Route: two weights where it names both versions, and one name to switch where it names one alone.

use serde_json::{Value, json};
use sluice_rollout::Weight;
use sluice_wire::policy::PlainRoute;

use super::{Bench, metadata, place, wanted, weight, with, without_marks};
use crate::TargetError;
use crate::kubernetes::Kind;
use crate::kubernetes::routers::openshift;
use crate::openshift::RouteVersions;

fn bench(alternates: Value) -> Bench<RouteVersions> {
    let route = PlainRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "blue".into(),
        canary: "green".into(),
    };
    let mut spec = json!({"host": "shop.example", "to": {"kind": "Service", "name": "blue", "weight": 100}});
    if !alternates.is_null() {
        spec["alternateBackends"] = alternates;
    }
    let kind = RouteVersions::new(openshift::describe(&route), &route);
    Bench::new(kind, json!({"metadata": metadata(), "spec": spec}))
}

#[test]
fn the_one_name_is_switched_to_the_other_version_and_back_and_nothing_else_changes() {
    for alternates in [Value::Null, json!([])] {
        let mut bench = bench(alternates);
        let before = bench.json();
        let read = bench.observe().unwrap();
        assert_eq!((read.canary, read.written.as_str()), (Weight::ZERO, "blue"));
        let read = bench.set(100.0, "1.1").unwrap();
        assert_eq!((read.canary, read.written.as_str()), (Weight::FULL, "green"));
        assert_eq!(without_marks(bench.json()), with(before.clone(), &[("/spec/to/name", json!("green"))]));
        assert!(matches!(bench.set(0.0, "0.9"), Err(TargetError::Fenced { .. })), "a former owner");
        assert_eq!(bench.set(0.0, "1.2").unwrap().canary, Weight::ZERO);
        bench.release();
        assert_eq!(without_marks(bench.json()), before);
    }
}

#[test]
fn between_none_and_all_the_refusal_says_what_steps_would_take() {
    let bench = bench(Value::Null);
    let error = bench.check(5.0).unwrap_err();
    assert!(
        matches!(&error, TargetError::TooFine { finest, .. } if finest.contains("spec.alternateBackends")),
        "{error}"
    );
    assert_eq!(bench.kind.nearest(&place(), &bench.object, weight(5.0)), [Weight::ZERO, Weight::FULL]);
    bench.check(100.0).unwrap();
}

#[test]
fn an_alternate_that_comes_meanwhile_fails_the_switch_and_makes_it_weights() {
    let mut bench = bench(Value::Null);
    let sent = serde_json::to_value(bench.operations(&wanted(100.0, "1.1"))).unwrap();
    for relied_on in [
        json!({"op": "test", "path": "/spec/to/name", "value": "blue"}),
        json!({"op": "test", "path": "/spec/alternateBackends", "value": null}),
    ] {
        assert!(sent.as_array().unwrap().contains(&relied_on), "{sent}");
    }
    bench.edit(|route| {
        route["spec"]["alternateBackends"] = json!([{"kind": "Service", "name": "green", "weight": 0}]);
    });
    assert_eq!(bench.set(5.0, "1.1").unwrap().written, "5/95");
}

#[test]
fn a_route_of_neither_version_says_which_it_misses() {
    let mut bench = bench(Value::Null);
    bench.edit(|route| route["spec"]["to"]["name"] = json!("red"));
    let error = bench.observe().unwrap_err().to_string();
    assert!(error.contains("blue") && error.contains("kubectl"), "{error}");
}
