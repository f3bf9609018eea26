//! One story, told of every router whose weights are integers: it opens, closes and puts back, and touches two numbers.

use serde_json::{Value, json};
use sluice_rollout::Weight;
use sluice_wire::policy::{AlbIngress, PlainRoute, Protocol, RuleRoute, VirtualService};

use super::{Bench, metadata, wanted, with, without_marks};
use crate::TargetError;
use crate::kubernetes::routers::{
    alb, ambassador, apisix, avi, contour, gateway, gloo, knative, kuma, nginx, openshift, skipper, smi,
    traefik, virtualservice,
};
use crate::kubernetes::weighted::Weighted;

/// Where the two numbers stand.
#[derive(Clone, Copy)]
enum Where {
    /// Pointers to stable's number and the canary's.
    Fields(&'static str, &'static str),
    /// Only the canary's number stands there.
    Field(&'static str),
    /// An annotation, and its text with `S` and `C` for the numbers.
    Text(&'static str, &'static str),
}

impl Where {
    fn put(self, object: Value, canary: u64, stable: u64) -> Value {
        match self {
            Where::Fields(s, c) => with(object, &[(s, json!(stable)), (c, json!(canary))]),
            Where::Field(c) => with(object, &[(c, json!(canary))]),
            Where::Text(name, text) => {
                let text = text.replace("S!", &stable.to_string()).replace("C!", &canary.to_string());
                let mut object = object;
                object["metadata"]["annotations"][name] = json!(text);
                object
            }
        }
    }
}

struct Case {
    router: Weighted,
    /// The same router, whose canary is called `nowhere`.
    astray: Weighted,
    object: Value,
    numbers: Where,
    /// At rest: canary and stable.
    rest: (u64, u64),
    /// Percent, and the numbers that stand for it.
    steps: &'static [(f64, u64, u64)],
    /// Finer than it can be.
    too_fine: Option<f64>,
}

const PERCENTS: &[(f64, u64, u64)] = &[(5.0, 5, 95), (0.1, 10, 9_990), (50.0, 50, 50), (100.0, 100, 0)];
const WHOLE: &[(f64, u64, u64)] = &[(5.0, 5, 95), (50.0, 50, 50), (100.0, 100, 0)];

fn story(case: Case) {
    let object = case.numbers.put(case.object.clone(), case.rest.0, case.rest.1);
    let word = case.router.word;
    let mut bench = Bench::new(case.router, object);
    let before = without_marks(bench.json());
    assert_eq!(bench.observe().unwrap().canary, Weight::ZERO, "{word} at rest");
    let mut sequence = 0;
    for (percent, canary, stable) in case.steps {
        sequence += 1;
        relies_on_what_it_saw(&bench, *percent);
        let read = bench.set(*percent, &format!("1.{sequence}")).unwrap();
        let expected = (*percent, format!("{canary}/{stable}"));
        assert_eq!((read.canary.percent(), read.written), expected, "{word}");
        let only = case.numbers.put(before.clone(), *canary, *stable);
        assert_eq!(without_marks(bench.json()), only, "{word} at {percent} %");
    }
    assert!(matches!(bench.set(0.0, "0.9"), Err(TargetError::Fenced { .. })), "{word}: a former owner");
    assert_eq!(bench.set(0.0, "2.1").unwrap().canary, Weight::ZERO, "{word}");
    bench.release();
    assert_eq!(without_marks(bench.json()), before, "{word}: the original is back");
    if let Some(percent) = case.too_fine {
        assert!(matches!(bench.check(percent), Err(TargetError::TooFine { .. })), "{word}");
    }
    let astray = Bench::new(case.astray, bench.json());
    if let Err(error) = astray.check(5.0) {
        let error = error.to_string();
        assert!(error.contains("nowhere") && error.contains("kubectl -n shop get"), "{word}: {error}");
    } else {
        assert!(matches!(word, "nginxIngress"), "{word}: a canary that is not there is not missed");
    }
}

fn relies_on_what_it_saw(bench: &Bench<Weighted>, percent: f64) {
    let sent = serde_json::to_value(bench.operations(&wanted(percent, "9.9"))).unwrap();
    let of_op = |op: &str| -> Vec<String> {
        let all = sent.as_array().unwrap().iter().filter(|operation| operation["op"] == op);
        all.map(|operation| operation["path"].as_str().unwrap().to_owned()).collect()
    };
    assert!(of_op("test").contains(&"/metadata/uid".to_owned()), "{sent}");
    assert!(of_op("test").contains(&"/metadata/generation".to_owned()), "{sent}");
    assert!(of_op("replace").is_empty() && !sent.to_string().contains("resourceVersion"), "{sent}");
}

fn object(spec: Value) -> Value {
    json!({"metadata": metadata(), "spec": spec, "status": {"note": "somebody's"}})
}

fn annotated(name: &str, text: &str) -> Value {
    let mut object = object(json!({"ports": [{"port": 80}]}));
    object["metadata"]["annotations"] = json!({"other": "mine"});
    object["metadata"]["annotations"][name] = json!(text);
    object
}

fn plain(canary: &str) -> PlainRoute {
    PlainRoute { name: "checkout".into(), namespace: None, stable: "stable".into(), canary: canary.into() }
}

fn ruled(canary: &str) -> RuleRoute {
    RuleRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "stable".into(),
        canary: canary.into(),
        port: None,
        rules: Vec::new(),
    }
}

#[test]
fn gateway_routes_of_every_protocol() {
    for describe in [gateway::http, gateway::grpc, gateway::tls, gateway::tcp] {
        story(Case {
            router: describe(&ruled("canary")),
            astray: describe(&ruled("nowhere")),
            object: object(json!({"rules": [{"name": "main", "backendRefs": [
                {"name": "stable", "port": 80, "weight": 1}, {"name": "canary", "port": 80, "weight": 0},
                {"name": "drained", "port": 80, "weight": 0}]}]})),
            numbers: Where::Fields(
                "/spec/rules/0/backendRefs/0/weight",
                "/spec/rules/0/backendRefs/1/weight",
            ),
            rest: (0, 1),
            steps: &[(0.01, 1, 9_999), (5.0, 500, 9_500), (100.0, 10_000, 0)],
            too_fine: None,
        });
    }
}

#[test]
fn a_virtual_service_by_subset_over_tls_and_tcp() {
    for (protocol, list) in [(Protocol::Http, "http"), (Protocol::Tls, "tls"), (Protocol::Tcp, "tcp")] {
        let service = |canary: &str| VirtualService {
            name: "checkout".into(),
            namespace: None,
            stable: "v1".into(),
            canary: canary.into(),
            host: Some("checkout".into()),
            protocol,
            routes: vec!["1".into()],
        };
        let subset = |host: &str, subset: &str, weight: u64| json!({"destination": {"host": host, "subset": subset}, "weight": weight});
        let routes = json!([
            {"match": [{"port": 1}], "route": [subset("checkout", "v1", 100), subset("checkout", "v2", 0)]},
            {"route": [subset("checkout.shop.svc.cluster.local", "v1", 100), subset("checkout", "v2", 0),
                subset("checkout", "v0", 0), subset("other", "v2", 0)]},
        ]);
        let (stable, canary) = match list {
            "http" => ("/spec/http/1/route/0/weight", "/spec/http/1/route/1/weight"),
            "tls" => ("/spec/tls/1/route/0/weight", "/spec/tls/1/route/1/weight"),
            _ => ("/spec/tcp/1/route/0/weight", "/spec/tcp/1/route/1/weight"),
        };
        story(Case {
            router: virtualservice::describe(&service("v2")),
            astray: virtualservice::describe(&service("nowhere")),
            object: object(json!({ list: routes })),
            numbers: Where::Fields(stable, canary),
            rest: (0, 100),
            steps: PERCENTS,
            too_fine: None,
        });
    }
}

#[test]
fn an_openshift_route() {
    story(Case {
        router: openshift::describe(&plain("canary")),
        astray: openshift::describe(&plain("nowhere")),
        object: object(json!({"host": "shop.example", "to": {"kind": "Service", "name": "stable"},
            "alternateBackends": [{"kind": "Service", "name": "old", "weight": 0}, {"kind": "Service", "name": "canary"}]})),
        numbers: Where::Fields("/spec/to/weight", "/spec/alternateBackends/1/weight"),
        rest: (0, 100),
        steps: &[(5.0, 5, 95), (0.5, 1, 199), (0.4, 1, 249), (12.5, 13, 91), (99.5, 196, 1), (100.0, 100, 0)],
        too_fine: Some(0.1),
    });
}

#[test]
fn an_avi_pool_group_in_the_smallest_numbers() {
    let text = "{\"virtualservice\": {\"east_west_placement\": true, \"uuid\": 1.50},\n  \"poolgroup\": {\"members\": [ {\"ratio\": S!, \"pool_ref\": \"/api/pool/?name=stable-pool-http-tcp\"}, {\"pool_ref\": \"/api/pool/?name=canary-pool-http-tcp\", \"ratio\":C! , \"x\": null}], \"min_servers\": 0}}";
    story(Case {
        router: avi::describe(&plain("canary")),
        astray: avi::describe(&plain("nowhere")),
        object: annotated("avi_proxy", ""),
        numbers: Where::Text("avi_proxy", text),
        rest: (0, 10),
        steps: &[(9.1, 1, 10), (50.0, 1, 1), (5.0, 1, 19), (25.0, 1, 3), (100.0, 1, 0)],
        too_fine: Some(0.05),
    });
}

#[test]
fn an_avi_annotation_that_is_no_json_is_refused_with_the_place() {
    let table = [
        ("{\"poolgroup\": {“members”: []}}", ["line 1, column 16", "curly quote"]),
        ("{'poolgroup': {}}", ["no JSON", "line 1 column 2"]),
        ("{\"poolgroup\": {\"members\": []}}", ["pool_ref of Service", "poolgroup"]),
    ];
    for (text, words) in table {
        let bench = Bench::new(avi::describe(&plain("canary")), annotated("avi_proxy", text));
        let error = bench.check(5.0).unwrap_err().to_string();
        for word in words.iter().chain(&["metadata.annotations[avi_proxy]", "kubectl"]) {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    }
}

#[test]
fn an_avi_annotation_rewritten_meanwhile_is_not_overwritten() {
    let text = |ratio: u64| {
        format!(
            "{{\"poolgroup\": {{\"members\": [{{\"ratio\": {ratio}, \"pool_ref\": \"stable-pool-http\"}}, {{\"ratio\": 0, \"pool_ref\": \"canary-pool-http\"}}]}}}}"
        )
    };
    let bench = Bench::new(avi::describe(&plain("canary")), annotated("avi_proxy", &text(10)));
    let sent = serde_json::to_value(bench.operations(&wanted(0.0, "1.1"))).unwrap();
    let test = json!({"op": "test", "path": "/metadata/annotations/avi_proxy", "value": text(10)});
    assert!(sent.as_array().unwrap().contains(&test), "{sent}");
}

#[test]
fn a_contour_proxy_whose_mirror_is_no_backend() {
    let services = json!([{"name": "stable", "port": 80, "weight": 1}, {"name": "canary", "port": 80},
        {"name": "canary", "port": 80, "mirror": true, "weight": 100}]);
    story(Case {
        router: contour::describe(&ruled("canary")),
        astray: contour::describe(&ruled("nowhere")),
        object: object(json!({"virtualhost": {"fqdn": "shop.example"}, "routes": [
            {"conditions": [{"prefix": "/static"}], "services": [{"name": "static", "port": 80}]},
            {"services": services}]})),
        numbers: Where::Fields("/spec/routes/1/services/0/weight", "/spec/routes/1/services/1/weight"),
        rest: (0, 1),
        steps: PERCENTS,
        too_fine: None,
    });
    let tcp = json!({"name": "stable", "port": 80, "weight": 1});
    story(Case {
        router: contour::describe(&ruled("canary")),
        astray: contour::describe(&ruled("nowhere")),
        object: object(json!({"tcpproxy": {"services": [tcp, {"name": "canary", "port": 80, "weight": 0}]}})),
        numbers: Where::Fields("/spec/tcpproxy/services/0/weight", "/spec/tcpproxy/services/1/weight"),
        rest: (0, 1),
        steps: WHOLE,
        too_fine: None,
    });
}

#[test]
fn a_traefik_service_whose_namesake_is_no_service() {
    story(Case {
        router: traefik::describe(&plain("canary")),
        astray: traefik::describe(&plain("nowhere")),
        object: object(json!({"weighted": {"sticky": {"cookie": {}}, "services": [
            {"name": "canary", "kind": "TraefikService", "weight": 0}, {"name": "stable", "port": 80, "weight": 1},
            {"name": "canary", "kind": "Service", "port": 80, "weight": 0}]}})),
        numbers: Where::Fields("/spec/weighted/services/1/weight", "/spec/weighted/services/2/weight"),
        rest: (0, 1),
        steps: PERCENTS,
        too_fine: None,
    });
}

#[test]
fn an_smi_traffic_split() {
    story(Case {
        router: smi::describe(&plain("canary")),
        astray: smi::describe(&plain("nowhere")),
        object: object(
            json!({"service": "checkout", "backends": [{"service": "stable"}, {"service": "canary"}]}),
        ),
        numbers: Where::Fields("/spec/backends/0/weight", "/spec/backends/1/weight"),
        rest: (0, 100),
        steps: PERCENTS,
        too_fine: None,
    });
}

#[test]
fn an_nginx_canary_with_the_total_that_its_owner_chose() {
    const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
    let mut ingress = annotated(WEIGHT, "0");
    ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary"] = json!("true");
    let case = |ingress: Value, steps, too_fine| Case {
        router: nginx::describe(&plain("canary")),
        astray: nginx::describe(&plain("nowhere")),
        object: ingress,
        numbers: Where::Text(WEIGHT, "C!"),
        rest: (0, 100),
        steps,
        too_fine: Some(too_fine),
    };
    story(case(ingress.clone(), WHOLE, 0.5));
    ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight-total"] = json!("1000");
    story(case(ingress.clone(), &[(5.0, 50, 950), (0.5, 5, 995)], 0.05));

    let mut absent = ingress.clone();
    absent["metadata"]["annotations"].as_object_mut().unwrap().remove(WEIGHT);
    let mut bench = Bench::new(nginx::describe(&plain("canary")), absent.clone());
    let before = bench.json();
    bench.set(5.0, "1.1").unwrap();
    bench.set(0.0, "1.2").unwrap();
    bench.release();
    assert_eq!(without_marks(bench.json()), before, "a weight that was not there is taken away again");

    ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary"] = json!("false");
    let error = Bench::new(nginx::describe(&plain("canary")), ingress).check(5.0).unwrap_err().to_string();
    assert!(error.contains("nginx.ingress.kubernetes.io/canary]"), "{error}");
}

#[test]
fn an_alb_action_in_either_spelling() {
    let action = |canary: &str| AlbIngress {
        name: "checkout".into(),
        namespace: None,
        action: "shop".into(),
        stable: "stable".into(),
        canary: canary.into(),
    };
    let texts = [
        "{\"type\":\"forward\",\"forwardConfig\":{\"targetGroups\":[{\"serviceName\":\"stable\",\"servicePort\":\"80\",\"weight\":S!},{\"serviceName\":\"canary\",\"servicePort\":80,\"weight\":C!}],\"targetGroupStickinessConfig\":{\"enabled\":true}}}",
        "{\"Type\":\"forward\",\"ForwardConfig\":{\"TargetGroups\":[{\"Weight\":S!,\"ServiceName\":\"stable\"},{\"ServiceName\":\"canary\",\"Weight\":C!}]}}",
    ];
    for text in texts {
        story(Case {
            router: alb::describe(&action("canary")),
            astray: alb::describe(&action("nowhere")),
            object: annotated("alb.ingress.kubernetes.io/actions.shop", ""),
            numbers: Where::Text("alb.ingress.kubernetes.io/actions.shop", text),
            rest: (0, 1),
            steps: &[(5.0, 5, 95), (0.1, 1, 999), (100.0, 100, 0)],
            too_fine: Some(0.01),
        });
    }
}

#[test]
fn an_apisix_route() {
    story(Case {
        router: apisix::describe(&ruled("canary")),
        astray: apisix::describe(&ruled("nowhere")),
        object: object(json!({"http": [{"name": "main", "match": {"paths": ["/*"]}, "backends": [
            {"serviceName": "stable", "servicePort": 80}, {"serviceName": "canary", "servicePort": 80}]}]})),
        numbers: Where::Fields("/spec/http/0/backends/0/weight", "/spec/http/0/backends/1/weight"),
        rest: (0, 100),
        steps: PERCENTS,
        too_fine: None,
    });
}

#[test]
fn a_gloo_route_table_by_upstream_and_by_service() {
    let upstream = json!({"destination": {"upstream": {"name": "stable", "namespace": "gloo-system"}}});
    let service =
        json!({"destination": {"kube": {"ref": {"name": "canary", "namespace": "shop"}, "port": 80}}});
    story(Case {
        router: gloo::describe(&ruled("canary")),
        astray: gloo::describe(&ruled("nowhere")),
        object: object(json!({"routes": [{"matchers": [{"prefix": "/"}],
            "routeAction": {"multi": {"destinations": [upstream, service]}}}]})),
        numbers: Where::Fields(
            "/spec/routes/0/routeAction/multi/destinations/0/weight",
            "/spec/routes/0/routeAction/multi/destinations/1/weight",
        ),
        rest: (0, 100),
        steps: PERCENTS,
        too_fine: None,
    });
}

#[test]
fn a_kuma_route_by_service_and_by_subset() {
    let refs = [
        json!([{"kind": "MeshService", "name": "stable", "port": 80}, {"kind": "MeshService", "name": "canary", "port": 80}]),
        json!([{"kind": "MeshServiceSubset", "name": "checkout", "tags": {"version": "stable"}},
            {"kind": "MeshServiceSubset", "name": "checkout", "tags": {"version": "canary"}}]),
    ];
    for refs in refs {
        story(Case {
            router: kuma::describe(&ruled("canary")),
            astray: kuma::describe(&ruled("nowhere")),
            object: object(json!({"to": [{"targetRef": {"kind": "MeshService", "name": "checkout"},
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "default": {"backendRefs": refs}}]}]})),
            numbers: Where::Fields(
                "/spec/to/0/rules/0/default/backendRefs/0/weight",
                "/spec/to/0/rules/0/default/backendRefs/1/weight",
            ),
            rest: (0, 1),
            steps: PERCENTS,
            too_fine: None,
        });
    }
}

#[test]
fn an_ambassador_mapping_whose_rest_is_stables() {
    let mapping = |weight: Value| {
        object(json!({"hostname": "*", "prefix": "/", "service": "http://canary:80", "weight": weight}))
    };
    story(Case {
        router: ambassador::describe(&plain("canary")),
        astray: ambassador::describe(&plain("nowhere")),
        object: mapping(json!(0)),
        numbers: Where::Field("/spec/weight"),
        rest: (0, 100),
        steps: WHOLE,
        too_fine: Some(0.5),
    });
    let unweighted = Bench::new(ambassador::describe(&plain("canary")), mapping(Value::Null));
    let error = unweighted.observe().unwrap_err().to_string();
    assert!(error.contains("no weight is written") && error.contains("spec.weight"), "{error}");
}

#[test]
fn a_skipper_map_of_weights() {
    story(Case {
        router: skipper::describe(&plain("canary")),
        astray: skipper::describe(&plain("nowhere")),
        object: annotated("zalando.org/backend-weights", ""),
        numbers: Where::Text("zalando.org/backend-weights", "{\"stable\": S!, \"old\":0,  \"canary\": C!}"),
        rest: (0, 100),
        steps: PERCENTS,
        too_fine: None,
    });
    let odd = annotated("zalando.org/backend-weights", "{\"stable\": 87.5, \"canary\": 12.5}");
    let mut odd = Bench::new(skipper::describe(&plain("canary")), odd);
    let error = odd.check(5.0).unwrap_err().to_string();
    assert!(error.contains("87.5") && error.contains("whole number"), "{error}");
    assert_eq!(odd.set(0.0, "1.1").unwrap().written, "0/100", "it can be closed all the same");
}

#[test]
fn knative_traffic_by_tag() {
    story(Case {
        router: knative::describe(&plain("canary")),
        astray: knative::describe(&plain("nowhere")),
        object: object(
            json!({"template": {}, "traffic": [{"tag": "stable", "revisionName": "checkout-00001"},
            {"tag": "canary", "latestRevision": true}, {"tag": "old", "revisionName": "checkout-00000"}]}),
        ),
        numbers: Where::Fields("/spec/traffic/0/percent", "/spec/traffic/1/percent"),
        rest: (0, 100),
        steps: WHOLE,
        too_fine: Some(0.5),
    });
}

#[test]
fn a_third_backend_keeps_its_share_in_an_annotation_too() {
    let text = "{\"stable\": 90, \"old\": 10, \"canary\": 0}";
    let mut bench =
        Bench::new(skipper::describe(&plain("canary")), annotated("zalando.org/backend-weights", text));
    assert_eq!(bench.set(10.0, "1.1").unwrap().written, "9/81");
    assert!(bench.check(1.0).unwrap_err().to_string().contains("1.11 %"));
}

#[test]
fn a_name_in_another_form_is_told() {
    let spec = json!({"rules": [{"backendRefs": [{"name": "stable"}, {"name": "canary.shop.svc"}]}]});
    let error = Bench::new(gateway::http(&ruled("canary")), object(spec)).check(5.0).unwrap_err().to_string();
    assert!(error.contains("there is \"canary.shop.svc\"") && error.contains("same form"), "{error}");
}
