//! Which number of canary pods stands for which weight. Pure.
//!
//! Stable keeps all its pods, so of S stable and c canary pods the canary's share is c / (S + c). The number is rounded down.

use sluice_rollout::Weight;

use crate::share;

/// In hundredths of a percent. Beyond it the canary would have more pods than stable, which keeps all of its own.
pub(super) const MOST: u32 = 5_000;

/// Stable pods with which a policy's weights are looked for.
const MOST_STABLE: u32 = 1_000;

/// The canary's pods beside so many of stable's: at most the weight.
pub(super) fn pods(stable: u32, weight: Weight) -> u32 {
    let rest = u64::from(weight.rest().hundredths()).max(1);
    u32::try_from(u64::from(stable) * u64::from(weight.hundredths()) / rest).unwrap_or(u32::MAX)
}

/// Whether so many stable pods leave a number of canary pods that stands for the weight.
pub(super) fn fits(stable: u32, weight: Weight) -> bool {
    share::fits(u64::from(pods(stable, weight)), u64::from(stable), weight)
}

/// The least weight that so many canary pods stand for: their share, to the next hundredth of a percent.
fn weight_of(canary: u32, stable: u32) -> Weight {
    let total = (u64::from(canary) + u64::from(stable)).max(1);
    let hundredths = (u64::from(canary) * 10_000).div_ceil(total);
    Weight::from_hundredths(u32::try_from(hundredths).unwrap_or(u32::MAX)).unwrap_or(Weight::FULL)
}

/// The weights nearest to one that does not fit: `1 canary pod is 20 %, 2 are 33.34 %`.
pub(super) fn nearest(stable: u32, weight: Weight) -> String {
    let below = pods(stable, weight);
    let told = |canary: u32| {
        let verb = if canary == 1 { "pod is" } else { "are" };
        format!("{canary}{} {verb} {}", if canary == 1 { " canary" } else { "" }, weight_of(canary, stable))
    };
    match below {
        0 => format!("the finest is {}: one canary pod", weight_of(1, stable)),
        below => format!("{}, {}", told(below), told(below + 1)),
    }
}

/// The fewest stable pods with which every one of the weights fits.
pub(crate) fn fewest_stable_pods(weights: &[Weight]) -> Option<u32> {
    (1..=MOST_STABLE).find(|stable| weights.iter().all(|weight| fits(*stable, *weight)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent: f64) -> Weight {
        Weight::from_percent(percent).unwrap()
    }

    #[test]
    fn pods_are_rounded_down_and_a_weight_that_they_miss_does_not_fit() {
        let table = [
            (4, 20.0, 1, true),
            (4, 25.0, 1, false),
            (4, 33.34, 2, true),
            (4, 33.33, 1, false), // two would be more than was asked for
            (3, 50.0, 3, true),
            (10, 1.0, 0, false),
            (99, 1.0, 1, true),
            (95, 1.0, 0, false), // one would be 1.04 %
            (108, 1.0, 1, true), // 0.92 %: within a tenth
            (1, 50.0, 1, true),
        ];
        for (stable, weight, expected, fit) in table {
            let weight = percent(weight);
            assert_eq!((pods(stable, weight), fits(stable, weight)), (expected, fit), "{stable}, {weight}");
        }
    }

    #[test]
    fn the_nearest_weights_fit_themselves() {
        assert_eq!(nearest(4, percent(25.0)), "1 canary pod is 20 %, 2 are 33.34 %");
        assert_eq!(nearest(4, percent(5.0)), "the finest is 20 %: one canary pod");
        for stable in 1..50 {
            for canary in 1..=stable {
                assert!(fits(stable, weight_of(canary, stable)), "{canary} beside {stable}");
            }
        }
    }

    #[test]
    fn the_fewest_stable_pods_for_a_policy_are_found() {
        assert_eq!(fewest_stable_pods(&[percent(10.0), percent(25.0), percent(50.0)]), Some(9));
        assert_eq!(fewest_stable_pods(&[percent(50.0)]), Some(1));
        assert_eq!(fewest_stable_pods(&[percent(0.05)]), None);
    }
}
