//! What each stratum counted, for people: how the versions' mixes of traffic differ. No verdict rests on it.

use crate::rate_ratio::{Count, Pair};
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

/// Strata beyond these are not told: the state is bounded.
const MOST_STRATA: usize = 64;

/// Ordered by name; empty where windows have no strata.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Mix(Vec<(String, Pair)>);

/// One stratum's requests and errors in both versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StratumCounts {
    pub stratum: String,
    pub canary: Count,
    pub stable: Count,
}

impl Mix {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, window: &Window) {
        for pod in window.pods.iter().filter(|pod| !pod.stratum.is_empty() && pod.requests > 0) {
            let count = Count::new(pod.requests, pod.errors);
            if let Some(pair) = self.of(&pod.stratum) {
                match pod.arm {
                    Arm::Canary => pair.canary.add(count),
                    Arm::Stable => pair.stable.add(count),
                }
            }
        }
    }

    pub(crate) fn told(&self) -> Vec<StratumCounts> {
        let one = |(stratum, pair): &(String, Pair)| StratumCounts {
            stratum: stratum.clone(),
            canary: pair.canary,
            stable: pair.stable,
        };
        self.0.iter().map(one).collect()
    }

    fn of(&mut self, stratum: &str) -> Option<&mut Pair> {
        let place = self.0.binary_search_by(|(name, _)| name.as_str().cmp(stratum));
        let place = match place {
            Ok(known) => known,
            Err(_) if self.0.len() >= MOST_STRATA => return None,
            Err(new) => {
                self.0.insert(new, (stratum.to_owned(), Pair::default()));
                new
            }
        };
        self.0.get_mut(place).map(|(_, pair)| pair)
    }
}
