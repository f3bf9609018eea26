//! What stands outside falseAbort: alarms, rules that somebody insisted on, and the watch over stable.

use sluice_analyzers::plan::Plan;
use sluice_analyzers::threshold::ThresholdPlan;
use sluice_analyzers::{Arm, Baseline, Evidence, PodWindow, Verdict, Window, judge, report};

fn window(at: i64, step: u32, canary: (u64, u64), stable: (u64, u64)) -> Window {
    let pods = vec![
        PodWindow::new(Arm::Canary, "c", canary.0, canary.1),
        PodWindow::new(Arm::Stable, "s", stable.0 / 2, stable.1 / 2),
        PodWindow::new(Arm::Stable, "t", stable.0 - stable.0 / 2, stable.1 - stable.1 / 2),
    ];
    Window { step, start_ms: at * 15_000, end_ms: (at + 1) * 15_000, pods }
}

#[test]
fn stable_that_suffers_withholds_the_pass_and_alarms() {
    let mut history = Baseline::new();
    for at in 0..240 {
        history.add(&window(at, 0, (0, 0), (1500, 2))).unwrap();
    }
    let plan = Plan { latency: None, ..Plan::new(vec![0.05, 0.25]) }.frozen(&history);
    let run = |stable_errors: u64, canary_errors: u64| {
        let mut evidence = Evidence::new(&plan);
        let verdicts: Vec<Verdict> = (240..340)
            .map(|at| {
                judge(&plan, &mut evidence, &window(at, 1, (75, canary_errors), (1425, stable_errors)))
                    .unwrap()
            })
            .collect();
        (verdicts, report(&plan, &evidence))
    };
    let (verdicts, healthy) = run(2, 0);
    assert_eq!((verdicts.last(), healthy.alarms.len()), (Some(&Verdict::Pass), 0));
    // Both versions fail alike, ten times as often as before: no comparison shows it.
    let (verdicts, suffering) = run(20, 1);
    assert!(!verdicts[20..].contains(&Verdict::Pass) && !verdicts.contains(&Verdict::Fail));
    assert!(suffering.alarms[0].starts_with("collateral"), "{:?}", suffering.alarms);
}

#[test]
fn a_route_that_sends_too_little_raises_an_alarm_and_no_verdict() {
    let plan = Plan { latency: None, ..Plan::new(vec![0.2]) };
    let mut evidence = Evidence::new(&plan);
    for at in 0..40 {
        assert_ne!(judge(&plan, &mut evidence, &window(at, 1, (15, 0), (1485, 2))), Ok(Verdict::Fail));
    }
    let alarms = report(&plan, &evidence).alarms;
    assert_eq!(alarms, ["split: the canary gets 1.0 % of the requests, the weight says 20.0 %"]);
}

#[test]
fn a_rule_that_somebody_insisted_on_stops_the_rollout_by_name() {
    let rule =
        ThresholdPlan { name: "errors".into(), min: None, max: Some(0.01), failures: 5, consecutive: false };
    let plan = Plan { errors: None, latency: None, thresholds: vec![rule], ..Plan::new(vec![0.05]) };
    assert_eq!(plan.check(), Ok(()));
    let mut evidence = Evidence::new(&plan);
    let failed = (0..20).position(|at| {
        judge(&plan, &mut evidence, &window(at, 1, (75, 1), (1425, 2))).unwrap() == Verdict::Fail
    });
    assert_eq!(failed, Some(4));
    let report = report(&plan, &evidence);
    assert_eq!(report.culprits, ["threshold errors"]);
    let words = report.words();
    assert!(
        words.contains(
            "above 0.01 in 5 of the 5 windows that abort: a rule of the policy, outside falseAbort"
        ),
        "{words}"
    );
}

#[test]
fn a_release_that_crashes_is_stopped_by_its_restarts() {
    let plan = Plan { latency: None, ..Plan::new(vec![0.05]) };
    let mut evidence = Evidence::new(&plan);
    let failed = (0..60).position(|at| {
        let mut window = window(at, 1, (75, 0), (1425, 0));
        window.pods.iter_mut().for_each(|pod| pod.restarts = Some(u64::from(pod.arm == Arm::Canary)));
        judge(&plan, &mut evidence, &window).unwrap() == Verdict::Fail
    });
    assert!(failed.is_some_and(|at| at < 30), "{failed:?}");
    assert_eq!(report(&plan, &evidence).culprits, ["restarts"]);
}
