//! From readings to windows: what each pod counted since its last sample that was counted. Pure.
//!
//! ```text
//!  sample of a pod ──┬─ not later than the last one counted ──> ignored (another replica answered)
//!                    ├─ later ──> the difference; a drop of all is a restart: difference = new value
//!                    └─ first of this pod ──> from 0 if the process began after the last reading, else a starting point
//!  both versions have something new ──> the window closes
//! ```
//!
//! Promises: nothing counts twice and, but for what a restarted process took with it, nothing is lost: splitting a span
//! into more readings gives the same totals. A window never spans a weight change. What contradicts itself is left out
//! with a complaint, and stays there to be counted when it agrees again. The cursor is saved with the evidence: after a
//! crash the gap is read as one window.
//!
//! Never here: a clock, IO, a verdict.

mod counts;
mod difference;
mod strata;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_analyzers::{Arm, PodWindow, Window};

use self::{
    difference::{Change, Mark},
    strata::Strata,
};
use crate::{
    PodSample, Reading,
    reading::{Complaints, arm_name},
};

/// What closing a reading came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Closed {
    Window(Window),
    /// A version has no sample, or none that is fresh. In words.
    NoData(String),
    /// Nothing is wrong; the other version has nothing new yet. In words.
    Waiting(String),
}

/// How far each pod has been counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    step: Option<u32>,
    /// Samples up to here belong to a former weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor_ms: Option<i64>,
    /// The latest reading, by the time it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_ms: Option<i64>,
    /// Where the next window begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from_ms: Option<i64>,
    /// Where the last one ended: none begins earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_ms: Option<i64>,
    stable: BTreeMap<String, Mark>,
    canary: BTreeMap<String, Mark>,
    #[serde(default, skip_serializing_if = "Strata::is_empty")]
    strata: Strata,
    /// Counted already, in a window that is still open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<PodWindow>,
    /// Samples later than this say nothing yet.
    #[serde(skip)]
    held_ms: Option<i64>,
    #[serde(skip)]
    complaints: Said,
}

/// Complaints are told, not compared and not saved.
#[derive(Debug, Clone, Default)]
struct Said(Complaints);

impl PartialEq for Said {
    fn eq(&self, _: &Said) -> bool {
        true
    }
}

/// A pod that has not been seen for so long is forgotten; comes it back, it starts as a new one.
const FORGET_MS: i64 = 3_600_000;
/// Pods of one version beyond this many are not read.
const MOST_PODS: usize = 2_000;
/// Data older than this many scrape intervals is no data.
const STALE_INTERVALS: i64 = 3;
/// While the interval is not known.
const STALE_MS: i64 = 120_000;

impl Cursor {
    pub fn new() -> Cursor {
        Cursor::default()
    }

    /// From here on samples belong to `step`. `at_ms`: when its weight had been read back. What was counted in a window
    /// that is still open is dropped with it, and each pod's first sample after `at_ms` is its starting point.
    pub fn begin_step(&mut self, step: u32, at_ms: i64) {
        self.step = Some(step);
        self.floor_ms = Some(at_ms.max(self.floor_ms.unwrap_or(at_ms)));
        self.from_ms = None;
        self.open.clear();
    }

    /// While a weight is being written: samples later than `after_ms` wait, and are not evidence of the weight before it.
    /// `None`: it stands.
    pub fn hold(&mut self, after_ms: Option<i64>) {
        self.held_ms = after_ms;
    }

    /// Counts a reading. A step that `begin_step` did not announce begins with this reading; step 0 is the time before
    /// the rollout and needs stable alone.
    pub fn close(&mut self, reading: &Reading, step: u32) -> Closed {
        match self.step {
            Some(now) if now == step => {}
            Some(_) => self.begin_step(step, reading.at_ms),
            None => self.step = Some(step),
        }
        if let Some(complaint) = self.strata.adopt(reading) {
            self.complaints.0.add(complaint);
        }
        let held = self.held_ms.unwrap_or(i64::MAX);
        for sample in reading.pods.iter().filter(|sample| sample.at_ms <= held) {
            self.take(sample);
        }
        self.forget(reading.at_ms);
        if self.held_ms.is_none() {
            self.read_ms = Some(reading.at_ms.max(self.read_ms.unwrap_or(reading.at_ms)));
        }
        self.finish(reading, step)
    }

    /// What was wrong since the last call, in words.
    pub fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints).0.into_words()
    }

    fn marks(&mut self, arm: Arm) -> &mut BTreeMap<String, Mark> {
        match arm {
            Arm::Stable => &mut self.stable,
            Arm::Canary => &mut self.canary,
        }
    }

    fn take(&mut self, sample: &PodSample) {
        let folded;
        let mut sample = sample;
        if !sample.strata.is_empty() {
            folded = PodSample { strata: self.strata.fold(sample), ..sample.clone() };
            sample = &folded;
        }
        let (floor, read) = (self.floor_ms, self.read_ms);
        let marks = self.marks(sample.arm);
        if !marks.contains_key(&sample.pod) && marks.len() >= MOST_PODS {
            let arm = arm_name(sample.arm);
            return self
                .complaints
                .0
                .add(format!("{arm} has more than {MOST_PODS} pods; the others are not read"));
        }
        let change = difference::change(marks.get(&sample.pod), sample, floor, read);
        match change {
            Change::Old => {}
            Change::Start(mark) => {
                if floor.is_none_or(|floor| mark.at_ms() > floor) {
                    self.begin(mark.at_ms());
                }
                self.marks(sample.arm).insert(sample.pod.clone(), mark);
            }
            Change::Counted { mark, windows, complaint } => {
                self.marks(sample.arm).insert(sample.pod.clone(), mark);
                self.complain(sample, complaint);
                windows.into_iter().for_each(|window| self.count(window));
            }
            Change::Held { mark, complaint } => {
                self.marks(sample.arm).insert(sample.pod.clone(), mark);
                self.complain(sample, Some(complaint));
            }
        }
    }

    fn complain(&mut self, sample: &PodSample, why: Option<String>) {
        if let Some(why) = why {
            self.complaints.0.add(format!("{} pod {}: {why}", arm_name(sample.arm), sample.pod));
        }
    }

    fn count(&mut self, window: PodWindow) {
        if let Some((from_ms, _)) = window.sampled_ms {
            self.begin(from_ms);
        }
        let same = |open: &&mut PodWindow| {
            open.arm == window.arm && open.pod == window.pod && open.stratum == window.stratum
        };
        match self.open.iter_mut().find(same) {
            Some(open) => difference::add(open, window),
            None => self.open.push(window),
        }
    }

    /// A window begins with its earliest starting point; the next ones begin where it ended.
    fn begin(&mut self, at_ms: i64) {
        let least = self.end_ms.max(self.floor_ms).unwrap_or(i64::MIN);
        self.from_ms = Some(self.from_ms.map_or(at_ms, |from| from.min(at_ms)).max(least));
    }

    fn forget(&mut self, at_ms: i64) {
        let fresh = |mark: &Mark| mark.at_ms() > at_ms.saturating_sub(FORGET_MS);
        self.stable.retain(|_, mark| fresh(mark));
        self.canary.retain(|_, mark| fresh(mark));
    }

    fn finish(&mut self, reading: &Reading, step: u32) -> Closed {
        let needed = if step == 0 { &[Arm::Stable][..] } else { &[Arm::Stable, Arm::Canary] };
        for &arm in needed {
            if !self.open.iter().any(|pod| pod.arm == arm) {
                return self.missing(reading, arm);
            }
        }
        let end_ms = self.open.iter().filter_map(|pod| pod.sampled_ms).map(|(_, at)| at).max();
        match (self.from_ms, end_ms) {
            (Some(start_ms), Some(end_ms)) if start_ms < end_ms => self.emit(step, start_ms, end_ms),
            _ => Closed::Waiting("what is new was sampled before the last window ended".to_owned()),
        }
    }

    fn emit(&mut self, step: u32, start_ms: i64, end_ms: i64) -> Closed {
        let mut pods = std::mem::take(&mut self.open);
        // One order, whatever the source's: what is judged from a window has to be the same bits on every machine.
        pods.sort_by(|a, b| (a.arm, &a.pod, &a.stratum).cmp(&(b.arm, &b.pod, &b.stratum)));
        let pods = strata::once_a_pod(pods);
        (self.from_ms, self.end_ms) = (Some(end_ms), Some(end_ms));
        Closed::Window(Window { step, start_ms, end_ms, pods })
    }

    /// Why `arm` has nothing that could be counted.
    fn missing(&self, reading: &Reading, arm: Arm) -> Closed {
        let name = arm_name(arm);
        let newest = reading.pods.iter().filter(|sample| sample.arm == arm).max_by_key(|sample| sample.at_ms);
        let Some(newest) = newest else {
            return Closed::NoData(format!("the answer holds no pod of {name}"));
        };
        let marks = if arm == Arm::Stable { &self.stable } else { &self.canary };
        let every = marks.get(&newest.pod).and_then(Mark::every_ms);
        let limit = every.map_or(STALE_MS, |every| every.saturating_mul(STALE_INTERVALS).max(1_000));
        let age = reading.at_ms.saturating_sub(newest.at_ms);
        if age > limit {
            return Closed::NoData(format!("{name}'s newest sample is {age} ms old"));
        }
        Closed::Waiting(format!("{name} has no later sample yet"))
    }
}

#[cfg(test)]
mod tests;
