//! Windows in, verdicts out: the stories of a rollout as the judge sees it.

mod windows;

use sluice_analyzers::plan::{ErrorsPlan, Objective, Plan, Pods, SloSource};
use sluice_analyzers::window::WindowError;
use sluice_analyzers::{Arm, Bucket, Evidence, Finding, PodWindow, Verdict, Window, judge, report};
use windows::{LENGTH_MS, latency_plan, limit, window, with_latency};

/// A plan of independent requests at 100 a second.
fn plan(steps: &[f64]) -> Plan {
    let plan = Plan {
        pods: Pods::Ignore,
        requests_per_second: Some(100.0),
        latency: None,
        ..Plan::new(steps.to_vec())
    };
    assert_eq!(plan.check(), Ok(()));
    plan
}

fn counts(at: i64, step: u32, canary: (u64, u64), stable: (u64, u64)) -> Window {
    let pods = vec![
        PodWindow::new(Arm::Canary, "c0", canary.0, canary.1),
        PodWindow::new(Arm::Stable, "s0", stable.0 / 2, stable.1 / 2),
        PodWindow::new(Arm::Stable, "s1", stable.0 - stable.0 / 2, stable.1 - stable.1 / 2),
    ];
    window(at, step, pods)
}

/// The verdicts of windows like one another, until one that is not undecided, at most `most`.
fn until_decided(plan: &Plan, most: i64, make: impl Fn(i64) -> Window) -> (i64, Verdict, Evidence) {
    let mut evidence = Evidence::new(plan);
    for at in 0..most {
        let verdict = judge(plan, &mut evidence, &make(at)).expect("a good window");
        if verdict != Verdict::Undecided {
            return (at + 1, verdict, evidence);
        }
    }
    (most, Verdict::Undecided, evidence)
}

#[test]
fn a_healthy_canary_passes_and_a_bad_one_fails() {
    let plan = plan(&[0.05, 0.25]);
    let (windows, verdict, _) = until_decided(&plan, 400, |at| counts(at, 1, (75, 0), (1425, 4)));
    assert_eq!(verdict, Verdict::Pass);
    assert!(windows < 40, "{windows}");
    let (windows, verdict, evidence) = until_decided(&plan, 400, |at| counts(at, 1, (75, 7), (1425, 4)));
    assert_eq!(verdict, Verdict::Fail);
    assert!(windows <= 3, "{windows}");
    let report = report(&plan, &evidence);
    assert_eq!(report.culprits, ["errors"]);
    assert!(report.words().starts_with("fail: errors"), "{}", report.words());
    assert!(report.words().contains("times as often ("), "{}", report.words());
}

#[test]
fn fail_stays_fail() {
    let plan = plan(&[0.05]);
    let mut evidence = Evidence::new(&plan);
    let bad = counts(0, 1, (75, 40), (1425, 4));
    assert_eq!(judge(&plan, &mut evidence, &bad), Ok(Verdict::Fail));
    for at in 1..300 {
        assert_eq!(judge(&plan, &mut evidence, &counts(at, 1, (75, 0), (1425, 30))), Ok(Verdict::Fail));
    }
}

#[test]
fn a_window_without_requests_is_no_data_and_says_whose() {
    let plan = plan(&[0.05]);
    let mut evidence = Evidence::new(&plan);
    assert_eq!(judge(&plan, &mut evidence, &counts(0, 1, (0, 0), (1425, 4))), Ok(Verdict::NoData));
    assert_eq!(
        report(&plan, &evidence).findings[0].missing.as_deref(),
        Some("the canary had no requests in the last window")
    );
    assert_eq!(judge(&plan, &mut evidence, &counts(1, 1, (75, 0), (0, 0))), Ok(Verdict::NoData));
    assert_eq!(judge(&plan, &mut evidence, &window(2, 1, Vec::new())), Ok(Verdict::NoData));
    assert_eq!(judge(&plan, &mut evidence, &counts(3, 1, (75, 0), (1425, 4))), Ok(Verdict::Undecided));
}

#[test]
fn late_and_repeated_windows_change_nothing() {
    let plan = plan(&[0.05]);
    let mut evidence = Evidence::new(&plan);
    judge(&plan, &mut evidence, &counts(5, 1, (75, 3), (1425, 4))).unwrap();
    let before = evidence.clone();
    for at in [5, 4, 0] {
        assert_eq!(judge(&plan, &mut evidence, &counts(at, 1, (75, 70), (1425, 4))), Ok(Verdict::Undecided));
    }
    assert_eq!(evidence, before);
}

#[test]
fn the_order_of_pods_does_not_show_in_a_single_bit() {
    let pods: Vec<PodWindow> = (0..7)
        .map(|pod| {
            let arm = if pod < 2 { Arm::Canary } else { Arm::Stable };
            let mut of = PodWindow::new(arm, format!("p{pod}"), 100 + 13 * pod, 3 + pod % 3);
            of.stratum = ["/a", "/b"][pod as usize % 2].to_owned();
            of
        })
        .collect();
    let mut plan = plan(&[0.05]);
    plan.pods = Pods::Dispersion;
    let judged = |turn: usize| {
        let mut evidence = Evidence::new(&plan);
        for at in 0..20 {
            let mut pods = pods.clone();
            pods.rotate_left(turn);
            if turn % 2 == 1 {
                pods.reverse();
            }
            judge(&plan, &mut evidence, &window(at, 1, pods)).unwrap();
        }
        serde_json::to_string(&evidence).unwrap()
    };
    for turn in 1..7 {
        assert_eq!(judged(0), judged(turn));
    }
}

#[test]
fn evidence_written_and_read_back_goes_on_to_the_same_bits() {
    let plan = Plan { requests_per_second: None, ..Plan::new(vec![0.05, 0.5]) };
    let (mut straight, mut resumed) = (Evidence::new(&plan), Evidence::new(&plan));
    for at in 0..60 {
        let window = with_latency(at, 1 + (at / 30) as u32, [(900, 30, 2), (90, 3, 1)]);
        let first = judge(&plan, &mut straight, &window).unwrap();
        let text = serde_json::to_string(&resumed).unwrap();
        assert!(!text.contains("null,null") && !text.contains("inf") && !text.contains("NaN"));
        resumed = serde_json::from_str(&text).unwrap();
        assert_eq!(judge(&plan, &mut resumed, &window), Ok(first));
        assert_eq!(resumed, straight);
    }
}

#[test]
fn bad_windows_are_refused_and_leave_the_evidence_untouched() {
    let plan = plan(&[0.05]);
    let mut evidence = Evidence::new(&plan);
    judge(&plan, &mut evidence, &counts(0, 1, (75, 1), (1425, 4))).unwrap();
    let before = evidence.clone();
    let pod = |buckets: &[(f64, u64)]| {
        let buckets = buckets.iter().map(|(le, count)| Bucket { le: *le, count: *count }).collect();
        PodWindow::new(Arm::Canary, "c", 100, 0).with_buckets(buckets)
    };
    let mut refuse = |window: Window| {
        let error = judge(&plan, &mut evidence, &window).expect_err("must be refused");
        assert_eq!(evidence, before);
        error
    };
    assert!(matches!(refuse(counts(1, 1, (75, 76), (1425, 4))), WindowError::ErrorsAboveRequests { .. }));
    assert!(matches!(refuse(counts(1, 0, (75, 0), (1425, 4))), WindowError::History));
    let inf = f64::INFINITY;
    assert!(matches!(
        refuse(window(1, 1, vec![pod(&[(0.1, 90), (0.5, 80), (inf, 100)])])),
        WindowError::BucketsGoDown { .. }
    ));
    assert!(matches!(
        refuse(window(1, 1, vec![pod(&[(0.1, 90), (0.5, 95)])])),
        WindowError::NoInfinity { .. }
    ));
    assert!(matches!(
        refuse(window(1, 1, vec![pod(&[(0.5, 90), (0.1, 95), (inf, 100)])])),
        WindowError::Boundary { .. }
    ));
    assert!(matches!(
        refuse(window(1, 1, vec![pod(&[(f64::NAN, 90), (inf, 100)])])),
        WindowError::Boundary { .. }
    ));
    assert!(matches!(refuse(window(1, 1, vec![pod(&[]), pod(&[])])), WindowError::PodTwice { .. }));
    let mut backwards = counts(1, 1, (75, 0), (1425, 4));
    backwards.start_ms = backwards.end_ms;
    assert!(matches!(refuse(backwards), WindowError::Clock { .. }));
    let mut overlap = counts(1, 1, (75, 0), (1425, 4));
    overlap.start_ms -= 1;
    assert!(matches!(refuse(overlap), WindowError::Overlap { .. }));
}

#[test]
fn a_canary_that_is_only_slower_fails() {
    let plan = latency_plan(&[0.1]);
    let (windows, verdict, evidence) =
        until_decided(&plan, 200, |at| with_latency(at, 1, [(900, 90, 9), (90, 30, 2)]));
    assert_eq!(verdict, Verdict::Fail);
    assert!(windows < 6, "{windows}");
    assert_eq!(report(&plan, &evidence).culprits, ["latency"]);
    let (_, verdict, _) = until_decided(&plan, 3000, |at| with_latency(at, 1, [(900, 90, 9), (90, 9, 1)]));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn one_boundary_up_is_a_tolerance() {
    let mut plan = latency_plan(&[0.1]);
    if let Some(compare) = plan.latency.as_mut().and_then(|latency| latency.compare.as_mut()) {
        compare.slower_by = 2.0;
    }
    // A third over 0.1 s against a tenth: tolerated, since over 0.5 s there are no more.
    let (_, verdict, _) = until_decided(&plan, 100, |at| with_latency(at, 1, [(900, 90, 9), (90, 30, 1)]));
    assert_ne!(verdict, Verdict::Fail);
    let (_, verdict, _) = until_decided(&plan, 100, |at| with_latency(at, 1, [(900, 90, 9), (90, 40, 30)]));
    assert_eq!(verdict, Verdict::Fail);
}

#[test]
fn an_objective_is_held_against_the_canary_only_where_stable_keeps_it() {
    let mut plan = latency_plan(&[0.1]);
    if let Some(latency) = &mut plan.latency {
        (latency.compare, latency.required) = (None, true);
        latency.objectives.push(Objective { quantile: 0.99, limit_s: 0.45 });
    }
    assert_eq!(plan.check(), Ok(()));
    let (_, verdict, evidence) =
        until_decided(&plan, 100, |at| with_latency(at, 1, [(900, 90, 5), (90, 9, 6)]));
    assert_eq!(verdict, Verdict::Fail);
    let finding = &report(&plan, &evidence).findings[0];
    assert_eq!(
        (finding.metric.as_str(), finding.place.as_deref()),
        ("latency-p99", Some("slower than 0.5 s"))
    );
    let (_, verdict, _) = until_decided(&plan, 100, |at| with_latency(at, 1, [(900, 90, 60), (90, 9, 6)]));
    assert_ne!(verdict, Verdict::Fail, "stable breaks it as often");
    let (_, verdict, _) = until_decided(&plan, 400, |at| with_latency(at, 1, [(900, 90, 5), (90, 9, 0)]));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn cold_pods_are_not_blamed_for_their_latency() {
    let plan = latency_plan(&[0.1]);
    let (_, verdict, _) = until_decided(&plan, 50, |at| {
        let mut window = with_latency(at, 1, [(900, 90, 9), (90, 80, 60)]);
        window.pods[1].ready_for_ms = Some(30_000);
        window
    });
    assert_eq!(verdict, Verdict::Undecided);
}

#[test]
fn a_required_histogram_that_never_comes_is_no_data() {
    let mut plan = latency_plan(&[0.1]);
    plan.latency.iter_mut().for_each(|latency| latency.required = true);
    let mut evidence = Evidence::new(&plan);
    assert_eq!(judge(&plan, &mut evidence, &counts(0, 1, (75, 0), (1425, 0))), Ok(Verdict::NoData));
}

#[test]
fn a_flip_is_judged_by_its_limit() {
    let mut plan = plan(&[1.0]);
    plan.slo.push(limit(SloSource::Frozen));
    assert_eq!(plan.check(), Ok(()));
    let (_, verdict, _) = until_decided(&plan, 100, |at| counts(at, 1, (1500, 60), (0, 0)));
    assert_eq!(verdict, Verdict::Fail);
    let (_, verdict, _) = until_decided(&plan, 100, |at| counts(at, 1, (1500, 5), (0, 0)));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn a_change_that_begins_late_is_seen() {
    let plan = plan(&[0.05, 0.25, 0.5]);
    let mut evidence = Evidence::new(&plan);
    for at in 0..300 {
        let step = 1 + (at / 100) as u32;
        let verdict = judge(&plan, &mut evidence, &counts(at, step, (150, 1), (1350, 9))).unwrap();
        assert_ne!(verdict, Verdict::Fail, "healthy so far");
    }
    let bake = (300..500).position(|at| {
        judge(&plan, &mut evidence, &counts(at, 4, (1425, 29), (75, 0))).unwrap() == Verdict::Fail
    });
    assert!(bake.is_some_and(|windows| windows < 30), "{bake:?}");
}

/// Six healthy hours in one step buried a change for hours more, until restarts were drawn in it.
#[test]
fn a_change_that_begins_late_in_a_long_step_is_seen() {
    const MINUTE: i64 = 60_000;
    for pods in [Pods::Dispersion, Pods::RandomEffect] {
        let plan = Plan { pods, ..plan(&[0.1, 0.5]) };
        let errors = plan.errors.clone().map(|errors| ErrorsPlan { dispersion: Some(1.0), ..errors });
        let plan = Plan { errors, ..plan };
        let mut evidence = Evidence::new(&plan);
        let mut minute = |at: i64, bad: u64| {
            let canary = (0..6).map(|pod| PodWindow::new(Arm::Canary, format!("c{pod}"), 200, bad / 6));
            let stable = (0..12).map(|pod| PodWindow::new(Arm::Stable, format!("s{pod}"), 900, 9));
            let mut window = window(at, 1, canary.chain(stable).collect());
            (window.start_ms, window.end_ms) = (at * MINUTE, (at + 1) * MINUTE);
            judge(&plan, &mut evidence, &window).unwrap()
        };
        assert!((0..370).all(|at| minute(at, 12) != Verdict::Fail), "healthy so far");
        let took = (370..490).position(|at| minute(at, 36) == Verdict::Fail);
        assert!(took.is_some_and(|minutes| minutes < 15), "{pods:?}: {took:?} minutes");
    }
}

#[test]
fn a_retry_needs_more_evidence_and_says_so() {
    let first = plan(&[0.05, 0.25]);
    let retry = Plan { retries: 1, ..first.clone() };
    let bad = |at| counts(at, 1, (75, 3), (1425, 14));
    let (sooner, _, _) = until_decided(&first, 100, bad);
    let (later, verdict, evidence) = until_decided(&retry, 100, bad);
    assert!(verdict == Verdict::Fail && sooner < later && later <= 3 * sooner, "{sooner} {later}");
    let words = report(&retry, &evidence).words();
    assert!(words.contains("(retry 1: all retries share one chance of a false abort)"), "{words}");
}

/// It said that one more request was needed when it had aborted already: each metric's own bar is above the combined one.
#[test]
fn a_rollout_that_has_failed_needs_nothing_more() {
    let plan = latency_plan(&[0.1]);
    let (_, _, evidence) = until_decided(&plan, 200, |at| with_latency(at, 1, [(900, 90, 9), (90, 30, 2)]));
    let report = report(&plan, &evidence);
    let latency = &report.findings[0];
    assert_eq!((latency.needed, latency.culprit), (Some(0), true));
    assert!(latency.words().starts_with("latency: canary is slower than 0.1 s "), "{}", latency.words());
    assert!(latency.words().contains("% sure; needed "), "{}", latency.words());
    assert!(!report.words().contains("more request"), "{}", report.words());
}

/// "At least 0.1 times as often" was said of a canary that had failed, as if it were good news.
#[test]
fn a_ratio_that_says_nothing_yet_is_not_said() {
    let plan = plan(&[0.05]);
    let said = |canary: (u64, u64), stable: (u64, u64)| {
        let mut evidence = Evidence::new(&plan);
        judge(&plan, &mut evidence, &counts(0, 1, canary, stable)).unwrap();
        finding(&evidence, &plan, "errors").words()
    };
    let few = said((75, 1), (1425, 0));
    let counted = "errors: 1 of 75 canary requests failed, none of 1,425 of stable's, too few to compare yet";
    assert!(few.starts_with(counted), "{few}");
    let many = said((1000, 9), (1425, 0));
    assert!(many.starts_with("errors: canary fails at least "), "{many}");
    let both = said((1000, 20), (1000, 10));
    assert!(both.contains("fails 2.0 times as often (0."), "{both}");
}

#[test]
fn the_forecast_says_how_many_more_requests() {
    let plan = plan(&[0.05, 0.25]);
    let mut evidence = Evidence::new(&plan);
    for at in 0..4 {
        judge(&plan, &mut evidence, &counts(at, 1, (75, 0), (1425, 4))).unwrap();
    }
    let forecast = report(&plan, &evidence).findings[0].needed.expect("a healthy canary gets there");
    let (windows, verdict, _) = until_decided(&plan, 400, |at| counts(at, 1, (75, 0), (1425, 4)));
    assert_eq!(verdict, Verdict::Pass);
    let really = (windows as u64 - 4) * 75;
    assert!(forecast <= really && really < forecast * 2 + 150, "{forecast} {really}");
}

/// Two pods a version, with a gauge `cpu` around 10 for stable and around `canary` for the canary.
fn with_gauge(at: i64, canary: f64) -> Window {
    let pods = [
        ("c0", Arm::Canary, canary),
        ("c1", Arm::Canary, canary),
        ("s0", Arm::Stable, 10.0),
        ("s1", Arm::Stable, 10.0),
    ];
    let pods = pods.into_iter().enumerate().map(|(place, (name, arm, value))| {
        let mut pod = PodWindow::new(arm, name, 0, 0);
        pod.values.push(("cpu".to_owned(), value + ((at * 7 + 3 * place as i64) % 11) as f64 / 10.0));
        pod
    });
    window(at, 1, pods.collect())
}

#[test]
fn gauges_are_judged_once_there_are_enough_readings() {
    let gauge = sluice_analyzers::kayenta::GaugePlan::named("cpu");
    let plan = Plan { errors: None, latency: None, gauges: vec![gauge], ..Plan::new(vec![0.1]) };
    assert_eq!(plan.check(), Ok(()));
    let (windows, verdict, evidence) = until_decided(&plan, 100, |at| with_gauge(at, 10.0));
    assert_eq!((windows, verdict), (25, Verdict::Pass));
    assert_eq!(report(&plan, &evidence).score, Some(100.0));
    let (windows, verdict, evidence) = until_decided(&plan, 100, |at| with_gauge(at, 25.0));
    assert_eq!((windows, verdict), (25, Verdict::Fail));
    let report = report(&plan, &evidence);
    assert_eq!((report.score, report.culprits), (Some(0.0), vec!["cpu".to_owned()]));
}

/// Both versions fail alike for six windows, but stable is scraped before the canary and sees it a window later.
fn incident(at: i64, sampled: bool) -> Window {
    let hit = |at: i64| (10..16).contains(&at);
    let errors = |n: u64, hit: bool| if hit { n / 5 } else { n / 500 };
    let mut window = counts(at, 1, (150, errors(150, hit(at))), (1350, errors(1350, hit(at - 1))));
    for pod in window.pods.iter_mut().filter(|_| sampled) {
        let late = if pod.arm == Arm::Canary { 0 } else { 14_000 };
        pod.sampled_ms = Some((at * LENGTH_MS - late, (at + 1) * LENGTH_MS - late));
    }
    window
}

#[test]
fn an_incident_between_two_scrapes_is_not_the_canarys_fault() {
    let plan = plan(&[0.1]);
    let verdicts = |sampled: bool| {
        let mut evidence = Evidence::new(&plan);
        (0..40).map(|at| judge(&plan, &mut evidence, &incident(at, sampled)).unwrap()).collect::<Vec<_>>()
    };
    assert!(
        verdicts(false).contains(&Verdict::Fail),
        "without the samples' instants it looks like the canary's"
    );
    assert!(!verdicts(true).contains(&Verdict::Fail));
    // A canary that fails alone is still seen, one window later.
    let mut evidence = Evidence::new(&plan);
    let failed = (0..40).position(|at| {
        let mut window = incident(at, true);
        window.pods[1].errors = 1;
        window.pods[2].errors = 1;
        judge(&plan, &mut evidence, &window).unwrap() == Verdict::Fail
    });
    assert_eq!(failed, Some(11));
}

fn finding(evidence: &Evidence, plan: &Plan, metric: &str) -> Finding {
    report(plan, evidence)
        .findings
        .into_iter()
        .find(|finding| finding.metric == metric)
        .expect("a metric of the plan")
}

/// A canary that is slow was said to be undecidable, until it was aborted.
#[test]
fn the_forecast_of_latencies_and_limits_comes_true() {
    let plan = latency_plan(&[0.1, 0.5]);
    let window = |at: i64| with_latency(at, 1, [(900, 90, 9), (100, 20, 1)]);
    let mut evidence = Evidence::new(&plan);
    (0..4).for_each(|at| assert_ne!(judge(&plan, &mut evidence, &window(at)), Ok(Verdict::Fail)));
    let early = finding(&evidence, &plan, "latency");
    let needed = early.needed_to_abort.expect("the canary is slow");
    assert!(early.words().contains("more requests to abort"), "{}", early.words());
    let (windows, verdict, _) = until_decided(&plan, 2_000, window);
    let took = windows.saturating_sub(4) as f64 * 100.0;
    assert_eq!(verdict, Verdict::Fail);
    assert!((0.5..2.0).contains(&(took / needed as f64)), "{took} of {needed}");

    let flip = Plan { errors: None, latency: None, restarts: None, ..Plan::new(vec![1.0]) };
    let flip = Plan { slo: vec![limit(SloSource::Declared)], pods: Pods::Ignore, ..flip };
    let mut evidence = Evidence::new(&flip);
    judge(&flip, &mut evidence, &counts(0, 1, (200, 6), (0, 0))).unwrap();
    let slo = finding(&evidence, &flip, "slo-errors");
    assert!(slo.needed_to_abort.is_some_and(|needed| (100..2_000).contains(&needed)), "{slo:?}");
}

/// Fields that came later are missing in what an older daemon saved.
#[test]
fn what_an_older_daemon_saved_still_reads() {
    fn strip(value: &mut serde_json::Value, names: &[&str]) {
        match value {
            serde_json::Value::Object(of) => {
                of.retain(|name, _| !names.contains(&name.as_str()));
                of.values_mut().for_each(|value| strip(value, names));
            }
            serde_json::Value::Array(of) => of.iter_mut().for_each(|value| strip(value, names)),
            _ => {}
        }
    }
    let objective = Objective { quantile: 0.99, limit_s: 0.5 };
    let mut plan = latency_plan(&[0.1]);
    plan.latency.as_mut().unwrap().objectives = vec![objective];
    let mut evidence = Evidence::new(&plan);
    for at in 0..5 {
        judge(&plan, &mut evidence, &with_latency(at, 1, [(900, 90, 9), (90, 9, 1)])).unwrap();
    }
    let mut saved = serde_json::to_value(&evidence).unwrap();
    strip(&mut saved, &["freedom"]);
    for objective in saved["latency"]["objectives"].as_array_mut().unwrap() {
        strip(objective, &["running"]);
    }
    let read: Evidence = serde_json::from_value(saved).unwrap();
    assert_eq!(report(&plan, &read).log_abort, report(&plan, &evidence).log_abort);
    let past = r#"{"le": 0.5, "requests": 100, "slow": 1, "dispersion": 1.5}"#;
    let past: sluice_analyzers::plan::BoundaryHistory = serde_json::from_str(past).unwrap();
    assert_eq!(past.dispersion, Some(1.5));
}
