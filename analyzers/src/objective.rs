//! An objective on a quantile: "p99 at most 500 ms" is "at most 1 % of requests slower than the nearest boundary".
//!
//! Stable may break its objective too; a canary is not aborted for what stable does as well. So the abort's null is "at
//! most the objective's share, or at most what the margin allows beside stable", and its evidence is the smaller of the
//! two e-processes. To pass it is enough to be proven on either side; the two proofs share falsePass. Without a stable
//! beside the canary the absolute side judges alone.

use crate::curve::Curve;
use crate::dispersion::Dispersion;
use crate::errors::{Phi, strata};
use crate::latency::places::nearest;
use crate::latency::{slow, slow_of, slow_pair};
use crate::mixture::{RestartMix, log_add};
use crate::plan::{ABORT_GRID, LatencyPlan, Objective, Plan, alternatives, grid};
use crate::proof::Proof;
use crate::rate_ratio::{Alternative, Pair, increment};
use crate::slo::{Ahead, Ceiling};
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveEvidence {
    pub(crate) objective: Objective,
    /// The boundary that stands for the limit, once histograms were seen.
    pub(crate) le: Option<f64>,
    pub(crate) ceiling: Ceiling,
    r: f64,
    above: Vec<Alternative>,
    mix: RestartMix,
    pub(crate) proof: Proof,
    pub(crate) totals: Pair,
    /// Of the ratio of slow shares.
    #[serde(default = "Curve::near")]
    pub(crate) curve: Curve,
    /// Whether stable ran beside the canary in the last window.
    beside: bool,
    #[serde(default)]
    running: Dispersion,
}

impl ObjectiveEvidence {
    pub fn new(objective: &Objective, plan: &LatencyPlan) -> Self {
        let r = plan.worse_by.ratio;
        let above: Vec<Alternative> = alternatives(&grid(&ABORT_GRID, r), r).collect();
        Self {
            objective: *objective,
            le: None,
            ceiling: Ceiling::new(1.0 - objective.quantile),
            r,
            mix: RestartMix::new(above.len()),
            above,
            proof: Proof::new(r, alternatives(&plan.pass_alternatives, r)),
            totals: Pair::default(),
            curve: Curve::near(),
            beside: true,
            running: Dispersion::default(),
        }
    }

    pub fn start(&mut self, share: f64) {
        self.mix.start(share);
        self.ceiling.start(share);
    }

    pub(crate) fn place(&mut self, boundaries: &[f64]) {
        self.le = nearest(boundaries.iter().copied(), self.objective.limit_s);
    }

    /// Whether every pod could be counted.
    pub fn add(&mut self, plan: &Plan, latency: &LatencyPlan, window: &Window, stable_beside: bool) -> bool {
        self.beside = stable_beside;
        let Some(le) = self.le else { return true };
        let phi = self.phi(plan, latency, le);
        let canary = slow(window, None, Arm::Canary, le, plan.warmup_ms);
        if let Some(count) = canary {
            // Beside stable the comparison, with its greater caution, has to agree before anything is aborted; alone, the
            // caution has to be here.
            let abort = if stable_beside { phi.pass } else { phi.abort };
            self.ceiling.add(count, Phi { abort, pass: phi.pass });
        }
        let mut whole = true;
        for stratum in strata(window) {
            let pair = slow_pair(window, stratum, le, plan.warmup_ms);
            whole &= pair.is_some();
            if let Some(pair) = pair {
                self.add_pair(pair, latency.worse_by.plus, phi);
            }
            let pods = window.of(Arm::Stable).filter(move |pod| pod.is_of(stratum));
            self.running.add(pods.filter_map(move |pod| slow_of(pod, le, plan.warmup_ms)));
        }
        canary.is_some() && (!stable_beside || whole)
    }

    fn add_pair(&mut self, pair: Pair, plus: f64, phi: Phi) {
        self.totals.add(pair);
        if !pair.has_both() {
            return;
        }
        for (at, alternative) in self.above.iter().enumerate() {
            let step = increment(self.r, alternative, pair);
            self.mix.multiply(at, (step.s1 + plus * step.s2) / phi.abort);
        }
        self.proof.add(pair, phi.pass);
        self.curve.add(pair, phi.abort);
    }

    pub(crate) fn phi(&self, plan: &Plan, latency: &LatencyPlan, le: f64) -> Phi {
        let frozen = latency.history_at(le).and_then(|past| past.dispersion);
        Phi::of(latency.pods.unwrap_or(plan.pods), frozen, &self.running)
    }

    pub fn log_abort(&self) -> f64 {
        self.log_abort_after(0.0, Pair::default(), Phi::NONE)
    }

    /// Evidence for "good enough for d more than the objective, or than the margin beside stable".
    pub fn log_advance(&self, plus: f64, d: f64) -> f64 {
        self.log_advance_after(plus, d, (0.0, Pair::default(), Phi::NONE))
    }

    /// The evidence if `times` more windows like `like` came.
    pub(crate) fn log_abort_after(&self, times: f64, like: Pair, phi: Phi) -> f64 {
        let absolute = self.ceiling.log_abort_after(Ahead::of(like.canary, times, phi.pass));
        if !self.beside {
            return absolute;
        }
        let more = times > 0.0 && like.has_both();
        let factor = |at: usize| {
            if more { increment(self.r, &self.above[at], like).s1 * times / phi.abort } else { 0.0 }
        };
        let weights = self.above.iter().map(|alternative| alternative.log_weight);
        absolute.min(self.mix.log_e_after(weights, factor))
    }

    pub(crate) fn log_advance_after(&self, plus: f64, d: f64, (times, like, phi): (f64, Pair, Phi)) -> f64 {
        let absolute = self.ceiling.log_advance_after(d, Ahead::of(like.canary, times, phi.pass));
        if !self.beside {
            return absolute;
        }
        let relative = self.proof.log_e_after(plus + d, times, like, phi.pass);
        log_add(absolute, relative) - std::f64::consts::LN_2
    }
}
