//! Commands that need no daemon: `validate`, `judge`, `schema`, `completions`, `man`.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::cli::{Ran, binary, ran};

const POLICY: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: checkout, namespace: shop}
spec:
  target: {httpRoute: {name: checkout, stable: checkout, canary: checkout-canary}}
  workloads: {stable: {deployment: checkout}, canary: {deployment: checkout-canary}, promote: copyTemplate}
  metrics: {prometheus: {url: http://prometheus:9090, preset: istio}}
  analysis: {latency: {enabled: false}}
  steps: [{weight: 5}, {weight: 50}]
  alerts: [{alertmanager: {url: http://alertmanager:9093}}]
";

/// A folder with one policy.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn with(policy: &str) -> Desk {
        let desk = Desk { dir: tempfile::tempdir().unwrap() };
        desk.put("policy.yaml", policy);
        desk
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn sluice(&self, line: &str) -> Ran {
        let mut command = binary(&line.split(' ').collect::<Vec<_>>());
        command.current_dir(self.dir.path());
        ran(command).await
    }
}

#[tokio::test]
async fn a_sound_policy_is_said_to_be_one() {
    let ran = Desk::with(POLICY).sluice("validate policy.yaml").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "1 sound policy, 0 faults, 0 warnings\n"));
}

#[tokio::test]
async fn a_fault_names_file_line_column_and_field() {
    for (right, wrong, told) in [
        ("{weight: 50}", "{wieght: 50}", "policy.yaml:9:25: spec.steps[1].wieght: unknown field"),
        ("{weight: 50}", "{weight: 5}", "policy.yaml:9:25: spec.steps[1].weight: step 2 has weight 5 %"),
        ("{weight: 50}", "{weight: 101}", "policy.yaml:9:"),
        ("v1alpha1", "v9", "policy.yaml:1:1: apiVersion: "),
        ("name: checkout, namespace", "name: Check out, namespace", "policy.yaml:3:12: metadata.name: "),
        ("http://alertmanager", "alertmanager", "policy.yaml:10:28: spec.alerts[0].alertmanager.url: "),
        ("{enabled: false}", "{p99: fast}", "policy.yaml:8:"),
        ("spec:", "spec: [", "policy.yaml:"),
    ] {
        let ran = Desk::with(&POLICY.replace(right, wrong)).sluice("validate policy.yaml").await;
        assert_eq!(ran.code, 2, "{wrong}: {ran:?}");
        assert!(ran.out.starts_with(told), "{wrong}: {}", ran.out);
        assert!(ran.out.contains("1 fault,"), "{}", ran.out);
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_with_what_would_be_right() {
    let wrong = POLICY
        .replace("httpRoute: {name", "httproute: {name")
        .replace("[{weight: 5}, {weight: 50}]", "[5, 50]")
        .replace("preset: istio", "preset: instio")
        .replace("alertmanager:9093", "\\tx");
    let ran = Desk::with(&wrong.replace("\\t", " ")).sluice("validate policy.yaml").await;
    let told: Vec<&str> = ran.out.lines().collect();
    for (line, begin) in [
        "policy.yaml:5:12: spec.target.httproute: is none; did you mean httpRoute?",
        "policy.yaml:7:55: spec.metrics.prometheus.preset: \"instio\" is none; did you mean istio?",
        "policy.yaml:9:11: spec.steps[0]: 5 stands where a mapping is expected: write {weight: …}",
        "policy.yaml:9:14: spec.steps[1]: 50 stands where a mapping is expected: write {weight: …}",
        "policy.yaml:10:28: spec.alerts[0].alertmanager.url: ",
        "0 sound policies, 5 faults, 0 warnings",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(told.get(line).is_some_and(|told| told.starts_with(begin)), "{begin}\n{}", ran.out);
    }
}

#[tokio::test]
async fn folders_in_folders_are_checked_and_one_without_policies_is_told() {
    let desk = Desk::with(POLICY);
    std::fs::create_dir_all(desk.dir.path().join("team/empty")).unwrap();
    desk.put(
        "team/other.yaml",
        POLICY.replace("name: checkout,", "name: other,").replace("weight: 5}", "weight: 0}"),
    );
    let ran = desk.sluice("validate .").await;
    assert!(
        ran.out.starts_with("./team/other.yaml:9:12: spec.steps[0].weight: step 1 has weight 0 %"),
        "{ran:?}"
    );
    assert!(ran.out.ends_with("1 sound policy, 1 fault, 0 warnings\n"), "{ran:?}");
    let ran = desk.sluice("validate team/empty").await;
    assert!(ran.code == 2 && ran.err.contains("team/empty: no .yaml, .yml or .json file"), "{ran:?}");
    let ran = desk.sluice("validate nowhere.yaml").await;
    assert!(ran.code == 2 && ran.err.contains("nowhere.yaml: No such file"), "{ran:?}");
}

#[tokio::test]
async fn two_policies_that_write_one_object_are_warned_of_with_both_places() {
    let desk = Desk::with(POLICY);
    desk.put("twin.yaml", POLICY.replace("name: checkout, namespace", "name: twin, namespace"));
    let ran = desk.sluice("validate .").await;
    let told: Vec<&str> = ran.out.lines().collect();
    let begin = "./policy.yaml:5:3: warning: spec.target: httproute shop/checkout is written by policy shop/twin too: ";
    assert!(ran.code == 0 && told.len() == 3 && told[0].starts_with(begin), "{ran:?}");
    assert!(
        told[1].starts_with("./twin.yaml:5:3: warning: ") && told[1].contains("policy shop/checkout"),
        "{ran:?}"
    );
    assert_eq!(told[2], "2 sound policies, 0 faults, 2 warnings");
}

#[tokio::test]
async fn without_a_router_the_pods_that_stable_needs_are_noted_and_no_warning() {
    let by_pods = POLICY
        .replace(
            "{httpRoute: {name: checkout, stable: checkout, canary: checkout-canary}}",
            "{replicas: {service: checkout}}",
        )
        .replace(", preset: istio", "")
        .replace("{weight: 5}, {weight: 50}", "{weight: 10}, {weight: 25}");
    let too_much = Desk::with(&by_pods).sluice("validate policy.yaml").await;
    assert!(
        too_much.code == 2 && too_much.out.contains("spec.bake.holdback: 95 % would take more"),
        "{too_much:?}"
    );
    let fine = by_pods + "  bake: {for: 10m, holdback: 50%}\n";
    let ran = Desk::with(&fine).sluice("validate --strict policy.yaml").await;
    let told = "policy.yaml:5:12: note: spec.target.replicas: without a router a weight is a share of the pods: 9 is the least";
    assert!(ran.code == 0 && ran.out.starts_with(told), "{ran:?}");
}

#[tokio::test]
async fn programs_get_places_as_fields() {
    let ran = Desk::with(&POLICY.replace("{weight: 50}", "{wieght: 50}"))
        .sluice("validate policy.yaml -o json")
        .await;
    let fault = &ran.json()["faults"][0];
    assert_eq!(
        (&fault["line"], &fault["column"], &fault["field"]),
        (&json!(9), &json!(25), &json!("spec.steps[1].wieght"))
    );
    assert_eq!(ran.json()["valid"], false);
}

#[tokio::test]
async fn what_cannot_work_is_a_warning_and_with_strict_a_fault() {
    for (right, wrong, told) in [
        ("  alerts: [{alertmanager: {url: http://alertmanager:9093}}]\n", "", "spec.alerts: nobody is told"),
        ("canary: {deployment: checkout-canary}, ", "", "spec.workloads: copyTemplate needs both"),
        (
            "preset: istio",
            "preset: haproxy, labels: {stable: v1, canary: v2}",
            "warning: spec.analysis.latency",
        ),
        ("  analysis: {latency: {enabled: false}}", "  bake: {for: 0}", "spec.bake.for: without a bake"),
    ] {
        let policy =
            POLICY.replace(right, wrong).replace("{latency: {enabled: false}}", "{latency: {p99: 500ms}}");
        let desk = Desk::with(&policy);
        let ran = desk.sluice("validate policy.yaml").await;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains(told), "{told}: {}", ran.out);
        assert_eq!(desk.sluice("validate --strict policy.yaml").await.code, 2);
    }
}

#[tokio::test]
async fn a_step_that_cannot_be_decided_in_time_is_warned_of_with_what_would_fit() {
    let analysis = "{requestsPerSecond: 20, latency: {enabled: false}, risk: {badRequests: 0.1, within: 60s, share: 0.01%}}";
    let desk = Desk::with(&POLICY.replace("{latency: {enabled: false}}", analysis));
    let ran = desk.sluice("validate policy.yaml").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("spec.steps[0]: at 20 requests a second"), "{}", ran.out);
    assert!(ran.out.contains("would do"), "{}", ran.out);
    let plenty =
        desk.put("plenty.yaml", POLICY.replace("{latency: {enabled: false}}", "{requestsPerSecond: 500}"));
    let ran = desk.sluice(&format!("validate {}", plenty.display())).await;
    assert!(!ran.out.contains("spec.steps"), "{}", ran.out);
}

#[tokio::test]
async fn a_gauge_without_a_query_is_a_fault_for_the_daemon_and_none_for_a_file_of_windows() {
    let desk = Desk::with(&POLICY.replace("{latency: {enabled: false}}", "{gauges: [{name: cpu}]}"));
    let ran = desk.sluice("validate policy.yaml").await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.out.contains("spec.analysis.gauges[0].query: cpu: say what is to be read"), "{}", ran.out);
    let line = |arm: &str, cpu: f64| {
        json!({"at": 1, "step": 1, "arm": arm, "pod": arm, "values": {"cpu": cpu}}).to_string()
    };
    desk.put("windows.jsonl", [line("stable", 1.0), line("canary", 1.0)].join("\n"));
    let ran = desk.sluice("judge --policy policy.yaml windows.jsonl").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("cpu: no difference that counts"), "{}", ran.out);
}

#[tokio::test]
async fn a_plan_says_how_long_each_step_takes_and_what_it_sees() {
    let desk = Desk::with(POLICY);
    let ran = desk.sluice("plan policy.yaml --requests-per-second 200 --errors 0.5%").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("STEP  WEIGHT") && ran.out.contains("3x ERRORS ABORTED"), "{}", ran.out);
    assert!(ran.out.contains("all steps of a healthy release:"), "{}", ran.out);
    let latency = POLICY.replace("{latency: {enabled: false}}", "{}");
    desk.put("latency.yaml", latency);
    let json = desk.sluice("plan latency.yaml -r 200 --latency 40ms,250ms -o json").await.json();
    let step = &json["steps"][0];
    assert_eq!(
        (&step["weight"], &step["maxMinutes"], &json["falsePass"]),
        (&json!(0.05), &json!(45.0), &json!(0.05))
    );
    let sees = step["sees"].as_array().unwrap();
    assert_eq!(sees.iter().filter(|sight| sight["metric"] == "latency").count(), 2, "{sees:?}");
    assert!(step["passMinutes"].as_f64() <= step["passMinutes95"].as_f64(), "{step}");
    assert!(json["minutes"].as_f64().is_some_and(|minutes| minutes >= 2.0), "{json}");
}

#[tokio::test]
async fn a_plan_warns_of_a_step_that_cannot_decide_and_says_what_would_fit() {
    let desk = Desk::with(&POLICY.replace("{weight: 5}", "{weight: 1, max: 2m}"));
    let ran = desk.sluice("plan policy.yaml --requests-per-second 5").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("warning: step 1: at 5 requests a second and 1 % errors"), "{}", ran.out);
    assert!(ran.out.contains("its max is 2.0 min: a max of "), "{}", ran.out);
    let ran = desk.sluice("plan policy.yaml --requests-per-second 0.01").await;
    for told in ["fails every request passes: risk.badRequests", "not even 10 times the errors are aborted"] {
        assert!(ran.code == 0 && ran.out.contains(told), "{told}: {}", ran.out);
    }
}

#[tokio::test]
async fn a_plan_without_traffic_or_with_nonsense_says_what_to_write() {
    let desk = Desk::with(POLICY);
    for (more, told) in [
        ("", "--requests-per-second 200"),
        (" -r 0", "no number above 0"),
        (" -r 5 --latency 40ms", "40ms,250ms"),
        (" -r 5 --latency 250ms,40ms", "40ms,250ms"),
        (" -r 5 --errors 7", "write for example 1%"),
        (" -r 5 --dispersion 0.5", "no dispersion"),
        (" -r 5 --worse 3", "no factor"),
    ] {
        let ran = desk.sluice(&format!("plan policy.yaml{more}")).await;
        assert_eq!(ran.code, 2, "{more}: {ran:?}");
        assert!(format!("{}{}", ran.out, ran.err).contains(told), "{more}: {ran:?}");
    }
}

#[tokio::test]
async fn a_folder_is_checked_whole_and_names_must_differ() {
    let desk = Desk::with(POLICY);
    desk.put("second.yml", POLICY);
    desk.put("notes.txt", "no policy");
    let ran = desk.sluice("validate .").await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.out.contains("second.yml:3:12: metadata.name: shop/checkout stands in ./policy.yaml too"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn files_that_are_no_policies_kill_nothing() {
    let desk = Desk::with(POLICY);
    desk.put("huge.yaml", "x: ".to_owned() + &"y".repeat(10 << 20));
    desk.put("binary.yaml", [0xff, 0xfe, 0x00]);
    desk.put("empty.yaml", "");
    desk.put("deep.yaml", "[".repeat(100_000));
    for (file, told) in [
        ("huge.yaml", "more than a policy may have"),
        ("binary.yaml", "UTF-8"),
        ("empty.yaml", "empty.yaml"),
        ("deep.yaml", "deep.yaml"),
    ] {
        let ran = desk.sluice(&format!("validate {file}")).await;
        assert_eq!(ran.code, 2, "{file}: {ran:?}");
        assert!(ran.out.contains(told), "{file}: {}", ran.out);
    }
    let ran = desk.sluice("validate missing.yaml").await;
    assert!(ran.code == 2 && ran.err.contains("missing.yaml"), "{ran:?}");
}

/// History, then windows of both versions; the canary fails with `share` of its requests.
fn windows(share: u64) -> String {
    let mut lines = String::new();
    let mut add = |at: i64, step: u32, arm: &str, pod: &str, requests: u64, errors: u64| {
        let line =
            json!({"at": at, "step": step, "arm": arm, "pod": pod, "requests": requests, "errors": errors});
        lines.push_str(&format!("{line}\n"));
    };
    for window in 0..60 {
        for pod in ["a", "b", "c"] {
            add(1_790_000_000 + window * 15, 0, "stable", pod, 500, 5);
        }
    }
    for window in 60..120 {
        for pod in ["a", "b", "c"] {
            add(1_790_000_000 + window * 15, 1, "stable", pod, 500, 5);
        }
        for pod in ["x", "y"] {
            add(1_790_000_000 + window * 15, 1, "canary", pod, 100, share);
        }
    }
    lines
}

#[tokio::test]
async fn windows_of_a_bad_canary_are_an_abort() {
    let desk = Desk::with(POLICY);
    desk.put("bad.jsonl", windows(20));
    let ran = desk.sluice("judge --policy policy.yaml bad.jsonl -o json").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let answer = ran.json();
    assert_eq!((&answer["decision"], &answer["evidence"][0]["metric"]), (&json!("abort"), &json!("errors")));
    assert!(answer["at"].as_f64().unwrap() < 1_790_000_000.0 + 75.0 * 15.0, "{answer}");
}

#[tokio::test]
async fn windows_of_a_good_canary_are_an_advance() {
    let desk = Desk::with(POLICY);
    desk.put("good.jsonl", windows(1));
    let ran = desk.sluice("judge --policy policy.yaml good.jsonl").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("advance at 2026-09-21T"), "{}", ran.out);
}

#[tokio::test]
async fn no_windows_are_no_decision_but_an_error_that_says_what_a_window_is() {
    let desk = Desk::with(POLICY);
    let history = r#"{"at":1790000000,"step":0,"arm":"stable","pod":"a","requests":9}"#;
    for (text, told) in
        [("", "holds no window"), ("\n \n", "holds no window"), (history, "no window of the rollout")]
    {
        desk.put("none.jsonl", text);
        let ran = desk.sluice("judge --policy policy.yaml none.jsonl").await;
        assert!(ran.code == 2 && ran.err.contains(told) && ran.err.contains("help: "), "{text:?}: {ran:?}");
    }
}

#[tokio::test]
async fn a_stream_is_followed_to_its_decision() {
    let desk = Desk::with(POLICY);
    let mut command = binary(&["judge", "--policy", "policy.yaml", "-", "--follow", "-o", "json"]);
    let mut child =
        command.current_dir(desk.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It ends at the abort and may not take all of it.
    let _ = stdin.write_all(windows(20).as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let decisions: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["decision"].clone()).collect();
    assert_eq!(decisions.last(), Some(&json!("abort")), "{text}");
    assert_eq!(output.status.code(), Some(1));
    drop(stdin);
}

/// A window of both versions whose canary's line, the second, is as told.
fn window_with(canary: &str) -> String {
    let stable = r#"{"at":1790000000,"step":1,"arm":"stable","pod":"s","requests":100,"errors":1,"buckets":{"0.1":90,"+Inf":100}}"#;
    format!("{stable}\n{{\"at\":1790000000,\"step\":1,\"arm\":\"canary\",\"pod\":\"c\",{canary}}}\n")
}

#[tokio::test]
async fn input_that_contradicts_itself_is_an_error_with_line_field_and_remedy_and_never_a_verdict() {
    let desk = Desk::with(POLICY);
    for (canary, told) in [
        (
            r#""requests":3,"errors":4"#,
            &["line 2: ", "4 errors of 3 requests", "must be among the requests"][..],
        ),
        (r#""requests":-3"#, &["line 2: requests: ", "`-3`", "a count is a whole number from 0 up"]),
        (
            r#""requests":3,"errors":1.5"#,
            &["line 2: errors: ", "`1.5`", "a count is a whole number from 0 up"],
        ),
        (r#""requests":NaN"#, &["line 2: requests: ", "expected"]),
        (r#""requests":3,"buckets":{"0.1":-1,"+Inf":3}"#, &["line 2: buckets.", "a count is a whole number"]),
        (
            r#""requests":3,"buckets":{"0.1":3,"0.5":2,"+Inf":3}"#,
            &["line 2: ", "le = 0.5", "must be cumulative"],
        ),
        (r#""requests":3,"buckets":{"0.1":3}"#, &["line 2: ", "+Inf is missing", "read every bucket"]),
        (r#""requests":3,"buckets":{"fast":3,"+Inf":3}"#, &["line 2: ", "\"fast\"", "write seconds"]),
        (r#""requests":3,"buckets":{"-0.1":3,"+Inf":3}"#, &["line 2: ", "\"-0.1\"", "write seconds"]),
        (r#""requests":3,"readyFor":-50"#, &["line 2: ", "readyFor = -50", "0 seconds or more"]),
        (r#""requets":3"#, &["line 2: ", "`requets`", "expected one of"]),
        (r#""requests":3,"values":{"cpu":"high"}"#, &["line 2: values.cpu: "]),
        (r#""requests":3}{"#, &["line 2: ", "one window of one pod a line"]),
    ] {
        desk.put("bad.jsonl", window_with(canary));
        let ran = desk.sluice("judge --policy policy.yaml bad.jsonl").await;
        assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains("help: "), "{canary}: {ran:?}");
        for word in told {
            assert!(ran.err.contains(word), "{canary}: {word:?} is missing: {}", ran.err);
        }
    }
    let plain = |at: i64, step: u32| {
        format!("{{\"at\":{at},\"step\":{step},\"arm\":\"canary\",\"pod\":\"c\",\"requests\":9}}\n")
    };
    for (text, told) in [
        (plain(1_790_000_000_000, 1), "seconds since 1970"),
        (plain(1_790_000_000, 9), "step 9 is none of the policy's"),
        (
            plain(1_790_000_000, 1) + &plain(1_790_000_000, 1).replace(":9}", ":8}"),
            "appears twice in one window",
        ),
    ] {
        desk.put("bad.jsonl", &text);
        let ran = desk.sluice("judge --policy policy.yaml bad.jsonl").await;
        assert!(ran.code == 2 && ran.err.contains("line 1") && ran.err.contains(told), "{text}: {ran:?}");
    }
}

#[tokio::test]
async fn histograms_that_cannot_be_compared_hold_with_the_reason_and_turning_latency_off_helps() {
    let desk = Desk::with(&POLICY.replace("{latency: {enabled: false}}", "{latency: {}}"));
    desk.put("apart.jsonl", window_with(r#""requests":3,"buckets":{"0.2":3,"+Inf":3}"#));
    desk.put("off.yaml", POLICY);
    let off = desk.sluice("judge --policy off.yaml apart.jsonl").await;
    assert!(off.code == 0 && off.out.contains("undecided"), "{off:?}");
    let ran = desk.sluice("judge --policy policy.yaml apart.jsonl").await;
    assert!(ran.code == 0 && ran.out.starts_with("hold"), "{ran:?}");
    for word in ["no data", "no finite boundary in common", "same buckets", "turn the latency metric off"] {
        assert!(ran.out.contains(word), "{word:?} is missing: {}", ran.out);
    }
}

#[tokio::test]
async fn windows_without_requests_or_with_a_clock_that_jumps_hold_and_say_why() {
    let desk = Desk::with(POLICY);
    desk.put("zero.jsonl", window_with(r#""requests":0"#));
    let ran = desk.sluice("judge --policy policy.yaml zero.jsonl").await;
    assert!(ran.code == 0 && ran.out.starts_with("hold"), "{ran:?}");
    assert!(ran.out.contains("the canary had no requests in the last window"), "{}", ran.out);
    let good = window_with(r#""requests":9"#);
    desk.put("back.jsonl", format!("{good}{}", good.replace("1790000000", "1780000000")));
    let ran = desk.sluice("judge --policy policy.yaml back.jsonl -o json").await;
    assert_eq!(
        (ran.code, &ran.json()["windows"], &ran.json()["leftOut"][0]["line"]),
        (0, &json!(1), &json!(3))
    );
    assert!(ran.err.contains("sort the lines by at"), "{}", ran.err);
}

#[tokio::test]
async fn a_line_that_cannot_be_counted_is_named() {
    let desk = Desk::with(POLICY);
    for (line, told) in [
        ("nonsense", "line 1: "),
        (r#"{"at":1,"step":1,"arm":"canary","pod":"a","requests":1,"errors":2}"#, "line 1: "),
        (r#"{"at":1790000000000,"step":1,"arm":"canary","pod":"a"}"#, "seconds since 1970"),
        (r#"{"at":1,"step":1,"arm":"green","pod":"a"}"#, "green"),
    ] {
        desk.put("bad.jsonl", format!("{line}\n"));
        let ran = desk.sluice("judge --policy policy.yaml bad.jsonl").await;
        assert_eq!(ran.code, 2, "{line}: {ran:?}");
        assert!(ran.err.contains(told), "{line}: {}", ran.err);
    }
    desk.put("late.jsonl", format!("{}{}", windows(1), windows(1).lines().next().unwrap()));
    let ran = desk.sluice("judge --policy policy.yaml late.jsonl").await;
    let line = windows(1).lines().count() + 1;
    assert!(ran.code == 0 && ran.err.contains(&format!("begins at line {line} was left out")), "{ran:?}");
    desk.put("long.jsonl", "x".repeat(3 << 20));
    let ran = desk.sluice("judge --policy policy.yaml long.jsonl").await;
    assert!(ran.code == 2 && ran.err.contains("1048576 bytes"), "{ran:?}");
}

#[tokio::test]
async fn the_schema_is_json_schema() {
    let ran = Desk::with(POLICY).sluice("schema").await;
    assert_eq!(ran.code, 0);
    assert_eq!(ran.json()["title"], "Policy");
}

#[tokio::test]
async fn completions_and_man_pages_come_from_the_definitions() {
    let desk = Desk::with(POLICY);
    for shell in ["bash", "zsh", "fish"] {
        let ran = desk.sluice(&format!("completions {shell}")).await;
        assert!(ran.code == 0 && ran.out.contains("promote-full"), "{shell}");
    }
    let page = desk.sluice("man").await;
    assert!(page.out.starts_with(".ie") || page.out.contains(".TH sluice 1"), "{}", &page.out[..200]);
    assert_eq!(desk.sluice("man pages").await.code, 0);
    let abort = std::fs::read_to_string(desk.dir.path().join("pages/sluice-abort.1")).unwrap();
    assert!(abort.contains("customers complain"), "the example is missing");
}

#[tokio::test]
async fn wrong_use_is_exit_two_and_help_is_not() {
    let desk = Desk::with(POLICY);
    for (line, code) in
        [("explode", 2), ("status --no-such-flag", 2), ("--help", 0), ("abort --help", 0), ("--version", 0)]
    {
        assert_eq!(desk.sluice(line).await.code, code, "{line}");
    }
    let ran = desk.sluice("init").await;
    assert!(ran.code == 2 && ran.err.contains("--nats nats://"), "{ran:?}");
}

#[tokio::test]
async fn a_nats_server_that_is_not_there_is_exit_three() {
    let desk = Desk::with(POLICY);
    for line in ["init --nats nats://127.0.0.1:1", "status --nats nats://127.0.0.1:1 --timeout 2s"] {
        let ran = desk.sluice(line).await;
        assert_eq!(ran.code, 3, "{line}: {ran:?}");
    }
}
