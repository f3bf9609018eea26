//! From rows to pods: what one process counted, checked as a whole.
//!
//! Whatever does not belong to one scrape is left out together with the rest of that pod, never alone.

use std::collections::BTreeMap;

use super::{
    Families,
    answer::{Labels, Row},
    batch::{Batch, INSTANCE, Part, Slot},
};
use crate::{
    PodSample, Reading,
    reading::{Complaints, Fault, arm_name, count, histogram},
};

/// Rows of one process.
#[derive(Debug, Default)]
struct Tally {
    requests: Option<f64>,
    errors: Option<f64>,
    buckets: Vec<(f64, f64)>,
    first: Option<f64>,
    last: Option<f64>,
    up: Option<f64>,
    started: Option<f64>,
}

/// Tallies by slot, pod and instance.
type Tallies = BTreeMap<(usize, String, String), Tally>;

/// The rows of one instant, split into one reading per ask. `next_ms` is left 0.
pub(super) fn readings<'r>(
    batch: &mut Batch<'_>,
    asks: usize,
    at_ms: i64,
    rows: impl Iterator<Item = (&'r Row<'r>, f64)>,
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
            tallies.entry(key).or_default().take(part, value, &row.labels);
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
    fn take(&mut self, part: Part, value: f64, labels: &Labels<'_>) {
        match part {
            Part::Requests => self.requests = Some(value),
            Part::Errors => self.errors = Some(value),
            Part::Buckets => self.buckets.push((labels.get("le").parse().unwrap_or(f64::NAN), value)),
            Part::First => self.first = Some(self.first.map_or(value, |first| first.min(value))),
            Part::Last => self.last = Some(self.last.map_or(value, |last| last.max(value))),
            Part::Up => self.up = Some(value),
            Part::Started => self.started = Some(value),
        }
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
        let requests = count("requests", self.requests.unwrap_or(0.0))?;
        let errors = count("errors", self.errors.unwrap_or(0.0))?;
        if errors > requests {
            return Err(Fault::ErrorsAboveRequests { errors, requests });
        }
        let scale = slot.families.buckets_per_second();
        let buckets = self.buckets.into_iter().map(|(le, count)| (le / scale, count)).collect();
        let buckets = match (&slot.families.buckets, histogram(buckets)) {
            (None, _) => None,
            (Some(_), Ok(buckets)) => Some(buckets),
            (Some(_), Err(fault)) => {
                complaints.add(format!("{name}: {fault}; its latencies are left out"));
                None
            }
        };
        let started_ms = self.started.and_then(milliseconds);
        Ok(Some(PodSample {
            arm: slot.arm,
            pod,
            at_ms,
            requests,
            errors,
            buckets,
            started_ms,
            ready_ms: None,
        }))
    }

    /// The one time of all its samples. A pod that is scraped and has no series of ours has counted nothing yet.
    fn at_ms(&self) -> Result<Option<i64>, Fault> {
        let (first, last) = (self.first.and_then(milliseconds), self.last.and_then(milliseconds));
        match (self.requests, first, last) {
            (_, Some(first), Some(last)) if first != last => {
                Err(Fault::TornScrape { apart_ms: last - first })
            }
            (Some(_), _, Some(last)) => Ok(Some(last)),
            (Some(_), _, None) => Ok(None),
            (None, _, _) => Ok(self.up.and_then(milliseconds)),
        }
    }
}

fn milliseconds(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    (millis.abs() < 1e15).then_some(millis as i64)
}
