//! How quick an update is: `cargo bench -p sluice-analyzers --bench updates`.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use divan::{Bencher, black_box, counter::ItemsCount};
use sluice_analyzers::errors::{ErrorsEvidence, Phi};
use sluice_analyzers::onset::Onset;
use sluice_analyzers::plan::{ErrorsPlan, Margin, Plan, Pods};
use sluice_analyzers::rate_ratio::Pair;
use sluice_analyzers::{Arm, Evidence, PodWindow, Window, judge, report};

fn main() {
    divan::main();
}

const UPDATES: usize = 1_000;

fn pairs() -> Vec<Pair> {
    (0..UPDATES as u64).map(|at| Pair::new((90 + at % 20, at % 3), (900 + at % 70, at % 11))).collect()
}

/// Formula 1: six alternatives to abort by.
#[divan::bench]
fn formula_1(bencher: Bencher) {
    let (pairs, r) = (pairs(), 1.25);
    let grid: Vec<_> =
        sluice_analyzers::plan::alternatives(&ErrorsPlan::with_margin(Margin::default()).alternatives, r)
            .collect();
    bencher.counter(ItemsCount::new(UPDATES)).bench_local(|| {
        let mut sums = [0.0; 6];
        for pair in &pairs {
            for (sum, alternative) in sums.iter_mut().zip(&grid) {
                *sum += sluice_analyzers::rate_ratio::increment(r, alternative, *pair).s1;
            }
        }
        black_box(sums)
    });
}

fn errors(bencher: Bencher, pods: Pods) {
    let pairs = pairs();
    let plan = ErrorsPlan::with_margin(Margin::default());
    let window =
        Window { step: 1, start_ms: 0, end_ms: 1, pods: vec![PodWindow::new(Arm::Canary, "c", 1, 0)] };
    let mut evidence = ErrorsEvidence::new(&plan, pods);
    evidence.start(Onset::Step(1.0), &plan, &window);
    bencher.counter(ItemsCount::new(UPDATES)).bench_local(|| {
        for pair in &pairs {
            evidence.add_pair(*pair, Phi::NONE);
        }
        black_box(evidence.log_advance(0.001))
    });
}

/// Both directions and the ratio's curve, as the errors metric keeps them.
#[divan::bench]
fn errors_metric(bencher: Bencher) {
    errors(bencher, Pods::Dispersion);
}

#[divan::bench]
fn errors_metric_with_pod_effect(bencher: Bencher) {
    errors(bencher, Pods::RandomEffect);
}

fn windows(count: i64) -> Vec<Window> {
    let pod = |arm, place: i64, at: i64| {
        PodWindow::new(
            arm,
            format!("p{place}"),
            100 + (at * 7 + place) as u64 % 30,
            (at + place) as u64 % 5 / 4,
        )
    };
    let window = |at: i64| {
        let pods = (0..10).map(|place| pod(if place < 2 { Arm::Canary } else { Arm::Stable }, place, at));
        Window { step: 1, start_ms: at * 1000, end_ms: (at + 1) * 1000, pods: pods.collect() }
    };
    (0..count).map(window).collect()
}

/// A whole window of ten pods, checked, counted and judged.
#[divan::bench]
fn judge_a_window(bencher: Bencher) {
    let (plan, windows) = (Plan::new(vec![0.1, 0.5]), windows(UPDATES as i64));
    bencher.counter(ItemsCount::new(UPDATES)).bench_local(|| {
        let mut evidence = Evidence::new(&plan);
        for window in &windows {
            judge(&plan, &mut evidence, window).unwrap();
        }
        black_box(evidence)
    });
}

#[divan::bench]
fn report_of_a_rollout(bencher: Bencher) {
    let plan = Plan::new(vec![0.1, 0.5]);
    let mut evidence = Evidence::new(&plan);
    for window in windows(200) {
        judge(&plan, &mut evidence, &window).unwrap();
    }
    bencher.bench_local(|| black_box(report(&plan, &evidence)));
}
