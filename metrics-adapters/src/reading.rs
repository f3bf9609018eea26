//! One answer of a source: each pod's counters since its process began, up to the pod's last sample.
//!
//! Promises: what a [`PodSample`] holds was checked where it was read: whole, finite, not negative, buckets cumulative,
//! ascending and ending in +Inf. Never repairs a number: what is wrong is left out, and a complaint says so.

use serde::{Deserialize, Serialize};
use sluice_analyzers::{Arm, Bucket};

/// What a source answered for one rollout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// The instant that was asked for, in milliseconds.
    pub at_ms: i64,
    pub pods: Vec<PodSample>,
    /// What could not be read, in words; at most [`MOST_COMPLAINTS`], the rest counted.
    pub complaints: Vec<String>,
    /// When the next read is worth while: just after the next expected scrape.
    pub next_ms: i64,
}

/// A pod's counters, all from one scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSample {
    pub arm: Arm,
    /// The pod's name, or `pod/container`, or whatever else tells the counting processes apart.
    pub pod: String,
    /// The sample's own time, on the source's clock, in milliseconds.
    pub at_ms: i64,
    pub requests: u64,
    pub errors: u64,
    /// Cumulative, in seconds. Empty: the pod has no histogram (yet). `None`: not asked for, or unreadable.
    pub buckets: Option<Vec<Bucket>>,
    /// When the process began to count, if known.
    pub started_ms: Option<i64>,
    /// Since when the pod has been ready, if known. Sources seldom know; whoever does may fill it in.
    pub ready_ms: Option<i64>,
    /// The same counts by stratum, each name once; together they are the pod's. Empty: its series are not told apart.
    pub strata: Vec<Stratum>,
}

/// What a pod counted in one stratum since its process began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stratum {
    /// Values of the policy's `strata` labels; empty where the series have none of them.
    pub name: String,
    pub requests: u64,
    pub errors: u64,
    /// As in [`PodSample`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<Bucket>>,
}

impl Stratum {
    /// Adds another one's counts. Histograms that differ in their boundaries have no sum: `None`.
    pub(crate) fn add(&mut self, one: &Stratum) {
        self.requests = self.requests.saturating_add(one.requests);
        self.errors = self.errors.saturating_add(one.errors);
        let agree = match (&mut self.buckets, &one.buckets) {
            (Some(_), Some(one)) if one.is_empty() => true,
            (Some(sum), Some(one)) => add_histogram(sum, one),
            _ => false,
        };
        if !agree {
            self.buckets = None;
        }
    }
}

/// Adds to a sum; false if the boundaries differ.
fn add_histogram(sum: &mut Vec<Bucket>, one: &[Bucket]) -> bool {
    if sum.is_empty() {
        sum.extend_from_slice(one);
        return true;
    }
    let same = sum.len() == one.len() && sum.iter().zip(one).all(|(a, b)| a.le == b.le);
    if same {
        sum.iter_mut().zip(one).for_each(|(sum, one)| sum.count = sum.count.saturating_add(one.count));
    }
    same
}

/// More complaints than these are only counted.
pub const MOST_COMPLAINTS: usize = 20;

/// Why a number is no counter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error(
        "{what} is {value}: a counter is a whole number from 0 up; give raw counters, no rates and no gauges"
    )]
    NoCount { what: &'static str, value: f64 },
    #[error("{errors} errors of {requests} requests: errors must be among the requests")]
    ErrorsAboveRequests { errors: u64, requests: u64 },
    #[error(
        "{errors} errors of {requests} requests in stratum {stratum:?}: requests and errors must both have the labels that strata names"
    )]
    StratumErrors { stratum: String, errors: u64, requests: u64 },
    #[error(
        "a bucket of its native histogram goes from {left} to {right} s, which is none of the standard schemas: custom buckets are not read, keep the classic ones beside them"
    )]
    NotNative { left: f64, right: f64 },
    #[error("the histogram has no +Inf bucket: read every bucket")]
    NoInfinity,
    #[error("the histogram has le = {le} twice, or it is no number")]
    Boundary { le: f64 },
    #[error("the histogram's bucket le = {le} counts {count}, fewer than the bucket before it ({before})")]
    BucketsGoDown { le: f64, count: u64, before: u64 },
    #[error(
        "its series come from different scrapes, {apart_ms} ms apart: narrow them to one job with labels: {{match: …}}"
    )]
    TornScrape { apart_ms: i64 },
}

/// A raw counter as a whole number. Counters beyond 2^53 have lost their last digits already and are refused.
pub(crate) fn count(what: &'static str, value: f64) -> Result<u64, Fault> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if (0.0..=EXACT).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(Fault::NoCount { what, value })
    }
}

/// Buckets in any order, as read; sorted and checked.
pub(crate) fn histogram(raw: Vec<(f64, f64)>) -> Result<Vec<Bucket>, Fault> {
    let mut buckets = raw
        .into_iter()
        .map(|(le, value)| Ok(Bucket { le, count: count("a bucket", value)? }))
        .collect::<Result<Vec<_>, Fault>>()?;
    buckets.sort_by(|a, b| a.le.total_cmp(&b.le));
    check_histogram(&buckets)?;
    Ok(buckets)
}

/// No buckets at all are fine: there is no histogram.
pub(crate) fn check_histogram(buckets: &[Bucket]) -> Result<(), Fault> {
    let (mut last_le, mut before) = (f64::NEG_INFINITY, 0);
    for bucket in buckets {
        let Bucket { le, count } = *bucket;
        if le.is_nan() || le <= last_le {
            return Err(Fault::Boundary { le });
        }
        if count < before {
            return Err(Fault::BucketsGoDown { le, count, before });
        }
        (last_le, before) = (le, count);
    }
    if buckets.is_empty() || last_le == f64::INFINITY { Ok(()) } else { Err(Fault::NoInfinity) }
}

/// Complaints, bounded: the first ones in words, the rest as a number.
#[derive(Debug, Default, Clone)]
pub(crate) struct Complaints {
    said: Vec<String>,
    more: usize,
}

impl Complaints {
    pub(crate) fn add(&mut self, complaint: impl Into<String>) {
        let complaint = complaint.into();
        if self.said.contains(&complaint) {
            return;
        }
        if self.said.len() < MOST_COMPLAINTS - 1 { self.said.push(complaint) } else { self.more += 1 }
    }

    pub(crate) fn into_words(mut self) -> Vec<String> {
        if self.more > 0 {
            self.said.push(format!("and {} complaints more", self.more));
        }
        self.said
    }
}

/// How people call a version.
pub(crate) fn arm_name(arm: Arm) -> &'static str {
    match arm {
        Arm::Stable => "stable",
        Arm::Canary => "canary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_finite_numbers_count() {
        assert_eq!(count("requests", 12.0), Ok(12));
        for bad in [-1.0, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e17] {
            let fault = count("requests", bad).unwrap_err().to_string();
            assert!(fault.contains("requests") && fault.contains("raw counters"), "{fault}");
        }
    }

    #[test]
    fn a_histogram_is_sorted_cumulative_and_ends_in_infinity() {
        let inf = f64::INFINITY;
        let good = histogram(vec![(inf, 9.0), (0.1, 4.0), (0.5, 9.0)]).unwrap();
        assert_eq!(good.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [4, 9, 9]);
        assert_eq!(histogram(vec![]), Ok(vec![]));
        assert_eq!(histogram(vec![(0.1, 4.0)]), Err(Fault::NoInfinity));
        assert!(matches!(histogram(vec![(0.1, 4.0), (inf, 3.0)]), Err(Fault::BucketsGoDown { .. })));
        assert!(matches!(histogram(vec![(0.1, 4.0), (0.1, 4.0), (inf, 4.0)]), Err(Fault::Boundary { .. })));
        assert!(matches!(histogram(vec![(f64::NAN, 4.0), (inf, 4.0)]), Err(Fault::Boundary { .. })));
        assert!(matches!(histogram(vec![(inf, f64::NAN)]), Err(Fault::NoCount { .. })));
    }

    #[test]
    fn complaints_are_bounded_and_the_rest_is_counted() {
        let mut complaints = Complaints::default();
        (0..100).for_each(|n| complaints.add(format!("pod {n}")));
        complaints.add("pod 3");
        let words = complaints.into_words();
        assert_eq!(words.len(), MOST_COMPLAINTS);
        assert_eq!(words.last().unwrap(), "and 81 complaints more");
    }
}
