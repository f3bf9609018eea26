//! When two integers are near enough to a wanted share. Pure.
//!
//! Integers are always chosen from below, so that the canary never gets more than its step. They may miss a weight by a
//! tenth of it (or of what is left for stable, if that is less), and by one percentage point at most: 0.389 % stands for
//! 0.4 %, but not for 0.5 %. A weight above 0 is never 0, and one below 100 % never all.

use sluice_rollout::Weight;

/// As a fraction of the whole.
const MOST_MISS: f64 = 0.01;

/// Whether `canary` to `stable` stands for `weight`.
pub(crate) fn fits(canary: u64, stable: u64, weight: Weight) -> bool {
    if weight.is_zero() || weight == Weight::FULL {
        return if weight.is_zero() { canary == 0 && stable > 0 } else { stable == 0 && canary > 0 };
    }
    if canary == 0 || stable == 0 {
        return false;
    }
    let miss = weight.fraction() - canary as f64 / (canary + stable) as f64;
    let smaller = weight.fraction().min(weight.rest().fraction());
    (-1e-12..=MOST_MISS.min(smaller / 10.0) + 1e-12).contains(&miss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_weight_may_be_missed_but_never_exceeded() {
        let table = [
            (5.0, 5, 95, true),
            (5.0, 13, 242, false), // 5.1 % is more than was asked for
            (5.0, 13, 250, true),  // 4.94 %
            (50.0, 45, 55, false), // five points
            (0.4, 1, 256, true),   // 0.389 %
            (0.5, 1, 256, false),  // a fifth less
            (0.1, 0, 100, false),  // none is not a little
            (99.9, 100, 0, false), // all is not nearly all
            (99.7, 256, 1, false), // stable's share would be a third more
            (0.0, 0, 1, true),
            (0.0, 0, 0, false),
            (100.0, 1, 0, true),
        ];
        for (percent, canary, stable, expected) in table {
            let weight = Weight::from_percent(percent).unwrap();
            assert_eq!(fits(canary, stable, weight), expected, "{canary}/{stable} for {percent} %");
        }
    }
}
