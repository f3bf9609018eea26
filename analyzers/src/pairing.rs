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
    /// Where stable was read first: the canary's last window beside stable's of this one; the canary's of this one waits in
    /// its place. Otherwise nothing has to wait: this window as it is, and what waited says nothing.
    pub fn pair(&mut self, stratum: &str, now: Pair, stable_first: bool) -> Pair {
        if !stable_first {
            self.0.retain(|(name, _)| name != stratum);
            return now;
        }
        let known = self.0.iter().position(|(name, _)| name == stratum);
        let before = match known {
            Some(at) => std::mem::replace(&mut self.0[at].1, now.canary),
            None => {
                if self.0.len() < MOST_STRATA {
                    self.0.push((stratum.to_owned(), now.canary));
                }
                Count::default()
            }
        };
        Pair { canary: before, stable: now.stable }
    }
}
