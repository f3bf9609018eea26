//! One window: what each pod of both versions counted between two instants, both versions at once.
//!
//! Promises: [`Window::check`] accepts only windows that can be counted; its errors name pod, place and remedy.
//! Never repairs a count: a window that contradicts itself is refused whole.

use serde::{Deserialize, Serialize};

/// Which of the two versions a pod belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    Stable,
    Canary,
}

/// What was counted between `start_ms` and `end_ms` (milliseconds of the source's clock).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// 1-based; 0 is history from before the rollout; the bake is the step after the last.
    pub step: u32,
    pub start_ms: i64,
    pub end_ms: i64,
    pub pods: Vec<PodWindow>,
}

/// What one pod counted within the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodWindow {
    pub arm: Arm,
    pub pod: String,
    /// Route, method or zone that the counts belong to; strata never mix, so a shift of traffic is no regression.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stratum: String,
    pub requests: u64,
    pub errors: u64,
    /// Cumulative and ascending, the last one +Inf; empty means no histogram.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<Bucket>,
    /// Gauges by name; NaN where the source had none, which JSON writes as `null`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "nan_as_null")]
    pub values: Vec<(String, f64)>,
    /// How long the pod had been ready at the window's end, for the warm-up; unknown counts as warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_for_ms: Option<u64>,
    /// How often its containers restarted within the window; unknown if the source cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// The instants of the pod's own first and last sample, where scrapes of different pods have different phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_ms: Option<(i64, i64)>,
}

impl PodWindow {
    /// A pod that counted requests and errors and nothing else.
    pub fn new(arm: Arm, pod: impl Into<String>, requests: u64, errors: u64) -> Self {
        Self {
            arm,
            pod: pod.into(),
            stratum: String::new(),
            requests,
            errors,
            buckets: Vec::new(),
            values: Vec::new(),
            ready_for_ms: None,
            restarts: None,
            sampled_ms: None,
        }
    }

    pub fn with_buckets(mut self, buckets: Vec<Bucket>) -> Self {
        self.buckets = buckets;
        self
    }

    /// Whether the pod's own counts can be; see [`WindowError`].
    pub fn check(&self) -> Result<(), WindowError> {
        check_pod(self)
    }

    /// Most windows have no strata: two empty names are not compared byte by byte.
    pub(crate) fn is_of(&self, stratum: &str) -> bool {
        self.stratum.len() == stratum.len() && (stratum.is_empty() || self.stratum == stratum)
    }

    /// Requests in the histogram; they may differ from `requests` where the two come from different series.
    pub fn histogram_total(&self) -> u64 {
        self.buckets.last().map_or(0, |last| last.count)
    }
}

/// Requests that took at most `le` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper boundary in seconds; JSON has no infinity, so +Inf is written as `null`.
    #[serde(with = "infinity_as_null")]
    pub le: f64,
    pub count: u64,
}

mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[(String, f64)], to: S) -> Result<S::Ok, S::Error> {
        let plain: Vec<(&str, Option<f64>)> = values
            .iter()
            .map(|(name, value)| (name.as_str(), Some(*value).filter(|value| !value.is_nan())))
            .collect();
        plain.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
        let plain = Vec::<(String, Option<f64>)>::deserialize(from)?;
        Ok(plain.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
    }
}

mod infinity_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(le: &f64, to: S) -> Result<S::Ok, S::Error> {
        if le.is_finite() { to.serialize_some(le) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::INFINITY))
    }
}

/// Why a window cannot be counted. Sending it again does not help; the source has to be put right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WindowError {
    #[error(
        "the window ends at {end_ms} ms, not after its start at {start_ms} ms: send windows with a positive length on the source's clock"
    )]
    Clock { start_ms: i64, end_ms: i64 },
    #[error(
        "the window begins at {start_ms} ms, before the last one's end at {last_end_ms} ms, and ends after it: its requests would count twice; begin at the last end"
    )]
    Overlap { start_ms: i64, last_end_ms: i64 },
    #[error(
        "the window is history (step 0): give it to Baseline::add before the rollout, judge takes steps from 1"
    )]
    History,
    #[error(
        "pod {pod:?}: {errors} errors of {requests} requests: errors must be among the requests of the same scrape"
    )]
    ErrorsAboveRequests { pod: String, errors: u64, requests: u64 },
    #[error(
        "pod {pod:?} appears twice in one window (stratum {stratum:?}): sum its series per pod before judging"
    )]
    PodTwice { pod: String, stratum: String },
    #[error(
        "pod {pod:?}: bucket {place} has le = {le}: boundaries must be numbers that ascend, the last one +Inf"
    )]
    Boundary { pod: String, place: usize, le: f64 },
    #[error("pod {pod:?}: the last bucket is le = {le}, +Inf is missing: read every bucket of the histogram")]
    NoInfinity { pod: String, le: f64 },
    #[error(
        "pod {pod:?}: bucket le = {le} counts {count}, fewer than the bucket before it ({before}): buckets must be cumulative"
    )]
    BucketsGoDown { pod: String, le: f64, count: u64, before: u64 },
    #[error(
        "pod {pod:?}: value {name:?} is {value}: a gauge is a finite number, or NaN where the source had none"
    )]
    Value { pod: String, name: String, value: f64 },
}

impl Window {
    pub fn length_ms(&self) -> u64 {
        self.end_ms.saturating_sub(self.start_ms).max(0).unsigned_abs()
    }

    /// Requests of one version, over all its pods and strata.
    pub fn requests(&self, arm: Arm) -> u64 {
        self.of(arm).fold(0, |sum, pod| sum.saturating_add(pod.requests))
    }

    pub fn of(&self, arm: Arm) -> impl Iterator<Item = &PodWindow> + Clone {
        self.pods.iter().filter(move |pod| pod.arm == arm)
    }

    /// Everything that a window must be before it may count; see [`WindowError`] for what it refuses.
    pub fn check(&self) -> Result<(), WindowError> {
        if self.end_ms <= self.start_ms {
            return Err(WindowError::Clock { start_ms: self.start_ms, end_ms: self.end_ms });
        }
        self.pods.iter().try_for_each(PodWindow::check)?;
        if !self.is_sorted() {
            self.check_twins()?;
        }
        Ok(())
    }

    /// One version after the other, each pod's name and stratum above the one before: as readers write them, and then no
    /// pod can stand there twice.
    fn is_sorted(&self) -> bool {
        let mut changes = 0;
        self.pods.windows(2).all(|two| {
            let (a, b) = (&two[0], &two[1]);
            changes += u32::from(a.arm != b.arm);
            changes <= 1 && (a.arm != b.arm || (&a.pod, &a.stratum) < (&b.pod, &b.stratum))
        })
    }

    fn check_twins(&self) -> Result<(), WindowError> {
        for (at, pod) in self.pods.iter().enumerate() {
            let same = |other: &&PodWindow| {
                other.pod == pod.pod && other.arm == pod.arm && other.stratum == pod.stratum
            };
            if let Some(twin) = self.pods[..at].iter().find(same) {
                return Err(WindowError::PodTwice { pod: twin.pod.clone(), stratum: twin.stratum.clone() });
            }
        }
        Ok(())
    }
}

fn check_pod(pod: &PodWindow) -> Result<(), WindowError> {
    if pod.errors > pod.requests {
        let (errors, requests) = (pod.errors, pod.requests);
        return Err(WindowError::ErrorsAboveRequests { pod: pod.pod.clone(), errors, requests });
    }
    if let Some((name, value)) = pod.values.iter().find(|(_, value)| value.is_infinite()) {
        return Err(WindowError::Value { pod: pod.pod.clone(), name: name.clone(), value: *value });
    }
    check_buckets(pod)
}

fn check_buckets(pod: &PodWindow) -> Result<(), WindowError> {
    let (mut last_le, mut before) = (f64::NEG_INFINITY, 0);
    for (place, bucket) in pod.buckets.iter().enumerate() {
        if bucket.le.is_nan() || bucket.le <= last_le {
            return Err(WindowError::Boundary { pod: pod.pod.clone(), place, le: bucket.le });
        }
        if bucket.count < before {
            let (le, count) = (bucket.le, bucket.count);
            return Err(WindowError::BucketsGoDown { pod: pod.pod.clone(), le, count, before });
        }
        (last_le, before) = (bucket.le, bucket.count);
    }
    match pod.buckets.last() {
        Some(last) if last.le != f64::INFINITY => {
            Err(WindowError::NoInfinity { pod: pod.pod.clone(), le: last.le })
        }
        Some(_) | None => Ok(()),
    }
}
