//! Who is let in before everybody else: one more rule while the rollout runs, none before and after.

use json_patch::PatchOperation;
use serde_json::{Value, json};
use sluice_wire::policy::{NameValue, PlainRoute, RuleRoute, Testers};

use super::{Bench, metadata, virtualservice::config, wanted, with, without_marks};
use crate::Wanted;
use crate::kubernetes::routers::{contour, gateway, nginx, virtualservice};
use crate::kubernetes::testers::{Door, Form};
use crate::kubernetes::weighted::Weighted;

fn header() -> Testers {
    Testers::Header(NameValue { name: "x-canary".into(), value: "always".into() })
}

fn cookie() -> Testers {
    Testers::Cookie(NameValue { name: "beta".into(), value: "yes.1".into() })
}

fn rule_route(rules: &[&str]) -> RuleRoute {
    RuleRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "stable".into(),
        canary: "canary".into(),
        port: None,
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
    }
}

fn bench(router: Weighted, form: Form, testers: Testers, spec: Value) -> Bench<Weighted> {
    let router = Weighted { door: Some(Door { form, testers }), ..router };
    Bench::new(router, json!({"metadata": metadata(), "spec": spec}))
}

fn http_route(testers: Testers) -> Bench<Weighted> {
    let matches = json!([{"path": {"type": "PathPrefix", "value": "/"}}, {"method": "POST"}]);
    let backends = json!([
        {"name": "stable", "port": 80, "weight": 100}, {"name": "canary", "port": 80, "weight": 0, "filters": []}
    ]);
    let spec = json!({"rules": [
        {"name": "main", "matches": matches, "timeouts": {"request": "5s"}, "backendRefs": backends},
        {"backendRefs": [{"name": "other", "port": 80}]},
    ]});
    bench(gateway::http(&rule_route(&[])), Form::GatewayApi, testers, spec)
}

/// An abort's write.
fn abort(fence: &str) -> Wanted {
    Wanted { abort: Some("errors".into()), ..wanted(0.0, fence) }
}

/// Opens at weight 0, raises, aborts and releases: afterwards all is as before. Gives the object as testers had it.
fn from_open_to_release(bench: &mut Bench<Weighted>) -> Value {
    let before = bench.json();
    assert_eq!(bench.set(0.0, "1.1").unwrap().canary.percent(), 0.0);
    let open = bench.json();
    assert_eq!(bench.set(5.0, "1.2").unwrap().canary.percent(), 5.0);
    bench.apply(&abort("1.3")).unwrap();
    assert_eq!(bench.observe().unwrap().canary.percent(), 0.0);
    bench.release();
    assert_eq!(without_marks(bench.json()), without_marks(before));
    open
}

#[test]
fn an_http_route_gets_a_rule_for_testers_and_loses_it_again() {
    let mut bench = http_route(header());
    let open = from_open_to_release(&mut bench);
    let tester = json!({"type": "Exact", "name": "x-canary", "value": "always"});
    let expected = json!({
        "matches": [
            {"path": {"type": "PathPrefix", "value": "/"}, "headers": [tester]}, {"method": "POST", "headers": [tester]},
        ],
        "timeouts": {"request": "5s"},
        "backendRefs": [{"name": "canary", "port": 80, "weight": 1, "filters": []}],
    });
    assert_eq!(open["spec"]["rules"][2], expected);
    assert_eq!(open["metadata"]["annotations"]["sluice.dev/testers"], "header x-canary: always");
}

#[test]
fn an_abort_takes_the_rule_away_in_its_one_write() {
    let mut bench = http_route(header());
    bench.set(0.0, "1.1").unwrap();
    bench.set(25.0, "1.2").unwrap();
    let sent = bench.operations(&abort("1.3"));
    let removes = |operation: &&PatchOperation| matches!(operation, PatchOperation::Remove(one) if one.path.as_str() == "/spec/rules/2");
    let tests = |operation: &&PatchOperation| matches!(operation, PatchOperation::Test(one) if one.path.as_str() == "/spec/rules/2");
    let (test, remove) = (sent.iter().position(|one| tests(&one)), sent.iter().position(|one| removes(&one)));
    assert!(test.is_some() && test < remove, "{sent:?}");
    bench.apply(&abort("1.3")).unwrap();
    assert_eq!(bench.json()["spec"]["rules"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_rule_that_somebody_took_away_comes_with_the_next_write() {
    let mut bench = http_route(header());
    bench.set(0.0, "1.1").unwrap();
    bench.edit(|json| {
        json["spec"]["rules"].as_array_mut().unwrap().pop();
    });
    bench.set(5.0, "1.2").unwrap();
    assert_eq!(bench.json()["spec"]["rules"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_rule_for_testers_that_the_owner_wrote_stays() {
    let mut bench = http_route(header());
    let tester = json!({"type": "Exact", "name": "x-canary", "value": "always"});
    let own = json!({"matches": [{"headers": [tester]}], "backendRefs": [{"name": "canary", "port": 80}]});
    bench.edit(|json| json["spec"]["rules"].as_array_mut().unwrap().push(own));
    let open = from_open_to_release(&mut bench);
    assert_eq!(open["spec"]["rules"].as_array().map(Vec::len), Some(3), "none was added");
}

#[test]
fn a_header_that_the_rule_matches_already_is_refused() {
    let mut bench = http_route(header());
    let other = json!({"type": "Exact", "name": "X-Canary", "value": "never"});
    bench.edit(|json| json["spec"]["rules"][0]["matches"][0]["headers"] = json!([other]));
    let refused = bench.set(0.0, "1.1").unwrap_err().to_string();
    assert!(refused.contains("it matches header x-canary already"), "{refused}");
}

#[test]
fn a_virtual_service_asks_testers_first_and_its_routes_keep_their_numbers() {
    let routes = json!([
        {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "files"}}]},
        {"name": "backend", "route": [
            {"destination": {"host": "stable"}, "weight": 100}, {"destination": {"host": "canary"}, "weight": 0}]},
    ]);
    let mut bench =
        bench(virtualservice::describe(&config(&["1"])), Form::Istio, cookie(), json!({"http": routes}));
    let open = from_open_to_release(&mut bench);
    let expected = json!({
        "match": [{"headers": {"cookie": {"regex": "^(.*;\\s*)?beta=yes\\.1(;.*)?$"}}}],
        "route": [{"destination": {"host": "canary"}, "weight": 100}],
    });
    assert_eq!(open["spec"]["http"][0], expected);
    assert_eq!(open["spec"]["http"].as_array().map(Vec::len), Some(3));
}

#[test]
fn an_http_proxy_tells_testers_in_its_routes_and_not_in_tcpproxy() {
    let services = |stable: u32| json!([{"name": "stable", "port": 80, "weight": stable}, {"name": "canary", "port": 80, "weight": 0}]);
    let spec = json!({
        "routes": [{"conditions": [{"prefix": "/"}], "services": services(100)}],
        "tcpproxy": {"services": services(100)},
    });
    let mut bench = bench(contour::describe(&rule_route(&[])), Form::Contour, header(), spec);
    let open = from_open_to_release(&mut bench);
    let expected = json!({
        "conditions": [{"prefix": "/"}, {"header": {"name": "x-canary", "exact": "always"}}],
        "services": [{"name": "canary", "port": 80, "weight": 1}],
    });
    assert_eq!(open["spec"]["routes"][1], expected);
}

#[test]
fn a_canarys_ingress_is_told_by_annotations_unless_its_owner_has_some() {
    let plain = PlainRoute {
        name: "checkout-canary".into(),
        namespace: None,
        stable: "stable".into(),
        canary: "canary".into(),
    };
    let prefix = "nginx.ingress.kubernetes.io";
    let ingress = || {
        let mut bench = bench(nginx::describe(&plain), Form::Nginx, header(), json!({}));
        bench.edit(|json| {
            let annotations =
                [(format!("{prefix}/canary"), "true"), (format!("{prefix}/canary-weight"), "0")];
            json["metadata"]["annotations"] = annotations.into_iter().collect();
        });
        bench
    };
    let open = from_open_to_release(&mut ingress());
    let annotations = &open["metadata"]["annotations"];
    assert_eq!(annotations[format!("{prefix}/canary-by-header")], "x-canary");
    assert_eq!(annotations[format!("{prefix}/canary-by-header-value")], "always");

    let mut own = ingress();
    own.edit(|json| json["metadata"]["annotations"][format!("{prefix}/canary-by-cookie")] = "beta".into());
    let refused = own.set(0.0, "1.1").unwrap_err().to_string();
    assert!(refused.contains("canary-by-cookie") && refused.contains("take it away"), "{refused}");
}

#[test]
fn without_testers_nothing_but_numbers_changes() {
    let mut bench = http_route(header());
    bench.kind.door = None;
    let before = without_marks(bench.json());
    bench.set(0.0, "1.1").unwrap();
    let numbers = [
        ("/spec/rules/0/backendRefs/0/weight", json!(10_000)),
        ("/spec/rules/0/backendRefs/1/weight", json!(0)),
    ];
    assert_eq!(without_marks(bench.json()), with(before, &numbers));
}
