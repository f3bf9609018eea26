//! How long a healthy release takes with the defaults, by the analyzers that the daemon uses: no server, fixed seeds.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;
use sluice_analyzers::{Arm, Baseline, Evidence, Plan, PodWindow, Verdict, Window, judge};
use sluice_tests::policy;
use sluice_wire::policy::Policy;

const RELEASES: u64 = 200;
const WINDOW_S: f64 = 15.0;
const STABLE_PODS: u64 = 3;
/// A release that takes longer is counted as stuck.
const MOST_MINUTES: f64 = 240.0;
/// Steps, `limits.step.min` and `bake.for` of the defaults.
const STEPS: [f64; 4] = [0.01, 0.05, 0.25, 0.5];
const STEP_S: f64 = 60.0;
const BAKE_S: f64 = 600.0;

/// Requests a second, and the share of errors.
const CELLS: [(f64, f64); 8] = [
    (50.0, 0.0),
    (50.0, 0.001),
    (50.0, 0.005),
    (50.0, 0.02),
    (5.0, 0.005),
    (500.0, 0.0),
    (500.0, 0.005),
    (5000.0, 0.005),
];

pub fn table() -> Result<String> {
    let mut text = format!(
        "\nA healthy release over 1, 5, 25, 50 % with the defaults ({RELEASES} simulated releases a row, {STABLE_PODS} stable pods, \
         windows of {WINDOW_S} s, six hours of history): minutes until the last step is left, and until promotion (after \
         10 minutes of bake)\n\n\
         | requests/s | errors | last step left: median | 95 % | promoted: median | 95 % | aborted | stuck |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for (rate, errors) in CELLS {
        let cell = Cell::run(rate, errors)?;
        let [left, left95] = [0.5, 0.95].map(|share| quantile(&cell.left, share));
        let [promoted, promoted95] = [0.5, 0.95].map(|share| quantile(&cell.promoted, share));
        let _ = writeln!(
            text,
            "| {rate} | {} % | {left:.1} | {left95:.1} | {promoted:.1} | {promoted95:.1} | {} | {} |",
            100.0 * errors,
            cell.aborted,
            cell.stuck
        );
    }
    Ok(text)
}

#[derive(Default)]
struct Cell {
    left: Vec<f64>,
    promoted: Vec<f64>,
    aborted: u64,
    stuck: u64,
}

impl Cell {
    fn run(rate: f64, errors: f64) -> Result<Cell> {
        let mut chance = Chance(rate.to_bits() ^ errors.to_bits());
        let plan = defaults()?.frozen(&history(rate, errors, &mut chance)?);
        let mut cell = Cell::default();
        for _ in 0..RELEASES {
            match release(&plan, rate, errors, &mut chance)? {
                End::Promoted { left, promoted } => {
                    cell.left.push(left);
                    cell.promoted.push(promoted);
                }
                End::Aborted => cell.aborted += 1,
                End::Stuck => cell.stuck += 1,
            }
        }
        Ok(cell)
    }
}

enum End {
    Promoted { left: f64, promoted: f64 },
    Aborted,
    Stuck,
}

/// The plan of a policy that says nothing about the analysis.
fn defaults() -> Result<Plan> {
    let mut value = policy::policy(
        "bench",
        "defaults",
        json!({"target": {"webhook": {"url": "http://127.0.0.1:1/"}},
        "metrics": {"scrape": {"stable": ["http://127.0.0.1:1/"], "canary": ["http://127.0.0.1:2/"]}},
        "analysis": null, "bake": null, "limits": null}),
    );
    value["spec"]["steps"] = STEPS.iter().map(|share| json!({"weight": 100.0 * share})).collect();
    let policy = Policy::parse("defaults", value.to_string().as_bytes())?;
    Ok(policy.plan()?)
}

fn history(rate: f64, errors: f64, chance: &mut Chance) -> Result<Baseline> {
    let mut baseline = Baseline::new();
    for number in 0..(6 * 3600 / WINDOW_S as i64) {
        baseline.add(&window(0, number, 0.0, rate, errors, chance))?;
    }
    Ok(baseline)
}

/// As the daemon goes on: a step is left with `pass` once it has been watched for its least time.
fn release(plan: &Plan, rate: f64, errors: f64, chance: &mut Chance) -> Result<End> {
    let mut evidence = Evidence::new(plan);
    let (mut step, mut watched, mut number, mut left) = (0, 0.0, 0, 0.0);
    while number as f64 * WINDOW_S < MOST_MINUTES * 60.0 {
        let weight = STEPS.get(step).copied().unwrap_or(0.95);
        let next = window(step as u32 + 1, number, weight, rate, errors, chance);
        let verdict = judge(plan, &mut evidence, &next)?;
        number += 1;
        match verdict {
            Verdict::Fail => return Ok(End::Aborted),
            Verdict::Pass | Verdict::Undecided => watched += WINDOW_S,
            Verdict::NoData | Verdict::SourceDown => {}
        }
        let minutes = number as f64 * WINDOW_S / 60.0;
        let enough = if step < STEPS.len() { STEP_S } else { BAKE_S };
        if verdict == Verdict::Pass && watched >= enough {
            if step == STEPS.len() {
                return Ok(End::Promoted { left, promoted: minutes });
            }
            (step, watched, left) = (step + 1, 0.0, minutes);
        }
    }
    Ok(End::Stuck)
}

fn window(step: u32, number: i64, weight: f64, rate: f64, errors: f64, chance: &mut Chance) -> Window {
    let all = rate * WINDOW_S;
    let mut pods = Vec::new();
    for pod in 0..STABLE_PODS {
        let requests = chance.poisson(all * (1.0 - weight) / STABLE_PODS as f64);
        pods.push(PodWindow::new(
            Arm::Stable,
            format!("stable-{pod}"),
            requests,
            chance.binomial(requests, errors),
        ));
    }
    // As many canary pods as its share of stable's size asks for.
    let canaries = (weight * STABLE_PODS as f64).ceil() as u64;
    for pod in 0..canaries {
        let requests = chance.poisson(all * weight / canaries as f64);
        pods.push(PodWindow::new(
            Arm::Canary,
            format!("canary-{pod}"),
            requests,
            chance.binomial(requests, errors),
        ));
    }
    let start_ms = number * (WINDOW_S * 1000.0) as i64;
    Window { step, start_ms, end_ms: start_ms + (WINDOW_S * 1000.0) as i64, pods }
}

fn quantile(minutes: &[f64], share: f64) -> f64 {
    let mut sorted = minutes.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// SplitMix64, and what is drawn with it.
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Counts gaps; above 500 the normal one is near enough.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 500.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (mut count, mut left) = (0, mean);
        loop {
            left += (1.0 - self.uniform()).ln();
            if left <= 0.0 {
                return count;
            }
            count += 1;
        }
    }

    /// Errors are rare: Poisson, at most all.
    fn binomial(&mut self, requests: u64, share: f64) -> u64 {
        self.poisson(requests as f64 * share).min(requests)
    }
}
