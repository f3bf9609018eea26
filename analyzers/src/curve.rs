//! The likelihood of every ratio at once, and from it the ratio's confidence sequence.
//!
//! Given a window's errors N = x_c + x_s, the canary's are binomial with odds `theta n_c : n_s`. Their log-likelihood in
//! u = ln theta, `x_c u - sum N ln(1 + e^u n_c / n_s)`, is concave and smooth, so its values at a few Chebyshev nodes
//! determine it to rounding. A theta is left out of the sequence once the mixture over all thetas is `1/alpha` times as
//! likely (Lindon and Malek 2022): valid at every look. Differences of this curve are formula 1's logE at d = 0, and by
//! the same inequality the sequence is valid for shares of any size; at large ones it is wider than it had to be.

use crate::mixture::{LOG_NOTHING, log_sum_exp};
use crate::rate_ratio::Pair;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

const NODES: usize = 34;
/// Ratios from 1/64 to 64 are told apart.
pub(crate) const REACH: f64 = 4.158_883_083_359_672;
/// Where many curves are kept: ratios from 1/16 to 16, to the same digits with half the nodes.
const FEW_NODES: usize = 20;
const NEAR_REACH: f64 = 2.772_588_722_239_781;
/// Step, in ln theta, of the mixture behind the confidence sequence.
const PRIOR_STEP: f64 = 0.04;

static TABLE: LazyLock<[Node; NODES]> = LazyLock::new(|| std::array::from_fn(|at| node(at, NODES, REACH)));
static NEAR_TABLE: LazyLock<[Node; FEW_NODES]> =
    LazyLock::new(|| std::array::from_fn(|at| node(at, FEW_NODES, NEAR_REACH)));

#[derive(Debug, Clone, Copy)]
struct Node {
    u: f64,
    theta: f64,
    /// Barycentric weight of Chebyshev nodes of the first kind.
    weight: f64,
}

fn node(at: usize, nodes: usize, reach: f64) -> Node {
    let angle = std::f64::consts::PI * (2 * at + 1) as f64 / (2 * nodes) as f64;
    let u = reach * libm::cos(angle);
    let sign = if at.is_multiple_of(2) { 1.0 } else { -1.0 };
    Node { u, theta: libm::exp(u), weight: sign * libm::sin(angle) }
}

/// The log-likelihood of the ratio, up to a constant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Curve {
    /// Canary events, each divided by its window's dispersion.
    canary: f64,
    /// sum N ln(1 + theta n_c / n_s) at the nodes.
    normaliser: Vec<f64>,
}

/// A curve as it was saved, by this version or another.
#[derive(Deserialize)]
struct Saved {
    canary: f64,
    normaliser: Vec<f64>,
}

impl TryFrom<Saved> for Curve {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        let Saved { canary, normaliser } = saved;
        match normaliser.len() {
            NODES | FEW_NODES => Ok(Self { canary, normaliser }),
            other => Err(format!(
                "a curve of {other} nodes is another version's: its evidence cannot be gone on with"
            )),
        }
    }
}

/// What one window adds to a curve; several curves may share it.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    canary: f64,
    normaliser: [f64; NODES],
}

impl Terms {
    /// None where the window says nothing: one version is empty, or there are no events.
    pub(crate) fn of(pair: Pair, phi: f64) -> Option<Self> {
        let events = (pair.canary.x + pair.stable.x) as f64 / phi;
        if !pair.has_both() || events == 0.0 {
            return None;
        }
        let odds = pair.canary.n as f64 / pair.stable.n as f64;
        let term = |at: usize| events * libm::log1p(TABLE[at].theta * odds);
        Some(Self { canary: pair.canary.x as f64 / phi, normaliser: std::array::from_fn(term) })
    }
}

/// A ratio with what is left of its doubt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    pub most_likely: f64,
    pub low: f64,
    /// None: no ratio is too large yet.
    pub high: Option<f64>,
}

impl Default for Curve {
    fn default() -> Self {
        Self { canary: 0.0, normaliser: vec![0.0; NODES] }
    }
}

impl Curve {
    /// A curve over ratios from 1/16 to 16.
    pub fn near() -> Self {
        Self { canary: 0.0, normaliser: vec![0.0; FEW_NODES] }
    }

    fn nodes(&self) -> &'static [Node] {
        if self.normaliser.len() == FEW_NODES { NEAR_TABLE.as_slice() } else { TABLE.as_slice() }
    }

    /// ln of the largest ratio that it tells apart.
    pub(crate) fn reach(&self) -> f64 {
        if self.normaliser.len() == FEW_NODES { NEAR_REACH } else { REACH }
    }

    /// A window with one version empty, or without events, says nothing.
    pub fn add(&mut self, pair: Pair, phi: f64) {
        let events = (pair.canary.x + pair.stable.x) as f64 / phi;
        if !pair.has_both() || events == 0.0 {
            return;
        }
        let odds = pair.canary.n as f64 / pair.stable.n as f64;
        self.canary += pair.canary.x as f64 / phi;
        let nodes = self.nodes();
        for (sum, node) in self.normaliser.iter_mut().zip(nodes) {
            *sum += events * libm::log1p(node.theta * odds);
        }
    }

    pub(crate) fn add_terms(&mut self, terms: &Terms) {
        self.canary += terms.canary;
        for (sum, term) in self.normaliser.iter_mut().zip(&terms.normaliser) {
            *sum += term;
        }
    }

    /// The log-likelihood at u = ln theta, by barycentric interpolation.
    pub fn at(&self, u: f64) -> f64 {
        let (mut above, mut below) = (0.0, 0.0);
        for (value, node) in self.normaliser.iter().zip(self.nodes()) {
            if node.u == u {
                return self.canary * u - value;
            }
            let weight = node.weight / (u - node.u);
            above += weight * value;
            below += weight;
        }
        self.canary * u - above / below
    }

    /// The ratio's confidence sequence at level 1 - alpha; none before the first event.
    pub fn interval(&self, alpha: f64) -> Option<Interval> {
        if self.is_empty() {
            return None;
        }
        let (peak, _) = self.peak();
        let floor = self.mixture() + libm::log(alpha);
        let outside = |u: f64| self.at(u) < floor;
        let low = if outside(-self.reach()) { libm::exp(self.edge(-self.reach(), peak, floor)) } else { 0.0 };
        let high = outside(self.reach()).then(|| libm::exp(self.edge(self.reach(), peak, floor)));
        let most_likely = if self.canary == 0.0 { 0.0 } else { libm::exp(peak) };
        Some(Interval { most_likely, low, high })
    }

    /// ln of the likelihood under equal weights on a fixed grid of ratios.
    fn mixture(&self) -> f64 {
        let steps = (2.0 * self.reach() / PRIOR_STEP) as usize;
        let at = |step: usize| self.at((step as f64 + 0.5) * PRIOR_STEP - self.reach());
        let values: Vec<f64> = (0..steps).map(at).collect();
        log_sum_exp(values.iter().copied()) - libm::log(steps as f64)
    }

    /// Whether no event was counted yet.
    pub fn is_empty(&self) -> bool {
        self.normaliser.iter().all(|sum| *sum == 0.0)
    }

    /// Where the concave curve is highest, by golden section, and how high.
    pub fn peak(&self) -> (f64, f64) {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let (mut low, mut high) = (-self.reach(), self.reach());
        let (mut left, mut right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        let (mut at_left, mut at_right) = (self.at(left), self.at(right));
        while high - low > 1e-5 {
            if at_left < at_right {
                (low, left, at_left) = (left, right, at_right);
                right = low + GOLDEN * (high - low);
                at_right = self.at(right);
            } else {
                (high, right, at_right) = (right, left, at_left);
                left = high - GOLDEN * (high - low);
                at_left = self.at(left);
            }
        }
        let middle = (low + high) / 2.0;
        (middle, self.at(middle))
    }

    /// Where the curve falls to `floor` on either side of its peak, within reach.
    pub fn range(&self, peak: f64, floor: f64) -> (f64, f64) {
        let side = |end: f64| if self.at(end) < floor { self.edge(end, peak, floor) } else { end };
        (side(-self.reach()), side(self.reach()))
    }

    pub fn slope(&self, u: f64) -> f64 {
        const STEP: f64 = 0.001;
        (self.at(u + STEP) - self.at(u - STEP)) / (2.0 * STEP)
    }

    /// How sharply the curve bends downwards there; its inverse is the ratio's variance.
    pub fn curvature(&self, u: f64) -> f64 {
        const STEP: f64 = 0.01;
        -(self.at(u + STEP) - 2.0 * self.at(u) + self.at(u - STEP)) / (STEP * STEP)
    }

    /// The crossing of `floor` between a point outside and one inside, by bisection, rounded outwards.
    fn edge(&self, mut outside: f64, mut inside: f64, floor: f64) -> f64 {
        if self.at(inside) <= floor.max(LOG_NOTHING) {
            return inside;
        }
        while (outside - inside).abs() > 1e-6 {
            let middle = (outside + inside) / 2.0;
            if self.at(middle) < floor { outside = middle } else { inside = middle }
        }
        outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_ratio::{Alternative, increment};

    fn windows() -> Vec<Pair> {
        let mut pairs = Vec::new();
        for step in 1..40u64 {
            pairs.push(Pair::new((step * 7, step % 5), (step * 31 + 200, step % 7)));
        }
        pairs
    }

    #[test]
    fn differences_of_the_curve_are_formula_1() {
        let mut curve = Curve::default();
        windows().into_iter().for_each(|pair| curve.add(pair, 1.0));
        for (r, rho) in [(1.0f64, 2.0f64), (1.25, 25.0), (1.25, 0.25), (1.25, 1.5)] {
            let alternative = Alternative::new(rho, r, 1.0);
            let direct: f64 = windows().iter().map(|pair| increment(r, &alternative, *pair).s1).sum();
            let by_curve = curve.at(rho.ln()) - curve.at(r.ln());
            assert!((direct - by_curve).abs() < 1e-8, "{r} {rho}: {direct} {by_curve}");
        }
    }

    #[test]
    fn the_interval_closes_on_the_true_ratio() {
        let mut curve = Curve::default();
        (0..400).for_each(|_| curve.add(Pair::new((1000, 20), (9000, 90)), 1.0));
        let interval = curve.interval(0.01).unwrap();
        assert!((interval.most_likely - 2.0).abs() < 1e-3, "{interval:?}");
        assert!(interval.low > 1.85 && interval.high.is_some_and(|high| high < 2.15), "{interval:?}");
    }

    #[test]
    fn without_stable_errors_no_ratio_is_too_large() {
        let mut curve = Curve::default();
        curve.add(Pair::new((1000, 12), (9000, 0)), 1.0);
        let interval = curve.interval(0.01).unwrap();
        assert!(interval.high.is_none() && interval.low > 1.0, "{interval:?}");
    }

    #[test]
    fn without_canary_errors_the_ratio_may_be_zero() {
        let mut curve = Curve::default();
        curve.add(Pair::new((1000, 0), (9000, 90)), 1.0);
        let interval = curve.interval(0.01).unwrap();
        assert_eq!((interval.most_likely, interval.low), (0.0, 0.0));
        assert!(interval.high.is_some_and(|high| high < 2.0), "{interval:?}");
        assert_eq!(Curve::default().interval(0.01), None);
    }
}
