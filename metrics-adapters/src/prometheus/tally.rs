//! From rows to pods: what one process counted, checked as a whole.
//!
//! Whatever does not belong to one scrape is left out together with the rest of that pod, never alone.

use std::collections::BTreeMap;

use sluice_analyzers::Bucket;

use super::{
    Families,
    answer::{Labels, Point, Row},
    batch::{Batch, INSTANCE, Part, Slot},
    native::{self, Native},
};
use crate::{
    PodSample, Reading,
    reading::{Complaints, Fault, Stratum, arm_name, count, histogram},
    strata,
};

/// Rows of one process.
#[derive(Debug, Default)]
struct Tally {
    strata: BTreeMap<String, Counted>,
    first: Option<f64>,
    last: Option<f64>,
    up: Option<f64>,
    started: Option<f64>,
}

/// Raw counters of one stratum.
#[derive(Debug, Default)]
struct Counted {
    requests: Option<f64>,
    errors: Option<f64>,
    buckets: Vec<(f64, f64)>,
    native: Option<Result<NativeCounts, Fault>>,
}

/// What native histograms counted: with requests that are their own count, the failed ones, too.
#[derive(Debug, Default, Clone)]
struct NativeCounts {
    requests: u64,
    errors: u64,
    buckets: Vec<Bucket>,
}

/// Tallies by slot, pod and instance.
type Tallies = BTreeMap<(usize, String, String), Tally>;

/// The rows of one instant, split into one reading per ask. `next_ms` is left 0.
pub(super) fn readings<'r>(
    batch: &mut Batch<'_>,
    asks: usize,
    at_ms: i64,
    rows: impl Iterator<Item = (&'r Row<'r>, &'r Point<'r>)>,
) -> Vec<Reading> {
    let mut tallies = Tallies::new();
    for (row, value) in rows {
        let Some((part, owners)) = batch.owners(&row.labels) else { continue };
        let owners = owners.to_vec();
        for slot in owners {
            let key = (
                slot,
                pod_name(&row.labels, batch.slots[slot].families),
                row.labels.get(INSTANCE).to_owned(),
            );
            let tally = tallies.entry(key).or_default();
            match value {
                Point::Number(value) => tally.take(part, *value, &row.labels, batch.slots[slot].families),
                Point::Native(native) => {
                    tally.take_native(part, native, &row.labels, batch.slots[slot].families)
                }
            }
        }
    }
    let mut readings = vec![(Reading { at_ms, ..Reading::default() }, Complaints::default()); asks];
    gather(&batch.slots, tallies, &mut readings);
    readings
        .into_iter()
        .map(|(reading, complaints)| Reading { complaints: complaints.into_words(), ..reading })
        .collect()
}

fn gather(slots: &[Slot<'_>], tallies: Tallies, readings: &mut [(Reading, Complaints)]) {
    for ((slot, pod, instance), tally) in tallies {
        let slot = slots[slot];
        let (reading, complaints) = &mut readings[slot.ask];
        let name = format!("{} pod {pod}", arm_name(slot.arm));
        if reading.pods.last().is_some_and(|last| last.arm == slot.arm && last.pod == pod) {
            complaints.add(format!(
                "{name} is scraped more than once (also as {instance}): narrow it with labels: {{match: …}}"
            ));
            continue;
        }
        match tally.into_sample(slot, pod, &name, complaints) {
            Ok(Some(sample)) => reading.pods.push(sample),
            Ok(None) => {}
            Err(fault) => complaints.add(format!("{name}: {fault}")),
        }
    }
}

/// The values of the labels that name a process, joined; the scrape's address if there are none.
fn pod_name(labels: &Labels<'_>, families: &Families) -> String {
    let parts: Vec<&str> =
        families.pod_labels.iter().map(|label| labels.get(label)).filter(|v| !v.is_empty()).collect();
    if parts.is_empty() { labels.get(INSTANCE).to_owned() } else { parts.join("/") }
}

impl Tally {
    fn take(&mut self, part: Part, value: f64, labels: &Labels<'_>, families: &Families) {
        let add = |sum: &mut Option<f64>| *sum = Some(sum.unwrap_or(0.0) + value);
        match part {
            Part::Requests => add(&mut self.counted(labels, &families.strata).requests),
            Part::Errors => add(&mut self.counted(labels, &families.strata).errors),
            Part::Buckets => self
                .counted(labels, &families.strata)
                .add_bucket(labels.get("le").parse().unwrap_or(f64::NAN), value),
            Part::First => self.first = Some(self.first.map_or(value, |first| first.min(value))),
            Part::Last => self.last = Some(self.last.map_or(value, |last| last.max(value))),
            Part::Up => self.up = Some(value),
            Part::Started => self.started = Some(value),
            // A server that makes numbers of histograms.
            Part::Native => {}
        }
    }

    fn take_native(&mut self, part: Part, native: &Native<'_>, labels: &Labels<'_>, families: &Families) {
        if part != Part::Native {
            return;
        }
        let errors = &families.native_errors;
        let failed =
            !errors.is_empty() && errors.iter().all(|matcher| matcher.matches(labels.get(&matcher.label)));
        let one = native.cumulative(families.buckets_per_second()).and_then(|buckets| {
            let requests = native.total()?;
            Ok(NativeCounts { requests, errors: if failed { requests } else { 0 }, buckets })
        });
        let counted = self.counted(labels, &families.strata);
        counted.native = Some(match (counted.native.take(), one) {
            (None, one) => one,
            (Some(Ok(sum)), Ok(one)) => Ok(sum.with(&one)),
            (Some(Err(fault)), _) | (Some(Ok(_)), Err(fault)) => Err(fault),
        });
    }

    fn counted(&mut self, labels: &Labels<'_>, strata: &[String]) -> &mut Counted {
        self.strata.entry(strata::name(strata.iter().map(|label| labels.get(label)))).or_default()
    }

    /// `None`: only its start is known, or it is not there.
    fn into_sample(
        self,
        slot: Slot<'_>,
        pod: String,
        name: &str,
        complaints: &mut Complaints,
    ) -> Result<Option<PodSample>, Fault> {
        let Some(at_ms) = self.at_ms()? else { return Ok(None) };
        let started_ms = self.started.and_then(milliseconds);
        let (mut whole, mut strata) = (Stratum::default(), BTreeMap::new());
        whole.buckets = slot.families.buckets.as_ref().map(|_| Vec::new());
        for (stratum, counted) in self.strata {
            let counted = counted.checked(&stratum, slot.families, name, complaints)?;
            whole.add(&counted);
            strata.insert(stratum, counted);
        }
        let Stratum { requests, errors, buckets, .. } = whole;
        let strata = strata::told_apart(strata);
        Ok(Some(PodSample {
            arm: slot.arm,
            pod,
            at_ms,
            requests,
            errors,
            buckets,
            started_ms,
            ready_ms: None,
            strata,
        }))
    }

    /// The one time of all its samples. A pod that is scraped and has no series of ours has counted nothing yet.
    fn at_ms(&self) -> Result<Option<i64>, Fault> {
        let (first, last) = (self.first.and_then(milliseconds), self.last.and_then(milliseconds));
        let requests =
            self.strata.values().any(|counted| counted.requests.is_some() || counted.native.is_some());
        match (requests, first, last) {
            (_, Some(first), Some(last)) if first != last => {
                Err(Fault::TornScrape { apart_ms: last - first })
            }
            (true, _, Some(last)) => Ok(Some(last)),
            (true, _, None) => Ok(None),
            (false, _, _) => Ok(self.up.and_then(milliseconds)),
        }
    }
}

impl NativeCounts {
    fn with(mut self, one: &NativeCounts) -> NativeCounts {
        self.requests = self.requests.saturating_add(one.requests);
        self.errors = self.errors.saturating_add(one.errors);
        native::add(&mut self.buckets, &one.buckets);
        self
    }
}

impl Counted {
    fn add_bucket(&mut self, le: f64, value: f64) {
        match self.buckets.iter_mut().find(|(known, _)| *known == le) {
            Some((_, count)) => *count += value,
            None => self.buckets.push((le, value)),
        }
    }

    fn checked(
        self,
        stratum: &str,
        families: &Families,
        name: &str,
        complaints: &mut Complaints,
    ) -> Result<Stratum, Fault> {
        let native = self.native.as_ref().and_then(|native| native.as_ref().ok());
        let by_native = native.filter(|_| self.requests.is_none() && !families.native_errors.is_empty());
        let (requests, errors) = match by_native {
            Some(native) => (native.requests, native.errors),
            None => (
                count("requests", self.requests.unwrap_or(0.0))?,
                count("errors", self.errors.unwrap_or(0.0))?,
            ),
        };
        if errors > requests && families.strata.is_empty() {
            return Err(Fault::ErrorsAboveRequests { errors, requests });
        }
        if errors > requests {
            return Err(Fault::StratumErrors { stratum: stratum.to_owned(), errors, requests });
        }
        let buckets = match self.histogram(families) {
            Ok(buckets) => buckets,
            Err(fault) => {
                complaints.add(format!("{name}: {fault}; its latencies are left out"));
                None
            }
        };
        Ok(Stratum { name: String::new(), requests, errors, buckets })
    }

    /// The classic buckets where there are any, else the native histogram.
    fn histogram(self, families: &Families) -> Result<Option<Vec<Bucket>>, Fault> {
        if families.buckets.is_none() {
            return Ok(None);
        }
        match self.native {
            Some(native) if self.buckets.is_empty() => native.map(|native| Some(native.buckets)),
            Some(_) | None => {
                let scale = families.buckets_per_second();
                histogram(self.buckets.into_iter().map(|(le, count)| (le / scale, count)).collect()).map(Some)
            }
        }
    }
}

fn milliseconds(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    (millis.abs() < 1e15).then_some(millis as i64)
}
