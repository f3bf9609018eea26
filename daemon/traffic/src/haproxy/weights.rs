//! Which integers from 0 to 256 stand for a share, given how many servers each version has. Pure.

use sluice_rollout::Weight;

use crate::TargetError;
use crate::share;

/// HAProxy's largest weight of a server.
const MOST: u64 = 256;

/// How many servers each version has; those of one version get the same weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arms {
    pub stable: u64,
    pub canary: u64,
}

impl Arms {
    /// The weight of each canary server and each stable one: the nearest share that is not above the wanted one, with the
    /// largest numbers that say it.
    pub fn numbers(self, weight: Weight) -> Result<(u64, u64), TargetError> {
        if weight.is_zero() || weight == Weight::FULL {
            return Ok(if weight.is_zero() { (0, MOST) } else { (MOST, 0) });
        }
        let candidates = (1..=MOST).map(|canary| (canary, self.least_stable(canary, weight)));
        let best = candidates
            .filter(|(_, stable)| *stable <= MOST)
            .reduce(|best, next| if self.is_nearer(next, best) { next } else { best });
        match best {
            Some((canary, stable)) if share::fits(canary * self.canary, stable * self.stable, weight) => {
                Ok((canary, stable))
            }
            Some(_) | None => Err(TargetError::TooFine { asked: weight, finest: self.finest() }),
        }
    }

    /// The smallest stable weight with which `canary` does not exceed its share.
    fn least_stable(self, canary: u64, weight: Weight) -> u64 {
        let (share, rest) = (u64::from(weight.hundredths()), u64::from(weight.rest().hundredths()));
        (canary * self.canary * rest).div_ceil(share * self.stable).max(1)
    }

    /// Whether `one` has a larger share than `other` (both are below the wanted one), or the same in larger numbers.
    fn is_nearer(self, one: (u64, u64), other: (u64, u64)) -> bool {
        one.0 * other.1 >= other.0 * one.1
    }

    fn finest(self) -> String {
        let (canary, stable) = (self.canary, self.stable * MOST);
        let percent = 100.0 * canary as f64 / (canary + stable) as f64;
        format!(
            "{percent:.2} % with {} canary and {} stable servers and weights up to {MOST}",
            self.canary, self.stable
        )
    }

    /// The canary's share as it stands; `None` if nobody has any. Numbers that are ours for `meant` read back as it.
    pub fn read(self, canary: &[u64], stable: &[u64], meant: Option<Weight>) -> Option<Weight> {
        let is_ours = |meant: &Weight| {
            self.numbers(*meant)
                .is_ok_and(|(c, s)| canary.iter().all(|n| *n == c) && stable.iter().all(|n| *n == s))
        };
        meant.filter(is_ours).or_else(|| Weight::of_parts(canary.iter().sum(), stable.iter().sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(percent: f64) -> Weight {
        Weight::from_percent(percent).unwrap()
    }

    #[test]
    fn shares_become_the_largest_numbers_that_say_them_and_never_exceed_them() {
        let one = Arms { stable: 1, canary: 1 };
        let (three, two) = (Arms { stable: 3, canary: 1 }, Arms { stable: 1, canary: 2 });
        let table = [
            (one, 5.0, (13, 247)),   // exact
            (one, 50.0, (256, 256)), // exact
            (one, 1.0, (2, 198)),    // exact
            (one, 95.0, (247, 13)),  // exact
            (one, 0.4, (1, 249)),    // exact
            (one, 0.39, (1, 256)),   // 0.3891 %
            (three, 25.0, (256, 256)),
            (two, 50.0, (128, 256)),
            (one, 0.0, (0, 256)),
            (one, 100.0, (256, 0)),
        ];
        for (arms, percent, numbers) in table {
            assert_eq!(arms.numbers(weight(percent)).unwrap(), numbers, "{percent} % over {arms:?}");
        }
        for hundredths in 1..10_000 {
            let weight = Weight::from_hundredths(hundredths).unwrap();
            if let Ok((canary, stable)) = three.numbers(weight) {
                assert!(
                    canary * 10_000 <= (canary + 3 * stable) * u64::from(hundredths),
                    "{weight} was exceeded"
                );
                assert_eq!(three.read(&[canary], &[stable; 3], Some(weight)), Some(weight));
            }
        }
    }

    #[test]
    fn finer_than_one_in_257_is_refused_with_the_finest() {
        let error = Arms { stable: 1, canary: 1 }.numbers(weight(0.1)).unwrap_err().to_string();
        assert!(error.contains("0.1") && error.contains("0.39 %"), "{error}");
        assert!(
            Arms { stable: 10, canary: 1 }.numbers(weight(0.1)).is_ok(),
            "ten stable servers make it finer"
        );
    }

    #[test]
    fn foreign_numbers_are_read_as_they_are() {
        let arms = Arms { stable: 1, canary: 1 };
        assert_eq!(arms.read(&[64], &[192], Some(weight(5.0))), Some(weight(25.0)));
        assert_eq!(arms.read(&[0], &[1], Some(weight(5.0))), Some(Weight::ZERO));
        assert_eq!(arms.read(&[0], &[0], None), None);
    }
}
