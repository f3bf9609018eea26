//! The Mann-Whitney test as Kayenta's judge computes it, number for number.
//!
//! The Hodges-Lehmann interval for the shift between canary (x) and stable (y) is where the standardised rank sum of
//! `x - shift` against `y`, with ties and continuity corrected, crosses the normal quantiles; the estimate is where it
//! crosses 0. This is the asymptotic interval of R's `wilcox.test`. The crossing is searched by Brent's method with a
//! tolerance of 1e-4: the statistic is a staircase, so the search itself decides the last digits, and its steps are kept.
//!
//! Sources: Spinnaker Kayenta, `kayenta-mannwhitney` (the numbers its specifications expect); Brent, "Algorithms for
//! Minimization Without Derivatives", chapter 4; Bauer, "Constructing confidence sets using rank statistics" (1972).
//!
//! A test made for one look: it has no part in falseAbort.

/// The interval of the shift canary - stable, and its estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    pub low: f64,
    pub high: f64,
    pub estimate: f64,
}

const TOLERANCE: f64 = 1e-4;
const MOST_STEPS: usize = 1001;

/// Both samples must have values, and not all of them may be equal.
pub fn shift(canary: &[f64], stable: &[f64], confidence: f64) -> Shift {
    let least = min(canary) - max(stable);
    let most = max(canary) - min(stable);
    let quantile = normal_quantile((1.0 - confidence) / 2.0);
    let mut both = Vec::with_capacity(canary.len() + stable.len());
    let mut statistic = |mu: f64, z: f64| standardised(canary, stable, mu, &mut both) - z;
    let mut crossing = |z: f64, clamp: bool| {
        let (at_least, at_most) = (statistic(least, z), statistic(most, z));
        if clamp && at_least <= 0.0 {
            return least;
        }
        if clamp && at_most >= 0.0 {
            return most;
        }
        brent((least, at_least), (most, at_most), |mu| statistic(mu, z))
    };
    let (low, high) = (crossing(-quantile, true), crossing(quantile, true));
    Shift { low, high, estimate: crossing(0.0, false) }
}

/// The share of pairs in which the canary's value is the larger, ties half (Vargha and Delaney 2000).
pub fn common_language_effect(canary: &[f64], stable: &[f64]) -> f64 {
    let mut both = Vec::with_capacity(canary.len() + stable.len());
    let ranks = rank(canary, stable, 0.0, &mut both);
    let (m, n) = (canary.len() as f64, stable.len() as f64);
    (2.0 * ranks.canary_sum - m * (m + 1.0)) / (2.0 * n * m)
}

struct Ranks {
    canary_sum: f64,
    /// Sum of t^3 - t over groups of t equal values.
    ties: f64,
}

fn standardised(canary: &[f64], stable: &[f64], mu: f64, both: &mut Vec<(f64, bool)>) -> f64 {
    let ranks = rank(canary, stable, mu, both);
    let (m, n) = (canary.len() as f64, stable.len() as f64);
    let off = ranks.canary_sum - m * (m + 1.0) / 2.0 - m * n / 2.0;
    let continuity = if off == 0.0 { 0.0 } else { 0.5_f64.copysign(off) };
    let spread = (m * n / 12.0) * ((m + n + 1.0) - ranks.ties / ((m + n) * (m + n - 1.0)));
    // All equal: no rank says anything.
    if spread <= 0.0 { 0.0 } else { (off - continuity) / libm::sqrt(spread) }
}

/// Average ranks of `canary - mu` among both.
fn rank(canary: &[f64], stable: &[f64], mu: f64, both: &mut Vec<(f64, bool)>) -> Ranks {
    both.clear();
    both.extend(canary.iter().map(|value| (value - mu, true)));
    both.extend(stable.iter().map(|value| (*value, false)));
    both.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = Ranks { canary_sum: 0.0, ties: 0.0 };
    let mut before = 0usize;
    for group in both.chunk_by(|a, b| a.0 == b.0) {
        let size = group.len() as f64;
        let average = before as f64 + (size + 1.0) / 2.0;
        let canaries = group.iter().filter(|(_, canary)| *canary).count();
        ranks.canary_sum += canaries as f64 * average;
        ranks.ties += size * size * size - size;
        before += group.len();
    }
    ranks
}

/// Brent's root between two points with values of opposite sign, each given as (place, value).
fn brent(first: (f64, f64), second: (f64, f64), mut value: impl FnMut(f64) -> f64) -> f64 {
    let (mut a, mut fa) = first;
    let (mut b, mut fb) = second;
    let (mut c, mut fc) = first;
    if fa == 0.0 {
        return a;
    }
    if fb == 0.0 {
        return b;
    }
    for _ in 0..MOST_STEPS {
        let last_step = b - a;
        if fc.abs() < fb.abs() {
            (a, b, c) = (b, c, b);
            (fa, fb, fc) = (fb, fc, fb);
        }
        let close = 2.0 * f64::EPSILON * b.abs() + TOLERANCE / 2.0;
        let half = (c - b) / 2.0;
        if half.abs() <= close || fb == 0.0 {
            return b;
        }
        let mut step = half;
        if last_step.abs() >= close && fa.abs() > fb.abs() {
            let (p, q) = interpolation((a, fa), (b, fb), (c, fc));
            let within = p < 0.75 * (c - b) * q - (close * q).abs() / 2.0;
            if within && p < (last_step * q / 2.0).abs() {
                step = p / q;
            }
        }
        if step.abs() < close {
            step = if step > 0.0 { close } else { -close };
        }
        (a, fa) = (b, fb);
        b += step;
        fb = value(b);
        if (fb > 0.0 && fc > 0.0) || (fb < 0.0 && fc < 0.0) {
            (c, fc) = (a, fa);
        }
    }
    b
}

/// The interpolated step as p / q with p >= 0: linear through two points, inverse quadratic through three.
fn interpolation(a: (f64, f64), b: (f64, f64), c: (f64, f64)) -> (f64, f64) {
    let width = c.0 - b.0;
    let (p, q) = if a.0 == c.0 {
        let t = b.1 / a.1;
        (width * t, 1.0 - t)
    } else {
        let (q, t1, t2) = (a.1 / c.1, b.1 / c.1, b.1 / a.1);
        (t2 * (width * q * (q - t1) - (b.0 - a.0) * (t1 - 1.0)), (q - 1.0) * (t1 - 1.0) * (t2 - 1.0))
    };
    if p > 0.0 { (p, -q) } else { (-p, q) }
}

fn min(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

fn max(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The normal distribution's quantile, by Newton's method on `libm`'s erfc: exact to the last digits for p in (0, 1).
pub fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    // Hastings' approximation to start from (Abramowitz and Stegun 26.2.23).
    let t = libm::sqrt(-2.0 * libm::log(p));
    let top = 2.515517 + t * (0.802853 + t * 0.010328);
    let below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308));
    let mut z = -(t - top / below);
    for _ in 0..4 {
        let off = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2) - p;
        let density = libm::exp(-z * z / 2.0) / 2.506_628_274_631_000_5;
        z -= off / density;
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_the_tables() {
        for (p, z) in [(0.01, -2.326_347_874_040_841), (0.025, -1.959_963_984_540_054), (0.5, 0.0)] {
            assert!((normal_quantile(p) - z).abs() < 1e-14, "{p}");
        }
        assert!((normal_quantile(0.99) - 2.326_347_874_040_841).abs() < 1e-14);
    }

    #[test]
    fn a_constant_shift_is_found() {
        let stable: Vec<f64> = (0..40).map(|at| (at * 7 % 40) as f64).collect();
        let canary: Vec<f64> = stable.iter().map(|value| value + 30.0).collect();
        let found = shift(&canary, &stable, 0.98);
        assert!((found.estimate - 30.0).abs() < 0.51, "{found:?}");
        assert!(found.low < 30.0 && 30.0 < found.high && found.low > 20.0, "{found:?}");
    }

    #[test]
    fn the_effect_is_a_share_of_pairs() {
        assert_eq!(common_language_effect(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.5);
        assert_eq!(common_language_effect(&[9.0], &[1.0, 2.0]), 1.0);
    }
}
