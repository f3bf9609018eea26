//! The latency analyzer: shares of slow requests at the boundaries of a histogram.
//!
//! - *Compare*: at every boundary, and for several odds ratios, the e-variable of [`crate::slow_share`]; their average is
//!   an e-process for "the canary is nowhere slower than the margin allows" (abort). With a tolerance the canary is read
//!   one boundary up.
//! - *Gates*: at a few boundaries formula 1's pass direction proves the share of slow requests good enough.
//! - *Objectives* ("p99 at most 500 ms") have a file of their own, [`crate::objective`].
//!
//! Never interpolates within a bucket. A boundary that some pod of a window lacks is left out for that window.

pub(crate) mod blind;
pub(crate) mod places;

use crate::curve::Curve;
use crate::dispersion::Dispersion;
use crate::errors::{Phi, strata};
use crate::mixture::{RestartMix, log_sum_exp};
use crate::objective::ObjectiveEvidence;
use crate::pairing::{Waiting, stable_is_read_first};
use crate::plan::{LatencyPlan, Plan, alternatives};
use crate::proof::Proof;
use crate::rate_ratio::{Count, Pair};
use crate::slow_share::Bet;
use crate::window::{Arm, PodWindow, Window};
use blind::Blind;
use places::{at_least, common, gates};
use serde::{Deserialize, Serialize};

/// History counts for at most so many requests in a guess: the present is to outweigh it soon.
const HISTORY_REQUESTS: f64 = 2000.0;
/// Where the margin allows the canary more slow requests than this share, there is next to nothing left to find.
pub(crate) const MOST_ALLOWED: f64 = 0.9;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyEvidence {
    pub(crate) boundaries: Vec<Boundary>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) objectives: Vec<ObjectiveEvidence>,
    /// Whether any pod ever had a histogram, warm or not.
    pub(crate) seen: bool,
    /// Requests of warm pods in the last window.
    pub(crate) last: Pair,
    /// Why the last window could not be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blind: Option<Blind>,
    started: f64,
}

/// The comparison at one boundary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Boundary {
    pub(crate) le_stable: f64,
    pub(crate) le_canary: f64,
    mix: RestartMix,
    /// The canary against stable's next window; see [`crate::pairing`].
    late: Option<LateMix>,
    pub(crate) totals: Pair,
    /// Of the ratio of slow shares.
    #[serde(default = "Curve::near")]
    pub(crate) curve: Curve,
    running: Dispersion,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LateMix {
    mix: RestartMix,
    waiting: Waiting,
}

/// A boundary at which the canary must be proven good enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Gate {
    pub(crate) le: f64,
    pub(crate) proof: Proof,
    pub(crate) totals: Pair,
}

impl LatencyEvidence {
    pub fn new(plan: &LatencyPlan) -> Self {
        Self {
            boundaries: Vec::new(),
            gates: Vec::new(),
            objectives: plan.objectives.iter().map(|one| ObjectiveEvidence::new(one, plan)).collect(),
            seen: !plan.history.is_empty(),
            last: Pair::default(),
            blind: None,
            started: 0.0,
        }
    }

    pub fn start(&mut self, share: f64) {
        self.started += share;
        self.boundaries.iter_mut().for_each(|boundary| boundary.start(share));
        self.objectives.iter_mut().for_each(|objective| objective.start(share));
    }

    /// Counts one window. The first one with histograms fixes the boundaries; gates chosen from its own counts begin
    /// with the next.
    pub fn add(&mut self, plan: &Plan, latency: &LatencyPlan, window: &Window, stable_beside: bool) {
        self.seen |= window.pods.iter().any(|pod| !pod.buckets.is_empty());
        let adopted = self.boundaries.is_empty() && self.adopt(plan, latency, window, stable_beside);
        let gates_from_this_window = adopted && latency.gating.is_empty() && latency.history.is_empty();
        let mut counted = true;
        for objective in &mut self.objectives {
            counted &= objective.add(plan, latency, window, stable_beside);
        }
        self.last = warm_requests(window, plan.warmup_ms);
        if stable_beside {
            for boundary in &mut self.boundaries {
                counted &= boundary.add(plan, latency, window);
            }
        }
        if stable_beside && !gates_from_this_window {
            for gate in &mut self.gates {
                counted &= gate.add(plan, latency, window, &self.boundaries);
            }
        }
        self.blind = self.blindness(plan, window, stable_beside, counted);
    }

    fn blindness(&self, plan: &Plan, window: &Window, stable_beside: bool, counted: bool) -> Option<Blind> {
        let arms = if stable_beside { &[Arm::Canary, Arm::Stable][..] } else { &[Arm::Canary] };
        let mut judged = Vec::new();
        if !counted {
            judged.extend(self.boundaries.iter().flat_map(|one| [one.le_stable, one.le_canary]));
            judged.extend(self.gates.iter().map(|gate| gate.le));
            judged.extend(self.objectives.iter().filter_map(|objective| objective.le));
        }
        let blind = Blind::of(window, arms, plan.warmup_ms, &judged);
        let placed = !self.boundaries.is_empty() || self.objectives.iter().any(|one| one.le.is_some());
        if placed { blind } else { blind.or_else(|| Blind::apart(window, plan.warmup_ms)) }
    }

    fn adopt(&mut self, plan: &Plan, latency: &LatencyPlan, window: &Window, stable_beside: bool) -> bool {
        let both = self.has_histogram(window, Arm::Canary, plan.warmup_ms)
            && (!stable_beside || self.has_histogram(window, Arm::Stable, plan.warmup_ms));
        if !both {
            return false;
        }
        let common = common(window, plan.warmup_ms);
        let slower_by = latency.compare.as_ref().map_or(1.0, |compare| compare.slower_by);
        let odds = latency.compare.as_ref().map_or(0, |compare| compare.odds.len());
        let pairs = common.iter().filter_map(|le| Some((*le, at_least(&common, le * slower_by)?)));
        let boundary = |(low, high)| {
            let odds = if latency.leaves_room_at(low) { odds } else { 0 };
            Boundary::new(low, high, odds, self.started)
        };
        self.boundaries = pairs.map(boundary).collect();
        self.gates = gates(latency, &common, window, plan.warmup_ms)
            .into_iter()
            .map(|le| Gate::new(le, latency))
            .collect();
        self.objectives.iter_mut().for_each(|objective| objective.place(&common));
        true
    }

    fn has_histogram(&self, window: &Window, arm: Arm, warmup_ms: u64) -> bool {
        window.of(arm).any(|pod| readable(pod, warmup_ms))
    }

    /// The average over boundaries and odds ratios; restarts as in the errors metric.
    pub fn log_abort(&self) -> f64 {
        let compared = self.boundaries.iter().filter(|boundary| !boundary.mix.is_empty());
        match self.compared() {
            0 => 0.0,
            count => log_sum_exp(compared.map(Boundary::log_e)) - libm::log(count as f64),
        }
    }

    /// The weakest gate's evidence for `r p_s + plus + d`; none while no gate stands.
    pub fn log_advance(&self, plus_d: f64) -> Option<f64> {
        self.gates.iter().map(|gate| gate.proof.log_e(plus_d)).reduce(f64::min)
    }

    /// How many boundaries share the metric's evidence.
    pub(crate) fn compared(&self) -> usize {
        self.boundaries.iter().filter(|boundary| !boundary.mix.is_empty()).count()
    }

    /// The boundary that speaks loudest against the canary.
    pub(crate) fn loudest(&self) -> Option<&Boundary> {
        let louder = |a: &&Boundary, b: &&Boundary| a.log_e().total_cmp(&b.log_e());
        self.boundaries.iter().filter(|boundary| !boundary.mix.is_empty()).max_by(louder)
    }
}

impl Boundary {
    fn new(le_stable: f64, le_canary: f64, odds: usize, started: f64) -> Self {
        let mut mix = RestartMix::new(odds);
        mix.start(started);
        Self {
            le_stable,
            le_canary,
            mix,
            late: None,
            totals: Pair::default(),
            curve: Curve::near(),
            running: Dispersion::default(),
        }
    }

    fn start(&mut self, share: f64) {
        self.mix.start(share);
        self.late.iter_mut().for_each(|late| late.mix.start(share));
    }

    pub(crate) fn log_e(&self) -> f64 {
        let log_weight = -libm::log(self.mix.len().max(1) as f64);
        let log_e = |mix: &RestartMix| mix.log_e(std::iter::repeat_n(log_weight, mix.len()));
        let late = self.late.as_ref().map_or(f64::INFINITY, |late| log_e(&late.mix));
        log_e(&self.mix).min(late)
    }

    /// The evidence if `times` more windows like `like` came, the guess being today's.
    pub(crate) fn log_e_after(&self, latency: &LatencyPlan, times: f64, like: Pair, phi: f64) -> f64 {
        let log_weight = -libm::log(self.mix.len().max(1) as f64);
        let weights = std::iter::repeat_n(log_weight, self.mix.len());
        let (guess, odds) = (self.guess(latency), latency.compare.as_ref().map(|compare| &compare.odds));
        let (n_c, n_s) = (like.canary.n as f64, like.stable.n as f64);
        self.mix.log_e_after(weights, |at| {
            let odds = odds.and_then(|odds| odds.get(at));
            let bet = guess.zip(odds).and_then(|(q, odds)| Bet::new(latency.worse_by, q, *odds, n_c, n_s));
            bet.map_or(0.0, |bet| bet.log_e(like) * times / phi)
        })
    }

    /// Whether every pod could be counted.
    fn add(&mut self, plan: &Plan, latency: &LatencyPlan, window: &Window) -> bool {
        let guess = self.guess(latency);
        let phi = self.phi(plan, latency);
        let (mut counted, mut whole) = (Pair::default(), true);
        let stable_first = stable_is_read_first(window);
        if self.late.is_none() && stable_first {
            self.late = Some(LateMix { mix: self.mix.clone(), waiting: Waiting::default() });
        }
        for stratum in strata(window) {
            let Some(pair) = self.count(window, stratum, plan.warmup_ms) else {
                whole = false;
                continue;
            };
            counted.add(pair);
            if !self.mix.is_empty() {
                self.curve.add(pair, phi.abort);
            }
            if let (Some(guess), true) = (guess, pair.has_both()) {
                bet(&mut self.mix, latency, pair, guess, phi.abort);
            }
            if let Some(late) = &mut self.late {
                let paired = late.waiting.pair(stratum, pair, stable_first);
                if let (Some(guess), true) = (guess, paired.has_both()) {
                    bet(&mut late.mix, latency, paired, guess, phi.abort);
                }
            }
            let (le, warmup) = (self.le_stable, plan.warmup_ms);
            let pods = window.of(Arm::Stable).filter(move |pod| pod.is_of(stratum));
            self.running.add(pods.filter_map(move |pod| slow_of(pod, le, warmup)));
        }
        self.totals.add(counted);
        whole
    }

    /// Stable's share of slow requests as the past tells it; none before any request.
    fn guess(&self, latency: &LatencyPlan) -> Option<f64> {
        let (mut n, mut x) = (0.0, 0.0);
        if let Some(past) = latency.history_at(self.le_stable) {
            n = (past.requests as f64).min(HISTORY_REQUESTS);
            x = n * past.slow as f64 / (past.requests as f64).max(1.0);
        }
        n += latency.worse_by.ratio * self.totals.canary.n as f64 + self.totals.stable.n as f64;
        x += (self.totals.canary.x + self.totals.stable.x) as f64;
        (n > 0.0).then(|| x / n)
    }

    pub(crate) fn phi(&self, plan: &Plan, latency: &LatencyPlan) -> Phi {
        let frozen = latency.history_at(self.le_stable).and_then(|past| past.dispersion);
        Phi::of(latency.pods.unwrap_or(plan.pods), frozen, &self.running)
    }

    fn count(&self, window: &Window, stratum: &str, warmup_ms: u64) -> Option<Pair> {
        let canary = slow(window, Some(stratum), Arm::Canary, self.le_canary, warmup_ms)?;
        let stable = slow(window, Some(stratum), Arm::Stable, self.le_stable, warmup_ms)?;
        Some(Pair { canary, stable })
    }
}

/// One window's bets of every odds ratio.
fn bet(mix: &mut RestartMix, latency: &LatencyPlan, pair: Pair, guess: f64, phi: f64) {
    let Some(compare) = latency.compare.as_ref().filter(|_| !mix.is_empty()) else { return };
    let (n_c, n_s) = (pair.canary.n as f64, pair.stable.n as f64);
    for (at, odds) in compare.odds.iter().enumerate() {
        if let Some(bet) = Bet::new(latency.worse_by, guess, *odds, n_c, n_s) {
            mix.multiply(at, bet.log_e(pair) / phi);
        }
    }
}

impl Gate {
    fn new(le: f64, latency: &LatencyPlan) -> Self {
        let r = latency.worse_by.ratio;
        let proof = Proof::new(r, alternatives(&latency.pass_alternatives, r));
        Self { le, proof, totals: Pair::default() }
    }

    /// Whether every pod could be counted.
    fn add(&mut self, plan: &Plan, latency: &LatencyPlan, window: &Window, boundaries: &[Boundary]) -> bool {
        let mut whole = true;
        let beside = boundaries.iter().find(|boundary| boundary.le_stable == self.le);
        let phi = beside.map_or(Phi::NONE, |boundary| boundary.phi(plan, latency));
        for stratum in strata(window) {
            let pair = slow_pair(window, stratum, self.le, plan.warmup_ms);
            whole &= pair.is_some();
            if let Some(pair) = pair {
                self.proof.add(pair, phi.pass);
                self.totals.add(pair);
            }
        }
        whole
    }
}

/// Slow requests of both versions at one boundary.
pub(crate) fn slow_pair(window: &Window, stratum: &str, le: f64, warmup_ms: u64) -> Option<Pair> {
    let canary = slow(window, Some(stratum), Arm::Canary, le, warmup_ms)?;
    Some(Pair { canary, stable: slow(window, Some(stratum), Arm::Stable, le, warmup_ms)? })
}

/// Requests of one version slower than `le`; none if a pod with a histogram lacks that boundary.
pub(crate) fn slow(
    window: &Window,
    stratum: Option<&str>,
    arm: Arm,
    le: f64,
    warmup_ms: u64,
) -> Option<Count> {
    let mut count = Count::default();
    let within = |pod: &&PodWindow| stratum.is_none_or(|stratum| pod.is_of(stratum));
    for pod in window.of(arm).filter(within).filter(|pod| readable(pod, warmup_ms)) {
        count.add(slow_of(pod, le, warmup_ms)?);
    }
    Some(count)
}

pub(crate) fn slow_of(pod: &PodWindow, le: f64, warmup_ms: u64) -> Option<Count> {
    if !readable(pod, warmup_ms) {
        return None;
    }
    let at = pod.buckets.binary_search_by(|bucket| bucket.le.total_cmp(&le)).ok()?;
    let total = pod.histogram_total();
    Some(Count::new(total, total - pod.buckets[at].count))
}

/// A pod whose latencies count: it has a histogram and is past its warm-up.
fn readable(pod: &PodWindow, warmup_ms: u64) -> bool {
    !pod.buckets.is_empty() && pod.ready_for_ms.is_none_or(|ready| ready >= warmup_ms)
}

fn warm_requests(window: &Window, warmup_ms: u64) -> Pair {
    let total = |arm| {
        let pods = window.of(arm).filter(|pod| readable(pod, warmup_ms));
        Count::new(pods.map(PodWindow::histogram_total).sum(), 0)
    };
    Pair { canary: total(Arm::Canary), stable: total(Arm::Stable) }
}

impl LatencyPlan {
    /// Whether a boundary can tell anything, as far as history knows. One that nearly every request exceeds, or that lies
    /// beyond one that none exceeds, would take its share of falseAbort for nothing.
    fn leaves_room_at(&self, le: f64) -> bool {
        // Whoever is slower than this is slower than that one too, where stable has none to be told from.
        if self.history.iter().any(|past| past.le < le && past.requests > 0 && past.slow == 0) {
            return false;
        }
        let share = self.history_at(le).and_then(|past| Count::new(past.requests, past.slow).rate());
        share.is_none_or(|share| self.worse_by.ratio * share + self.worse_by.plus < MOST_ALLOWED)
    }

    /// What history says of a boundary.
    pub fn history_at(&self, le: f64) -> Option<&crate::plan::BoundaryHistory> {
        self.history.iter().find(|past| past.le == le)
    }
}
