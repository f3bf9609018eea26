//! The slo analyzer: the canary against an absolute limit, with no stable beside it.
//!
//! ```text
//! logE = x ln rho - n p0 (rho - 1) - n d (rho - 1)
//! ```
//! rho > 1 tests "at most p0 + d" (abort), rho < 1 "at least p0 + d" (pass); exact for binomial and Poisson counts by
//! the same argument as formula 1. Where the versions do not run side by side time is a confounder: the limit is frozen
//! beforehand, and after promotion a breach only alerts.

use crate::dispersion::Dispersion;
use crate::errors::Phi;
use crate::mixture::{LOG_NOTHING, RestartMix, log_sum_exp};
use crate::plan::{ABORT_GRID, PASS_GRID, Plan, SloLimit, SloOf};
use crate::rate_ratio::{Alternative, Count};
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

/// Evidence about one rate against one limit, in both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceiling {
    limit: f64,
    above: Vec<Alternative>,
    mix: RestartMix,
    below: Vec<Alternative>,
    /// Divided by the pass direction's dispersion, since that may change between windows.
    events: f64,
    exposure: f64,
    pub(crate) totals: Count,
    pub(crate) last: Count,
}

/// What may still come: exposure and events, divided by the dispersion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    n: f64,
    x: f64,
}

impl Ahead {
    const NOTHING: Ahead = Ahead { n: 0.0, x: 0.0 };

    pub(crate) fn of(like: Count, times: f64, phi: f64) -> Self {
        Self { n: like.n as f64 * times / phi, x: like.x as f64 * times / phi }
    }
}

impl Ceiling {
    pub fn new(limit: f64) -> Self {
        let equal = |grid: &[f64]| -> Vec<Alternative> {
            grid.iter().map(|rho| Alternative::new(*rho, 1.0, 1.0 / grid.len() as f64)).collect()
        };
        Self {
            limit,
            above: equal(&ABORT_GRID),
            mix: RestartMix::new(ABORT_GRID.len()),
            below: equal(&PASS_GRID),
            events: 0.0,
            exposure: 0.0,
            totals: Count::default(),
            last: Count::default(),
        }
    }

    pub fn start(&mut self, share: f64) {
        self.mix.start(share);
    }

    pub fn add(&mut self, count: Count, phi: Phi) {
        let (n, x) = (count.n as f64, count.x as f64);
        for (at, alternative) in self.above.iter().enumerate() {
            self.mix.multiply(at, increment(alternative, x / phi.abort, n / phi.abort * self.limit));
        }
        self.events += x / phi.pass;
        self.exposure += n / phi.pass;
        self.totals.add(count);
        self.last = count;
    }

    pub fn log_abort(&self) -> f64 {
        self.log_abort_after(Ahead::NOTHING)
    }

    /// Evidence for "below limit + d".
    pub fn log_advance(&self, d: f64) -> f64 {
        self.log_advance_after(d, Ahead::NOTHING)
    }

    /// The evidence if more came.
    pub(crate) fn log_abort_after(&self, ahead: Ahead) -> f64 {
        let weights = self.above.iter().map(|alternative| alternative.log_weight);
        let factor = |at: usize| increment(&self.above[at], ahead.x, ahead.n * self.limit);
        self.mix.log_e_after(weights, factor)
    }

    pub(crate) fn log_advance_after(&self, d: f64, ahead: Ahead) -> f64 {
        let (events, exposure) = (self.events + ahead.x, self.exposure + ahead.n);
        log_sum_exp(self.below.iter().map(|alternative| {
            if alternative.rho == 0.0 && (self.totals.x > 0 || ahead.x > 0.0) {
                return LOG_NOTHING;
            }
            let spared = exposure * (self.limit + d) * (1.0 - alternative.rho);
            alternative.log_weight + events * alternative.log_ratio + spared
        }))
    }
}

/// logE of one rho for `events` where the limit expects `expected`; see the module's head.
pub fn increment(alternative: &Alternative, events: f64, expected: f64) -> f64 {
    events * alternative.log_ratio - expected * (alternative.rho - 1.0)
}

/// One limit of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SloEvidence {
    pub(crate) ceiling: Ceiling,
    /// The boundary that stands for `SlowerThan`, once a histogram was seen.
    pub(crate) le: Option<f64>,
    /// Of either version's pods about their own version, where history does not tell how they scatter.
    #[serde(default)]
    running: Dispersion,
    /// The canary had requests in the last window, and nothing that tells how slow they were.
    #[serde(default)]
    pub(crate) blind: bool,
}

impl SloEvidence {
    pub fn new(limit: &SloLimit) -> Self {
        Self { ceiling: Ceiling::new(limit.limit), le: None, running: Dispersion::default(), blind: false }
    }

    pub fn add(&mut self, limit: &SloLimit, plan: &Plan, window: &Window) {
        let phi = self.phi(limit, plan);
        let count = match limit.of {
            SloOf::Errors => canary_errors(window),
            SloOf::SlowerThan { seconds } => self.canary_slow(window, seconds, plan.warmup_ms),
        };
        self.ceiling.add(count, phi);
        for arm in [Arm::Stable, Arm::Canary] {
            let (of, le, warmup_ms) = (limit.of, self.le, plan.warmup_ms);
            self.running.add(window.of(arm).filter_map(move |pod| match of {
                SloOf::Errors => Some(Count::new(pod.requests, pod.errors)),
                SloOf::SlowerThan { .. } => crate::latency::slow_of(pod, le?, warmup_ms),
            }));
        }
    }

    /// Of the windows before the next.
    pub(crate) fn phi(&self, limit: &SloLimit, plan: &Plan) -> Phi {
        Phi::of(plan.pods, limit.dispersion, &self.running)
    }

    fn canary_slow(&mut self, window: &Window, seconds: f64, warmup_ms: u64) -> Count {
        let first = window.of(Arm::Canary).find(|pod| !pod.buckets.is_empty());
        if let (None, Some(pod)) = (self.le, first) {
            self.le = crate::latency::places::nearest(pod.buckets.iter().map(|bucket| bucket.le), seconds);
        }
        let slow = self.le.and_then(|le| crate::latency::slow(window, None, Arm::Canary, le, warmup_ms));
        self.blind = window.requests(Arm::Canary) > 0 && (slow.is_none() || first.is_none());
        slow.unwrap_or_default()
    }
}

fn canary_errors(window: &Window) -> Count {
    let mut count = Count::default();
    window.of(Arm::Canary).for_each(|pod| count.add(Count::new(pod.requests, pod.errors)));
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_above_the_limit_aborts_and_one_below_passes() {
        let (mut bad, mut good) = (Ceiling::new(0.01), Ceiling::new(0.01));
        bad.start(1.0);
        good.start(1.0);
        for _ in 0..20 {
            bad.add(Count::new(100, 4), Phi::NONE);
            good.add(Count::new(100, 0), Phi::NONE);
        }
        assert!(bad.log_abort() > 100f64.ln() && good.log_abort() < 0.0);
        assert!(good.log_advance(0.0) > 20f64.ln() && bad.log_advance(0.0) < 0.0);
    }
}
