//! E[E] <= 1 by exhaustive enumeration: every outcome of a window, weighted by its probability, over a grid of nulls.

use sluice_analyzers::plan::Margin;
use sluice_analyzers::rate_ratio::{Alternative, Pair, increment};
use sluice_analyzers::slow_share::Bet;

/// Binomial probabilities 0..=n.
fn binomial(n: u64, p: f64) -> Vec<f64> {
    let mut log_choose = 0.0;
    (0..=n)
        .map(|k| {
            if k > 0 {
                log_choose += ((n - k + 1) as f64 / k as f64).ln();
            }
            let part = |x: u64, q: f64| if x == 0 { 0.0 } else { x as f64 * q.ln() };
            (log_choose + part(k, p) + part(n - k, 1.0 - p)).exp()
        })
        .collect()
}

fn expectation(n_c: u64, p_c: f64, n_s: u64, p_s: f64, log_e: impl Fn(u64, u64) -> Option<f64>) -> f64 {
    let (canary, stable) = (binomial(n_c, p_c), binomial(n_s, p_s));
    let mut sum = 0.0;
    for (x_c, at_c) in canary.iter().enumerate() {
        for (x_s, at_s) in stable.iter().enumerate() {
            sum += at_c * at_s * log_e(x_c as u64, x_s as u64).map_or(0.0, f64::exp);
        }
    }
    sum
}

const SIZES: [(u64, u64); 5] = [(1, 1), (3, 9), (12, 4), (20, 40), (40, 15)];
const RATES: [f64; 5] = [0.001, 0.02, 0.1, 0.35, 0.7];
const MARGINS: [(f64, f64); 4] = [(1.0, 0.0), (1.25, 0.0), (1.0, 0.02), (1.5, 0.1)];

/// The largest E[E] over the grid; `null` gives the canary's rate at the null's edge and inside it.
fn largest(rhos: &[f64], inside: fn(f64) -> f64) -> f64 {
    let mut largest: f64 = 0.0;
    for (n_c, n_s) in SIZES {
        for p_s in RATES {
            for (r, d) in MARGINS {
                let edge = r * p_s + d;
                for p_c in [edge, inside(edge)] {
                    if !(0.0..1.0).contains(&p_c) {
                        continue;
                    }
                    for rho in rhos {
                        let alternative = Alternative::new(rho * r, r, 1.0);
                        let log_e = |x_c, x_s| {
                            let step = increment(r, &alternative, Pair::new((n_c, x_c), (n_s, x_s)));
                            (!step.killed).then_some(step.s1 + d * step.s2)
                        };
                        largest = largest.max(expectation(n_c, p_c, n_s, p_s, log_e));
                    }
                }
            }
        }
    }
    largest
}

#[test]
fn formula_1_to_abort() {
    let largest = largest(&[1.2, 2.0, 20.0], |edge| edge * 0.7);
    assert!(largest <= 1.0 + 1e-9, "{largest}");
    assert!(largest > 0.9, "a bound that is never near 1 wastes evidence: {largest}");
}

#[test]
fn formula_1_to_pass_rho_zero_included() {
    let largest = largest(&[0.0, 0.4, 0.85], |edge| edge * 1.3);
    assert!(largest <= 1.0 + 1e-9, "{largest}");
    assert!(largest > 0.9, "{largest}");
}

#[test]
fn the_share_of_slow_requests_whatever_is_guessed() {
    let mut largest: f64 = 0.0;
    for (n_c, n_s) in SIZES {
        for p_s in RATES {
            for (ratio, plus) in MARGINS {
                for p_c in [ratio * p_s + plus, 0.6 * ratio * p_s] {
                    if p_c >= 1.0 {
                        continue;
                    }
                    for guess in [p_s, p_s / 3.0, 0.5] {
                        for odds in [1.25, 4.0] {
                            let margin = Margin { ratio, plus };
                            let Some(bet) = Bet::new(margin, guess, odds, n_c as f64, n_s as f64) else {
                                continue;
                            };
                            let log_e = |x_c, x_s| Some(bet.log_e(Pair::new((n_c, x_c), (n_s, x_s))));
                            largest = largest.max(expectation(n_c, p_c, n_s, p_s, log_e));
                        }
                    }
                }
            }
        }
    }
    assert!(largest <= 1.0 + 1e-9, "{largest}");
    assert!(largest > 0.9, "{largest}");
}

#[test]
fn an_absolute_limit_both_ways() {
    let (n, limit, d) = (60, 0.05, 0.02);
    for (rho, inside) in [(1.2f64, 0.7), (3.0, 0.7), (0.4, 1.4), (0.85, 1.4)] {
        for p in [limit + d, (limit + d) * inside] {
            let log_e = |x: u64| x as f64 * rho.ln() - n as f64 * (limit + d) * (rho - 1.0);
            let mean: f64 = binomial(n, p).iter().enumerate().map(|(x, at)| at * log_e(x as u64).exp()).sum();
            assert!(mean <= 1.0 + 1e-9, "{rho} {p}: {mean}");
        }
    }
}
