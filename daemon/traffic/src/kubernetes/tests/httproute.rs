use serde_json::{Value, json};
use sluice_rollout::Weight;
use sluice_wire::policy;

use super::{Bench, metadata, wanted, with, without_marks};
use crate::TargetError;
use crate::kubernetes::routers::gateway;
use crate::kubernetes::weighted::Weighted;

fn config() -> policy::RuleRoute {
    policy::RuleRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "stable".into(),
        canary: "canary".into(),
        port: None,
        rules: Vec::new(),
    }
}

fn bench(rules: Value) -> Bench<Weighted> {
    bench_of(config(), rules)
}

fn bench_of(config: policy::RuleRoute, rules: Value) -> Bench<Weighted> {
    let spec = json!({"parentRefs": [{"name": "gw"}], "hostnames": ["shop.example"], "rules": rules});
    Bench::new(
        gateway::http(&config),
        json!({"metadata": metadata(), "spec": spec, "status": {"parents": []}}),
    )
}

/// One rule with filters and a match, as people have them.
fn one_rule() -> Value {
    json!([{
        "name": "main",
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "a", "value": "b"}]}}],
        "backendRefs": [
            {"name": "stable", "port": 80, "weight": 100},
            {"name": "canary", "port": 80, "weight": 0, "filters": []},
        ],
    }])
}

const STABLE: &str = "/spec/rules/0/backendRefs/0/weight";
const CANARY: &str = "/spec/rules/0/backendRefs/1/weight";

#[test]
fn a_rollout_writes_two_numbers_and_puts_the_original_back() {
    let mut bench = bench(one_rule());
    let before = bench.json();
    for (at, (percent, canary)) in
        [(0.01, 1), (0.1, 10), (5.0, 500), (33.33, 3_333), (95.0, 9_500), (0.0, 0)].into_iter().enumerate()
    {
        let read = bench.set(percent, &format!("1.{}", at + 1)).unwrap();
        assert_eq!((read.canary.percent(), read.written), (percent, format!("{canary}/{}", 10_000 - canary)));
        let expected = with(before.clone(), &[(CANARY, json!(canary)), (STABLE, json!(10_000 - canary))]);
        assert_eq!(without_marks(bench.json()), expected, "something else changed at {percent} %");
    }
    bench.release();
    assert_eq!(without_marks(bench.json()), before);
    let marks = &bench.json()["metadata"]["annotations"];
    assert_eq!(marks, &json!({"sluice.dev/fence": "1.6"}), "only the fence stays");
}

#[test]
fn the_patch_says_what_it_relies_on() {
    let bench = bench(one_rule());
    let sent = |percent| serde_json::to_value(bench.operations(&wanted(percent, "1.1"))).unwrap();
    let paths = |value: &Value, op: &str| -> Vec<String> {
        let of_op = value.as_array().unwrap().iter().filter(|operation| operation["op"] == op);
        of_op.map(|operation| operation["path"].as_str().unwrap().to_owned()).collect()
    };
    let up = sent(5.0);
    for tested in [
        "/metadata/uid",
        "/metadata/annotations",
        "/metadata/generation",
        "/spec/rules/0/backendRefs/1/name",
        "/spec/rules/0/backendRefs/0/port",
    ] {
        assert!(paths(&up, "test").iter().any(|path| path == tested), "{tested} is not tested in {up}");
    }
    assert!(!up.to_string().contains("resourceVersion"));
    assert!(paths(&up, "replace").is_empty(), "replace needs what may be absent");
    let down = sent(0.0);
    assert!(
        !paths(&down, "test").contains(&"/metadata/generation".to_owned()),
        "nothing stands in the way down"
    );
}

#[test]
fn weights_that_are_not_written_count_as_one_and_are_taken_away_again() {
    let rules = json!([{"backendRefs": [{"name": "stable"}, {"name": "canary", "weight": 0}]}]);
    let mut bench = bench(rules);
    let before = bench.json();
    bench.set(50.0, "1.1").unwrap();
    bench.set(0.0, "1.2").unwrap();
    bench.release();
    assert_eq!(without_marks(bench.json()), before);
}

#[test]
fn after_a_swap_the_original_is_not_put_back() {
    let mut bench = bench(one_rule());
    bench.set(100.0, "1.1").unwrap();
    bench.release();
    assert_eq!(bench.observe().unwrap().canary, Weight::FULL);
}

#[test]
fn a_third_backend_keeps_its_share_and_limits_how_fine_weights_are() {
    let rules = json!([{"backendRefs": [
        {"name": "stable", "weight": 100}, {"name": "legacy", "weight": 7}, {"name": "canary", "weight": 0},
    ]}]);
    let mut bench = bench(rules);
    let read = bench.set(5.0, "1.1").unwrap();
    assert_eq!(read.written, "5/95");
    assert_eq!(bench.json()["spec"]["rules"][0]["backendRefs"][1], json!({"name": "legacy", "weight": 7}));
    let error = bench.check(0.5).unwrap_err();
    assert!(matches!(error, TargetError::TooFine { .. }), "{error}");
    assert!(
        error.to_string().contains("1.00 %") && error.to_string().contains("httproute shop/checkout"),
        "{error}"
    );
}

#[test]
fn a_total_that_only_comes_near_reads_back_as_what_was_asked() {
    let rules = json!([{"backendRefs": [
        {"name": "stable", "weight": 97}, {"name": "canary", "weight": 0}, {"name": "legacy"},
    ]}]);
    let mut bench = bench(rules);
    let read = bench.set(50.0, "1.1").unwrap();
    assert_eq!((read.canary.percent(), read.written.as_str()), (50.0, "48/49"), "rounded down, never above");
    bench.edit(|json| json["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(40));
    assert!(bench.observe().unwrap().canary.percent() < 50.0, "a foreign write reads as it is");
}

#[test]
fn every_rule_with_both_backends_is_written_and_only_those() {
    let rules = json!([
        {"backendRefs": [{"name": "stable", "weight": 1}, {"name": "canary", "weight": 0}]},
        {"backendRefs": [{"name": "stable"}]},
        {"name": "api", "backendRefs": [{"name": "canary", "weight": 0}, {"name": "stable", "weight": 3}]},
    ]);
    let mut all = bench(rules.clone());
    assert_eq!(all.set(5.0, "1.1").unwrap().written, "500/9500");
    assert_eq!(all.json()["spec"]["rules"][1], rules[1]);

    let named = policy::RuleRoute { rules: vec!["api".into()], ..config() };
    let mut named = bench_of(named, rules.clone());
    named.set(5.0, "1.1").unwrap();
    assert_eq!(named.json()["spec"]["rules"][0], rules[0]);
    assert_eq!(named.json()["spec"]["rules"][2]["backendRefs"][0]["weight"], 500);
}

#[test]
fn a_rule_put_back_from_outside_shows_although_another_one_holds() {
    let rule = || json!({"backendRefs": [{"name": "stable", "weight": 1}, {"name": "canary", "weight": 0}]});
    let mut bench = bench(json!([rule(), rule()]));
    bench.set(5.0, "1.1").unwrap();
    bench.edit(|json| json["spec"]["rules"][1] = rule());
    assert_eq!(bench.observe().unwrap().canary, Weight::ZERO);
    bench.edit(|json| json["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(9_500));
    assert_eq!(bench.observe().unwrap().canary.percent(), 50.0, "more than asked for counts before less");
}

#[test]
fn what_is_missing_is_named_with_object_field_and_command() {
    let port = policy::RuleRoute { port: Some(81), ..config() };
    let rules = policy::RuleRoute { rules: vec!["nowhere".into()], ..config() };
    let twice = json!([{"backendRefs": [{"name": "stable"}, {"name": "canary", "port": 1}, {"name": "canary", "port": 2}]}]);
    let table = [
        (bench(json!([{"backendRefs": [{"name": "stable"}]}])), ["backend canary", "add it to backendRefs"]),
        (bench(json!([{"backendRefs": [{"name": "canary"}]}])), ["backend stable", "spec.rules"]),
        (bench(json!([])), ["spec.rules", "backend"]),
        (bench_of(port, one_rule()), ["port 81", "backend"]),
        (bench_of(rules, one_rule()), ["nowhere", "spec.rules"]),
        (bench(twice), ["several: backend canary", "target.httpRoute.port"]),
    ];
    for (bench, words) in table {
        let error = bench.check(5.0).unwrap_err().to_string();
        for word in
            words.iter().chain(&["httproute shop/checkout", "kubectl -n shop get httproute checkout -o yaml"])
        {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    }
}
