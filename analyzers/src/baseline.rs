//! What stable was like before the rollout, measured from history windows (step 0) and frozen into the plan.
//!
//! Promises: uses nothing that the canary could have touched. Its size is bounded by the pods and boundaries of history,
//! not by its length. Windows that come late or again change nothing, as in the judge.

use crate::collateral::MARGIN;
use crate::dispersion::{Dispersion, Measured, WithinPods};
use crate::latency::places::nearest;
use crate::plan::{BoundaryHistory, Margin, Plan, PodSpread, Pods, SloLimit, SloOf, SloSource};
use crate::rate_ratio::Count;
use crate::window::{Arm, PodWindow, Window, WindowError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Dispersion is measured over windows of these lengths, and the largest counts: bursts have a length of their own.
const SCALES_MS: [u64; 4] = [15_000, 60_000, 300_000, 900_000];
/// A shorter history says nothing about bursts and pods.
const LEAST_HISTORY_MS: u64 = 1_800_000;
/// History beyond so many pods or boundaries is left out.
const MOST_PODS: usize = 10_000;
const MOST_BOUNDARIES: usize = 64;
/// The frozen limit is the upper end of stable's own rate at this error rate.
const LIMIT_DOUBT: f64 = 0.05;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    last_end_ms: Option<i64>,
    ms: u64,
    requests: u64,
    boundaries: Vec<f64>,
    /// Over the whole history.
    pods: BTreeMap<String, PodPast>,
    scales: [Scale; 4],
}

/// What one pod counted: errors, and slow requests at each boundary.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct PodPast {
    errors: Count,
    slow: Vec<Count>,
}

/// Dispersion over windows of one length.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    start_ms: Option<i64>,
    open: BTreeMap<String, PodPast>,
    errors: Dispersion,
    within: WithinPods,
    slow: Vec<Dispersion>,
}

impl Baseline {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one window of history; only stable's pods are looked at.
    pub fn add(&mut self, window: &Window) -> Result<(), WindowError> {
        window.check()?;
        if let Some(last_end_ms) = self.last_end_ms {
            if window.end_ms <= last_end_ms {
                return Ok(());
            }
            if window.start_ms < last_end_ms {
                return Err(WindowError::Overlap { start_ms: window.start_ms, last_end_ms });
            }
        }
        self.last_end_ms = Some(window.end_ms);
        self.ms += window.length_ms();
        self.requests = self.requests.saturating_add(window.requests(Arm::Stable));
        self.adopt_boundaries(window);
        let boundaries = &self.boundaries;
        for (scale, length_ms) in self.scales.iter_mut().zip(SCALES_MS) {
            scale.add(window, boundaries, length_ms);
        }
        window.of(Arm::Stable).for_each(|pod| count(&mut self.pods, pod, boundaries));
        Ok(())
    }

    /// Requests a second; none without any.
    pub fn requests_per_second(&self) -> Option<f64> {
        (self.requests > 0 && self.ms > 0).then(|| self.requests as f64 * 1000.0 / self.ms as f64)
    }

    pub fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Errors among requests.
    pub fn errors(&self) -> Count {
        total(self.pods.values().map(|pod| pod.errors))
    }

    /// What a limit frozen from a history too short to tell of bursts has to allow for.
    fn least_phi(&self) -> f64 {
        if self.tells_dispersion() { 1.0 } else { Dispersion::default().phi_without_history() }
    }

    /// Whether it is long enough to say how counts scatter; a shorter one tells traffic and rates alone.
    pub fn tells_dispersion(&self) -> bool {
        self.ms >= LEAST_HISTORY_MS
    }

    /// phi of the errors: the largest over all lengths of windows; see [`Measured::largest`].
    pub fn dispersion(&self) -> f64 {
        Measured::largest(self.scales.iter().map(Scale::phi_errors))
    }

    /// phi of the errors net of the pods' natures, for use beside a random pod effect.
    pub fn dispersion_within_pods(&self) -> f64 {
        Measured::largest(self.scales.iter().map(Scale::phi_within))
    }

    /// How far pods differ by nature, net of dispersion; see [`PodSpread`].
    pub fn pod_spread(&self) -> PodSpread {
        let counts = || self.pods.values().map(|pod| pod.errors).filter(|pod| pod.n > 0);
        let all = total(counts());
        let (mut squares, mut noise, mut lever) = (0.0, 0.0, 0.0);
        for pod in counts() {
            let share = pod.n as f64 / all.n as f64;
            let expected = all.x as f64 * share;
            squares += (pod.x as f64 - expected) * (pod.x as f64 - expected);
            noise += expected * (1.0 - share);
            lever += expected * expected * (1.0 - share);
        }
        let within = self.dispersion_within_pods();
        let variance = if lever > 0.0 { ((squares - within * noise) / lever).max(0.0) } else { 0.0 };
        PodSpread { variance, pods: counts().count() as u32 }
    }

    /// Stable's histogram, boundary by boundary.
    pub fn latency(&self) -> Vec<BoundaryHistory> {
        let at = |(at, le): (usize, &f64)| {
            let slow = total(self.pods.values().filter_map(|pod| pod.slow.get(at).copied()));
            let phi = || Measured::largest(self.scales.iter().map(|scale| scale.phi_slow(at)));
            let dispersion = self.tells_dispersion().then(phi);
            BoundaryHistory { le: *le, requests: slow.n, slow: slow.x, dispersion }
        };
        self.boundaries.iter().enumerate().map(at).collect()
    }

    fn adopt_boundaries(&mut self, window: &Window) {
        if !self.boundaries.is_empty() {
            return;
        }
        if let Some(pod) = window.of(Arm::Stable).find(|pod| !pod.buckets.is_empty()) {
            let finite = pod.buckets.iter().map(|bucket| bucket.le).filter(|le| le.is_finite());
            self.boundaries = finite.take(MOST_BOUNDARIES).collect();
        }
    }
}

impl Scale {
    fn add(&mut self, window: &Window, boundaries: &[f64], length_ms: u64) {
        let full = |start: i64| window.end_ms.saturating_sub(start).unsigned_abs() > length_ms;
        if self.start_ms.is_some_and(full) {
            self.close(boundaries.len());
        }
        self.start_ms.get_or_insert(window.start_ms);
        window.of(Arm::Stable).for_each(|pod| count(&mut self.open, pod, boundaries));
    }

    fn close(&mut self, boundaries: usize) {
        (self.errors, self.slow) = self.with_open(boundaries);
        self.within = self.within_with_open();
        self.open.clear();
        self.start_ms = None;
    }

    /// The dispersions with the open block counted.
    fn with_open(&self, boundaries: usize) -> (Dispersion, Vec<Dispersion>) {
        let (mut errors, mut slow) = (self.errors, self.slow.clone());
        slow.resize(slow.len().max(boundaries), Dispersion::default());
        errors.add(self.open.values().map(|pod| pod.errors));
        for (at, dispersion) in slow.iter_mut().enumerate() {
            dispersion.add(self.open.values().filter_map(|pod| pod.slow.get(at).copied()));
        }
        (errors, slow)
    }

    fn within_with_open(&self) -> WithinPods {
        let mut within = self.within.clone();
        within.add(self.open.iter().map(|(name, pod)| (name.as_str(), pod.errors)));
        within
    }

    fn phi_within(&self) -> Measured {
        self.within_with_open().measured()
    }

    fn phi_errors(&self) -> Measured {
        self.with_open(0).0.measured()
    }

    fn phi_slow(&self, at: usize) -> Measured {
        self.with_open(at + 1).1.get(at).copied().unwrap_or_default().measured()
    }
}

fn count(into: &mut BTreeMap<String, PodPast>, pod: &PodWindow, boundaries: &[f64]) {
    if !into.contains_key(&pod.pod) && into.len() >= MOST_PODS {
        return;
    }
    let past = into.entry(pod.pod.clone()).or_default();
    past.errors.add(Count::new(pod.requests, pod.errors));
    past.slow.resize(boundaries.len(), Count::default());
    let all = pod.histogram_total();
    for (slow, le) in past.slow.iter_mut().zip(boundaries) {
        if let Some(bucket) = pod.buckets.iter().find(|bucket| bucket.le == *le) {
            slow.add(Count::new(all, all - bucket.count));
        }
    }
}

fn total(counts: impl Iterator<Item = Count>) -> Count {
    counts.fold(Count::default(), |mut sum, count| {
        sum.add(count);
        sum
    })
}

/// The largest rate that `count` leaves possible at error rate `doubt`, by Chernoff's bound; `phi` thins the sample.
pub fn upper_rate(count: Count, phi: f64, doubt: f64) -> f64 {
    let Some(seen) = count.rate() else { return 1.0 };
    let (n, budget) = (count.n as f64 / phi, -libm::log(doubt));
    let part = |p: f64, q: f64| if p > 0.0 { p * libm::log(p / q) } else { 0.0 };
    let distance = |q: f64| n * (part(seen, q) + part(1.0 - seen, 1.0 - q));
    let (mut low, mut high) = (seen, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if distance(middle) > budget { high = middle } else { low = middle }
    }
    high
}

impl Plan {
    /// The plan with all that history tells fixed for the whole rollout. Without history it stays as it is; after a short
    /// one the dispersion is estimated while the rollout runs, and the report says "no history".
    pub fn frozen(mut self, history: &Baseline) -> Self {
        if history.is_empty() {
            return self;
        }
        self.history = history.tells_dispersion();
        self.requests_per_second = self.requests_per_second.or(history.requests_per_second());
        if let Some(errors) = &mut self.errors
            && history.tells_dispersion()
        {
            let natures =
                errors.pods.unwrap_or(self.pods) == Pods::RandomEffect && errors.worse_by.plus == 0.0;
            let phi = if natures { history.dispersion_within_pods() } else { history.dispersion() };
            errors.dispersion = errors.dispersion.or(Some(phi));
            errors.pod_spread = errors.pod_spread.or(Some(history.pod_spread()));
        }
        if let Some(latency) = &mut self.latency
            && latency.history.is_empty()
        {
            latency.history = history.latency();
        }
        self.freeze_limits(history);
        if history.tells_dispersion() {
            self.freeze_scatter(history);
        }
        let upper = upper_rate(history.errors(), history.dispersion(), LIMIT_DOUBT);
        self.collateral = self.collateral.or(Some((upper * MARGIN).min(0.999)));
        self
    }

    /// How far what the limits are about scatters, whether or not the errors are compared.
    fn freeze_scatter(&mut self, history: &Baseline) {
        for limit in &mut self.slo {
            let phi = match limit.of {
                SloOf::Errors => Some(history.dispersion()),
                SloOf::SlowerThan { seconds } => {
                    past_near(&history.latency(), seconds).and_then(|past| past.dispersion)
                }
            };
            limit.dispersion = limit.dispersion.or(phi);
        }
    }

    /// Where no stable will run beside the canary, its own rate is the limit.
    fn freeze_limits(&mut self, history: &Baseline) {
        let alone = self.steps.iter().chain([&self.bake_weight]).any(|weight| *weight >= 1.0);
        if !alone {
            return;
        }
        if let Some(errors) = &self.errors
            && !self.slo.iter().any(|limit| limit.of == SloOf::Errors)
        {
            let phi = history.dispersion().max(history.least_phi());
            let upper = upper_rate(history.errors(), phi, LIMIT_DOUBT);
            self.slo.push(frozen_limit(SloOf::Errors, upper, errors.worse_by, errors.weight));
        }
        let slower = |limit: &SloLimit| matches!(limit.of, SloOf::SlowerThan { .. });
        if let Some(latency) = &self.latency
            && !self.slo.iter().any(slower)
            && let Some(past) = tail(&latency.history, latency.gating.first().copied())
        {
            let phi = past.dispersion.unwrap_or(history.least_phi());
            let upper = upper_rate(Count::new(past.requests, past.slow), phi, LIMIT_DOUBT);
            let of = SloOf::SlowerThan { seconds: past.le };
            self.slo.push(frozen_limit(of, upper, latency.worse_by, latency.weight));
        }
    }
}

fn frozen_limit(of: SloOf, upper: f64, margin: Margin, weight: f64) -> SloLimit {
    let limit = (upper * margin.ratio + margin.plus).min(0.999);
    SloLimit { of, limit, source: SloSource::Frozen, dispersion: None, weight }
}

fn past_near(history: &[BoundaryHistory], seconds: f64) -> Option<BoundaryHistory> {
    let le = nearest(history.iter().map(|past| past.le), seconds)?;
    history.iter().find(|past| past.le == le).copied()
}

/// The boundary that the policy gates on, or the first that at most 5 % of requests exceed.
fn tail(history: &[BoundaryHistory], gating: Option<f64>) -> Option<BoundaryHistory> {
    match gating {
        Some(le) => past_near(history, le),
        None => history.iter().find(|past| past.slow as f64 <= 0.05 * past.requests as f64).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(pods: &[(u64, u64)]) -> Baseline {
        let mut baseline = Baseline::new();
        for at in 0..240i64 {
            let pods = pods.iter().enumerate().map(|(pod, (n, x))| {
                // Every fourth window carries all errors of four: bursts.
                let errors = if at % 4 == pod as i64 % 4 { 4 * x } else { 0 };
                PodWindow::new(Arm::Stable, format!("s{pod}"), *n, errors)
            });
            let (start_ms, end_ms) = (at * 15_000, (at + 1) * 15_000);
            baseline.add(&Window { step: 0, start_ms, end_ms, pods: pods.collect() }).unwrap();
        }
        baseline
    }

    #[test]
    fn history_fixes_traffic_and_dispersion() {
        let baseline = history(&[(300, 3), (300, 3), (300, 3), (300, 3)]);
        assert_eq!(baseline.requests_per_second(), Some(80.0));
        assert_eq!(baseline.errors(), Count::new(288_000, 2880));
        assert!(
            baseline.dispersion() > 5.0,
            "bursts show in the shortest windows: {}",
            baseline.dispersion()
        );
        let plan = Plan::new(vec![0.05]).frozen(&baseline);
        assert_eq!(plan.requests_per_second, Some(80.0));
        assert!(plan.history && plan.slo.is_empty());
        assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn a_flip_gets_stables_own_rate_as_its_limit() {
        let plan = Plan::new(vec![1.0]).frozen(&history(&[(300, 3), (300, 3)]));
        let limit = plan.slo.first().unwrap();
        assert_eq!((limit.of, limit.source), (SloOf::Errors, SloSource::Frozen));
        assert!(limit.limit > 0.0125 && limit.limit < 0.02, "{limit:?}");
    }

    #[test]
    fn no_history_freezes_nothing() {
        assert_eq!(Plan::new(vec![0.05]).frozen(&Baseline::new()), Plan::new(vec![0.05]));
    }

    /// A few reads just before the rollout tell traffic; to call them history would promise what nobody measured.
    #[test]
    fn a_short_history_tells_traffic_and_no_dispersion() {
        let mut short = Baseline::new();
        for at in 0..20i64 {
            let pods = (0..4).map(|pod| PodWindow::new(Arm::Stable, format!("s{pod}"), 300, 3));
            let (start_ms, end_ms) = (at * 15_000, (at + 1) * 15_000);
            short.add(&Window { step: 0, start_ms, end_ms, pods: pods.collect() }).unwrap();
        }
        let plan = Plan::new(vec![0.05]).frozen(&short);
        assert_eq!((plan.requests_per_second, plan.history), (Some(80.0), false));
        assert_eq!(plan.errors.and_then(|errors| errors.dispersion), None);
    }

    #[test]
    fn the_upper_rate_covers_what_was_seen() {
        assert!((upper_rate(Count::new(1000, 0), 1.0, 0.05) - 0.0029912).abs() < 1e-5);
        assert!(upper_rate(Count::new(100_000, 1000), 1.0, 0.05) < 0.0108);
        assert_eq!(upper_rate(Count::default(), 1.0, 0.05), 1.0);
    }
}
