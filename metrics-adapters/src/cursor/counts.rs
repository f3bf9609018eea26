//! What was counted up to a sample, of a pod or of one stratum of it, and how two such counts differ.

use sluice_analyzers::Bucket;

use super::difference::Mark;
use crate::{
    PodSample,
    reading::{Stratum, check_histogram},
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Counts<'a> {
    pub(super) stratum: &'a str,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) buckets: Option<&'a [Bucket]>,
}

impl<'a> Counts<'a> {
    /// Of a process that just began.
    pub(super) fn zero(stratum: &'a str) -> Counts<'a> {
        Counts { stratum, requests: 0, errors: 0, buckets: Some(&[]) }
    }

    pub(super) fn of_pod(sample: &'a PodSample) -> Counts<'a> {
        let PodSample { requests, errors, .. } = *sample;
        Counts { stratum: "", requests, errors, buckets: sample.buckets.as_deref() }
    }

    pub(super) fn of_mark(mark: &'a Mark) -> Counts<'a> {
        Counts { stratum: "", requests: mark.requests, errors: mark.errors, buckets: mark.buckets.as_deref() }
    }

    /// Whether one of these counters is lower than before.
    pub(super) fn dropped_since(self, before: Counts<'_>) -> bool {
        let bucket_dropped = match (before.buckets, self.buckets) {
            (Some(before), Some(now)) => shared(before, now).any(|(before, now)| now.count < before.count),
            _ => false,
        };
        self.requests < before.requests || self.errors < before.errors || bucket_dropped
    }

    /// Requests in the histogram, if there is one.
    pub(super) fn histogram_total(self) -> Option<u64> {
        self.buckets.map(|buckets| buckets.last().map_or(0, |last| last.count))
    }

    /// The difference of two histograms, or none and why. No histogram is no complaint. Where boundaries went (a native
    /// histogram was made coarser), those that are left are enough.
    pub(super) fn histogram_since(self, before: Counts<'_>) -> (Vec<Bucket>, Option<String>) {
        let (Some(before), Some(now)) = (before.buckets, self.buckets) else { return (Vec::new(), None) };
        if before.is_empty() {
            return (now.to_vec(), None);
        }
        if now.is_empty() {
            return (Vec::new(), Some("its histogram vanished".to_owned()));
        }
        let minus = |(before, now): (&Bucket, &Bucket)| Bucket {
            le: now.le,
            count: now.count.saturating_sub(before.count),
        };
        let buckets: Vec<Bucket> = shared(before, now).map(minus).collect();
        if !buckets.iter().any(|bucket| bucket.le.is_finite()) && before.len().max(now.len()) > 1 {
            let why = "its buckets have other boundaries than before; counted from here on";
            return (Vec::new(), Some(why.to_owned()));
        }
        match check_histogram(&buckets) {
            Ok(()) => (buckets, None),
            Err(fault) => (Vec::new(), Some(format!("{fault}; its latencies are left out"))),
        }
    }
}

impl<'a> From<&'a Stratum> for Counts<'a> {
    fn from(stratum: &'a Stratum) -> Counts<'a> {
        let Stratum { requests, errors, .. } = *stratum;
        Counts { stratum: &stratum.name, requests, errors, buckets: stratum.buckets.as_deref() }
    }
}

/// The buckets that two histograms both have; both ascend.
fn shared<'a>(one: &'a [Bucket], other: &'a [Bucket]) -> impl Iterator<Item = (&'a Bucket, &'a Bucket)> {
    let mut rest = other;
    one.iter().filter_map(move |bucket| {
        let skipped =
            rest.iter().take_while(|next| next.le < bucket.le && !same_boundary(bucket, next)).count();
        rest = &rest[skipped..];
        rest.first().filter(|next| same_boundary(bucket, next)).map(|next| (bucket, next))
    })
}

/// Adds a later histogram of the same pod; where their boundaries differ only the shared ones go on.
pub(super) fn add_later(open: &mut Vec<Bucket>, later: Vec<Bucket>) {
    if open.is_empty() {
        *open = later;
    } else if !later.is_empty() {
        let sum = |(open, later): (&Bucket, &Bucket)| Bucket {
            le: open.le,
            count: open.count.saturating_add(later.count),
        };
        *open = shared(open, &later).map(sum).collect();
        if !open.iter().any(|bucket| bucket.le.is_finite()) {
            open.clear();
        }
    }
}

/// A boundary that went through JSON may have lost its last bit.
fn same_boundary(one: &Bucket, other: &Bucket) -> bool {
    let near = || one.le.is_finite() && (one.le - other.le).abs() <= 1e-9 * one.le.abs();
    one.le == other.le || near()
}
