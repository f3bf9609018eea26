//! The e-variable for shares of any size: "the canary's share of slow requests is at most r times stable's, plus d".
//!
//! Formula 1 is made for rare events; a share of slow requests may be anything. For a guess q of stable's share the
//! null's point is `(r q + d, q)`; the alternative moves away from it along the line on which E stays an e-variable,
//! ```text
//! theta_c = r q + d + lambda v_c / n_c,   theta_s = q - r lambda v_s / n_s,   v = theta (1 - theta) at the null's point
//! logE = x_c ln(theta_c / null_c) + (n_c - x_c) ln((1 - theta_c) / (1 - null_c)) + the same for stable
//! ```
//! and lambda is chosen so that the odds ratio of the alternative is `odds` times the null's. Then, by 1 + y <= e^y,
//! E[E] <= exp(lambda (p_c - r p_s - d)) <= 1 under the null, for every q that is known beforehand: a bad q costs power
//! only. With r = 1, d = 0 it is the Bernoulli e-variable of Turner, Ly and Grünwald, "Generic e-variables for exact
//! sequential k-sample tests that allow for optional stopping" (2024); the margin is the same argument at the null's
//! nearest point.
//!
//! Never clips one theta alone: that made E[E] as large as 18.

use crate::plan::Margin;
use crate::rate_ratio::{Count, Pair};

/// Nearer to 0 or 1 than this a guess is moved: it is only a guess.
const GUESS_EDGE: f64 = 1e-6;

/// The four logarithms of one alternative at one guess and one split of the traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bet {
    canary: Stake,
    stable: Stake,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Stake {
    slow: f64,
    fast: f64,
}

impl Bet {
    /// None where the margin leaves no room: r q + d reaches 1.
    pub fn new(margin: Margin, guess: f64, odds: f64, n_c: f64, n_s: f64) -> Option<Self> {
        let null_s = guess.clamp(GUESS_EDGE, 1.0 - GUESS_EDGE);
        let null_c = margin.ratio * null_s + margin.plus;
        if null_c >= 1.0 - GUESS_EDGE {
            return None;
        }
        let share = n_c / (n_c + n_s);
        let up = null_c * (1.0 - null_c) / share;
        let down = margin.ratio * null_s * (1.0 - null_s) / (1.0 - share);
        let lambda = lambda(null_c, null_s, up, down, odds);
        Some(Self { canary: stake(null_c, up * lambda), stable: stake(null_s, -down * lambda) })
    }

    pub fn log_e(&self, pair: Pair) -> f64 {
        self.canary.log_e(pair.canary) + self.stable.log_e(pair.stable)
    }
}

impl Stake {
    fn log_e(self, count: Count) -> f64 {
        count.x as f64 * self.slow + (count.n - count.x) as f64 * self.fast
    }
}

/// ln(theta / null) and ln((1 - theta) / (1 - null)) for theta = null + shift.
fn stake(null: f64, shift: f64) -> Stake {
    Stake { slow: libm::log1p(shift / null), fast: libm::log1p(-shift / (1.0 - null)) }
}

/// The smaller root of (c + up l)(1 - s + down l) = psi (s - down l)(1 - c - up l), where psi is `odds` times the
/// null's own odds ratio. Left of it both thetas lie strictly inside (0, 1).
fn lambda(c: f64, s: f64, up: f64, down: f64, odds: f64) -> f64 {
    let psi = odds * (c * (1.0 - s)) / (s * (1.0 - c));
    let square = up * down * (1.0 - psi);
    let linear = up * (1.0 - s) + c * down + psi * (down * (1.0 - c) + s * up);
    let constant = c * (1.0 - s) - psi * s * (1.0 - c);
    let root = libm::sqrt((linear * linear - 4.0 * square * constant).max(0.0));
    -2.0 * constant / (linear + root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statistics.md, section 2, as it stands there.
    fn turner(q: f64, psi: f64, w: f64) -> (f64, f64) {
        let a = (1.0 - w) * (psi - 1.0);
        let b = w * psi + 1.0 - w - q * (psi - 1.0);
        let d = (b * b + 4.0 * a * q).sqrt();
        let theta_s = if b >= 0.0 { 2.0 * q / (b + d) } else { (d - b) / (2.0 * a) };
        (psi * theta_s / (1.0 + (psi - 1.0) * theta_s), theta_s)
    }

    #[test]
    fn without_a_margin_it_is_turners() {
        for q in [1e-4, 0.01, 0.3, 0.7, 0.99] {
            for psi in [1.1, 2.0, 10.0] {
                for (n_c, n_s) in [(10.0, 990.0), (50.0, 50.0), (900.0, 100.0)] {
                    let bet = Bet::new(Margin { ratio: 1.0, plus: 0.0 }, q, psi, n_c, n_s).unwrap();
                    let (theta_c, theta_s) = turner(q, psi, n_c / (n_c + n_s));
                    assert!((bet.canary.slow - (theta_c / q).ln()).abs() < 1e-9, "{q} {psi}");
                    assert!((bet.stable.fast - ((1.0 - theta_s) / (1.0 - q)).ln()).abs() < 1e-9, "{q} {psi}");
                }
            }
        }
    }

    #[test]
    fn a_margin_without_room_bets_nothing() {
        assert!(Bet::new(Margin { ratio: 1.25, plus: 0.0 }, 0.85, 2.0, 10.0, 90.0).is_none());
    }
}
