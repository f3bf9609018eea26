//! Pods differ by nature: evidence that the canary is worse than pods' luck explains.
//!
//! ```text
//! E = ∫ L(rho e^z) dG(z) / ∫ L(r e^z) dG(z)        s² = tau² (1/K_c + 1/K_s)
//! ```
//! L is the likelihood of the ratio given each window's events ([`crate::curve`]); G a Student-t of scale s, with K_s + 3
//! degrees of freedom, for how far two groups of pods lie apart when nothing is wrong. tau is measured between stable's
//! pods before the rollout and drawn towards 10 %: `tau² = (4 · 0.1² + (K_s - 1) tau_hat²) / (K_s + 3)`. (A plug-in tau
//! and a normal G aborted 5.6 % of healthy rollouts with two stable pods, this none.)
//!
//! Promises: E is a ratio of mixtures over the same windows, so under the model it is an e-process. It is exact for
//! d = 0 only. Each restart has a curve of its own, since a pod's nature does not factor over time; there are few: of
//! those drawn from the reserve only the last goes on, and the evidence of the ones before stays as it was.
//! Evidence saturates near (ln(rho/r))² / (2 s²): with few canary pods the pods are the sample, not the requests.

use crate::curve::{Curve, REACH, Terms};
use crate::mixture::{LOG_NOTHING, log_add};
use crate::onset::Onset;
use crate::plan::PodSpread;
use crate::rate_ratio::Alternative;
use serde::{Deserialize, Serialize};

/// What pods are drawn towards: a standard deviation of 10 %, as good as four pods' word.
const PRIOR_VARIANCE: f64 = 0.01;
const PRIOR_PODS: f64 = 4.0;
/// Without history 10 % is taken at its word: with four degrees of freedom twice the errors would never be enough.
const UNMEASURED_FREEDOM: f64 = 12.0;
/// The integrals leave out what is less likely than the most likely ratio by this factor's logarithm.
const NEGLIGIBLE: f64 = 40.0;
const WIDEST_STEP: f64 = 0.02;
/// G's density within one s of its middle is at least this over s, whatever its degrees of freedom (at least 3).
const NEAR_DENSITY: f64 = 0.2;
/// Beyond any bar; what ended with more is kept as this, and every number stays finite.
const MOST_KEPT: f64 = 300.0;
/// What is left of the shares below this is rounding.
const NOTHING_LEFT: f64 = 1e-12;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PodEffect {
    starts: Vec<Start>,
    #[serde(default)]
    drawn: Option<Start>,
    /// Those drawn before: their shares, and the evidence that they ended with.
    #[serde(default)]
    ended: f64,
    #[serde(default)]
    ended_e: f64,
}

/// One restart: its share of v, its scale, and the likelihood since it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Start {
    share: f64,
    scale: f64,
    freedom: f64,
    curve: Curve,
}

/// How far two groups of pods may lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub scale: f64,
    pub freedom: f64,
}

impl Spread {
    /// From stable's pods before the rollout, and the numbers of pods compared.
    pub fn new(measured: Option<PodSpread>, canary_pods: usize, stable_pods: usize) -> Self {
        let each = |pods: usize| 1.0 / pods.max(1) as f64;
        let (tau2, freedom) = match measured {
            Some(of) => {
                let more = f64::from(of.pods.max(1)) - 1.0;
                ((PRIOR_PODS * PRIOR_VARIANCE + more * of.variance) / (more + PRIOR_PODS), more + PRIOR_PODS)
            }
            None => (PRIOR_VARIANCE, UNMEASURED_FREEDOM),
        };
        Self { scale: libm::sqrt(tau2 * (each(canary_pods) + each(stable_pods))), freedom }
    }
}

impl PodEffect {
    /// Opens what begins now; what was drawn before is evaluated `against` r and the alternatives, and ends.
    pub fn start(&mut self, onset: Onset, spread: Spread, against: (f64, &[Alternative])) {
        let Spread { scale, freedom } = spread;
        let start = Start { share: onset.share(), scale, freedom, curve: Curve::default() };
        match onset {
            Onset::Step(_) => self.starts.push(start),
            Onset::Drawn(_) => {
                if let Some(before) = self.drawn.replace(start) {
                    self.ended += before.share;
                    self.ended_e +=
                        before.share * libm::exp(before.log_e(against.0, against.1).min(MOST_KEPT));
                }
            }
        }
    }

    /// Adds one window or stratum to every restart.
    pub(crate) fn add(&mut self, terms: &Terms) {
        self.starts.iter_mut().chain(&mut self.drawn).for_each(|start| start.curve.add_terms(terms));
    }

    /// ln E over all restarts; what was not started yet counts as no evidence.
    pub fn log_e(&self, r: f64, alternatives: &[Alternative]) -> f64 {
        self.total(|start| start.log_e(r, alternatives))
    }

    /// At least ln E, and quickly: what cannot decide need not be integrated.
    pub fn log_e_at_most(&self, r: f64, alternatives: &[Alternative]) -> f64 {
        let nearest = alternatives.iter().map(|one| one.log_ratio).fold(f64::INFINITY, f64::min);
        self.total(|start| start.log_e_at_most(r, nearest))
    }

    /// ln of the largest evidence that pods this few and this uneven are likely to give for a ratio.
    pub fn saturation(&self, r: f64, ratio: f64) -> f64 {
        let gap = libm::log(ratio / r);
        let most = |start: &Start| libm::log(start.share) + gap * gap / (2.0 * start.scale * start.scale);
        self.running().map(most).fold(LOG_NOTHING, log_add)
    }

    fn total(&self, log_e: impl Fn(&Start) -> f64) -> f64 {
        let left = 1.0 - self.running().map(|start| start.share).sum::<f64>() - self.ended;
        let rest = left.max(0.0) + self.ended_e;
        let rest = if rest > NOTHING_LEFT { libm::log(rest) } else { LOG_NOTHING };
        let parts = self.running().map(|start| libm::log(start.share) + log_e(start));
        parts.fold(rest, log_add)
    }

    fn running(&self) -> impl Iterator<Item = &Start> {
        self.starts.iter().chain(&self.drawn)
    }
}

impl Start {
    /// Where the likelihood falls at the margin already, no alternative can gain much: left of the middle between the
    /// margin and the nearest alternative G favours the margin, and right of it L is at most what G finds on the way.
    /// Elsewhere E is at most the best likelihood over the margin's, times the mass that G has beside it.
    fn log_e_at_most(&self, r: f64, nearest: f64) -> f64 {
        let log_r = libm::log(r);
        if self.curve.is_empty() {
            return 0.0;
        }
        if self.curve.slope(log_r) <= 0.0 {
            return libm::log1p((2.0 * self.scale / nearest).max(1.0) / NEAR_DENSITY);
        }
        let (at, most) = self.curve.peak();
        let mass = ((at - log_r) / self.scale).clamp(1e-9, 1.0) * NEAR_DENSITY;
        most - self.curve.at(log_r) - libm::log(mass)
    }

    fn log_e(&self, r: f64, alternatives: &[Alternative]) -> f64 {
        if self.curve.is_empty() {
            return 0.0;
        }
        let (peak, most) = self.curve.peak();
        let (low, high) = self.curve.range(peak, most - NEGLIGIBLE);
        let step = self.step(peak, high - low);
        let count = (libm::ceil((high - low) / step) as usize).max(8);
        let step = (high - low) / count as f64;
        let log_r = libm::log(r);
        let (mut above, mut below) = (0.0, 0.0);
        for at in 0..=count {
            let u = low + step * at as f64;
            let likely = libm::exp(self.curve.at(u) - most);
            below += likely * libm::exp(self.log_density(u - log_r));
            let weighed =
                |one: &Alternative| libm::exp(one.log_weight + self.log_density(u - log_r - one.log_ratio));
            above += likely * alternatives.iter().map(weighed).sum::<f64>();
        }
        if above <= 0.0 || below <= 0.0 { 0.0 } else { libm::log(above / below) }
    }

    /// Fine enough for the likelihood's width and for G's.
    fn step(&self, peak: f64, width: f64) -> f64 {
        let bend = self.curve.curvature(peak);
        let sd = if bend > 0.0 { 1.0 / libm::sqrt(bend) } else { width };
        WIDEST_STEP.min(self.scale / 6.0).min(sd / 2.0).max(width / 4096.0)
    }

    /// Student's t, up to its constant.
    fn log_density(&self, z: f64) -> f64 {
        let x = z / self.scale;
        -(self.freedom + 1.0) / 2.0 * libm::log1p(x * x / self.freedom)
    }
}

const _: () = assert!(REACH > 4.0, "ratios up to r times 20 and what lies around them must be told apart");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ABORT_GRID, alternatives, grid};
    use crate::rate_ratio::Pair;

    fn evidence(spread: Spread, pairs: &[Pair]) -> (f64, f64) {
        let r = 1.25;
        let grid: Vec<Alternative> = alternatives(&grid(&ABORT_GRID, r), r).collect();
        let mut effect = PodEffect::default();
        effect.start(Onset::Step(1.0), spread, (r, &grid));
        pairs.iter().filter_map(|pair| Terms::of(*pair, 1.0)).for_each(|terms| effect.add(&terms));
        (effect.log_e(r, &grid), effect.log_e_at_most(r, &grid))
    }

    #[test]
    fn even_pods_leave_formula_1() {
        let pairs = [Pair::new((1000, 30), (9000, 90))];
        let (log_e, _) = evidence(Spread { scale: 0.002, freedom: 12.0 }, &pairs);
        let r = 1.25;
        let plain = alternatives(&grid(&ABORT_GRID, r), r)
            .map(|one| one.log_weight + crate::rate_ratio::increment(r, &one, pairs[0]).s1)
            .fold(LOG_NOTHING, log_add);
        assert!((log_e - plain).abs() < 1e-3, "{log_e} {plain}");
    }

    #[test]
    fn with_one_canary_pod_requests_alone_never_decide() {
        let one = Spread::new(None, 1, 2);
        let (log_e, _) = evidence(one, &[Pair::new((1_000_000, 15_000), (9_000_000, 90_000))]);
        assert!(log_e < 100f64.ln(), "1.67 times as often is what pods may do: {log_e}");
        let (log_e, _) = evidence(one, &[Pair::new((1_000_000, 60_000), (9_000_000, 90_000))]);
        assert!(log_e > 100f64.ln(), "6.7 times is not: {log_e}");
    }

    #[test]
    fn the_quick_bound_is_above() {
        for x_c in [0, 3, 12, 40, 200] {
            for scale in [0.03, 0.1, 0.3] {
                let pairs = [Pair::new((1000, x_c), (9000, 90))];
                let (log_e, bound) = evidence(Spread { scale, freedom: 6.0 }, &pairs);
                assert!(log_e <= bound + 1e-9, "{x_c} {scale}: {log_e} {bound}");
            }
        }
    }

    /// The mean of E over every split of four errors a window and over pods' natures as G has them, with restarts between
    /// the windows: one of a step, then two drawn from the reserve.
    #[test]
    fn over_natures_and_restarts_the_mean_is_at_most_one() {
        let (r, spread) = (1.25f64, Spread { scale: 0.15, freedom: 6.0 });
        let grid: Vec<Alternative> = alternatives(&grid(&ABORT_GRID, r), r).collect();
        let shape = Start { share: 1.0, scale: 0.15, freedom: 6.0, curve: Curve::default() };
        let natures: Vec<(f64, f64)> =
            (-400..=400).map(|at| f64::from(at) * 0.005).map(|z| (z, shape.log_density(z).exp())).collect();
        let mass: f64 = natures.iter().map(|(_, density)| density).sum();
        let onsets = [Onset::Step(0.6), Onset::Drawn(0.2), Onset::Drawn(0.1)];
        let mut mean = 0.0;
        for outcome in 0..125u64 {
            let canary = [outcome % 5, outcome / 5 % 5, outcome / 25];
            let mut effect = PodEffect::default();
            for (x_c, onset) in canary.into_iter().zip(onsets) {
                effect.start(onset, spread, (r, &grid));
                let terms = Terms::of(Pair::new((300, x_c), (700, 4 - x_c)), 1.0).unwrap();
                effect.add(&terms);
            }
            let likely = |z: f64| -> f64 {
                let share = 3.0 * r * z.exp() / (3.0 * r * z.exp() + 7.0);
                let ways = [1.0, 4.0, 6.0, 4.0, 1.0];
                let of =
                    |x: &u64| ways[*x as usize] * share.powf(*x as f64) * (1.0 - share).powf(4.0 - *x as f64);
                canary.iter().map(of).product()
            };
            let probability: f64 = natures.iter().map(|(z, density)| density / mass * likely(*z)).sum();
            mean += probability * effect.log_e(r, &grid).exp();
        }
        assert!((0.99..1.001).contains(&mean), "{mean}");
    }

    #[test]
    fn no_events_are_no_evidence() {
        assert_eq!(evidence(Spread::new(None, 2, 8), &[Pair::new((1000, 0), (9000, 0))]).0, 0.0);
    }
}
