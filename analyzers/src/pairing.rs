//! Windows of both versions that were not read at the same moment.
//!
//! Where stable's pods are scraped before the canary's, an incident that begins between the two would look like the
//! canary's fault alone. There each canary window is also held against stable's *next* one, in a lane of its own, and the
//! smaller evidence of the two lanes counts: never more than that of the windows as they are, so no validity is lost, and
//! hardly less once the incident is in both. Which windows wait is told by the times of samples alone, never by counts.

use crate::rate_ratio::{Count, Pair};
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

/// Strata beyond these are not paired late: the state is bounded.
const MOST_STRATA: usize = 64;

/// Whether any pod of stable's was sampled before the last of the canary's.
pub fn stable_is_read_first(window: &Window) -> bool {
    let ends = |arm| window.of(arm).filter_map(|pod| pod.sampled_ms.map(|(_, end)| end));
    let (first, last) = (ends(Arm::Stable).min(), ends(Arm::Canary).max());
    first.zip(last).is_some_and(|(stable, canary)| stable < canary)
}

/// The canary's last window, by stratum, until stable's next comes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Waiting(Vec<(String, Count)>);

impl Waiting {
    /// What stable's count of this window is held against. Where stable was read first, this is the canary's last window,
    /// and the canary's of this one waits; otherwise both, for stable's ends at or after them. Nothing of the canary's is
    /// left out: it waits until stable has counted something.
    pub fn pair(&mut self, stratum: &str, now: Pair, stable_first: bool) -> Pair {
        let Some(waiting) = self.of(stratum) else { return Pair::default() };
        if now.stable.n == 0 {
            waiting.add(now.canary);
            return Pair::default();
        }
        let mut canary = std::mem::take(waiting);
        if stable_first {
            *waiting = now.canary;
        } else {
            canary.add(now.canary);
        }
        Pair { canary, stable: now.stable }
    }

    fn of(&mut self, stratum: &str) -> Option<&mut Count> {
        let known = self.0.iter().position(|(name, _)| name == stratum);
        if known.is_none() && self.0.len() < MOST_STRATA {
            self.0.push((stratum.to_owned(), Count::default()));
        }
        let at = known.unwrap_or(self.0.len().saturating_sub(1));
        self.0.get_mut(at).filter(|(name, _)| name == stratum).map(|(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_of_the_canary_is_left_out_however_the_scrapes_alternate() {
        let mut waiting = Waiting::default();
        let mut paired = Count::default();
        let orders = [true, false, true, true, false, false, true, false];
        for (at, stable_first) in orders.into_iter().enumerate() {
            let stable = Count::new(if at == 3 { 0 } else { 100 }, 0);
            let canary = Count::new(10, at as u64);
            paired.add(waiting.pair("", Pair { canary, stable }, stable_first).canary);
        }
        assert_eq!(paired, Count::new(80, 28));
    }
}
