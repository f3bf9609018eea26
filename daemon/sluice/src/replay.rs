//! Makes a recorded rollout's decisions again and compares them, bit for bit. Pure: no server, no clock, no file.
//!
//! ```text
//!   judged   plan, evidence so far, the window      ─▶ the same event, the same evidence?
//!   decided  policy, state so far, time, the event  ─▶ the same reason, effects, answer, state?
//! ```
//!
//! The first difference ends it. What the record lacks is said and never passed over: a replay with gaps is not "equal".

mod outcome;
mod stored;

use std::collections::{BTreeSet, VecDeque};

use sluice_analyzers::{Evidence, Plan, Report};
use sluice_rollout::{Event, Policy as Machine, State, Timestamp, Verdict, step};
use sluice_wire::{
    decisions::{
        Batch, Decided, Entry, Head, Judged, Line, Lost, Planned, RecordError, Resumed, Sum, Synced, Taken,
        sum, sum_of_charter,
    },
    policy::Policy,
    record::{Charter, event_name},
};

pub use self::outcome::{Difference, Place, ReplayReport};
use self::stored::{Before, Stored};
use crate::judging::judge;

/// Sessions before the present one whose last words may still come.
const MOST_FORMER: usize = 16;
/// Verdicts that were told and that the owner has not taken yet.
const MOST_TOLD: usize = 1_024;

/// A record that is replayed, as far as it has come.
pub struct Replay {
    charter: Sum,
    policy: Policy,
    machine: Machine,
    /// The session's chain; none before the first one.
    session: Option<Session>,
    /// Those before it, the latest last.
    former: VecDeque<Session>,
    state: Option<State>,
    judged: Option<Resumed>,
    stored: Stored,
    evidences: BTreeSet<Sum>,
    told: VecDeque<Event>,
    /// Whether evidence may come that no window of the record gave.
    told_lost: bool,
    report: ReplayReport,
}

struct Session {
    next: u64,
    before: Sum,
    sums: BTreeSet<Sum>,
    /// Something of it came after the next one had begun.
    late: bool,
}

type Compared = Result<(), Difference>;

/// Why a replay goes no further.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Stop {
    #[error(transparent)]
    Different(#[from] Difference),
    #[error(transparent)]
    Unreadable(#[from] RecordError),
}

impl Replay {
    /// A record as it was exported.
    pub fn of(head: &Head) -> Result<Replay, Stop> {
        Ok(Replay::new(&head.charter()?)?)
    }

    pub fn new(charter: &Charter) -> Result<Replay, Difference> {
        let wrong = |what: String| Difference::at(Place::Head, what);
        let found = Charter::hash(&charter.policy);
        if found != charter.policy_hash {
            return Err(wrong(format!(
                "the policy has the SHA-256 {found}, the charter says {}",
                charter.policy_hash
            )));
        }
        let policy = Policy::parse("the record's policy", charter.policy.as_bytes())
            .map_err(|fault| wrong(format!("the policy cannot be read any more: {fault}")))?;
        Ok(Replay {
            charter: sum_of_charter(charter),
            machine: policy.machine(),
            policy,
            session: None,
            former: VecDeque::new(),
            state: None,
            judged: None,
            stored: Stored::default(),
            evidences: BTreeSet::new(),
            told: VecDeque::new(),
            told_lost: false,
            report: ReplayReport::new(charter.id.clone()),
        })
    }

    /// Every line of a batch as the store has it.
    pub fn batch(&mut self, batch: &Batch) -> Result<(), Stop> {
        batch.lines.iter().try_for_each(|line| self.line(line))
    }

    pub fn line(&mut self, line: &Line) -> Result<(), Stop> {
        if self.is_a_repeat(line) || self.is_late(line) {
            return Ok(());
        }
        let entry = line.entry();
        // Where a session's own beginning found no room, the loss is what it begins with.
        self.chain(line, matches!(entry, Ok(Entry::Taken(_) | Entry::Lost(_))))?;
        let place = Place::Line { session: self.report.sessions, n: line.n };
        let entry =
            entry.map_err(|error| Difference::at(place, format!("the entry cannot be read: {error}")))?;
        Ok(self.entry(&entry, place)?)
    }

    fn entry(&mut self, entry: &Entry, place: Place) -> Compared {
        match entry {
            Entry::Taken(taken) => self.taken(taken, place),
            Entry::Planned(planned) => self.planned(planned, place),
            Entry::Resumed(resumed) => {
                self.resumed(resumed, place);
                Ok(())
            }
            Entry::Judged(judged) => self.judged(judged, place),
            Entry::Decided(decided) => self.decided(decided, place),
            Entry::Lost(lost) => {
                self.lost(lost, place);
                Ok(())
            }
            Entry::Synced(synced) => {
                self.synced(synced);
                Ok(())
            }
        }
    }

    /// What came of it all.
    pub fn finish(mut self) -> ReplayReport {
        if self.session.is_none() {
            self.report.gap(Place::Head, "the record has no entries".to_owned());
        }
        self.report.ended(self.state.as_ref());
        self.report
    }

    /// The analyzers' report as it stood at the end of what was replayed.
    pub fn evidence(&self) -> Option<Report> {
        self.judged.as_ref().map(|judged| sluice_analyzers::report(&judged.plan, &judged.evidence))
    }

    /// A batch whose acknowledgement was lost is written again.
    fn is_a_repeat(&self, line: &Line) -> bool {
        self.session.as_ref().is_some_and(|session| line.n < session.next && session.sums.contains(&line.sum))
    }

    /// An owner that stood still, and was succeeded meanwhile, writes what it still had when it wakes up. Its chain is whole;
    /// nothing came of what it had not saved, and what it had saved is where its successor began.
    fn is_late(&mut self, line: &Line) -> bool {
        let goes_on = |session: &Session| line.n == session.next && line.follows(&session.before);
        if self.session.as_ref().is_none_or(goes_on) {
            return false;
        }
        let sessions = self.report.sessions;
        let repeats = |session: &Session| line.n < session.next && session.sums.contains(&line.sum);
        let of = |session: &&mut Session| goes_on(session) || repeats(session);
        let Some(former) = self.former.iter_mut().rev().find(of) else { return false };
        if goes_on(former) {
            former.next += 1;
            former.before.clone_from(&line.sum);
            former.sums.insert(line.sum.clone());
        }
        if !std::mem::replace(&mut former.late, true) {
            let place = Place::Line { session: sessions, n: line.n };
            self.report
                .note(place, "a former owner's last lines came when its successor had begun".to_owned());
        }
        true
    }

    fn chain(&mut self, line: &Line, taken: bool) -> Compared {
        let begins = taken && line.n == 0;
        if begins || (self.session.is_none() && self.begins_late(line)) {
            let before = if line.n == 0 { Sum::new() } else { line.sum.clone() };
            let begun = Session { next: line.n, before, sums: BTreeSet::new(), late: false };
            self.former.extend(self.session.replace(begun));
            if self.former.len() > MOST_FORMER {
                self.former.pop_front();
            }
            self.report.sessions += 1;
        }
        let place = Place::Line { session: self.report.sessions, n: line.n };
        let Some(session) = &mut self.session else {
            return Err(Difference::at(
                place,
                "the record does not begin with a session's first line".to_owned(),
            ));
        };
        // The oldest that is kept follows one that is gone: its link cannot be checked.
        let unlinked = session.before == line.sum;
        if line.n != session.next {
            let what = format!("line {} of the session is missing or was moved", session.next);
            return Err(Difference::at(place, what));
        }
        if !unlinked && !line.follows(&session.before) {
            let what =
                "the line or the one before it is not as it was written: its sum is another".to_owned();
            return Err(Difference::at(place, what));
        }
        session.next += 1;
        session.before.clone_from(&line.sum);
        session.sums.insert(line.sum.clone());
        Ok(())
    }

    /// Beyond its limits a record loses its oldest batches.
    fn begins_late(&mut self, line: &Line) -> bool {
        if line.n > 0 {
            let what = format!("the record's beginning is gone: {} lines before this one", line.n);
            self.report.gap(Place::Line { session: 1, n: line.n }, what);
            self.told_lost = true;
        }
        true
    }

    fn taken(&mut self, taken: &Taken, place: Place) -> Compared {
        if taken.charter != self.charter {
            return Err(Difference::at(
                place,
                "the charter (release, policy) is not the one of this session".to_owned(),
            ));
        }
        self.report.decided_by(taken);
        let revision = taken.state.revision;
        match self.stored.before(&taken.state) {
            Before::Nothing if revision > 0 => {
                self.report.gap(place, format!("it begins with revision {revision}, not with the announcement"));
            }
            Before::Nothing | Before::Latest => {}
            Before::Older => self.report.note(place, format!(
                "taken up at revision {revision}, which is older than the last one saved: the store was restored from a copy",
            )),
            Before::Unknown => self.report.gap(place, format!(
                "taken up at revision {revision}, a state that the record does not lead to: entries before it were lost with the daemon",
            )),
        }
        self.stored.saved(&taken.state);
        self.state = Some(taken.state.clone());
        self.judged = None;
        self.told.clear();
        self.told_lost = false;
        Ok(())
    }

    fn planned(&mut self, planned: &Planned, place: Place) -> Compared {
        match &planned.baseline {
            Some(baseline) => {
                let retries = planned.plan.retries;
                let frozen = self.policy.plan().map(|plan| Plan { retries, ..plan }.frozen(baseline));
                match frozen {
                    Ok(plan) if sum(&plan) == sum(&planned.plan) => {}
                    Ok(_) => {
                        return Err(Difference::at(
                            place,
                            "policy and baseline freeze another plan".to_owned(),
                        ));
                    }
                    Err(error) => {
                        return Err(Difference::at(place, format!("the policy has no plan: {error}")));
                    }
                }
            }
            None => self.report.gap(
                place,
                "the baseline was too large to be kept: the plan is taken as it stands".to_owned(),
            ),
        }
        self.watch(planned.plan.clone(), Evidence::new(&planned.plan));
        Ok(())
    }

    fn resumed(&mut self, resumed: &Resumed, place: Place) {
        if !self.evidences.contains(&sum(&resumed.evidence)) {
            self.report.gap(
                place,
                "evidence was taken up that the record does not lead to: windows before it were lost with the daemon".to_owned(),
            );
        }
        self.watch(resumed.plan.clone(), resumed.evidence.clone());
    }

    fn watch(&mut self, plan: Plan, evidence: Evidence) {
        self.evidences.insert(sum(&evidence));
        self.judged = Some(Resumed { plan, evidence });
    }

    fn judged(&mut self, judged: &Judged, place: Place) -> Compared {
        self.told.push_back(judged.event.clone());
        if self.told.len() > MOST_TOLD {
            self.told.pop_front();
            self.told_lost = true;
        }
        let Some(Resumed { plan, evidence }) = &mut self.judged else {
            self.report.unchecked += 1;
            return Ok(());
        };
        let again = judge(plan, evidence, judged.step, &judged.window);
        let what = |what: &str, recorded: &dyn std::fmt::Debug, replayed: &dyn std::fmt::Debug| {
            let window =
                format!("the window of step {} that ends at {}", judged.step + 1, judged.window.end_ms);
            Difference::values(place, format!("{what} of {window}"), recorded, replayed)
        };
        if again.event != judged.event {
            return Err(what("the verdict", &judged.event, &again.event));
        }
        let found = sum(evidence);
        if found != judged.evidence {
            return Err(what("the evidence (its SHA-256)", &judged.evidence, &found));
        }
        self.evidences.insert(found);
        self.report.windows += 1;
        Ok(())
    }

    fn decided(&mut self, decided: &Decided, place: Place) -> Compared {
        self.was_told(&decided.event, place)?;
        let Some(before) = self.state.take() else {
            self.report.unchecked += 1;
            return Ok(());
        };
        let again = step(&self.machine, before, decided.now, decided.event.clone());
        let about = format!("{} at {}", event_name(&decided.event), clock(decided.now));
        let differs = |what: &str, recorded: &dyn std::fmt::Debug, replayed: &dyn std::fmt::Debug| {
            Err(Difference::values(place, format!("{what} after {about}"), recorded, replayed))
        };
        let state = &again.state;
        if state.revision != decided.revision {
            return differs("the revision", &decided.revision, &state.revision);
        }
        if state.phase.name() != decided.phase {
            return differs("the phase", &decided.phase, &state.phase.name());
        }
        if state.weight != decided.weight {
            return differs("the weight", &decided.weight, &state.weight);
        }
        if again.reason != decided.reason {
            return differs("the reason", &decided.reason.to_string(), &again.reason.to_string());
        }
        if again.effects != decided.effects {
            return differs("the effects", &decided.effects, &again.effects);
        }
        if again.answer != decided.answer {
            return differs("the answer", &decided.answer, &again.answer);
        }
        let found = sum(state);
        if found != decided.state {
            return differs("the state (its SHA-256)", &decided.state, &found);
        }
        match decided.saved {
            true => self.stored.saved(state),
            false => self.stored.decided(state),
        }
        self.report.decisions += 1;
        self.state = Some(again.state);
        Ok(())
    }

    /// Evidence that was judged from a window must have been judged in this record.
    fn was_told(&mut self, event: &Event, place: Place) -> Compared {
        let Event::Evidence { verdict, counted, .. } = event else { return Ok(()) };
        let of_a_window = match verdict {
            Verdict::Pass | Verdict::Fail => true,
            Verdict::Undecided => !counted.is_zero(),
            Verdict::NoData | Verdict::SourceDown => false,
        };
        match self.told.iter().position(|told| told == event) {
            // Not those before it: one that waits for the store is overtaken.
            Some(at) => drop(self.told.remove(at)),
            None if of_a_window && !self.told_lost => {
                return Err(Difference::at(
                    place,
                    "the machine was given a verdict that no window of the record gave".to_owned(),
                ));
            }
            None => {}
        }
        Ok(())
    }

    fn lost(&mut self, lost: &Lost, place: Place) {
        self.report.gap(place, format!("{} entries are missing: {}", lost.entries, lost.why));
        self.state = None;
        self.judged = None;
        self.told_lost = true;
    }

    fn synced(&mut self, synced: &Synced) {
        match synced {
            Synced::State(state) => {
                self.stored.saved(state);
                self.state = Some((**state).clone());
            }
            Synced::Evidence(resumed) => self.watch(resumed.plan.clone(), resumed.evidence.clone()),
        }
    }
}

fn clock(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| at.millis().to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests;
