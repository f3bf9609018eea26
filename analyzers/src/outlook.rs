//! What a plan will be like on a given traffic, before anything runs: how long each step takes, and what it can see by
//! when. For `sluice plan`, and for the warning that a step cannot decide before its deadline.
//!
//! Nothing is simulated: evidence is computed for counts as expected (typical), and for counts unlucky by 1.645 standard
//! deviations of the canary's bad requests (nineteen times of twenty it is quicker).

mod slowness;

use crate::errors::{ErrorsEvidence, Phi};
use crate::forecast::more_requests;
use crate::onset::{Onset, Onsets};
use crate::plan::{Plan, alternatives};
use crate::proof::Proof;
use crate::rate_ratio::Pair;
use crate::window::{Arm, PodWindow, Window};
use serde::{Deserialize, Serialize};
pub use slowness::LatencyShape;

const UNLUCKY: f64 = 1.645;
/// The scale at which expected counts are whole numbers, near enough.
const SCALE: f64 = 1e9;

/// What the service is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    pub requests_per_second: f64,
    /// Stable's, as a fraction of requests.
    pub error_rate: f64,
    /// None: there is no histogram, and latencies are not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyShape>,
    /// phi; 1 for independent requests.
    pub dispersion: f64,
    pub canary_pods: u32,
    pub stable_pods: u32,
    /// Every step lasts so long at least, in their order; steps that are not named need not.
    pub least_s: Vec<f64>,
}

/// What is asked for: canaries that fail, or are slow, so many times as stable does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Questions {
    pub ratios: Vec<f64>,
    /// All latencies so many times as long.
    pub slower: Vec<f64>,
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
    pub metric: Seen,
    /// The canary's errors, or its latencies, as a multiple of stable's.
    pub ratio: f64,
    pub minutes: Option<f64>,
    pub minutes_95: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seen {
    Errors,
    Latency,
}

/// One row a step; steps without stable beside them are left out. Without the errors metric there is nothing to tell.
pub fn outlook(plan: &Plan, traffic: &Traffic, questions: &Questions) -> Vec<StepOutlook> {
    if plan.errors.is_none() {
        return Vec::new();
    }
    let (mut typical, mut unlucky) = (Proofs::new(plan, traffic), Proofs::new(plan, traffic));
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
            sees: view.sights(questions),
        }
    };
    steps.map(row).collect()
}

/// The smallest of `weights` with which `step` surely passes within `most_minutes`, everything else as it is.
pub fn fitting_weight(
    plan: &Plan,
    traffic: &Traffic,
    step: u32,
    most_minutes: f64,
    weights: &[f64],
) -> Option<f64> {
    let place = step.checked_sub(1)? as usize;
    let own = *plan.steps.get(place)?;
    let next = plan.steps.get(place + 1).copied().unwrap_or(1.0);
    weights.iter().copied().filter(|weight| *weight > own && *weight < next).find(|weight| {
        let mut tried = plan.clone();
        tried.steps[place] = *weight;
        let rows = outlook(&tried, traffic, &Questions::default());
        let row = rows.iter().find(|row| row.step == step);
        row.and_then(|row| row.pass_minutes_95).is_some_and(|minutes| minutes <= most_minutes)
    })
}

/// The gating metrics' proofs, each with stable's rate of bad requests. Evidence is kept from step to step.
struct Proofs {
    of: Vec<(f64, f64, Proof)>,
}

impl Proofs {
    fn new(plan: &Plan, traffic: &Traffic) -> Self {
        let mut of = Vec::new();
        if let Some(errors) = &plan.errors {
            let r = errors.worse_by.ratio;
            let proof = Proof::new(r, alternatives(&errors.pass_alternatives, r));
            of.push((traffic.error_rate, errors.worse_by.plus, proof));
        }
        if let (Some(latency), Some(shape)) = (&plan.latency, &traffic.latency) {
            let r = latency.worse_by.ratio;
            for share in shape.gates(latency) {
                let proof = Proof::new(r, alternatives(&latency.pass_alternatives, r));
                of.push((share, latency.worse_by.plus, proof));
            }
        }
        Self { of }
    }
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

    fn minutes(&self, canary_requests: f64) -> f64 {
        canary_requests / self.canary_per_second() / 60.0
    }

    fn tolerance(&self) -> f64 {
        self.plan.tolerance_at(self.step, Some(self.traffic.requests_per_second))
    }

    /// A window at this step's split, the canary's rate off by so many standard deviations of `requests`.
    fn like(&self, base: f64, canary: f64, off: f64, requests: f64) -> Pair {
        let weight = self.plan.weight_at(self.step);
        let spread =
            libm::sqrt(canary * (1.0 - canary).max(0.0) * self.traffic.dispersion / requests.max(1.0));
        let canary = (canary + off * spread).clamp(0.0, 1.0);
        let stable = SCALE * (1.0 - weight) / weight;
        Pair::new((SCALE as u64, (SCALE * canary) as u64), (stable as u64, (stable * base) as u64))
    }

    /// Minutes until every proof passes this step; each keeps what the step gave it.
    fn pass(&self, proofs: &mut Proofs, off: f64) -> Option<f64> {
        let (bar, phi) = (self.plan.advance_bar(), self.traffic.dispersion);
        let mut requests = self.least_requests();
        for (base, plus, proof) in &proofs.of {
            let d = plus + self.tolerance();
            let at =
                |times: f64| proof.log_e_after(d, times, self.like(*base, *base, off, times * SCALE), phi);
            requests = requests.max(more_requests(self.like(*base, *base, 0.0, SCALE), bar, at)? as f64);
        }
        for (base, _, proof) in &mut proofs.of {
            proof.add(self.like(*base, *base, off, requests), phi * SCALE / requests.max(1.0));
        }
        Some(self.minutes(requests))
    }

    fn least_requests(&self) -> f64 {
        let least_s = self.traffic.least_s.get(self.step as usize - 1).copied().unwrap_or(0.0);
        least_s * self.canary_per_second()
    }

    fn sights(&self, questions: &Questions) -> Vec<Sight> {
        let errors = questions.ratios.iter().map(|ratio| {
            let (minutes, minutes_95) = (self.abort(*ratio, 0.0), self.abort(*ratio, -UNLUCKY));
            Sight { metric: Seen::Errors, ratio: *ratio, minutes, minutes_95 }
        });
        let judged = self.plan.latency.is_some() && self.traffic.latency.is_some();
        let slower = questions.slower.iter().filter(|_| judged).map(|ratio| {
            let (minutes, minutes_95) = (self.slow_abort(*ratio, 0.0), self.slow_abort(*ratio, -UNLUCKY));
            Sight { metric: Seen::Latency, ratio: *ratio, minutes, minutes_95 }
        });
        errors.chain(slower).collect()
    }

    fn abort(&self, ratio: f64, off: f64) -> Option<f64> {
        let errors = self.plan.errors.as_ref()?;
        let base = self.traffic.error_rate;
        let canary = (base * ratio).min(1.0);
        let bar = self.bar(errors.weight);
        let mut evidence = ErrorsEvidence::new(errors, self.plan.pods);
        evidence.start(self.begun(), errors, &self.pods());
        let phi = Phi { abort: self.traffic.dispersion, pass: self.traffic.dispersion };
        let at = |times: f64| {
            let like = self.like(base, canary, off, times * SCALE);
            evidence.log_abort_exactly_after(times, like, phi.abort)
        };
        let needed = more_requests(self.like(base, canary, 0.0, SCALE), bar, at)? as f64;
        Some(self.minutes(needed))
    }

    /// Where one metric alone aborts, beside all others that share falseAbort.
    fn bar(&self, weight: f64) -> f64 {
        let latency = self.plan.latency.as_ref().filter(|_| self.traffic.latency.is_some());
        let of_errors = self.plan.errors.as_ref().map_or(0.0, |errors| errors.weight);
        let of_restarts = self.plan.restarts.map_or(0.0, |restarts| restarts.weight);
        let total = of_errors + of_restarts + latency.map_or(0.0, |latency| latency.weight);
        self.plan.abort_bar() - libm::log(weight / total)
    }

    /// What of the evidence begins with this step.
    fn begun(&self) -> Onset {
        Onsets::of_step(self.plan, self.step)
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

    fn traffic(requests_per_second: f64, error_rate: f64) -> Traffic {
        Traffic {
            requests_per_second,
            error_rate,
            latency: None,
            dispersion: 1.0,
            canary_pods: 2,
            stable_pods: 8,
            least_s: vec![60.0; 4],
        }
    }

    fn rows(traffic: &Traffic) -> Vec<StepOutlook> {
        let plan = Plan { restarts: None, ..Plan::new(vec![0.01, 0.05, 0.25, 0.5]) };
        outlook(&plan, traffic, &Questions { ratios: vec![1.1, 3.0, 10.0], slower: vec![1.5, 2.0] })
    }

    /// The benchmark's own figures: 4 to 9 minutes in the median, up to 20 at the 95th percentile.
    #[test]
    fn a_healthy_release_takes_minutes() {
        for (per_second, base) in [(5.0, 0.0), (50.0, 0.0), (50.0, 0.005), (500.0, 0.005), (5000.0, 0.02)] {
            let rows = rows(&traffic(per_second, base));
            let sum =
                |of: fn(&StepOutlook) -> Option<f64>| rows.iter().map(|row| of(row).unwrap()).sum::<f64>();
            let (typical, unlucky) = (sum(|row| row.pass_minutes), sum(|row| row.pass_minutes_95));
            assert!((3.9..12.0).contains(&typical), "{per_second} {base}: {typical}");
            assert!(typical <= unlucky && unlucky < 45.0, "{per_second} {base}: {unlucky}");
        }
    }

    #[test]
    fn large_changes_are_seen_first_and_small_ones_never() {
        let rows = rows(&traffic(200.0, 0.01));
        let sees = &rows[1].sees;
        assert_eq!(sees.len(), 3, "without a histogram nothing is said of latencies");
        assert_eq!(sees[0].minutes, None, "1.1 times is within the margin");
        let (thrice, ten) = (sees[1].minutes.unwrap(), sees[2].minutes.unwrap());
        assert!(
            ten < thrice && thrice < 60.0 && sees[1].minutes_95.is_some_and(|late| late > thrice),
            "{sees:?}"
        );
        assert!(rows[3].sees[1].minutes.unwrap() < thrice, "more traffic, sooner");
    }

    #[test]
    fn latencies_gate_too_and_a_slow_canary_is_seen() {
        let shape = LatencyShape { median_s: 0.040, p99_s: 0.257 };
        let without = rows(&traffic(200.0, 0.001));
        let with = rows(&Traffic { latency: Some(shape), ..traffic(200.0, 0.001) });
        assert!(with[0].pass_minutes > without[0].pass_minutes, "slow requests are many more than errors");
        let [half_more, twice] = [&with[2].sees[3], &with[2].sees[4]].map(|sight| sight.minutes.unwrap());
        assert!(twice < half_more && half_more < 5.0, "{twice} {half_more}");
    }

    #[test]
    fn a_step_that_takes_too_long_fits_with_more_weight() {
        let plan = Plan { latency: None, ..Plan::new(vec![0.01, 0.5]) };
        let slow = Traffic { least_s: Vec::new(), ..traffic(20.0, 0.01) };
        let alone = outlook(&plan, &slow, &Questions::default())[0].pass_minutes_95.unwrap();
        let weights = [0.02, 0.05, 0.1, 0.25, 0.5];
        let fits = fitting_weight(&plan, &slow, 1, alone / 2.0, &weights).unwrap();
        assert!(weights[..4].contains(&fits), "{fits}");
        assert_eq!(fitting_weight(&plan, &slow, 1, 1e-6, &weights), None);
    }
}
