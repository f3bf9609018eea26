//! Which boundaries of the histograms are compared, and at which the canary must be proven.

use super::{readable, slow};
use crate::plan::LatencyPlan;
use crate::rate_ratio::Count;
use crate::window::{Arm, PodWindow, Window};

/// More boundaries than these are thinned out evenly: the state is bounded.
const MOST_BOUNDARIES: usize = 40;
/// Gates stand where at most these shares of stable's requests are slower.
pub(crate) const GATE_SHARES: [f64; 2] = [0.05, 0.01];

/// The finite boundaries that every readable pod has, ascending, thinned out if they are too many.
pub(super) fn common(window: &Window, warmup_ms: u64) -> Vec<f64> {
    let mut pods = window.pods.iter().filter(|pod| readable(pod, warmup_ms));
    let Some(first) = pods.next() else { return Vec::new() };
    let has = |pod: &PodWindow, le: f64| pod.buckets.iter().any(|bucket| bucket.le == le);
    let finite = first.buckets.iter().map(|bucket| bucket.le).filter(|le| le.is_finite());
    let common: Vec<f64> = finite.filter(|le| pods.clone().all(|pod| has(pod, *le))).collect();
    let every = common.len().div_ceil(MOST_BOUNDARIES).max(1);
    common.into_iter().step_by(every).collect()
}

/// The smallest boundary not below `limit`, give or take rounding.
pub(crate) fn at_least(ascending: &[f64], limit: f64) -> Option<f64> {
    ascending.iter().copied().find(|le| *le >= limit * (1.0 - 1e-9))
}

/// The boundary nearest to a time, by ratio; the lower one of two equally near.
pub(crate) fn nearest(boundaries: impl Iterator<Item = f64>, seconds: f64) -> Option<f64> {
    let away = |le: f64| libm::fabs(libm::log(le / seconds));
    boundaries.filter(|le| le.is_finite() && *le > 0.0).min_by(|a, b| away(*a).total_cmp(&away(*b)))
}

/// Where the canary must be proven: where the plan says, or where few of stable's requests are slower.
pub(super) fn gates(latency: &LatencyPlan, common: &[f64], window: &Window, warmup_ms: u64) -> Vec<f64> {
    if latency.compare.is_none() {
        return Vec::new();
    }
    let mut chosen: Vec<f64> = if latency.gating.is_empty() {
        let share = |le: &f64| stable_share(latency, *le, window, warmup_ms).unwrap_or(1.0);
        let first = |most: &f64| common.iter().copied().find(|le| share(le) <= *most);
        GATE_SHARES.iter().filter_map(first).collect()
    } else {
        latency.gating.iter().filter_map(|le| nearest(common.iter().copied(), *le)).collect()
    };
    if chosen.is_empty() {
        chosen.extend(common.last());
    }
    chosen.sort_by(f64::total_cmp);
    chosen.dedup();
    chosen
}

fn stable_share(latency: &LatencyPlan, le: f64, window: &Window, warmup_ms: u64) -> Option<f64> {
    match latency.history_at(le) {
        Some(past) => Count::new(past.requests, past.slow).rate(),
        None => slow(window, None, Arm::Stable, le, warmup_ms)?.rate(),
    }
}
