//! What no test can beat: Wald's bound for latencies, at the boundary that tells most, and for the pass direction.

use crate::world::{BOUNDARIES, Change, normal_below};

/// Canary requests that any proof at `alpha` needs on average that a canary as good as stable is not at
/// `p_c >= r p_s + d`: the divergence from the nearest such pair of rates, stable's unknown too.
pub fn pass(alpha: f64, base: f64, r: f64, d: f64, weight: f64) -> f64 {
    let many = (1.0 - weight) / weight;
    let at = |q: f64| divergence(base, (r * q + d).min(1.0 - 1e-12)) + many * divergence(base, q);
    let (mut low, mut high) = (0.0, base);
    for _ in 0..200 {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if at(left) < at(right) { high = right } else { low = left }
    }
    (1.0 / alpha).ln() / at((low + high) / 2.0)
}

/// Of two shares, in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// The smallest bound over boundaries, about the null "share of slow requests at most r times stable's".
pub fn latency(change: Change, r: f64, weight: f64) -> f64 {
    let slow = |le: f64, scale: f64| 1.0 - normal_below(((le / scale) / 0.040f64).ln() / 0.8);
    let bound = |le: f64| {
        let stable = slow(le, 1.0);
        let canary = match change {
            Change::Scale(scale) => slow(le, scale),
            Change::Tail(share) if le < 2.0 => share + (1.0 - share) * stable,
            Change::Tail(share) => (1.0 - share) * stable,
            Change::None | Change::Errors(_) | Change::LateErrors(..) => stable,
        };
        (1.0f64 / 0.01).ln() / information(canary, stable, r, (1.0 - weight) / weight)
    };
    BOUNDARIES.iter().map(|le| bound(*le)).fold(f64::INFINITY, f64::min)
}

/// Per canary request, with `many` stable requests beside each: the divergence from the nearest null.
fn information(canary: f64, stable: f64, r: f64, many: f64) -> f64 {
    if canary <= r * stable {
        return 1e-300;
    }
    let at = |q: f64| divergence(canary, (r * q).min(1.0 - 1e-12)) + many * divergence(stable, q);
    let (mut low, mut high) = (stable, (canary / r).min(1.0 / r));
    for _ in 0..200 {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if at(left) < at(right) { high = right } else { low = left }
    }
    at((low + high) / 2.0)
}
