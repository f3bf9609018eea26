use serde_json::{Value, json};
use sluice_rollout::Weight;
use sluice_wire::policy;

use super::{Bench, metadata, with, without_marks};
use crate::kubernetes::routers::virtualservice;
use crate::kubernetes::weighted::Weighted;

pub(super) fn config(routes: &[&str]) -> policy::VirtualService {
    policy::VirtualService {
        name: "checkout".into(),
        namespace: None,
        stable: "stable".into(),
        canary: "canary".into(),
        host: None,
        protocol: policy::Protocol::Http,
        routes: routes.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn bench(routes: &[&str], http: Value) -> Bench<Weighted> {
    let config = config(routes);
    let spec = json!({"hosts": ["shop.example"], "gateways": ["mesh"], "http": http});
    Bench::new(virtualservice::describe(&config), json!({"metadata": metadata(), "spec": spec}))
}

/// One destination in full, the other short, and a stranger.
fn route() -> Value {
    json!({
        "name": "main",
        "retries": {"attempts": 3},
        "route": [
            {"destination": {"host": "stable.shop.svc.cluster.local", "subset": "v1"}, "weight": 100},
            {"destination": {"host": "canary", "port": {"number": 80}}, "headers": {"response": {"add": {"a": "b"}}}},
            {"destination": {"host": "stable.other.svc.cluster.local"}, "weight": 0},
        ],
    })
}

const STABLE: &str = "/spec/http/0/route/0/weight";
const CANARY: &str = "/spec/http/0/route/1/weight";

#[test]
fn whole_percents_sum_to_a_hundred_and_finer_ones_to_ten_thousand() {
    let mut bench = bench(&[], json!([route()]));
    let before = bench.json();
    assert_eq!(bench.observe().unwrap().canary, Weight::ZERO, "no weight is 0 beside others");
    for (at, (percent, canary, stable)) in
        [(5.0, 5, 95), (0.1, 10, 9_990), (50.0, 50, 50), (0.0, 0, 100)].into_iter().enumerate()
    {
        let read = bench.set(percent, &format!("1.{}", at + 1)).unwrap();
        assert_eq!((read.canary.percent(), read.written), (percent, format!("{canary}/{stable}")));
        let expected = with(before.clone(), &[(CANARY, json!(canary)), (STABLE, json!(stable))]);
        assert_eq!(without_marks(bench.json()), expected, "something else changed at {percent} %");
    }
    bench.release();
    assert_eq!(without_marks(bench.json()), before);
}

#[test]
fn a_stranger_with_a_share_keeps_it() {
    let mut stranger = route();
    stranger["route"][2]["weight"] = json!(20);
    stranger["route"][0]["weight"] = json!(80);
    let mut bench = bench(&[], json!([stranger]));
    assert_eq!(bench.set(5.0, "1.1").unwrap().written, "4/76");
    assert!(bench.check(1.0).unwrap_err().to_string().contains("1.25 %"));
}

#[test]
fn several_routes_need_names() {
    let other = json!({"name": "other", "route": [{"destination": {"host": "stable"}}, {"destination": {"host": "canary"}}]});
    let unnamed = bench(&[], json!([route(), other]));
    let error = unnamed.check(5.0).unwrap_err().to_string();
    assert!(error.contains("target.virtualService.routes"), "{error}");

    let mut named = bench(&["other"], json!([route(), other]));
    let before = named.json();
    named.set(5.0, "1.1").unwrap();
    assert_eq!(named.json()["spec"]["http"][0], before["spec"]["http"][0]);
    assert_eq!(named.json()["spec"]["http"][1]["route"][1]["weight"], 5);
    assert!(bench(&["nowhere"], json!([route()])).check(5.0).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn what_is_missing_or_ambiguous_is_named() {
    let twice = json!([{"route": [
        {"destination": {"host": "stable", "subset": "a"}},
        {"destination": {"host": "stable", "subset": "b"}},
        {"destination": {"host": "canary"}},
    ]}]);
    let table = [
        (json!([{"route": [{"destination": {"host": "stable"}}]}]), "host canary"),
        (json!([]), "spec.http"),
        (twice, "several: destination with host stable"),
    ];
    for (http, words) in table {
        let error = bench(&[], http).check(5.0).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("kubectl"), "{error}");
    }
}
