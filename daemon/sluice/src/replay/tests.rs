use std::time::Duration;

use sluice_analyzers::{Arm, Baseline, PodWindow, Window};
use sluice_rollout::{
    Action, Baseline as Measured, Effect, Fence, Observation, Override, ReadBack, Role, RolloutId, Weight,
};
use sluice_wire::{
    decisions::{Part, RecordError, RecordReader},
    record::{Charter, Owner},
};

use super::*;

const POLICY: &str = r#"{"apiVersion":"sluice.dev/v1alpha1","kind":"RolloutPolicy","metadata":{"name":"checkout","namespace":"shop"},"spec":{"target":{"webhook":{"url":"http://127.0.0.1:1/"}},"metrics":{"scrape":{"stable":["http://127.0.0.1:1/metrics"],"canary":["http://127.0.0.1:1/metrics"]}},"analysis":{"warmup":"0s"},"steps":[{"weight":5},{"weight":50}],"limits":{"step":{"min":"10s","max":"45m"}},"bake":{"for":"30s","holdback":"5%"}}}"#;

/// Writes a record as a daemon does, from the machine and the judge themselves.
struct Scribe {
    machine: Machine,
    plan: Plan,
    evidence: Evidence,
    state: State,
    now: i64,
    charter: Charter,
    lines: Vec<Line>,
    n: u64,
    before: Sum,
    /// The source's clock, and what it counts.
    at_ms: i64,
}

impl Scribe {
    fn new() -> Scribe {
        let policy = Policy::parse("policy", POLICY.as_bytes()).unwrap();
        let id = RolloutId::new("shop", "checkout", "v2").unwrap();
        let bytes = serde_json::to_string(&policy).unwrap();
        let charter = Charter {
            version: 1,
            id: id.clone(),
            release: Some("v2".into()),
            actor: None,
            from: None,
            key: "ci 1".into(),
            sequence: None,
            policy_hash: Charter::hash(&bytes),
            policy: bytes,
            announced: Timestamp::from_millis(1_000),
            after: None,
            retries: 0,
        };
        let plan = policy.plan().unwrap();
        let mut scribe = Scribe {
            machine: policy.machine(),
            evidence: Evidence::new(&plan),
            plan,
            state: State::new(id, 1, Timestamp::from_millis(1_000)),
            now: 1_000,
            charter,
            lines: Vec::new(),
            n: 0,
            before: Sum::new(),
            at_ms: 10_000,
        };
        scribe.take();
        scribe.plan();
        scribe
    }

    fn write(&mut self, entry: Entry) {
        let line = Line::after(&self.before, self.n, &entry).unwrap();
        self.n += 1;
        self.before.clone_from(&line.sum);
        self.lines.push(line);
    }

    /// A session begins.
    fn take(&mut self) {
        (self.n, self.before) = (0, Sum::new());
        let owner =
            Owner { daemon: "a".into(), incarnation: "1".into(), epoch: self.state.epoch, cluster: None };
        let at = Timestamp::from_millis(self.now);
        self.write(Entry::Taken(Box::new(Taken::of(&self.charter, owner, self.state.clone(), at))));
    }

    fn plan(&mut self) {
        let mut baseline = Baseline::new();
        for n in 0..40 {
            let pods = vec![PodWindow::new(Arm::Stable, "s", 500, 1 + n % 2)];
            let start_ms = i64::try_from(n).unwrap() * 15_000 - 1_000_000;
            baseline.add(&Window { step: 0, start_ms, end_ms: start_ms + 15_000, pods }).unwrap();
        }
        self.plan = self.plan.clone().frozen(&baseline);
        self.evidence = Evidence::new(&self.plan);
        self.write(Entry::Planned(Box::new(Planned { baseline: Some(baseline), plan: self.plan.clone() })));
    }

    fn resume(&mut self) {
        let resumed = Resumed { plan: self.plan.clone(), evidence: self.evidence.clone() };
        self.write(Entry::Resumed(Box::new(resumed)));
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.now += 500;
        let now = Timestamp::from_millis(self.now);
        let again = step(&self.machine, self.state.clone(), now, event.clone());
        self.state = again.state;
        self.write(Entry::Decided(Box::new(Decided {
            now,
            event,
            revision: self.state.revision,
            phase: self.state.phase.name().into(),
            weight: self.state.weight,
            reason: again.reason,
            effects: again.effects.clone(),
            answer: again.answer,
            saved: true,
            state: sum(&self.state),
        })));
        again.effects.into_iter().map(|one| one.effect).collect()
    }

    fn window(&mut self, requests: u64, errors: u64) {
        let Some(at) = self.state.step(&self.machine) else { return };
        let pods = vec![
            PodWindow::new(Arm::Stable, "s", requests, requests / 500),
            PodWindow::new(Arm::Canary, "c", requests, errors),
        ];
        let window = Window {
            step: u32::try_from(at + 1).unwrap(),
            start_ms: self.at_ms,
            end_ms: self.at_ms + 5_000,
            pods,
        };
        self.at_ms = window.end_ms;
        let event = judge(&self.plan, &mut self.evidence, at, &window).event;
        let judged = Judged { step: at, window, event: event.clone(), evidence: sum(&self.evidence) };
        self.write(Entry::Judged(Box::new(judged)));
        self.tell(event);
    }

    /// Everything that is asked for comes about, until the canary has traffic.
    fn begin(&mut self) {
        self.tell(Event::Requested);
        let scaled =
            self.outstanding(|effect| matches!(effect, Effect::ScaleWorkload { role: Role::Canary, .. }));
        self.tell(Event::Scaled { id: scaled.unwrap(), needed: 1 });
        self.tell(Event::WorkloadObserved { role: Role::Canary, wanted: 1, available: 1 });
        self.tell(Event::BaselineMeasured(Measured::Measured));
        self.read_back();
    }

    fn read_back(&mut self) {
        let id = self.outstanding(|effect| matches!(effect, Effect::SetTraffic { .. }));
        if let Some(id) = id {
            let fence = Some(Fence { epoch: self.state.epoch, seq: id.seq });
            self.tell(Event::TrafficObserved(ReadBack { weight: self.state.weight, fence, fresh: true }));
        }
    }

    fn outstanding(&self, is: impl Fn(&Effect) -> bool) -> Option<sluice_rollout::EffectId> {
        self.state.outstanding.iter().find(|one| is(&one.effect)).map(|one| one.id)
    }

    fn text(&self) -> String {
        let head = serde_json::to_string(&Head::new(&self.charter).unwrap()).unwrap();
        let lines = self.lines.iter().map(|line| serde_json::to_string(line).unwrap());
        std::iter::once(head).chain(lines).map(|line| line + "\n").collect()
    }
}

/// A canary that passes its first step, is looked at by a person, and goes bad in the second.
fn bad_at_50() -> Scribe {
    let mut scribe = Scribe::new();
    scribe.begin();
    for _ in 0..40 {
        if scribe.state.step(&scribe.machine) != Some(0) {
            break;
        }
        scribe.window(4_000, 8);
    }
    assert_eq!(scribe.state.step(&scribe.machine), Some(1), "the first step was not passed");
    scribe.read_back();
    let person = |action| {
        let (key, actor) = ("ann 1".to_owned(), "ann".to_owned());
        Event::Override(Override { key, actor, reason: "look".into(), expected_revision: None, action })
    };
    scribe.tell(person(Action::Pause));
    scribe.tell(person(Action::Pause));
    for _ in 0..20 {
        scribe.window(4_000, 400);
    }
    assert!(scribe.state.is_aborting(), "{}", scribe.state.phase.name());
    scribe.read_back();
    scribe
}

#[derive(Debug, PartialEq)]
enum Came {
    Same,
    Incomplete,
    Different(String),
    Unreadable(RecordError),
}

fn replay(text: &str) -> (Came, Option<ReplayReport>) {
    let mut reader = RecordReader::default();
    let mut replay: Option<Replay> = None;
    for line in text.lines() {
        let compared = match reader.read(line) {
            Err(error) => return (Came::Unreadable(error), None),
            Ok(None) => Ok(()),
            Ok(Some(Part::Head(head))) => Replay::of(&head).map(|begun| replay = Some(begun)),
            Ok(Some(Part::Line(line))) => replay.as_mut().unwrap().line(&line),
        };
        match compared {
            Ok(()) => {}
            Err(Stop::Different(difference)) => return (Came::Different(difference.to_string()), None),
            Err(Stop::Unreadable(error)) => return (Came::Unreadable(error), None),
        }
    }
    let report = replay.unwrap().finish();
    (if report.is_complete() { Came::Same } else { Came::Incomplete }, Some(report))
}

#[test]
fn a_record_comes_out_the_same() {
    let scribe = bad_at_50();
    let (came, report) = replay(&scribe.text());
    assert_eq!(came, Came::Same, "{report:#?}");
    let report = report.unwrap();
    assert!(report.decisions > 10 && report.windows >= 3, "{report:#?}");
    assert_eq!(report.revision, Some(scribe.state.revision));
}

#[test]
fn one_bit_anywhere_is_found() {
    let text = bad_at_50().text();
    let stride = (text.len() / 400).max(1) | 1;
    for (tried, at) in (0..text.len()).step_by(stride).enumerate() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (tried % 7);
        // What is no text any more cannot be read at all.
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        let around: String = text[at.saturating_sub(30)..].chars().take(60).collect();
        let (came, _) = replay(&changed);
        assert!(
            matches!(came, Came::Different(_) | Came::Unreadable(_)),
            "byte {at} changed to {:?} was not found: {came:?} near {around:?}",
            char::from(changed.as_bytes()[at])
        );
    }
}

/// Whoever changes a count may mend the chain, and still the decisions do not come out.
#[test]
fn a_count_that_was_changed_with_its_sums_is_found_by_the_evidence() {
    let scribe = bad_at_50();
    let mut lines: Vec<Line> = Vec::new();
    let mut changed = false;
    for line in &scribe.lines {
        let mut entry = line.entry().unwrap();
        if let (Entry::Judged(judged), false) = (&mut entry, changed) {
            judged.window.pods[1].errors += 1;
            changed = true;
        }
        let before = lines.last().map_or(Sum::new(), |line| line.sum.clone());
        lines.push(Line::after(&before, line.n, &entry).unwrap());
    }
    let (came, _) = replay(&Scribe { lines, ..scribe }.text());
    let Came::Different(words) = came else { panic!("{came:?}") };
    assert!(words.contains("window of step 1"), "{words}");
}

#[test]
fn a_verdict_that_no_window_gave_is_found() {
    let mut scribe = Scribe::new();
    scribe.begin();
    let words = "trust me".to_owned();
    let (counted, until) = (Duration::from_secs(60), Timestamp::from_millis(99_000));
    scribe.tell(Event::Evidence { step: 0, verdict: Verdict::Pass, counted, until, words, alarms: None });
    let (came, _) = replay(&scribe.text());
    assert!(matches!(&came, Came::Different(words) if words.contains("no window")), "{came:?}");
}

#[test]
fn a_line_that_is_missing_or_moved_is_found() {
    let scribe = bad_at_50();
    let without = |gone: usize| {
        let mut lines = scribe.lines.clone();
        lines.remove(gone);
        let text =
            Scribe { lines, machine: scribe.machine.clone(), plan: scribe.plan.clone(), ..bad_at_50() }
                .text();
        replay(&text).0
    };
    for gone in [2, 5, scribe.lines.len() - 2] {
        assert!(matches!(without(gone), Came::Different(_)), "line {gone} is gone and nobody noticed");
    }
    // The beginning may have been dropped beyond the record's limits: that is said, and is no difference.
    let (came, report) = replay(&Scribe { lines: scribe.lines[3..].to_vec(), ..bad_at_50() }.text());
    assert_eq!(came, Came::Incomplete);
    assert!(report.unwrap().gaps[0].what.contains("beginning is gone"));
}

#[test]
fn a_restart_goes_on_where_the_state_was_saved() {
    let mut scribe = Scribe::new();
    scribe.begin();
    scribe.window(4_000, 8);
    scribe.state.epoch += 1;
    scribe.take();
    scribe.resume();
    let epoch = scribe.state.epoch;
    scribe.tell(Event::Recovered { epoch, takeover: true, abort_mark: None });
    scribe.window(4_000, 8);
    let (came, report) = replay(&scribe.text());
    assert_eq!((came, report.unwrap().sessions), (Came::Same, 2));
}

#[test]
fn what_was_lost_in_a_crash_or_a_full_queue_is_said() {
    let mut crashed = Scribe::new();
    crashed.begin();
    let mut kept = crashed.lines.clone();
    crashed.window(4_000, 8);
    crashed.tell(Event::Superseded { by: "v3".into() });
    crashed.lines.clear();
    crashed.take();
    crashed.resume();
    kept.append(&mut crashed.lines);
    let (came, report) = replay(&Scribe { lines: kept, ..crashed }.text());
    assert_eq!(came, Came::Incomplete);
    assert_eq!(report.unwrap().gaps.len(), 2, "a state and evidence that the record does not lead to");

    let mut behind = Scribe::new();
    behind.begin();
    behind.write(Entry::Lost(Lost { entries: 3, why: "the writer was behind".into() }));
    behind.tell(Event::CanaryVanished);
    let state = behind.state.clone();
    behind.write(Entry::Synced(Box::new(Synced::State(Box::new(state)))));
    behind.read_back();
    let (came, report) = replay(&behind.text());
    let report = report.unwrap();
    assert_eq!((came, report.unchecked), (Came::Incomplete, 1), "{report:#?}");
    assert_eq!(report.phase.as_deref(), Some(behind.state.phase.name()), "it goes on after the gap");
}

#[test]
fn a_session_whose_beginning_was_lost_is_no_other_record() {
    let mut scribe = Scribe::new();
    scribe.begin();
    (scribe.n, scribe.before) = (0, Sum::new());
    scribe.write(Entry::Lost(Lost {
        entries: 1,
        why: "where the session of epoch 2 began found no room".into(),
    }));
    scribe.tell(Event::CanaryVanished);
    let state = scribe.state.clone();
    scribe.write(Entry::Synced(Box::new(Synced::State(Box::new(state)))));
    scribe.read_back();
    let (came, report) = replay(&scribe.text());
    let report = report.unwrap();
    assert_eq!((came, report.sessions, report.unchecked), (Came::Incomplete, 2, 1), "{report:#?}");
    assert!(report.gaps.iter().any(|gap| gap.what.contains("1 entries are missing")), "{report:#?}");
    assert_eq!(report.phase.as_deref(), Some(scribe.state.phase.name()));
}

#[test]
fn a_batch_that_was_written_twice_counts_once() {
    let scribe = bad_at_50();
    let mut lines = scribe.lines.clone();
    let again = lines[4..9].to_vec();
    lines.splice(9..9, again);
    let (came, report) = replay(&Scribe { lines, ..bad_at_50() }.text());
    assert_eq!(came, Came::Same, "{report:#?}");
}

#[test]
fn other_weights_than_the_policys_are_found() {
    let mut scribe = Scribe::new();
    scribe.machine.steps[0].weight = Weight::from_percent(20.0).unwrap();
    scribe.begin();
    let (came, _) = replay(&scribe.text());
    let Came::Different(words) = came else { panic!("{came:?}") };
    assert!(words.contains("another"), "{words}");
    // The effect names the weight; the observation of another one would be found, too.
    assert!(!matches!(Effect::Observe(Observation::None), Effect::SetTraffic { .. }));
}
