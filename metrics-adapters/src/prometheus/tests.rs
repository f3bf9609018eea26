//! What is asked, for which policy, and whose the rows of the answer are.

use sluice_wire::policy::Policy;

use super::*;
use crate::ask::Names;

fn policy(name: &str, workloads: &str, target: &str, metrics: &str) -> Policy {
    let text = format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  target: {target}\n  workloads: {workloads}\n  metrics: {{prometheus: {{url: http://p, {metrics}}}}}\n  steps: [{{weight: 10}}]\n"
    );
    Policy::parse("policy.yaml", text.as_bytes()).unwrap()
}

const DEPLOYMENTS: &str = "{stable: {deployment: checkout}, canary: {deployment: checkout-canary}}";
const ROUTE: &str = "{httpRoute: {name: checkout, stable: checkout, canary: checkout-canary}}";
const HAPROXY: &str = "{haproxy: {socket: /run/h.sock, backend: web, stable: [s1, s2], canary: [c1]}}";
const WEBHOOK: &str = "{webhook: {url: http://w}}";

fn canary(workloads: &str, target: &str, metrics: &str) -> Families {
    let policy = policy("checkout", workloads, target, metrics);
    let policy::Metrics::Prometheus(block) = &policy.spec.metrics else { panic!("no Prometheus") };
    let [_, canary] = families(block, &Names::of(&policy)).unwrap();
    canary
}

fn refused(workloads: &str, target: &str, metrics: &str) -> String {
    let policy = policy("checkout", workloads, target, metrics);
    Ask::of(&policy, RolloutId::new("shop", "checkout", "1").unwrap()).unwrap_err().to_string()
}

#[test]
fn presets_name_the_series_of_a_version() {
    for (workloads, target, metrics, requests, errors) in [
        (
            DEPLOYMENTS,
            ROUTE,
            "preset: istio",
            r#"istio_requests_total{reporter="destination",destination_workload_namespace="shop",destination_workload="checkout-canary"}"#,
            r#"response_code=~"5..""#,
        ),
        (
            "{}",
            ROUTE,
            "preset: istio",
            r#"istio_requests_total{reporter="destination",destination_service_namespace="shop",destination_service_name="checkout-canary"}"#,
            r#"response_code=~"5..""#,
        ),
        (
            "{}",
            ROUTE,
            "preset: http",
            r#"http_requests_total{namespace="shop",app="checkout-canary"}"#,
            r#"code=~"5..""#,
        ),
        (
            "{}",
            ROUTE,
            "preset: openTelemetry",
            r#"http_server_request_duration_seconds_count{namespace="shop",app="checkout-canary"}"#,
            r#"http_response_status_code=~"5..""#,
        ),
        (
            "{}",
            ROUTE,
            "preset: traefik",
            r#"traefik_service_requests_total{service=~"(?:.*-svc-)?shop-checkout-canary-[0-9]+(?:@.*)?"}"#,
            r#"code=~"5..""#,
        ),
        (
            "{}",
            HAPROXY,
            "preset: haproxy",
            r#"haproxy_server_http_responses_total{proxy="web",server=~"c1"}"#,
            r#"code="5xx""#,
        ),
        (
            "{}",
            WEBHOOK,
            "labels: {by: version, stable: v1, canary: v2, match: 'job=\"a\"', errors: 'status=~\"5..\"'}",
            r#"http_requests_total{version="v2",job="a"}"#,
            r#"status=~"5..""#,
        ),
        (
            DEPLOYMENTS,
            ROUTE,
            "labels: {by: app, namespace: ''}",
            r#"http_requests_total{app="checkout-canary"}"#,
            r#"code=~"5..""#,
        ),
    ] {
        let canary = canary(workloads, target, metrics);
        assert_eq!(canary.requests.to_string(), requests);
        assert!(canary.errors.to_string().ends_with(&format!("{errors}}}")), "{}", canary.errors);
        assert!(canary.errors.narrows(&canary.requests));
    }
}

#[test]
fn pods_of_a_deployment_are_told_by_their_names() {
    let canary = canary(DEPLOYMENTS, ROUTE, "preset: http");
    let [stable, _] = {
        let policy = policy("checkout", DEPLOYMENTS, ROUTE, "preset: http");
        let policy::Metrics::Prometheus(block) = &policy.spec.metrics else { panic!("no Prometheus") };
        families(block, &Names::of(&policy)).unwrap()
    };
    let pod = |families: &Families, pod: &str| {
        families.requests.matchers.iter().filter(|m| m.label == "pod").all(|m| m.matches(pod))
    };
    assert!(pod(&canary, "checkout-canary-7d9f8b6c5-x2x4v") && pod(&stable, "checkout-6b7c9d8f4-zz9xw"));
    assert!(!pod(&stable, "checkout-canary-7d9f8b6c5-x2x4v") && !pod(&canary, "checkout-6b7c9d8f4-zz9xw"));
    assert!(
        !pod(&stable, "checkout-canary-x2x4v"),
        "a pod of a ReplicaSet named checkout-canary is not stable's"
    );
}

#[test]
fn every_kind_of_workload_names_its_pods_in_its_own_way() {
    let checkout = [
        ("deploymentConfig", ["checkout-canary-12-x2x4v", "checkout-12-x2x4v", "checkout-canary-12-deploy"]),
        ("statefulSet", ["checkout-canary-12", "checkout-12", "checkout-canary-x2x4v"]),
    ];
    for (kind, [own, stables, nobodys]) in checkout {
        let workloads = format!("{{stable: {{{kind}: checkout}}, canary: {{{kind}: checkout-canary}}}}");
        let canary = canary(&workloads, ROUTE, "preset: http");
        let matched = |name: &str| {
            canary.requests.matchers.iter().filter(|m| m.label == "pod").all(|m| m.matches(name))
        };
        assert!(matched(own) && !matched(stables) && !matched(nobodys), "{kind}");
    }
}

#[test]
fn milliseconds_become_seconds() {
    assert_eq!(canary(DEPLOYMENTS, ROUTE, "preset: istio").buckets_per_second(), 1000.0);
    assert_eq!(canary(DEPLOYMENTS, ROUTE, "preset: traefik").buckets_per_second(), 1.0);
}

#[test]
fn own_queries_are_filled_in_for_each_version() {
    let own = "queries: {requests: 'hits{ns=\"{{ namespace }}\",app=\"{{ workload }}\",arm=\"{{ arm }}\"}', errors: 'faults{app=\"{{ labels.team }}-{{ canary }}\"}'}, labels: {team: pay}";
    let canary = canary(DEPLOYMENTS, ROUTE, own);
    assert_eq!(canary.requests.to_string(), r#"hits{ns="shop",app="checkout-canary",arm="canary"}"#);
    assert_eq!(canary.errors.to_string(), r#"faults{app="pay-checkout-canary"}"#);
}

#[test]
fn a_policy_that_does_not_say_enough_is_refused_with_field_and_remedy() {
    let own =
        |requests: &str| format!("queries: {{requests: '{requests}', errors: 'e{{a=\"{{{{ arm }}}}\"}}'}}");
    for (workloads, target, metrics, words) in [
        ("{}", WEBHOOK, "preset: http", ["metrics.prometheus.labels", "labels: {by: app, stable: …}"]),
        ("{}", WEBHOOK, "preset: haproxy", ["metrics.prometheus.labels", "stable"]),
        ("{}", WEBHOOK, "labels: {stable: a, canary: a}", ["both versions", "tell them apart"]),
        ("{}", WEBHOOK, "labels: {stabel: a, canary: b}", ["labels.stabel", "no preset reads it"]),
        ("{}", ROUTE, "labels: {errors: 'code=~\"(\"'}", ["labels.errors", "no regular expression"]),
        ("{}", ROUTE, &own("rate(hits[5m])"), ["queries.requests", "plain selector"]),
        ("{}", ROUTE, &own("hits{a=\"{{ wrkload }}\"}"), ["queries.requests", "known names"]),
        ("{}", ROUTE, &own("hits{a=\"{{ workload }}\"}"), ["queries.requests", "known names"]),
        ("{}", ROUTE, &own("hits{a=\"b\"}"), ["both versions", "hits"]),
    ] {
        let error = refused(workloads, target, metrics);
        assert!(words.iter().all(|word| error.contains(word)), "{metrics}: {error}");
    }
}

fn asks(names: &[&str]) -> Vec<Ask> {
    let ask = |name: &&str| {
        let workloads = format!("{{stable: {{deployment: {name}}}, canary: {{deployment: {name}-canary}}}}");
        let policy = policy(name, &workloads, ROUTE, "preset: istio");
        Ask::of(&policy, RolloutId::new("shop", name, "1").unwrap()).unwrap()
    };
    names.iter().map(ask).collect()
}

fn source() -> Prometheus {
    let policy = policy("checkout", DEPLOYMENTS, ROUTE, "preset: istio");
    let policy::Metrics::Prometheus(block) = &policy.spec.metrics else { panic!("no Prometheus") };
    Prometheus::connect(block, &Http::default()).unwrap()
}

/// The readings that this answer gives to these rollouts.
fn read(names: &[&str], rows: &[(&str, &str)]) -> Vec<Reading> {
    let asks = asks(names);
    let source = source();
    let slots = asks
        .iter()
        .enumerate()
        .map(|(place, ask)| source.slots(place, ask, &[Arm::Stable, Arm::Canary]).unwrap());
    let mut batch = Batch::of(slots.collect::<Vec<_>>().concat());
    let row = |(labels, value): &(&str, &str)| {
        let labels: Vec<String> = labels
            .split(',')
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| format!("\"{k}\":\"{v}\""))
            .collect();
        format!(r#"{{"metric":{{{}}},"value":[1,"{value}"]}}"#, labels.join(","))
    };
    let rows: Vec<String> = rows.iter().map(row).collect();
    let text =
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, rows.join(","));
    let body = Body { status: 200, content_type: String::new(), date_ms: None, bytes: text.into_bytes() };
    at_instant("prometheus", &mut batch, asks.len(), 5_000, &body).unwrap()
}

/// Parts of the istio preset's expression, in their order.
const REQUESTS: &str = "sluice_part=0";
const ERRORS: &str = "sluice_part=1";
const BUCKETS: &str = "sluice_part=2";
const FIRST: &str = "sluice_part=3";
const LAST: &str = "sluice_part=4";
const BUCKETS_FIRST: &str = "sluice_part=5";

fn of(part: &str, workload: &str, pod: &str) -> String {
    format!("{part},destination_workload={workload},pod={pod}")
}

fn read_pod(rows: &[(&str, &str)]) -> Reading {
    let rows: Vec<(String, &str)> =
        rows.iter().map(|(part, value)| (format!("{part},destination_workload=a,pod=p"), *value)).collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
    read(&["a"], &rows).remove(0)
}

#[test]
fn many_rollouts_are_one_expression_with_one_selector_a_part() {
    let asks = asks(&["a", "b.c"]);
    let source = source();
    let slots = asks
        .iter()
        .enumerate()
        .map(|(place, ask)| source.slots(place, ask, &[Arm::Stable, Arm::Canary]).unwrap());
    let query = Batch::of(slots.collect::<Vec<_>>().concat()).query;
    let merged = r#"destination_workload=~"a|a-canary|b\\.c|b\\.c-canary""#;
    assert_eq!(query.matches(merged).count(), 10, "{query}");
    assert!(
        query.starts_with(
            "label_replace(sum by (container,destination_workload,instance,pod) (istio_requests_total{"
        ),
        "{query}"
    );
    assert!(query.contains(r#"le="+Inf"}"#) && !query.contains("rate("), "{query}");
}

#[test]
fn rows_go_to_whom_they_belong_and_to_nobody_else() {
    let rows: Vec<(String, &str)> = [("a", "9"), ("a-canary", "2"), ("b", "5"), ("stranger", "7")]
        .iter()
        .flat_map(|(workload, n)| {
            [
                (of(REQUESTS, workload, "p"), *n),
                (of(FIRST, workload, "p"), "4.5"),
                (of(LAST, workload, "p"), "4.5"),
            ]
        })
        .collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
    let readings = read(&["a", "b"], &rows);
    let seen =
        |place: usize| readings[place].pods.iter().map(|p| (p.arm, p.requests, p.at_ms)).collect::<Vec<_>>();
    assert_eq!(seen(0), [(Arm::Stable, 9, 4_500), (Arm::Canary, 2, 4_500)]);
    assert_eq!(seen(1), [(Arm::Stable, 5, 4_500)]);
    assert!(readings.iter().all(|reading| reading.complaints.is_empty()));
}

#[test]
fn counts_are_grouped_and_told_apart_by_the_strata_labels() {
    let policy = policy("a", DEPLOYMENTS, ROUTE, "preset: istio, strata: [path, verb]");
    let ask = Ask::of(&policy, RolloutId::new("shop", "a", "1").unwrap()).unwrap();
    let source = source();
    let batch = Batch::of(source.slots(0, &ask, &[Arm::Stable, Arm::Canary]).unwrap());
    let grouped = "by (container,destination_workload,instance,path,pod,verb) (istio_requests_total{";
    assert_eq!(
        batch.query.matches(grouped).count(),
        2,
        "requests and errors, not their times: {}",
        batch.query
    );
    assert!(batch.query.contains("by (container,destination_workload,instance,le,path,pod,verb) ("));
    for (written, wrong) in [("[response_code]", "only after the answer"), ("[pod]", "tells errors or pods")]
    {
        let error = refused(DEPLOYMENTS, ROUTE, &format!("preset: istio, strata: {written}"));
        assert!(error.contains("spec.metrics.prometheus.strata[0]") && error.contains(wrong), "{error}");
    }
    let own = "labels: {errors: 'outcome=\"bad\"'}, strata: [outcome]";
    assert!(refused(DEPLOYMENTS, ROUTE, own).contains("tells errors or pods"));
}

#[test]
fn an_empty_answer_is_no_zero() {
    let reading = read(&["a"], &[]).remove(0);
    assert!(reading.pods.is_empty());
}

#[test]
fn errors_that_are_missing_beside_requests_are_none_and_buckets_become_seconds() {
    let reading = read_pod(&[
        (REQUESTS, "9"),
        (FIRST, "4.5"),
        (LAST, "4.5"),
        (&format!("{BUCKETS},le=250"), "3"),
        (&format!("{BUCKETS},le=+Inf"), "9"),
        (BUCKETS_FIRST, "4.5"),
    ]);
    let pod = &reading.pods[0];
    assert_eq!((pod.requests, pod.errors), (9, 0));
    let buckets: Vec<(f64, u64)> = pod.buckets.iter().flatten().map(|b| (b.le, b.count)).collect();
    assert_eq!(buckets, [(0.25, 3), (f64::INFINITY, 9)]);
}

#[test]
fn what_is_not_of_one_scrape_or_no_counter_leaves_the_pod_out_as_a_whole() {
    for (rows, words) in [
        (vec![(REQUESTS, "9"), (FIRST, "4.5"), (LAST, "4.6")], "different scrapes, 100 ms"),
        (
            vec![(REQUESTS, "9"), (FIRST, "4.5"), (LAST, "4.5"), (BUCKETS_FIRST, "3.5")],
            "different scrapes, 1000 ms",
        ),
        (vec![(REQUESTS, "9.5"), (FIRST, "4.5"), (LAST, "4.5")], "whole number"),
        (vec![(REQUESTS, "NaN"), (FIRST, "4.5"), (LAST, "4.5")], "whole number"),
        (vec![(REQUESTS, "+Inf"), (FIRST, "4.5"), (LAST, "4.5")], "whole number"),
        (vec![(REQUESTS, "-1"), (FIRST, "4.5"), (LAST, "4.5")], "whole number"),
        (vec![(REQUESTS, "9"), (ERRORS, "10"), (FIRST, "4.5"), (LAST, "4.5")], "10 errors of 9"),
    ] {
        let reading = read_pod(&rows);
        assert!(reading.pods.is_empty(), "{words}");
        assert!(
            reading.complaints[0].contains(words) && reading.complaints[0].contains("stable pod p"),
            "{:?}",
            reading.complaints
        );
    }
}

#[test]
fn a_wrong_histogram_costs_the_latencies_only() {
    for (le, count, words) in
        [("250", "12", "fewer than"), ("wide", "3", "no number"), ("250", "NaN", "whole number")]
    {
        let bucket = format!("{BUCKETS},le={le}");
        let end = format!("{BUCKETS},le=+Inf");
        let reading =
            read_pod(&[(REQUESTS, "9"), (FIRST, "4.5"), (LAST, "4.5"), (&bucket, count), (&end, "9")]);
        assert_eq!((reading.pods[0].requests, &reading.pods[0].buckets), (9, &None));
        assert!(reading.complaints[0].contains(words), "{:?}", reading.complaints);
    }
    let reading =
        read_pod(&[(REQUESTS, "9"), (FIRST, "4.5"), (LAST, "4.5"), (&format!("{BUCKETS},le=250"), "9")]);
    assert!(reading.pods[0].buckets.is_none() && reading.complaints[0].contains("+Inf"));
}

#[test]
fn a_pod_that_two_addresses_show_is_read_once_and_told() {
    let reading = read_pod(&[
        (&format!("{REQUESTS},instance=a"), "9"),
        (&format!("{FIRST},instance=a"), "4.5"),
        (&format!("{LAST},instance=a"), "4.5"),
        (&format!("{REQUESTS},instance=b"), "70"),
        (&format!("{FIRST},instance=b"), "4.7"),
        (&format!("{LAST},instance=b"), "4.7"),
    ]);
    assert_eq!(reading.pods.iter().map(|pod| pod.requests).collect::<Vec<_>>(), [9]);
    assert!(reading.complaints[0].contains("more than once"));
}

#[test]
fn names_and_errors_show_no_password() {
    let policy = policy("checkout", DEPLOYMENTS, ROUTE, "headers: {X-Scope-OrgID: hidden}, preset: istio");
    let policy::Metrics::Prometheus(block) = &policy.spec.metrics else { panic!("no Prometheus") };
    let block = policy::Prometheus { url: "http://me:secret@p:9090/prom/".to_owned(), ..block.clone() };
    let source = Prometheus::connect(&block, &Http::default()).unwrap();
    assert_eq!(Source::name(&source), "prometheus http://p:9090/prom");
    assert!(!format!("{block:?}").contains("secret") && !format!("{block:?}").contains("hidden"));
    assert!(!format!("{source:?}").contains("secret") && !format!("{source:?}").contains("hidden"));
    assert_eq!(source.endpoint("api/v1/query").as_str(), "http://me:secret@p:9090/prom/api/v1/query");
}

fn gauged(analysis: &str, metrics: &str) -> Result<Ask, String> {
    let text = format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: checkout, namespace: shop}}\nspec:\n  target: {ROUTE}\n  workloads: {DEPLOYMENTS}\n  metrics: {metrics}\n  analysis: {analysis}\n  steps: [{{weight: 10}}]\n"
    );
    let policy = Policy::parse("policy.yaml", text.as_bytes()).map_err(|error| error.to_string())?;
    Ask::of(&policy, RolloutId::new("shop", "checkout", "1").unwrap()).map_err(|error| error.to_string())
}

const ON_PROMETHEUS: &str = "{prometheus: {url: http://p}}";

#[test]
fn gauges_of_both_versions_are_one_query() {
    let analysis = r#"{gauges: [{name: cpu, query: 'cpu{pod=~"{{ workload }}-.*"} # busy'}], thresholds: [{name: queue, max: 9, query: 'max(queue{app="{{ workload }}"})'}, {name: cpu, max: 1}, {name: errors, max: 0.1}]}"#;
    let ask = gauged(analysis, ON_PROMETHEUS).unwrap();
    assert!(ask.has_gauges());
    let query = gauges::query(&ask.gauges);
    assert_eq!(
        query,
        "label_replace((\ncpu{pod=~\"checkout-.*\"} # busy\n),\"sluice_gauge\",\"0\",\"\",\"\")\n\
         or label_replace((\ncpu{pod=~\"checkout-canary-.*\"} # busy\n),\"sluice_gauge\",\"1\",\"\",\"\")\n\
         or label_replace((\nmax(queue{app=\"checkout\"})\n),\"sluice_gauge\",\"2\",\"\",\"\")\n\
         or label_replace((\nmax(queue{app=\"checkout-canary\"})\n),\"sluice_gauge\",\"3\",\"\",\"\")"
    );
    assert!(!gauged("{}", ON_PROMETHEUS).unwrap().has_gauges());
}

#[test]
fn a_gauge_that_cannot_be_read_is_refused_with_its_place_and_what_to_write() {
    let scrape = "{scrape: {stable: ['http://a/metrics'], canary: ['http://b/metrics']}}";
    for (analysis, metrics, told) in [
        (
            "{gauges: [{name: cpu}]}",
            ON_PROMETHEUS,
            "spec.analysis.gauges[0].query: cpu: say what is to be read",
        ),
        (
            "{thresholds: [{name: queue, max: 3}]}",
            ON_PROMETHEUS,
            "spec.analysis.thresholds[0].query: queue: say",
        ),
        (
            "{gauges: [{name: cpu, query: 'avg(cpu)'}]}",
            ON_PROMETHEUS,
            "both versions' are avg(cpu): tell them apart",
        ),
        (
            "{gauges: [{name: cpu, query: '{{ deployment }}'}]}",
            ON_PROMETHEUS,
            "known names: namespace, arm, workload",
        ),
        (
            "{gauges: [{name: cpu, query: 'cpu'}]}",
            scrape,
            "spec.analysis.gauges[0]: direct scrape reads no gauges",
        ),
    ] {
        let error = gauged(analysis, metrics).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}
