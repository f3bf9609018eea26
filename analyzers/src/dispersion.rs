//! How much more counts scatter between pods than independent requests would.
//!
//! `phi = max(1, sum (x - e)^2 / sum e (1 - share) (1 - rate))`, a ratio of sums over stable's pods and windows: e is a
//! pod's share of the window's events, by its share of the requests. Evidence divided by phi stays valid by Jensen's
//! inequality. A mean of per-window ratios would be biased low. Frozen before the rollout wherever there is history.

use crate::rate_ratio::Count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What stands in for history while there is none: phi begins at 5 and needs evidence to come down.
const PRIOR_SQUARES: f64 = 100.0;
const PRIOR_VARIANCE: f64 = 20.0;

/// Sums over pods are kept in fixed point: the order of the pods must not show in the last bit.
const FIXED_POINT: f64 = 4_294_967_296.0;

fn fixed(value: f64) -> u128 {
    (value * FIXED_POINT) as u128
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Dispersion {
    squares: f64,
    variance: f64,
    /// Squares that could differ freely: one a pod and window, less one a window.
    #[serde(default)]
    freedom: f64,
}

/// An estimate of phi, and how far it can be relied on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub phi: f64,
    freedom: f64,
}

impl Measured {
    /// The estimate less one standard error, that of a chi-square.
    pub fn surely(self) -> f64 {
        if self.freedom > 2.0 { self.phi * (1.0 - libm::sqrt(2.0 / self.freedom)) } else { 1.0 }
    }

    /// Over windows of several lengths, the shortest first. Bursts have a length of their own, so the largest counts; but
    /// the largest of four estimates is too large on average, so a longer length counts as far as it is sure.
    pub fn largest(of: impl IntoIterator<Item = Measured>) -> f64 {
        let at = |(place, one): (usize, Measured)| if place == 0 { one.phi } else { one.surely() };
        of.into_iter().enumerate().map(at).fold(1.0, f64::max)
    }
}

impl Dispersion {
    /// One window's pods of one version; fewer than two pods, or no events, say nothing.
    pub fn add(&mut self, pods: impl Iterator<Item = Count> + Clone) {
        let mut total = Count::default();
        pods.clone().for_each(|pod| total.add(pod));
        let Some(rate) = total.rate().filter(|rate| *rate > 0.0) else { return };
        let (mut squares, mut variance) = (0u128, 0u128);
        let mut seen = 0u32;
        for pod in pods.filter(|pod| pod.n > 0) {
            let share = pod.n as f64 / total.n as f64;
            let expected = total.x as f64 * share;
            let off = pod.x as f64 - expected;
            squares = squares.saturating_add(fixed(off * off));
            variance = variance.saturating_add(fixed(expected * (1.0 - share) * (1.0 - rate)));
            seen += 1;
        }
        if seen > 1 {
            self.squares += squares as f64 / FIXED_POINT;
            self.variance += variance as f64 / FIXED_POINT;
            self.freedom += f64::from(seen - 1);
        }
    }

    /// phi from history alone; 1 without any.
    pub fn phi(&self) -> f64 {
        if self.variance > 0.0 { (self.squares / self.variance).max(1.0) } else { 1.0 }
    }

    pub fn measured(&self) -> Measured {
        Measured { phi: self.phi(), freedom: self.freedom }
    }

    /// phi of a rollout without history, for the abort direction.
    pub fn phi_without_history(&self) -> f64 {
        ((self.squares + PRIOR_SQUARES) / (self.variance + PRIOR_VARIANCE)).max(1.0)
    }

    /// phi of a rollout without history, for the pass direction, where caution would only mean waiting.
    pub fn phi_for_pass(&self) -> f64 {
        ((self.squares + 1.0) / (self.variance + 1.0)).max(1.0)
    }
}

/// Dispersion net of the pods' natures: what is left once each pod may fail its own multiple of its share.
///
/// Per pod the excess over its share, x - e, is fitted by delta_i e; the sums say what the fit takes away of the squares
/// and, on average, of the variance. Beside a random pod effect the whole dispersion would count natures twice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WithinPods {
    pods: BTreeMap<String, Fit>,
    squares: f64,
    variance: f64,
    #[serde(default)]
    freedom: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Fit {
    /// sum (x - e) e
    cross: f64,
    /// sum e^2
    lever: f64,
    /// sum e^2 times the variance of x
    noise: f64,
}

impl WithinPods {
    /// One window's pods of one version, in the order of their names.
    pub fn add<'a>(&mut self, pods: impl Iterator<Item = (&'a str, Count)> + Clone) {
        let mut total = Count::default();
        pods.clone().for_each(|(_, pod)| total.add(pod));
        let Some(rate) = total.rate().filter(|rate| *rate > 0.0) else { return };
        let seen = pods.clone().filter(|(_, pod)| pod.n > 0).count();
        if seen < 2 {
            return;
        }
        self.freedom += (seen - 1) as f64;
        for (name, pod) in pods.filter(|(_, pod)| pod.n > 0) {
            let share = pod.n as f64 / total.n as f64;
            let expected = total.x as f64 * share;
            let off = pod.x as f64 - expected;
            let variance = expected * (1.0 - share) * (1.0 - rate);
            self.squares += off * off;
            self.variance += variance;
            if !self.pods.contains_key(name) {
                self.pods.insert(name.to_owned(), Fit::default());
            }
            if let Some(fit) = self.pods.get_mut(name) {
                fit.cross += off * expected;
                fit.lever += expected * expected;
                fit.noise += expected * expected * variance;
            }
        }
    }

    pub fn phi(&self) -> f64 {
        let fits = || self.pods.values().filter(|fit| fit.lever > 0.0);
        let squares = self.squares - fits().map(|fit| fit.cross * fit.cross / fit.lever).sum::<f64>();
        let variance = self.variance - fits().map(|fit| fit.noise / fit.lever).sum::<f64>();
        if variance > 0.0 { (squares / variance).max(1.0) } else { 1.0 }
    }

    /// Each pod's own multiple takes one square's freedom.
    pub fn measured(&self) -> Measured {
        let fitted = self.pods.len().saturating_sub(1) as f64;
        Measured { phi: self.phi(), freedom: self.freedom - fitted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_pods_are_not_dispersed_and_bursts_are() {
        let mut even = Dispersion::default();
        even.add([Count::new(100, 5), Count::new(100, 5)].into_iter());
        assert_eq!(even.phi(), 1.0);
        let mut burst = Dispersion::default();
        burst.add([Count::new(100, 10), Count::new(100, 0)].into_iter());
        assert!((burst.phi() - 50.0 / (5.0 * 0.95)).abs() < 1e-12);
    }

    #[test]
    fn without_history_caution_comes_first() {
        assert_eq!(Dispersion::default().phi_without_history(), 5.0);
        assert_eq!(Dispersion::default().phi(), 1.0);
    }

    #[test]
    fn a_longer_window_counts_as_far_as_it_is_sure() {
        let shortest = Measured { phi: 1.1, freedom: 10_000.0 };
        let noisy = Measured { phi: 1.3, freedom: 28.0 };
        assert_eq!(Measured::largest([shortest, noisy]), 1.1, "1.3 of 28 squares is what chance does");
        let bursts = Measured { phi: 9.0, freedom: 28.0 };
        assert!((Measured::largest([shortest, bursts]) - 9.0 * (1.0 - (2.0f64 / 28.0).sqrt())).abs() < 1e-12);
        assert_eq!(Measured::largest([]), 1.0);
    }

    #[test]
    fn a_single_pod_says_nothing() {
        let mut one = Dispersion::default();
        one.add([Count::new(100, 50)].into_iter());
        assert_eq!(one, Dispersion::default());
    }

    #[test]
    fn a_pods_nature_is_no_dispersion_within_it() {
        let (mut whole, mut within) = (Dispersion::default(), WithinPods::default());
        // One pod fails three times as often as the other, evenly; small noise of one error up or down.
        for at in 0..200u64 {
            let noise = at % 3;
            let pods = [("a", Count::new(1000, 29 + noise)), ("b", Count::new(1000, 11 - noise))];
            whole.add(pods.into_iter().map(|(_, count)| count));
            within.add(pods.into_iter());
        }
        assert!(whole.phi() > 5.0, "{}", whole.phi());
        assert_eq!(within.phi(), 1.0);
    }
}
