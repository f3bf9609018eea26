//! What a plan will be like on a given traffic, before anything runs: how long each step takes, and what it can see by
//! when. For `sluice plan`, and for the warning that a step cannot decide before its deadline.
//!
//! Nothing is simulated: evidence is computed for counts as expected (typical), and for counts unlucky by 1.645 standard
//! deviations of the canary's errors (nineteen times of twenty it is quicker).

use crate::errors::{ErrorsEvidence, Phi};
use crate::forecast::more_requests;
use crate::plan::{Plan, alternatives};
use crate::proof::Proof;
use crate::rate_ratio::Pair;
use crate::window::{Arm, PodWindow, Window};
use serde::{Deserialize, Serialize};

const UNLUCKY: f64 = 1.645;
/// The scale at which expected counts are whole numbers, near enough.
const SCALE: f64 = 1e9;

/// What the service is like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    pub requests_per_second: f64,
    /// Stable's, as a fraction of requests.
    pub error_rate: f64,
    /// phi; 1 for independent requests.
    pub dispersion: f64,
    pub canary_pods: u32,
    pub stable_pods: u32,
    /// Every step lasts so long at least.
    pub least_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepOutlook {
    pub step: u32,
    pub weight: f64,
    pub canary_requests_per_second: f64,
    /// The tolerance beyond the margin, as a fraction of requests.
    pub tolerance: f64,
    /// Until a healthy canary passes: typically, and nineteen times of twenty. None: never.
    pub pass_minutes: Option<f64>,
    pub pass_minutes_95: Option<f64>,
    /// What is aborted by when, if it begins with this step.
    pub sees: Vec<Sight>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// The canary's errors as a multiple of stable's.
    pub ratio: f64,
    pub minutes: Option<f64>,
    pub minutes_95: Option<f64>,
}

/// One row a step; steps without stable beside them are left out. Without the errors metric there is nothing to tell.
pub fn outlook(plan: &Plan, traffic: &Traffic, ratios: &[f64]) -> Vec<StepOutlook> {
    let Some(errors) = &plan.errors else { return Vec::new() };
    let r = errors.worse_by.ratio;
    let fresh = || Proof::new(r, alternatives(&errors.pass_alternatives, r));
    let (mut typical, mut unlucky) = (fresh(), fresh());
    let steps = (1..=plan.steps.len() as u32).filter(|step| plan.stable_beside(*step));
    let row = |step| {
        let view = View { plan, traffic, step };
        StepOutlook {
            step,
            weight: plan.weight_at(step),
            canary_requests_per_second: view.canary_per_second(),
            tolerance: view.tolerance(),
            pass_minutes: view.pass(&mut typical, 0.0),
            pass_minutes_95: view.pass(&mut unlucky, UNLUCKY),
            sees: ratios.iter().map(|ratio| view.sight(*ratio)).collect(),
        }
    };
    steps.map(row).collect()
}

struct View<'a> {
    plan: &'a Plan,
    traffic: &'a Traffic,
    step: u32,
}

impl View<'_> {
    fn canary_per_second(&self) -> f64 {
        self.traffic.requests_per_second * self.plan.weight_at(self.step)
    }

    fn tolerance(&self) -> f64 {
        self.plan.tolerance_at(self.step, Some(self.traffic.requests_per_second))
    }

    /// A window at this step's split, the canary's rate off by so many standard deviations of `requests`.
    fn like(&self, ratio: f64, off: f64, requests: f64) -> Pair {
        let weight = self.plan.weight_at(self.step);
        let base = self.traffic.error_rate;
        let rate = base * ratio;
        let canary = (rate + off * libm::sqrt(rate / requests.max(1.0))).clamp(0.0, 1.0);
        let stable = SCALE * (1.0 - weight) / weight;
        Pair::new((SCALE as u64, (SCALE * canary) as u64), (stable as u64, (stable * base) as u64))
    }

    /// Minutes until the proof passes this step; the proof keeps what the step gave it.
    fn pass(&self, proof: &mut Proof, off: f64) -> Option<f64> {
        let errors = self.plan.errors.as_ref()?;
        let (d, bar) = (errors.worse_by.plus + self.tolerance(), -libm::log(self.plan.false_pass));
        let phi = self.traffic.dispersion;
        let at = |times: f64| proof.log_e_after(d, times, self.like(1.0, off, times * SCALE), phi);
        let needed = more_requests(self.like(1.0, 0.0, SCALE), bar, at)? as f64;
        let least = self.traffic.least_s * self.canary_per_second();
        let requests = needed.max(least);
        proof.add(self.like(1.0, off, requests), phi * SCALE / requests.max(1.0));
        Some(requests / self.canary_per_second() / 60.0)
    }

    fn sight(&self, ratio: f64) -> Sight {
        let (minutes, minutes_95) = (self.abort(ratio, 0.0), self.abort(ratio, -UNLUCKY));
        Sight { ratio, minutes, minutes_95 }
    }

    fn abort(&self, ratio: f64, off: f64) -> Option<f64> {
        let errors = self.plan.errors.as_ref()?;
        let latency = self.plan.latency.as_ref().map_or(0.0, |latency| latency.weight);
        let share = errors.weight / (errors.weight + latency);
        let bar = -libm::log(self.plan.false_abort * share);
        let mut evidence = ErrorsEvidence::new(errors, self.plan.pods);
        let shares = crate::mixture::restart_shares(self.plan.steps.len());
        let begun = shares.get(self.step as usize - 1).copied().filter(|share| *share > 0.0);
        evidence.start(begun.or(shares.first().copied())?, errors, &self.pods());
        let phi = Phi { abort: self.traffic.dispersion, pass: self.traffic.dispersion };
        let at = |times: f64| {
            evidence.log_abort_exactly_after(times, self.like(ratio, off, times * SCALE), phi.abort)
        };
        let needed = more_requests(self.like(ratio, 0.0, SCALE), bar, at)? as f64;
        Some(needed / self.canary_per_second() / 60.0)
    }

    /// Pods alone: their number is known beforehand.
    fn pods(&self) -> Window {
        let pods =
            |arm, count: u32| (0..count).map(move |at| PodWindow::new(arm, format!("{arm:?}{at}"), 0, 0));
        let both =
            pods(Arm::Canary, self.traffic.canary_pods).chain(pods(Arm::Stable, self.traffic.stable_pods));
        Window { step: self.step, start_ms: 0, end_ms: 1, pods: both.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(requests_per_second: f64, error_rate: f64) -> Vec<StepOutlook> {
        let plan = Plan { latency: None, ..Plan::new(vec![0.01, 0.05, 0.25, 0.5]) };
        let traffic = Traffic {
            requests_per_second,
            error_rate,
            dispersion: 1.0,
            canary_pods: 2,
            stable_pods: 8,
            least_s: 60.0,
        };
        outlook(&plan, &traffic, &[1.1, 3.0, 10.0])
    }

    /// The benchmark's own figures: 4 to 9 minutes in the median, up to 20 at the 95th percentile.
    #[test]
    fn a_healthy_release_takes_minutes() {
        for (per_second, base) in [(5.0, 0.0), (50.0, 0.0), (50.0, 0.005), (500.0, 0.005), (5000.0, 0.02)] {
            let rows = rows(per_second, base);
            let sum =
                |of: fn(&StepOutlook) -> Option<f64>| rows.iter().map(|row| of(row).unwrap()).sum::<f64>();
            let (typical, unlucky) = (sum(|row| row.pass_minutes), sum(|row| row.pass_minutes_95));
            assert!((3.9..12.0).contains(&typical), "{per_second} {base}: {typical}");
            assert!(typical <= unlucky && unlucky < 45.0, "{per_second} {base}: {unlucky}");
        }
    }

    #[test]
    fn large_changes_are_seen_first_and_small_ones_never() {
        let rows = rows(200.0, 0.01);
        let sees = &rows[1].sees;
        assert_eq!(sees[0].minutes, None, "1.1 times is within the margin");
        let (thrice, ten) = (sees[1].minutes.unwrap(), sees[2].minutes.unwrap());
        assert!(
            ten < thrice && thrice < 60.0 && sees[1].minutes_95.is_some_and(|late| late > thrice),
            "{sees:?}"
        );
        assert!(rows[3].sees[1].minutes.unwrap() < thrice, "more traffic, sooner");
    }
}
