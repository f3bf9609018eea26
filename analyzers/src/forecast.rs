//! How many more canary requests a decision needs, if what was seen so far goes on.

use crate::rate_ratio::{Count, Pair};

/// Beyond so many requests a forecast says nothing.
const MOST_REQUESTS: f64 = 1e12;
/// Size of the typical window: large, so that its counts are rates to nine digits.
const TYPICAL: f64 = 1e9;

/// A window like all those seen, at the current split of the traffic; none before both versions had requests.
pub fn typical(seen: Pair, stable_per_canary: Option<f64>) -> Option<Pair> {
    let stable = seen.stable.rate()?;
    let split = stable_per_canary?;
    let canary = seen.canary.rate()?;
    let count = |n: f64, rate: f64| Count::new(n as u64, (n * rate) as u64);
    Some(Pair { canary: count(TYPICAL, canary), stable: count(TYPICAL * split, stable) })
}

/// The same of the canary alone, where no stable is needed.
pub fn typical_alone(seen: Count) -> Option<Pair> {
    let rate = seen.rate()?;
    Some(Pair { canary: Count::new(TYPICAL as u64, (TYPICAL * rate) as u64), stable: Count::default() })
}

/// The smallest number of canary requests after which `log_e(times of the typical window)` reaches the bar.
pub fn more_requests(like: Pair, bar: f64, log_e: impl Fn(f64) -> f64) -> Option<u64> {
    let at = |requests: f64| log_e(requests / like.canary.n.max(1) as f64);
    if at(0.0) >= bar {
        return Some(0);
    }
    let (mut low, mut high) = (0.0, 1.0);
    while at(high) < bar {
        (low, high) = (high, high * 2.0);
        if high > MOST_REQUESTS {
            return None;
        }
    }
    while high - low > (0.005 * high).max(0.5) {
        let middle = (low + high) / 2.0;
        if at(middle) < bar {
            low = middle
        } else {
            high = middle
        }
        if middle == low && middle == high {
            break;
        }
    }
    Some(libm::ceil(high) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_evidence_is_solved_to_half_a_percent() {
        let like = Pair::new((1_000_000_000, 0), (1, 0));
        let more = more_requests(like, 3.0, |times| times * 1e9 * 0.01);
        assert!(more.is_some_and(|more| (300..303).contains(&more)), "{more:?}");
        assert_eq!(more_requests(like, 3.0, |_| -1.0), None);
        assert_eq!(more_requests(like, -2.0, |_| -1.0), Some(0));
    }
}
