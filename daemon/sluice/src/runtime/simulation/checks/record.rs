//! What the decision records and histories say afterwards: invariants 1, 3 and 11, and that no window counts twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use sluice_analyzers::{Arm, Window};
use sluice_wire::{
    decisions::{Entry, Resumed, Sum, batch, sum},
    record::{Charter, HistoryLine},
};

use super::{
    super::{
        people::{NAME, NAMESPACE},
        plan::Trouble,
        world::{EPOCH_MS, World},
    },
    owning::Owned,
};
use crate::replay::{Replay, ReplayReport, Stop};

/// What caused a weight to rise, by the reasons' codes: a verdict, a person, or a weight that was allowed before.
const PERMITS: [&str; 3] = ["step-passed", "bake-passed", "override"];
/// Evidence that puts a canary back.
const BAD: [&str; 1] = ["failed"];
/// A write that changes a weight, and samples that say nothing because of it, are no further apart (ms).
const AROUND_A_MOVE: i64 = 16_000;

fn entries(batches: &[(u64, Bytes)]) -> impl Iterator<Item = Entry> {
    let batches = batches.iter().filter_map(|(_, raw)| batch(std::str::from_utf8(raw).ok()?).ok());
    // A batch whose answer was lost is written again; a former owner that wakes up late writes its last lines.
    let (mut next, mut before) = (0, Sum::new());
    let lines = batches.flat_map(|batch| batch.lines).filter(move |line| {
        let goes_on = (line.n == next && line.follows(&before)) || (line.n == 0 && line.follows(""));
        if goes_on {
            (next, before) = (line.n + 1, line.sum.clone());
        }
        goes_on
    });
    lines.filter_map(|line| line.entry().ok())
}

/// Every record of the run.
pub fn all(world: &mut World) {
    let records = std::mem::take(&mut world.kept.records);
    let forgotten = world.checks.forgotten.clone();
    let is_known = |name: &str| !forgotten.contains(name.rsplit(['/', '.']).next().unwrap_or_default());
    for (key, batches) in records.iter().filter(|(key, _)| is_known(key)) {
        replayed(world, key, batches);
        let entries: Vec<Entry> = entries(batches).collect();
        taken_twice(world, key, &entries);
        windows(world, entries);
    }
    let logs = std::mem::take(&mut world.kept.logs);
    for (log, lines) in logs.iter().filter(|(log, _)| is_known(log)) {
        let lines: Vec<HistoryLine> =
            lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
        history(world, log, lines);
    }
}

/// Invariant 11. What a crash took from the record is no difference.
fn replayed(world: &mut World, key: &str, batches: &[(u64, Bytes)]) {
    let charter = world.kept.keys.get(&key.replacen("record/", "charter/", 1));
    let charter = charter.and_then(|(value, _)| serde_json::from_slice::<Charter>(value).ok());
    let Some(charter) = charter else {
        if !world.checks.restored {
            world.broken(11, &format!("{key} has no charter"));
        }
        return;
    };
    let replay = || -> Result<ReplayReport, Stop> {
        let mut replay = Replay::new(&charter)?;
        for (_, raw) in batches {
            replay.batch(&batch(std::str::from_utf8(raw).unwrap_or_default())?)?;
        }
        Ok(replay.finish())
    };
    match replay() {
        Ok(report) => {
            world.note(format!("{key}: {} windows came out the same", report.windows));
            if let Some(gap) = report.gaps.first().filter(|_| !may_lack(world)) {
                world.broken(11, &format!("nothing was cut off, and {key} has a gap: {gap:?}"));
            }
        }
        // An older copy of the store knows nothing of the attempt that the record's first sessions tell of; it is begun anew.
        Err(Stop::Different(_)) if world.checks.restored => {}
        Err(stop) => world.broken(11, &format!("{key}: {stop}")),
    }
}

/// Whether a daemon died with its last lines, or could not write them.
fn may_lack(world: &World) -> bool {
    let stores = [Trouble::StoreAway, Trouble::StoreAnswersLost];
    world.checks.cut
        || world.checks.restored
        || world.plan.lasting.iter().any(|one| stores.contains(&one.trouble))
}

/// Invariant 6: who has a rollout in hand does not take it up a second time.
fn taken_twice(world: &mut World, key: &str, entries: &[Entry]) {
    let attempt = key.rsplit('/').next().unwrap_or_default();
    let Some(owners) = world.checks.owners.get(attempt).filter(|_| !world.checks.restored) else { return };
    let mut taken = entries.iter().filter_map(|entry| match entry {
        // One that has just settled may have been listed before.
        Entry::Taken(taken) if taken.state.is_settled() => None,
        Entry::Taken(taken) => owners.iter().position(|owner| owner.is_of(&taken.owner)),
        Entry::Planned(_)
        | Entry::Resumed(_)
        | Entry::Judged(_)
        | Entry::Decided(_)
        | Entry::Lost(_)
        | Entry::Synced(_) => None,
    });
    let mut before = taken.next();
    let mut again = None;
    for next in taken {
        let first = before.replace(next).unwrap_or(next);
        let between = owners.get(first.min(next)..=first.max(next)).unwrap_or_default();
        if first != next && between.windows(2).all(|pair| pair[0].is_process_of(&pair[1])) {
            again = between.last().cloned();
        }
    }
    if let Some(Owned { daemon, epoch, .. }) = again {
        world.broken(6, &format!("{daemon} took {attempt} up again under epoch {epoch}, and had it in hand"));
    }
}

/// The windows that the last evidence was made of, in their order.
fn judged(entries: Vec<Entry>) -> Vec<Window> {
    let mut judged: Vec<(Sum, Window)> = Vec::new();
    for entry in entries {
        match entry {
            Entry::Judged(one) => judged.push((one.evidence, one.window)),
            Entry::Resumed(resumed) => {
                let Resumed { evidence, .. } = *resumed;
                let sum = sum(&evidence);
                let upto = judged.iter().rposition(|(made, _)| *made == sum).map_or(0, |place| place + 1);
                judged.truncate(upto);
            }
            Entry::Planned(_) => judged.clear(),
            Entry::Taken(_) | Entry::Decided(_) | Entry::Lost(_) | Entry::Synced(_) => {}
        }
    }
    judged.into_iter().map(|(_, window)| window).collect()
}

/// No window counts twice, and none is lost that the source still has: each counts what the source counted between its
/// two samples, it begins where the one before ended, and only at a change of the weight something is left out.
fn windows(world: &mut World, entries: Vec<Entry>) {
    let mut ends: BTreeMap<Arm, (u32, i64)> = BTreeMap::new();
    for window in judged(entries) {
        for pod in &window.pods {
            let (from, to) = pod.sampled_ms.unwrap_or((window.start_ms, window.end_ms));
            let place = usize::from(pod.arm == Arm::Canary);
            let at = |ms: i64| world.served.samples.get(&ms).map(|counted| counted[place]);
            let counted = at(from).zip(at(to)).map(|(from, to)| (to.0 - from.0, to.1 - from.1));
            let arm = pod.arm;
            if counted != Some((pod.requests, pod.errors)) {
                let found = (pod.requests, pod.errors);
                let what = format!("{arm:?} from {from} to {to} counts {found:?}, the source {counted:?}");
                world.broken(11, &what);
            }
            let (step, end) = *ends.entry(arm).or_insert((window.step, from));
            if from < end {
                world.broken(11, &format!("{arm:?} from {from} to {to} counts what was counted until {end}"));
            }
            if from > end && step == window.step && !has_moved(world, end, from) {
                world.broken(
                    11,
                    &format!("{arm:?} from {end} to {from} is not counted, and no weight changed"),
                );
            }
            ends.insert(arm, (window.step, to));
        }
    }
}

/// Whether the weight changed, or was in doubt, about then. Clocks that differ from the source's leave out more.
fn has_moved(world: &World, from: i64, to: i64) -> bool {
    let around = |at: &i64| (from - AROUND_A_MOVE..=to + AROUND_A_MOVE).contains(&(EPOCH_MS + at));
    world.checks.skewed || world.checks.restored || world.checks.moves.iter().any(around)
}

/// Invariants 1 and 3, and that no line is lost: revisions have their lines, weights rise by permission only, and no
/// missing metrics have ended or advanced anything.
fn history(world: &mut World, log: &str, mut lines: Vec<HistoryLine>) {
    if world.checks.restored {
        return;
    }
    lines.sort_by_key(|line| (line.revision, line.at));
    let attempt = log.rsplit('.').next().unwrap_or_default().to_owned();
    let last = world.kept.states.get(&attempt).map_or(0, |saved| saved.state.revision);
    let missing = (1..=last).find(|revision| !lines.iter().any(|line| line.revision == *revision));
    if let Some(revision) = missing {
        world.broken(11, &format!("the history of {NAMESPACE}/{NAME}@{attempt} lacks revision {revision}"));
    }
    let (mut highest, mut permitted, mut reverting) = (0.0, true, false);
    for line in &lines {
        permitted |= PERMITS.contains(&line.code.as_str()) && line.accepted != Some(false);
        if line.weight > highest {
            if !permitted {
                let (weight, code) = (line.weight, &line.code);
                world.broken(1, &format!("{attempt} rose to {weight} % ({code}), and nobody allowed it"));
            }
            (highest, permitted) = (line.weight, false);
        }
        let begins = line.phase == "reverting" && !reverting;
        reverting |= begins;
        if begins && line.event == "evidence" {
            let bad = BAD.contains(&line.code.as_str());
            if !bad || world.plan.bad.is_empty() {
                world.broken(3, &format!("{attempt} was aborted by {}: {}", line.code, line.reason));
            }
        }
    }
}
