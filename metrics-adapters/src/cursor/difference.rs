//! Two samples of one pod, and what was counted between them.

use serde::{Deserialize, Serialize};
use sluice_analyzers::{Bucket, PodWindow};

use super::counts::{Counts, add_later};
use crate::{PodSample, reading::Stratum};

/// A pod's last sample that was counted, or its starting point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mark {
    at_ms: i64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) buckets: Option<Vec<Bucket>>,
    /// The same by stratum, where its series are told apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    strata: Vec<Stratum>,
    /// When its process began; clocks of pods differ from the source's, so only a change of it says something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_ms: Option<i64>,
    /// Samples held back since, and the time of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<(u32, i64)>,
    /// The time between the last two samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every_ms: Option<i64>,
}

/// What a sample comes to.
#[derive(Debug)]
pub(super) enum Change {
    /// Not later than what was counted.
    Old,
    /// Nothing to subtract from yet.
    Start(Mark),
    Counted {
        mark: Mark,
        /// One a stratum.
        windows: Vec<PodWindow>,
        complaint: Option<String>,
    },
    /// It contradicts what was counted before: nothing is counted and the starting point stays, so that a later sample
    /// can count both. After [`MOST_HELD`] such samples the pod starts anew.
    Held { mark: Mark, complaint: String },
}

impl Mark {
    pub(super) fn at_ms(&self) -> i64 {
        self.at_ms
    }

    pub(super) fn every_ms(&self) -> Option<i64> {
        self.every_ms
    }

    fn of(sample: &PodSample, before: Option<&Mark>) -> Mark {
        Mark {
            at_ms: sample.at_ms,
            requests: sample.requests,
            errors: sample.errors,
            buckets: sample.buckets.clone(),
            strata: sample.strata.clone(),
            started_ms: sample.started_ms,
            held: None,
            every_ms: before.map(|mark| sample.at_ms - mark.at_ms).filter(|every| *every > 0),
        }
    }

    /// Of a process that began at `at_ms`.
    fn zero(at_ms: i64) -> Mark {
        Mark {
            at_ms,
            requests: 0,
            errors: 0,
            buckets: Some(Vec::new()),
            strata: Vec::new(),
            started_ms: None,
            held: None,
            every_ms: None,
        }
    }
}

/// `floor`: samples up to it belong to a former weight. `read`: the last reading before this one.
pub(super) fn change(
    before: Option<&Mark>,
    sample: &PodSample,
    floor: Option<i64>,
    read: Option<i64>,
) -> Change {
    let floor = floor.unwrap_or(i64::MIN);
    if before.is_some_and(|mark| sample.at_ms <= mark.held.map_or(mark.at_ms, |(_, at)| at)) {
        return Change::Old;
    }
    let start = || Change::Start(Mark::of(sample, before));
    if sample.at_ms <= floor {
        return start();
    }
    // Whatever a process counts that began after the last reading, and under this weight, is new.
    let since = |instant: i64| sample.started_ms.filter(|began| (instant + 1..=sample.at_ms).contains(began));
    let from_zero = |began| between(&Mark::zero(began), sample);
    match (before, read) {
        (Some(mark), _) if mark.at_ms > floor => between(mark, sample),
        (Some(mark), _) if process(mark, sample) == Process::New => {
            since(floor).map_or_else(start, from_zero)
        }
        (None, Some(read)) => since(floor.max(read)).map_or_else(start, from_zero),
        (Some(_), _) | (None, None) => start(),
    }
}

/// Whether a pod's counters were written by one and the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Same,
    New,
    Unknown,
}

/// Some exporters derive the start from an uptime in whole seconds.
const START_JITTER_MS: u64 = 2_000;

fn process(mark: &Mark, sample: &PodSample) -> Process {
    match (mark.started_ms, sample.started_ms) {
        (Some(before), Some(now)) if before.abs_diff(now) <= START_JITTER_MS => Process::Same,
        (Some(_), Some(_)) => Process::New,
        _ => Process::Unknown,
    }
}

fn between(mark: &Mark, sample: &PodSample) -> Change {
    let restarted = match continuity(mark, sample) {
        Continuity::Goes => false,
        Continuity::Restarted => true,
        Continuity::Doubtful => {
            let why = "some of its counters went down and others did not: a series vanished, or half a scrape was read";
            return held(mark, sample, why.to_owned());
        }
    };
    let zero = Mark::zero(mark.at_ms);
    let base = if restarted { &zero } else { mark };
    let (mut windows, mut complaint) = (Vec::new(), None);
    for (before, now) in pairs(base, sample) {
        let (requests, errors) = (now.requests - before.requests, now.errors - before.errors);
        if errors > requests {
            return held(mark, sample, format!("{errors} new errors of {requests} new requests"));
        }
        let (buckets, why) = now.histogram_since(before);
        let mut window = PodWindow::new(sample.arm, &sample.pod, requests, errors).with_buckets(buckets);
        window.stratum = now.stratum.to_owned();
        window.sampled_ms = Some((mark.at_ms, sample.at_ms));
        let since = sample.ready_ms.or(sample.started_ms);
        window.ready_for_ms = since.and_then(|since| u64::try_from(sample.at_ms.saturating_sub(since)).ok());
        // Restarts are the pod's: they are told once.
        let tells = windows.is_empty() && (restarted || sample.started_ms.is_some());
        window.restarts = tells.then_some(u64::from(restarted));
        complaint = complaint.or(why);
        windows.push(window);
    }
    Change::Counted { mark: Mark::of(sample, Some(mark)), windows, complaint }
}

/// What is held against what: stratum by stratum, or the pod as a whole where it was not told apart before. A stratum that
/// a running process had not shown yet begins at 0.
fn pairs<'a>(base: &'a Mark, sample: &'a PodSample) -> Vec<(Counts<'a>, Counts<'a>)> {
    let counted_nothing = base.requests == 0 && Counts::of_mark(base).histogram_total() == Some(0);
    if sample.strata.is_empty() || (base.strata.is_empty() && !counted_nothing) {
        return vec![(Counts::of_mark(base), Counts::of_pod(sample))];
    }
    let before = |now: &'a Stratum| {
        let known = base.strata.iter().find(|before| before.name == now.name);
        (known.map_or(Counts::zero(&now.name), Counts::from), Counts::from(now))
    };
    sample.strata.iter().map(before).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuity {
    Goes,
    Restarted,
    Doubtful,
}

/// Counters of one process start again together. A part of them that goes down alone is no restart: to count from zero
/// then would count history again.
fn continuity(mark: &Mark, sample: &PodSample) -> Continuity {
    match (process(mark, sample), dropped(mark, sample)) {
        (Process::New, _) => Continuity::Restarted,
        (_, false) => Continuity::Goes,
        (Process::Unknown, true) if all_dropped(mark, sample) => Continuity::Restarted,
        (_, true) => Continuity::Doubtful,
    }
}

fn dropped(mark: &Mark, sample: &PodSample) -> bool {
    let of_stratum = |before: &Stratum| {
        let now = sample.strata.iter().find(|now| now.name == before.name);
        now.map_or(before.requests > 0, |now| Counts::from(now).dropped_since(before.into()))
    };
    let told_apart = !sample.strata.is_empty();
    Counts::of_pod(sample).dropped_since(Counts::of_mark(mark))
        || (told_apart && mark.strata.iter().any(of_stratum))
}

fn all_dropped(mark: &Mark, sample: &PodSample) -> bool {
    let totals = (Counts::of_mark(mark).histogram_total(), Counts::of_pod(sample).histogram_total());
    let histogram = match totals {
        // A histogram that is not there beside requests was cut off.
        (Some(before), Some(0)) => before == 0 || sample.requests == 0,
        (Some(before), Some(now)) => now < before || before == 0,
        _ => true,
    };
    sample.requests < mark.requests && histogram
}

/// A sample that contradicts is waited out for so many scrapes.
const MOST_HELD: u32 = 3;

fn held(mark: &Mark, sample: &PodSample, why: String) -> Change {
    let times = mark.held.map_or(1, |(times, _)| times + 1);
    if times <= MOST_HELD {
        let mark = Mark { held: Some((times, sample.at_ms)), ..mark.clone() };
        return Change::Held { mark, complaint: format!("{why}; it is counted when they agree") };
    }
    // What came meanwhile is lost; to guess would be worse.
    let mut mark = Mark { buckets: None, ..Mark::of(sample, None) };
    mark.strata.iter_mut().for_each(|stratum| stratum.buckets = None);
    Change::Held { mark, complaint: format!("{why}, {times} times in a row; counted from here on") }
}

/// Adds a later window of the same pod and stratum.
pub(super) fn add(open: &mut PodWindow, later: PodWindow) {
    open.requests = open.requests.saturating_add(later.requests);
    open.errors = open.errors.saturating_add(later.errors);
    add_later(&mut open.buckets, later.buckets);
    open.restarts = match (open.restarts, later.restarts) {
        (Some(before), Some(more)) => Some(before + more),
        (before, more) => before.or(more),
    };
    open.ready_for_ms = later.ready_for_ms.or(open.ready_for_ms);
    let end = later.sampled_ms.map(|(_, at)| at);
    open.sampled_ms = open.sampled_ms.zip(end).map(|((from, _), end)| (from, end));
}
