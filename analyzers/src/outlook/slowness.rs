//! The latency metric's part of the outlook: shares of slow requests at the boundaries that client libraries use.

use super::{SCALE, View};
use crate::forecast::more_requests;
use crate::latency::MOST_ALLOWED;
use crate::latency::places::{GATE_SHARES, at_least, nearest};
use crate::mixture::log_sum_exp;
use crate::plan::{Compare, LatencyPlan};
use crate::slow_share::Bet;
use serde::{Deserialize, Serialize};

/// Prometheus' client libraries, in seconds.
const BOUNDARIES: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The normal distribution's 99th percentile.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// Latencies as a log-normal distribution with this median and 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyShape {
    pub median_s: f64,
    pub p99_s: f64,
}

impl LatencyShape {
    /// The share of requests slower than `le`, if all take `times` as long.
    pub fn slower_than(&self, le: f64, times: f64) -> f64 {
        let deviation = (libm::log(self.p99_s / self.median_s) / NORMAL_P99).max(1e-6);
        let z = libm::log(le / times / self.median_s) / deviation;
        0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
    }

    /// Stable's shares of slow requests where the canary has to be proven.
    pub(super) fn gates(&self, latency: &LatencyPlan) -> Vec<f64> {
        if latency.compare.is_none() {
            return Vec::new();
        }
        let share = |le: &f64| self.slower_than(*le, 1.0);
        let first = |most: &f64| BOUNDARIES.iter().copied().find(|le| share(le) <= *most);
        let mut at: Vec<f64> = if latency.gating.is_empty() {
            GATE_SHARES.iter().filter_map(first).collect()
        } else {
            latency.gating.iter().filter_map(|le| nearest(BOUNDARIES.iter().copied(), *le)).collect()
        };
        at.sort_by(f64::total_cmp);
        at.dedup();
        at.iter().map(share).collect()
    }
}

impl View<'_> {
    /// Minutes until a canary that takes `times` as long is aborted.
    pub(super) fn slow_abort(&self, times: f64, off: f64) -> Option<f64> {
        let (latency, shape) = (self.plan.latency.as_ref()?, self.traffic.latency?);
        let compare = latency.compare.as_ref()?;
        let pairs =
            BOUNDARIES.iter().filter_map(|le| Some((*le, at_least(&BOUNDARIES, le * compare.slower_by)?)));
        let places: Vec<(f64, f64)> = pairs
            .map(|(stable, canary)| (shape.slower_than(stable, 1.0), shape.slower_than(canary, times)))
            .filter(|(stable, _)| latency.worse_by.ratio * stable + latency.worse_by.plus < MOST_ALLOWED)
            .collect();
        let objectives = latency.objectives.len() as f64;
        let bar = self.bar(latency.weight / (1.0 + objectives)) - libm::log(self.begun().share());
        let at = |windows: f64| self.log_slow(&places, latency, compare, off, windows);
        let needed = more_requests(self.like(0.0, 0.0, 0.0, SCALE), bar, at)? as f64;
        Some(self.minutes(needed))
    }

    /// The average over boundaries and odds ratios after so many windows of [`SCALE`] canary requests.
    fn log_slow(
        &self,
        places: &[(f64, f64)],
        latency: &LatencyPlan,
        compare: &Compare,
        off: f64,
        windows: f64,
    ) -> f64 {
        let phi = self.traffic.dispersion;
        let terms: Vec<f64> = places
            .iter()
            .flat_map(|(stable, canary)| {
                let like = self.like(*stable, *canary, off, windows * SCALE);
                let (n_c, n_s) = (like.canary.n as f64, like.stable.n as f64);
                let bet = move |odds: &f64| Bet::new(latency.worse_by, *stable, *odds, n_c, n_s);
                compare
                    .odds
                    .iter()
                    .map(move |odds| bet(odds).map_or(0.0, |bet| bet.log_e(like) * windows / phi))
            })
            .collect();
        log_sum_exp(terms.iter().copied()) - libm::log(terms.len().max(1) as f64)
    }
}
