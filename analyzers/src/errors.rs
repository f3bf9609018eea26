//! The errors analyzer: formula 1 in both directions on failed requests.

use crate::curve::{Curve, Terms};
use crate::dispersion::Dispersion;
use crate::mixture::{RestartMix, log_sum_exp};
use crate::onset::Onset;
use crate::overshoot::{Ahead, Overshoot};
use crate::pairing::{Waiting, stable_is_read_first};
use crate::plan::{ErrorsPlan, Pods, alternatives};
use crate::pod_effect::{PodEffect, Spread};
use crate::proof::Proof;
use crate::rate_ratio::{Alternative, Count, Pair, increment};
use crate::window::{Arm, PodWindow, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything that the errors metric remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorsEvidence {
    r: f64,
    plus: f64,
    grid: Vec<Alternative>,
    lane: Lane,
    /// The canary against stable's next window; see [`Lane`].
    late: Option<LateLane>,
    pub(crate) proof: Proof,
    pub(crate) curve: Curve,
    pub(crate) totals: Pair,
    /// Both versions' counts of the last window, for what is missing.
    pub(crate) last: Pair,
    running: Dispersion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overshoot: Option<Overshoot>,
}

/// The abort evidence of one way to pair the versions' windows; see [`crate::pairing`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lane {
    mix: RestartMix,
    /// The pods' natures, where the plan asks for them and there is no `plus`.
    pods: Option<PodEffect>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LateLane {
    lane: Lane,
    waiting: Waiting,
}

/// What the evidence of one window is divided by, in each direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phi {
    pub abort: f64,
    pub pass: f64,
}

impl Phi {
    pub const NONE: Phi = Phi { abort: 1.0, pass: 1.0 };

    /// Frozen where history gave it, running otherwise.
    pub fn of(pods: Pods, frozen: Option<f64>, running: &Dispersion) -> Self {
        match (pods, frozen) {
            (Pods::Ignore, _) => Self::NONE,
            (Pods::Dispersion | Pods::RandomEffect, Some(phi)) => Self { abort: phi, pass: phi },
            (Pods::Dispersion | Pods::RandomEffect, None) => {
                Self { abort: running.phi_without_history(), pass: running.phi_for_pass() }
            }
        }
    }
}

impl ErrorsEvidence {
    pub fn new(plan: &ErrorsPlan, pods: Pods) -> Self {
        let r = plan.worse_by.ratio;
        let grid: Vec<Alternative> = alternatives(&plan.alternatives, r).collect();
        let effect = plan.worse_by.plus == 0.0 && plan.pods.unwrap_or(pods) == Pods::RandomEffect;
        Self {
            r,
            plus: plan.worse_by.plus,
            lane: Lane { mix: RestartMix::new(grid.len()), pods: effect.then(PodEffect::default) },
            late: None,
            grid,
            proof: Proof::new(r, alternatives(&plan.pass_alternatives, r)),
            curve: Curve::default(),
            totals: Pair::default(),
            last: Pair::default(),
            running: Dispersion::default(),
            overshoot: plan.overshoot.then(Overshoot::default),
        }
    }

    /// Opens what begins with `window`; how many pods it has is known beforehand.
    pub fn start(&mut self, onset: Onset, plan: &ErrorsPlan, window: &Window) {
        // A pod with several strata counts once.
        let count = |arm| window.of(arm).map(|pod| pod.pod.as_str()).collect::<BTreeSet<_>>().len();
        let spread = Spread::new(plan.pod_spread, count(Arm::Canary), count(Arm::Stable));
        let against = (self.r, self.grid.as_slice());
        self.lane.start(onset, spread, against);
        self.late.iter_mut().for_each(|late| late.lane.start(onset, spread, against));
    }

    /// Counts one window, stratum by stratum; a stratum with one version only says nothing. `bar` is this metric's own.
    pub fn add(&mut self, pods: Pods, plan: &ErrorsPlan, window: &Window, bar: f64) {
        let phi = self.phi(pods, plan);
        self.last = Pair::default();
        let stable_first = stable_is_read_first(window);
        if self.late.is_none() && stable_first {
            self.late = Some(LateLane { lane: self.lane.clone(), waiting: Waiting::default() });
        }
        for stratum in strata(window) {
            let pair = count(window, stratum);
            self.last.add(pair);
            self.correct(pair, bar);
            self.add_pair(pair, phi);
            self.add_late(stratum, pair, phi, stable_first);
            let pods = move |pod: &&PodWindow| pod.is_of(stratum);
            let stable = window.of(Arm::Stable).filter(pods);
            self.running.add(stable.map(|pod| Count::new(pod.requests, pod.errors)));
        }
        self.totals.add(self.last);
    }

    /// The update itself; no allocation, one logarithm an alternative.
    pub fn add_pair(&mut self, pair: Pair, phi: Phi) {
        if !pair.has_both() {
            return;
        }
        let terms = Terms::of(pair, phi.abort);
        self.lane.add(self.r, self.plus, &self.grid, (pair, phi.abort), terms.as_ref());
        self.proof.add(pair, phi.pass);
        terms.iter().for_each(|terms| self.curve.add_terms(terms));
    }

    /// Before the window is counted in the mixture.
    fn correct(&mut self, pair: Pair, bar: f64) {
        let Some(overshoot) = self.overshoot.as_mut().filter(|_| pair.has_both()) else { return };
        let (r, grid, mix) = (self.r, self.grid.as_slice(), &self.lane.mix);
        let events = self.totals.canary.x + self.totals.stable.x;
        let rate = Count::new(self.totals.canary.n + self.totals.stable.n, events).rate();
        overshoot.add(&Ahead { r, grid, mix, log_e: self.lane.log_e(r, grid), pair, rate }, bar);
    }

    fn add_late(&mut self, stratum: &str, pair: Pair, phi: Phi, stable_first: bool) {
        let Some(late) = &mut self.late else { return };
        let paired = late.waiting.pair(stratum, pair, stable_first);
        if paired.has_both() {
            let terms = Terms::of(paired, phi.abort);
            late.lane.add(self.r, self.plus, &self.grid, (paired, phi.abort), terms.as_ref());
        }
    }

    pub fn log_abort(&self) -> f64 {
        self.lanes().map(|lane| lane.log_e(self.r, &self.grid)).fold(f64::INFINITY, f64::min)
    }

    /// What the abort is decided by: [`Self::log_abort`], without its overshoot where the plan asks for that.
    pub fn log_decides(&self) -> f64 {
        let Some(overshoot) = self.overshoot else { return self.log_abort() };
        let late = self.late.as_ref().map_or(f64::INFINITY, |late| late.lane.log_e(self.r, &self.grid));
        overshoot.log_e().min(late)
    }

    pub(crate) fn overshoot(&self) -> Option<f64> {
        self.overshoot.map(|_| self.log_decides())
    }

    /// At least [`Self::log_decides`], quickly.
    pub fn log_abort_at_most(&self) -> f64 {
        if self.overshoot.is_some() {
            return self.log_decides();
        }
        self.lanes().map(|lane| lane.log_e_at_most(self.r, &self.grid)).fold(f64::INFINITY, f64::min)
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.lane).chain(self.late.iter().map(|late| &late.lane))
    }

    /// Evidence for `p_c <= r p_s + plus + d`.
    pub fn log_advance(&self, d: f64) -> f64 {
        self.proof.log_e(self.plus + d)
    }

    /// The abort evidence if `times` more windows like `like` came, `now` being what it is. Beside a pod effect it is the
    /// requests' evidence less today's difference between the two: a forecast need not be integrated.
    pub fn log_abort_after(&self, now: f64, times: f64, like: Pair, phi: f64) -> f64 {
        let line = |one: &Alternative| {
            let step = increment(self.r, one, like);
            one.log_weight + self.log_likelihood(one) + times * (step.s1 + self.plus * step.s2) / phi
        };
        match &self.lane.pods {
            Some(_) => now + log_sum_exp(self.grid.iter().map(line)) - self.log_of_requests(),
            None => self.lane.log_e_after(self.r, self.plus, &self.grid, (times, like, phi)),
        }
    }

    /// The same, integrated: for a plan, where nothing was counted yet.
    pub fn log_abort_exactly_after(&self, times: f64, like: Pair, phi: f64) -> f64 {
        self.lane.log_e_after(self.r, self.plus, &self.grid, (times, like, phi))
    }

    /// The mixture of likelihood ratios over all windows, requests taken as the sample.
    fn log_of_requests(&self) -> f64 {
        log_sum_exp(self.grid.iter().map(|one| one.log_weight + self.log_likelihood(one)))
    }

    fn log_likelihood(&self, one: &Alternative) -> f64 {
        let margin = libm::log(self.r);
        self.curve.at(margin + one.log_ratio) - self.curve.at(margin)
    }

    /// Whether pods are so few that no number of requests reaches the bar for this ratio.
    pub fn saturates_below(&self, bar: f64, ratio: f64) -> bool {
        self.lane.pods.as_ref().is_some_and(|pods| pods.saturation(self.r, ratio) < bar)
    }

    pub fn phi(&self, pods: Pods, plan: &ErrorsPlan) -> Phi {
        Phi::of(plan.pods.unwrap_or(pods), plan.dispersion, &self.running)
    }
}

impl Lane {
    fn start(&mut self, onset: Onset, spread: Spread, against: (f64, &[Alternative])) {
        self.mix.start(onset.share());
        self.pods.iter_mut().for_each(|pods| pods.start(onset, spread, against));
    }

    /// `terms` are those of the pair at its phi.
    fn add(
        &mut self,
        r: f64,
        plus: f64,
        grid: &[Alternative],
        (pair, phi): (Pair, f64),
        terms: Option<&Terms>,
    ) {
        match &mut self.pods {
            Some(pods) => terms.iter().for_each(|terms| pods.add(terms)),
            None => {
                for (at, alternative) in grid.iter().enumerate() {
                    let step = increment(r, alternative, pair);
                    self.mix.multiply(at, (step.s1 + plus * step.s2) / phi);
                }
            }
        }
    }

    fn log_e(&self, r: f64, grid: &[Alternative]) -> f64 {
        match &self.pods {
            Some(pods) => pods.log_e(r, grid),
            None => self.mix.log_e(grid.iter().map(|alternative| alternative.log_weight)),
        }
    }

    fn log_e_at_most(&self, r: f64, grid: &[Alternative]) -> f64 {
        match &self.pods {
            Some(pods) => pods.log_e_at_most(r, grid),
            None => self.log_e(r, grid),
        }
    }

    /// The evidence after so many (a fraction, too) more windows like one.
    fn log_e_after(
        &self,
        r: f64,
        plus: f64,
        grid: &[Alternative],
        (times, like, phi): (f64, Pair, f64),
    ) -> f64 {
        let mut ahead = self.clone();
        if times > 0.0 {
            let phi = phi / times;
            ahead.add(r, plus, grid, (like, phi), Terms::of(like, phi).as_ref());
        }
        ahead.log_e(r, grid)
    }
}

/// The window's strata in a fixed order, whatever the order of its pods.
pub fn strata(window: &Window) -> impl Iterator<Item = &str> {
    let plain = window.pods.iter().all(|pod| pod.stratum.is_empty());
    let next = move |after: Option<&str>| {
        let names = window.pods.iter().map(|pod| pod.stratum.as_str());
        names.filter(|name| after.is_none_or(|after| *name > after)).min()
    };
    let first = if plain { window.pods.first().map(|pod| pod.stratum.as_str()) } else { next(None) };
    std::iter::successors(first, move |last| if plain { None } else { next(Some(last)) })
}

/// Requests and errors of both versions in one stratum.
fn count(window: &Window, stratum: &str) -> Pair {
    let mut pair = Pair::default();
    for pod in window.pods.iter().filter(|pod| pod.is_of(stratum)) {
        let counted = Count::new(pod.requests, pod.errors);
        match pod.arm {
            Arm::Canary => pair.canary.add(counted),
            Arm::Stable => pair.stable.add(counted),
        }
    }
    pair
}
