//! E[E] <= 1 by exhaustive enumeration: every outcome of a window, weighted by its probability, over a grid of nulls.

use sluice_analyzers::errors::Phi;
use sluice_analyzers::plan::{Margin, Plan, Pods};
use sluice_analyzers::rate_ratio::{Alternative, Count, Pair, increment};
use sluice_analyzers::slo::Ceiling;
use sluice_analyzers::slow_share::Bet;
use sluice_analyzers::{Arm, Bucket, Evidence, Finding, PodWindow, Verdict, Window, judge, report};

#[allow(dead_code, reason = "the benchmark's random numbers, of which a part is used")]
#[path = "../benches/quality/chance.rs"]
mod chance;
use chance::Chance;

/// Binomial probabilities 0..=n.
fn binomial(n: u64, p: f64) -> Vec<f64> {
    let mut log_choose = 0.0;
    (0..=n)
        .map(|k| {
            if k > 0 {
                log_choose += ((n - k + 1) as f64 / k as f64).ln();
            }
            let part = |x: u64, q: f64| if x == 0 { 0.0 } else { x as f64 * q.ln() };
            (log_choose + part(k, p) + part(n - k, 1.0 - p)).exp()
        })
        .collect()
}

fn expectation(n_c: u64, p_c: f64, n_s: u64, p_s: f64, log_e: impl Fn(u64, u64) -> Option<f64>) -> f64 {
    let (canary, stable) = (binomial(n_c, p_c), binomial(n_s, p_s));
    let mut sum = 0.0;
    for (x_c, at_c) in canary.iter().enumerate() {
        for (x_s, at_s) in stable.iter().enumerate() {
            sum += at_c * at_s * log_e(x_c as u64, x_s as u64).map_or(0.0, f64::exp);
        }
    }
    sum
}

const SIZES: [(u64, u64); 5] = [(1, 1), (3, 9), (12, 4), (20, 40), (40, 15)];
const RATES: [f64; 5] = [0.001, 0.02, 0.1, 0.35, 0.7];
const MARGINS: [(f64, f64); 4] = [(1.0, 0.0), (1.25, 0.0), (1.0, 0.02), (1.5, 0.1)];

/// The largest E[E] over the grid; `null` gives the canary's rate at the null's edge and inside it.
fn largest(rhos: &[f64], inside: fn(f64) -> f64) -> f64 {
    let mut largest: f64 = 0.0;
    for (n_c, n_s) in SIZES {
        for p_s in RATES {
            for (r, d) in MARGINS {
                let edge = r * p_s + d;
                for p_c in [edge, inside(edge)] {
                    if !(0.0..1.0).contains(&p_c) {
                        continue;
                    }
                    for rho in rhos {
                        let alternative = Alternative::new(rho * r, r, 1.0);
                        let log_e = |x_c, x_s| {
                            let step = increment(r, &alternative, Pair::new((n_c, x_c), (n_s, x_s)));
                            (!step.killed).then_some(step.s1 + d * step.s2)
                        };
                        largest = largest.max(expectation(n_c, p_c, n_s, p_s, log_e));
                    }
                }
            }
        }
    }
    largest
}

#[test]
fn formula_1_to_abort() {
    let largest = largest(&[1.2, 2.0, 20.0], |edge| edge * 0.7);
    assert!(largest <= 1.0 + 1e-9, "{largest}");
    assert!(largest > 0.9, "a bound that is never near 1 wastes evidence: {largest}");
}

#[test]
fn formula_1_to_pass_rho_zero_included() {
    let largest = largest(&[0.0, 0.4, 0.85], |edge| edge * 1.3);
    assert!(largest <= 1.0 + 1e-9, "{largest}");
    assert!(largest > 0.9, "{largest}");
}

#[test]
fn the_share_of_slow_requests_whatever_is_guessed() {
    let mut largest: f64 = 0.0;
    for (n_c, n_s) in SIZES {
        for p_s in RATES {
            for (ratio, plus) in MARGINS {
                for p_c in [ratio * p_s + plus, 0.6 * ratio * p_s] {
                    if p_c >= 1.0 {
                        continue;
                    }
                    for guess in [p_s, p_s / 3.0, 0.5] {
                        for odds in [1.25, 4.0] {
                            let margin = Margin { ratio, plus };
                            let Some(bet) = Bet::new(margin, guess, odds, n_c as f64, n_s as f64) else {
                                continue;
                            };
                            let log_e = |x_c, x_s| Some(bet.log_e(Pair::new((n_c, x_c), (n_s, x_s))));
                            largest = largest.max(expectation(n_c, p_c, n_s, p_s, log_e));
                        }
                    }
                }
            }
        }
    }
    assert!(largest <= 1.0 + 1e-9, "{largest}");
    assert!(largest > 0.9, "{largest}");
}

/// The crate's own [`Ceiling`], every outcome of two windows, restarts and dispersions included.
#[test]
fn an_absolute_limit_both_ways() {
    let (n, limit, d) = (30u64, 0.05, 0.02);
    let mean = |p: f64, phi: f64, log_e: &dyn Fn(&Ceiling) -> f64| {
        let chances = binomial(n, p);
        let outcomes = |x: u64| (0..=n).map(move |y| (x, y));
        let e = |(x, y): (u64, u64)| {
            let phi = Phi { abort: phi, pass: phi };
            let mut ceiling = Ceiling::new(limit);
            ceiling.start(0.5);
            ceiling.add(Count::new(n, x), phi);
            ceiling.start(0.5);
            ceiling.add(Count::new(n, y), phi);
            chances[x as usize] * chances[y as usize] * log_e(&ceiling).exp()
        };
        (0..=n).flat_map(outcomes).map(e).sum::<f64>()
    };
    for phi in [1.0, 2.5] {
        for inside in [1.0, 0.7] {
            let abort = mean(limit * inside, phi, &Ceiling::log_abort);
            assert!(abort <= 1.0 + 1e-9, "abort at {inside} of the limit: {abort}");
        }
        for outside in [1.0, 1.4] {
            let pass = mean((limit + d) * outside, phi, &|ceiling| ceiling.log_advance(d));
            assert!(pass <= 1.0 + 1e-9, "pass at {outside} times the tolerance: {pass}");
        }
    }
    let beyond = mean(limit * 3.0, 1.0, &Ceiling::log_abort);
    assert!(beyond > 2.0, "beyond the limit evidence grows: {beyond}");
}

/// A whole life counted out: every outcome of every window, hours apart, over two steps and the bake. Restarts of steps and
/// those drawn from the reserve are in it.
struct Life<'a> {
    plan: &'a Plan,
    steps: &'a [u32],
    canary: Vec<f64>,
    stable: Vec<f64>,
}

impl Life<'_> {
    /// E[E] at the end, and the probability that it was ever aborted.
    fn lived(&self) -> (f64, f64) {
        self.after(0, &Evidence::new(self.plan), Verdict::Undecided)
    }

    fn after(&self, at: usize, before: &Evidence, verdict: Verdict) -> (f64, f64) {
        let Some(step) = self.steps.get(at) else {
            let failed = if verdict == Verdict::Fail { 1.0 } else { 0.0 };
            return (before.log_abort(self.plan).exp(), failed);
        };
        let (mut mean, mut failed) = (0.0, 0.0);
        for (x_c, at_c) in self.canary.iter().enumerate() {
            for (x_s, at_s) in self.stable.iter().enumerate() {
                let pods = vec![
                    PodWindow::new(Arm::Canary, "c", self.canary.len() as u64 - 1, x_c as u64),
                    PodWindow::new(Arm::Stable, "s", self.stable.len() as u64 - 1, x_s as u64),
                ];
                let (start_ms, end_ms) = (at as i64 * 3_600_000, (at as i64 + 1) * 3_600_000);
                let mut evidence = before.clone();
                let window = Window { step: *step, start_ms, end_ms, pods };
                let verdict = judge(self.plan, &mut evidence, &window).expect("a good window");
                let (e, fail) = self.after(at + 1, &evidence, verdict);
                (mean, failed) = (mean + at_c * at_s * e, failed + at_c * at_s * fail);
            }
        }
        (mean, failed)
    }
}

#[test]
fn a_life_with_restarts_and_retries_has_one_false_abort() {
    for p_s in [0.02, 0.15] {
        let mut aborted = 0.0;
        for retries in 0..3 {
            let plan = Plan {
                pods: Pods::Ignore,
                latency: None,
                restarts: None,
                false_abort: 0.3,
                retries,
                ..Plan::new(vec![0.3, 0.5])
            };
            let (canary, stable) = (binomial(2, 1.25 * p_s), binomial(3, p_s));
            let (mean, failed) = Life { plan: &plan, steps: &[1, 1, 2, 3], canary, stable }.lived();
            assert!(mean <= 1.0 + 1e-9, "{p_s} {retries}: {mean}");
            assert!(mean > 0.8, "a bound that is never near 1 wastes evidence: {mean}");
            aborted += failed;
        }
        assert!(aborted > 0.0 && aborted <= 0.3, "{p_s}: {aborted}");
    }
}

/// The ratio's confidence sequences, looked at after every window: seeds are fixed, and a miss at any look is a miss.
#[test]
fn confidence_sequences_cover_errors_and_every_boundary_of_latencies() {
    let plan = Plan { false_abort: 0.1, pods: Pods::Ignore, restarts: None, ..Plan::new(vec![0.3, 0.5]) };
    // Of stable's requests so many fail and are slow at 0.1 s and 0.5 s; of the canary's 1.5 times as many.
    let (stable, ratio, rollouts) = ([0.05, 0.4, 0.08], 1.5, 150);
    let missed = (0..rollouts).filter(|seed| misses(&plan, *seed, stable, ratio)).count();
    // Each may miss in one of ten; both together in two.
    assert!(missed <= rollouts as usize / 5, "{missed} of {rollouts}");
}

fn misses(plan: &Plan, seed: u64, stable: [f64; 3], ratio: f64) -> bool {
    let mut chance = Chance::new(seed);
    let mut evidence = Evidence::new(plan);
    for at in 0..60i64 {
        let mut pod = |arm, name: &str, n: u64, times: f64| {
            let [errors, slow, slower] = stable.map(|rate| rate * times);
            let over = chance.binomial(n, slow);
            let far_over = chance.binomial(over, slower / slow);
            let buckets = [(0.1, n - over), (0.5, n - far_over), (f64::INFINITY, n)];
            let buckets = buckets.map(|(le, count)| Bucket { le, count }).to_vec();
            PodWindow::new(arm, name, n, chance.binomial(n, errors)).with_buckets(buckets)
        };
        let pods = vec![pod(Arm::Canary, "c", 30, ratio), pod(Arm::Stable, "s", 70, 1.0)];
        let window = Window { step: 1, start_ms: at * 15_000, end_ms: (at + 1) * 15_000, pods };
        judge(plan, &mut evidence, &window).expect("a good window");
        let off = |finding: &Finding| {
            finding.ratio_low.is_some_and(|low| low > ratio)
                || finding.ratio_high.is_some_and(|high| high < ratio)
        };
        let findings = report(plan, &evidence).findings;
        assert!(
            at < 30 || findings.iter().all(|of| of.ratio_high.is_some()),
            "an interval that is always open"
        );
        if findings.iter().any(off) {
            return true;
        }
    }
    false
}
