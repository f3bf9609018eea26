//! Which strata one rollout keeps apart.
//!
//! Bounded, since each has counters of its own on every pod. Chosen by what stable had counted before, the busiest first,
//! and kept: a value that once was counted with the rest stays there, or its counters would seem to go down.

use serde::{Deserialize, Serialize};
use sluice_analyzers::{Arm, PodWindow};

use crate::{PodSample, Reading, reading::Stratum};

/// Values kept apart; the rest is one stratum more.
const MOST_STRATA: usize = 16;
/// The name of the rest.
const REST: &str = "(others)";

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Strata {
    names: Vec<String>,
    /// Whether there were more than are kept apart.
    #[serde(default)]
    full: bool,
}

impl Strata {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Takes in the names of a reading. Answers, once, that there are too many.
    pub(super) fn adopt(&mut self, reading: &Reading) -> Option<String> {
        let mut new: Vec<(u64, &str)> = Vec::new();
        for sample in &reading.pods {
            for stratum in sample.strata.iter().filter(|stratum| !self.names.contains(&stratum.name)) {
                let busy = if sample.arm == Arm::Stable { stratum.requests } else { 0 };
                match new.iter_mut().find(|(_, name)| *name == stratum.name) {
                    Some((sum, _)) => *sum = sum.saturating_add(busy),
                    None => new.push((busy, &stratum.name)),
                }
            }
        }
        if new.is_empty() || self.full {
            return None;
        }
        new.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let room = MOST_STRATA - self.names.len().min(MOST_STRATA);
        self.full = new.len() > room;
        self.names.extend(new.iter().take(room).map(|(_, name)| (*name).to_owned()));
        self.full.then(|| {
            format!(
                "the strata labels have more than {MOST_STRATA} values: those beyond the busiest of stable's are \
                 compared as one; name labels with fewer values under strata"
            )
        })
    }

    /// The sample with all that is not kept apart as one.
    pub(super) fn fold(&self, sample: &PodSample) -> Vec<Stratum> {
        let mut folded: Vec<Stratum> = Vec::with_capacity(sample.strata.len().min(MOST_STRATA + 1));
        for stratum in &sample.strata {
            if self.names.contains(&stratum.name) {
                folded.push(stratum.clone());
                continue;
            }
            match folded.iter_mut().find(|one| one.name == REST) {
                Some(rest) => rest.add(stratum),
                None => folded.push(Stratum { name: REST.to_owned(), ..stratum.clone() }),
            }
        }
        folded
    }
}

/// Of a window's rows, in their order: strata of a pod that counted nothing are left out (but for one row, since a pod that
/// counted nothing is there, too), and what belongs to the pod as a whole is told once.
pub(super) fn once_a_pod(rows: Vec<PodWindow>) -> Vec<PodWindow> {
    let mut kept: Vec<PodWindow> = Vec::with_capacity(rows.len());
    let mut head = 0;
    for mut row in rows {
        let silent = |row: &PodWindow| row.requests == 0 && row.histogram_total() == 0;
        match kept.get_mut(head).filter(|first| first.arm == row.arm && first.pod == row.pod) {
            None => {
                head = kept.len();
                kept.push(row);
            }
            Some(first) => {
                first.restarts = sum(first.restarts, row.restarts.take());
                if silent(first) && !silent(&row) {
                    *first = PodWindow { restarts: first.restarts, ..row };
                } else if !silent(&row) {
                    kept.push(row);
                }
            }
        }
    }
    kept
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
