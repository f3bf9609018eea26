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

/// The weights next to one that no numbers stand for: the highest below it, as exact as its numbers are, and the lowest above.
/// `numbers`: what would be written for a weight, if it can be.
pub(crate) fn nearest<N: PartialEq>(weight: Weight, numbers: impl Fn(Weight) -> Option<N>) -> Vec<Weight> {
    let of = |hundredths: u32| {
        let weight = Weight::from_hundredths(hundredths).ok()?;
        Some((weight, numbers(weight)?))
    };
    let asked = weight.hundredths();
    let below = (0..asked).rev().find_map(of).map(|(weight, written)| {
        let same = |hundredths: &u32| of(*hundredths).is_some_and(|(_, lower)| lower == written);
        let least = (0..weight.hundredths()).rev().take_while(same).last();
        least.and_then(|least| Weight::from_hundredths(least).ok()).unwrap_or(weight)
    });
    let above = (asked + 1..=Weight::FULL.hundredths()).find_map(of).map(|(weight, _)| weight);
    below.into_iter().chain(above).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_weights_are_those_that_their_numbers_say() {
        let of_twenty = |weight: Weight| {
            let canary = 20 * u64::from(weight.hundredths()) / 10_000;
            fits(canary, 20 - canary, weight).then_some(canary)
        };
        let all_or_nothing = |weight: Weight| (weight.is_zero() || weight == Weight::FULL).then_some(weight);
        let percent = |percent: f64| Weight::from_percent(percent).unwrap();
        for (asked, expected) in [(3.0, [0.0, 5.0]), (7.0, [5.0, 10.0]), (96.0, [95.0, 100.0])] {
            assert_eq!(nearest(percent(asked), of_twenty), expected.map(percent), "{asked} %");
        }
        assert_eq!(nearest(percent(30.0), all_or_nothing), [Weight::ZERO, Weight::FULL]);
        assert_eq!(nearest(percent(30.0), |_| None::<u64>), []);
    }

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
