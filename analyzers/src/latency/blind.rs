//! Why latencies cannot be judged though there were requests: said as no data, never taken for an agreement.

use super::readable;
use crate::window::{Arm, PodWindow, Window};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Blind {
    /// The version had requests, and no pod of it a histogram.
    Gone(Arm),
    /// A pod's buckets lack a boundary that has been judged since the first window.
    Lacks { pod: String, le: f64 },
    /// The pods have no finite boundary in common.
    Apart { pod: String, other: String },
}

impl Blind {
    /// `judged`: the boundaries that some pod lacks, or none where all could be counted.
    pub(super) fn of(window: &Window, arms: &[Arm], warmup_ms: u64, judged: &[f64]) -> Option<Blind> {
        let gone =
            |arm: &&Arm| window.requests(**arm) > 0 && window.of(**arm).all(|pod| pod.buckets.is_empty());
        if let Some(arm) = arms.iter().find(gone) {
            return Some(Blind::Gone(*arm));
        }
        judged.iter().find_map(|le| {
            let lacks = |pod: &&PodWindow| {
                readable(pod, warmup_ms) && !pod.buckets.iter().any(|bucket| bucket.le == *le)
            };
            let pod = window.pods.iter().find(lacks)?;
            Some(Blind::Lacks { pod: pod.pod.clone(), le: *le })
        })
    }

    /// The first pod, and the first with which nothing is left that all so far have.
    pub(super) fn apart(window: &Window, warmup_ms: u64) -> Option<Blind> {
        let mut pods = window.pods.iter().filter(|pod| readable(pod, warmup_ms));
        let first = pods.next()?;
        let finite = first.buckets.iter().map(|bucket| bucket.le).filter(|le| le.is_finite());
        let mut common: Vec<f64> = finite.collect();
        for pod in pods {
            common.retain(|le| pod.buckets.iter().any(|bucket| bucket.le == *le));
            if common.is_empty() {
                return Some(Blind::Apart { pod: first.pod.clone(), other: pod.pod.clone() });
            }
        }
        None
    }
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blind::Gone(Arm::Canary) => {
                f.write_str("the canary had requests and no histogram in the last window")
            }
            Blind::Gone(Arm::Stable) => {
                f.write_str("stable had requests and no histogram in the last window")
            }
            Blind::Lacks { pod, le } => write!(
                f,
                "pod {pod:?} has no bucket le = {le}, which is judged since the first window: give all pods the same buckets for the whole rollout"
            ),
            Blind::Apart { pod, other } => write!(
                f,
                "the histograms of pods {pod:?} and {other:?} have no finite boundary in common with the others': give all pods the same buckets, or turn the latency metric off"
            ),
        }
    }
}
