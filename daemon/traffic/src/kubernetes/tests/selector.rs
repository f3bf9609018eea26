use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_rollout::Weight;
use sluice_wire::policy;

use super::{Bench, metadata, wanted, with, without_marks};
use crate::TargetError;
use crate::kubernetes::selector::Selector;

fn bench(selector: Value) -> Bench<Selector> {
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let config = policy::ServiceFlip {
        name: "checkout".into(),
        namespace: None,
        stable: labels(&[("app.kubernetes.io/version", "blue"), ("old", "yes")]),
        canary: labels(&[("app.kubernetes.io/version", "green")]),
    };
    let spec = json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.7", "selector": selector});
    Bench::new(Selector::new(&config), json!({"metadata": metadata(), "spec": spec}))
}

#[test]
fn a_flip_changes_the_versions_labels_and_nothing_else_and_flips_back() {
    let mut bench = bench(json!({"app.kubernetes.io/version": "blue", "old": "yes", "tier": "web"}));
    let before = bench.json();
    assert_eq!(bench.set(100.0, "1.1").unwrap().canary, Weight::FULL);
    let green = json!({"app.kubernetes.io/version": "green", "tier": "web"});
    assert_eq!(without_marks(bench.json()), with(before.clone(), &[("/spec/selector", green)]));
    assert_eq!(bench.set(0.0, "1.2").unwrap().canary, Weight::ZERO);
    assert_eq!(without_marks(bench.json()), before);
}

#[test]
fn between_none_and_all_there_is_nothing() {
    let bench = bench(json!({"app.kubernetes.io/version": "blue", "old": "yes"}));
    let error = bench.check(5.0).unwrap_err();
    assert!(matches!(&error, TargetError::TooFine { finest, .. } if finest.contains("100 %")), "{error}");
    bench.check(100.0).unwrap();
}

#[test]
fn a_selector_that_is_neither_version_says_so_and_can_still_be_put_back() {
    let mut bench = bench(json!({"app.kubernetes.io/version": "red"}));
    let error = bench.observe().unwrap_err().to_string();
    assert!(
        error.contains("version=red") && error.contains("spec.selector") && error.contains("kubectl"),
        "{error}"
    );
    assert_eq!(bench.set(0.0, "1.1").unwrap().canary, Weight::ZERO);
}

#[test]
fn the_labels_that_are_replaced_are_tested() {
    let bench = bench(json!({"app.kubernetes.io/version": "blue", "old": "yes"}));
    let sent = serde_json::to_value(bench.operations(&wanted(100.0, "1.1"))).unwrap();
    let test = json!({"op": "test", "path": "/spec/selector/app.kubernetes.io~1version", "value": "blue"});
    assert!(sent.as_array().unwrap().contains(&test), "{sent}");
}
