//! What the source does not tell, tells late, or stops telling; and what stays once a rollout has failed.

mod windows;

use sluice_analyzers::plan::{Objective, Plan, Pods, SloSource};
use sluice_analyzers::{Arm, Baseline, Bucket, Evidence, PodWindow, Verdict, Window, judge, report};
use windows::{latency_plan, limit, window, with_latency};

fn counts(at: i64, step: u32, canary: (u64, u64), stable: (u64, u64)) -> Window {
    let pods = vec![
        PodWindow::new(Arm::Canary, "c", canary.0, canary.1),
        PodWindow::new(Arm::Stable, "s", stable.0, stable.1),
    ];
    window(at, step, pods)
}

/// What the latency metric says of the last window.
fn latency_words(plan: &Plan, evidence: &Evidence) -> String {
    let findings = report(plan, evidence).findings;
    findings.into_iter().find(|of| of.metric == "latency").map(|of| of.words()).expect("the metric is on")
}

#[test]
fn histograms_that_cannot_be_compared_are_no_data_and_errors_are_judged_all_the_same() {
    let pod = |arm, name: &str, le: f64, errors| {
        let buckets = [(le, 90), (f64::INFINITY, 100)].map(|(le, count)| Bucket { le, count }).to_vec();
        PodWindow::new(arm, name, 100, errors).with_buckets(buckets)
    };
    let plan = Plan { pods: Pods::Ignore, ..Plan::new(vec![0.1]) };
    let run = |errors: u64| {
        let mut evidence = Evidence::new(&plan);
        let mut verdict = Verdict::Undecided;
        for at in 0..20 {
            // One of the canary's pods has other buckets.
            let pods = vec![
                pod(Arm::Stable, "s", 0.2, 1),
                pod(Arm::Canary, "a", 0.2, errors),
                pod(Arm::Canary, "b", 0.1, errors),
            ];
            verdict = judge(&plan, &mut evidence, &window(at, 1, pods)).unwrap();
        }
        (verdict, latency_words(&plan, &evidence))
    };
    let (verdict, words) = run(1);
    assert_eq!(verdict, Verdict::NoData);
    assert!(words.contains("\"s\" and \"b\" have no finite boundary in common"), "{words}");
    assert_eq!(run(40).0, Verdict::Fail);
    let off = Plan { latency: None, ..plan.clone() };
    let mut evidence = Evidence::new(&off);
    let pods = vec![pod(Arm::Stable, "s", 0.2, 1), pod(Arm::Canary, "b", 0.1, 1)];
    assert_eq!(judge(&off, &mut evidence, &window(0, 1, pods)), Ok(Verdict::Undecided), "the remedy");
}

#[test]
fn latencies_that_go_blind_pass_nothing() {
    let plan = latency_plan(&[0.1, 0.5]);
    let good = |at, step| with_latency(at, step, [(9000, 90, 0), (1000, 5, 0)]);
    let proven = || {
        let mut evidence = Evidence::new(&plan);
        for at in 0..20 {
            judge(&plan, &mut evidence, &good(at, 1)).unwrap();
        }
        assert_eq!(evidence.verdict(), Verdict::Pass);
        evidence
    };
    let mut gone = good(20, 1);
    gone.pods.iter_mut().filter(|pod| pod.arm == Arm::Canary).for_each(|pod| pod.buckets.clear());
    let mut moved = good(20, 1);
    moved
        .pods
        .iter_mut()
        .flat_map(|pod| &mut pod.buckets)
        .filter(|one| one.le == 0.5)
        .for_each(|one| one.le = 0.25);
    for (window, why) in
        [(gone, "the canary had requests and no histogram"), (moved, "has no bucket le = 0.5")]
    {
        let mut evidence = proven();
        assert_eq!(judge(&plan, &mut evidence, &window), Ok(Verdict::NoData));
        let words = latency_words(&plan, &evidence);
        assert!(words.contains(why), "{words}");
        assert_eq!(judge(&plan, &mut evidence, &good(21, 1)), Ok(Verdict::Pass), "as soon as it sees again");
    }
}

#[test]
fn what_is_told_late_counts_from_then_on() {
    let plan = Plan { pods: Pods::Ignore, ..Plan::new(vec![0.1]) };
    let mut evidence = Evidence::new(&plan);
    let mut blind = with_latency(0, 1, [(900, 9, 0), (100, 90, 90)]);
    blind.pods.iter_mut().for_each(|pod| pod.buckets.clear());
    assert_eq!(judge(&plan, &mut evidence, &blind), Ok(Verdict::Undecided), "errors alone say nothing yet");
    let slow = |at| judge(&plan, &mut evidence, &with_latency(at, 1, [(900, 9, 0), (100, 90, 90)])).unwrap();
    assert!((1..20).map(slow).any(|verdict| verdict == Verdict::Fail), "the canary is slow");
    assert_eq!(report(&plan, &evidence).culprits, ["latency"]);

    let mut evidence = Evidence::new(&plan);
    judge(&plan, &mut evidence, &counts(0, 1, (100, 1), (900, 9))).unwrap();
    let crash = |at| {
        let mut window = counts(at, 1, (100, 1), (900, 9));
        window.pods.iter_mut().for_each(|pod| pod.restarts = Some(u64::from(pod.arm == Arm::Canary)));
        judge(&plan, &mut evidence, &window).unwrap()
    };
    assert!((1..40).map(crash).any(|verdict| verdict == Verdict::Fail), "the canary crashes");
}

#[test]
fn after_a_fail_who_made_it_stays_to_blame() {
    let plan = Plan { pods: Pods::Ignore, ..Plan::new(vec![0.1]) };
    let mut evidence = Evidence::new(&plan);
    assert_eq!(judge(&plan, &mut evidence, &counts(0, 1, (100, 70), (900, 9))), Ok(Verdict::Fail));
    for at in 1..200 {
        assert_eq!(judge(&plan, &mut evidence, &counts(at, 1, (1000, 0), (9000, 90))), Ok(Verdict::Fail));
    }
    assert_eq!(report(&plan, &evidence).culprits, ["errors"]);
}

#[test]
fn a_limit_allows_for_bursts_with_and_without_history_and_without_the_errors_metric() {
    // Exactly at the limit, errors in bursts of five within a pod; the same stretch of 3 h for each of 20 services.
    let aborted = |history_h: i64| {
        (0..20u64)
            .filter(|seed| {
                let mut random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed + 1);
                let mut next = move || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random
                };
                // 5 of 50 in every tenth: 1 %.
                let mut burst = move || if next() % 10 == 0 { 5 } else { 0 };
                let mut window_at = move |at, step| {
                    let pods = (0..4).map(|pod| {
                        let arm = if pod < 2 && step > 0 { Arm::Canary } else { Arm::Stable };
                        PodWindow::new(arm, format!("p{pod}"), 50, burst())
                    });
                    window(at, step, pods.collect())
                };
                let mut history = Baseline::new();
                (0..history_h * 240).for_each(|at| history.add(&window_at(at, 0)).unwrap());
                let plan = Plan {
                    errors: None,
                    latency: None,
                    restarts: None,
                    slo: vec![limit(SloSource::Declared)],
                    ..Plan::new(vec![0.5])
                };
                let plan = plan.frozen(&history);
                let mut evidence = Evidence::new(&plan);
                let first = history_h * 240;
                (first..first + 720)
                    .any(|at| judge(&plan, &mut evidence, &window_at(at, 1)) == Ok(Verdict::Fail))
            })
            .count()
    };
    assert_eq!((aborted(0), aborted(1)), (0, 0));
}

/// On every machine, in every build: a record that was made elsewhere comes to the same decisions.
#[test]
fn the_same_windows_give_the_same_bits() {
    let mut history = Baseline::new();
    for at in 0..240 {
        let pod = |name: &str, errors| PodWindow::new(Arm::Stable, name, 500, errors);
        let pods = vec![pod("a", at as u64 % 7), pod("b", at as u64 % 5), pod("c", 3)];
        history.add(&window(at, 0, pods)).unwrap();
    }
    let objective = Objective { quantile: 0.99, limit_s: 0.5 };
    let mut plan = Plan::new(vec![0.1, 0.5]);
    plan.latency.as_mut().unwrap().objectives = vec![objective];
    let plan = plan.frozen(&history);
    let mut evidence = Evidence::new(&plan);
    for at in 0..40 {
        let step = if at < 20 { 1 } else { 2 };
        let mut of = with_latency(240 + at, step, [(900, 90 + at as u64 % 3, 8), (100, 11, at as u64 % 2)]);
        of.pods.iter_mut().for_each(|pod| (pod.errors, pod.restarts) = (pod.requests / 100, Some(0)));
        judge(&plan, &mut evidence, &of).unwrap();
    }
    let report = report(&plan, &evidence);
    let bits: Vec<u64> = report
        .findings
        .iter()
        .flat_map(|of| [of.log_abort, of.log_advance, of.ratio_low.unwrap_or(0.0)])
        .chain([report.log_abort])
        .map(f64::to_bits)
        .collect();
    assert_eq!(bits, BITS, "other bits are another judge: raise sluice_analyzers::VERSION");
}

/// `errors`, `latency`, `latency-p99`, `restarts`: evidence to abort, to advance, and the ratio's lower end; then all together.
const BITS: [u64; 13] = [
    13831694393815844983,
    4609018925879242856,
    4602501262751493597,
    13831437590382571162,
    4621249225844149417,
    0,
    13833203436943248908,
    4621353412977098421,
    0,
    0,
    0,
    0,
    13830299396578035714,
];
