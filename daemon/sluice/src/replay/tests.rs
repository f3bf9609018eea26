use std::time::Duration;

use sluice_rollout::{Action, Effect, Observation, Override, Role, Weight};
use sluice_wire::decisions::{Part, RecordError, RecordReader};

use self::scribe::Scribe;
use super::*;

/// The fuzzer's, which changes records as well.
#[path = "../../../../tests/fuzz/src/records/scribe.rs"]
mod scribe;

const POLICY: &str = r#"{"apiVersion":"sluice.dev/v1alpha1","kind":"RolloutPolicy","metadata":{"name":"checkout","namespace":"shop"},"spec":{"target":{"webhook":{"url":"http://127.0.0.1:1/"}},"metrics":{"scrape":{"stable":["http://127.0.0.1:1/metrics"],"canary":["http://127.0.0.1:1/metrics"]}},"analysis":{"warmup":"0s"},"steps":[{"weight":5},{"weight":50}],"limits":{"step":{"min":"10s","max":"45m"}},"bake":{"for":"30s","holdback":"5%"}}}"#;

fn begun() -> Scribe {
    Scribe::new(POLICY, |plan, evidence, step, window| judge(plan, evidence, step, window).event)
}

/// A canary that passes its first step, is looked at by a person, and goes bad in the second.
fn bad_at_50() -> Scribe {
    let mut scribe = begun();
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
    let (came, _) = replay(&scribe.clone().with(lines).text());
    let Came::Different(words) = came else { panic!("{came:?}") };
    assert!(words.contains("window of step 1"), "{words}");
}

#[test]
fn a_verdict_that_no_window_gave_is_found() {
    let mut scribe = begun();
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
        let text = scribe.clone().with(lines).text();
        replay(&text).0
    };
    for gone in [2, 5, scribe.lines.len() - 2] {
        assert!(matches!(without(gone), Came::Different(_)), "line {gone} is gone and nobody noticed");
    }
    // The beginning may have been dropped beyond the record's limits: that is said, and is no difference.
    let (came, report) = replay(&scribe.clone().with(scribe.lines[3..].to_vec()).text());
    assert_eq!(came, Came::Incomplete);
    assert!(report.unwrap().gaps[0].what.contains("beginning is gone"));
}

#[test]
fn a_restart_goes_on_where_the_state_was_saved() {
    let mut scribe = begun();
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

/// An abort without the store is saved when it is back, with no decision of its own.
#[test]
fn a_restart_goes_on_where_the_state_was_saved_later_than_it_was_decided() {
    let mut scribe = begun();
    scribe.begin();
    scribe.decide(Event::CanaryVanished, false);
    let aborted = scribe.state.clone();
    scribe.decide(Event::WorkloadObserved { role: Role::Canary, wanted: 1, available: 0 }, false);
    assert!(aborted.is_aborting() && aborted != scribe.state);
    for state in [scribe.state.clone(), aborted] {
        let mut again = scribe.clone();
        again.state = state;
        again.take();
        let (came, report) = replay(&again.text());
        assert_eq!(came, Came::Same, "{report:#?}");
    }
    scribe.read_back();
    scribe.state.revision += 1;
    scribe.take();
    let (came, report) = replay(&scribe.text());
    assert_eq!(came, Came::Incomplete);
    assert!(report.unwrap().gaps[0].what.contains("does not lead to"));
}

#[test]
fn what_was_lost_in_a_crash_or_a_full_queue_is_said() {
    let mut crashed = begun();
    crashed.begin();
    let mut kept = crashed.lines.clone();
    crashed.window(4_000, 8);
    crashed.tell(Event::Superseded { by: "v3".into() });
    crashed.lines.clear();
    crashed.take();
    crashed.resume();
    kept.append(&mut crashed.lines);
    let (came, report) = replay(&crashed.with(kept).text());
    assert_eq!(came, Came::Incomplete);
    assert_eq!(report.unwrap().gaps.len(), 2, "a state and evidence that the record does not lead to");

    let mut behind = begun();
    behind.begin();
    behind.write(&Entry::Lost(Lost { entries: 3, why: "the writer was behind".into() }));
    behind.tell(Event::CanaryVanished);
    let state = behind.state.clone();
    behind.write(&Entry::Synced(Box::new(Synced::State(Box::new(state)))));
    behind.read_back();
    let (came, report) = replay(&behind.text());
    let report = report.unwrap();
    assert_eq!((came, report.unchecked), (Came::Incomplete, 1), "{report:#?}");
    assert_eq!(report.phase.as_deref(), Some(behind.state.phase.name()), "it goes on after the gap");
}

#[test]
fn a_session_whose_beginning_was_lost_is_no_other_record() {
    let mut scribe = begun();
    scribe.begin();
    scribe.restart();
    scribe.write(&Entry::Lost(Lost {
        entries: 1,
        why: "where the session of epoch 2 began found no room".into(),
    }));
    scribe.tell(Event::CanaryVanished);
    let state = scribe.state.clone();
    scribe.write(&Entry::Synced(Box::new(Synced::State(Box::new(state)))));
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
    let (came, report) = replay(&bad_at_50().with(lines).text());
    assert_eq!(came, Came::Same, "{report:#?}");
}

#[test]
fn other_weights_than_the_policys_are_found() {
    let mut scribe = begun();
    scribe.machine.steps[0].weight = Weight::from_percent(20.0).unwrap();
    scribe.begin();
    let (came, _) = replay(&scribe.text());
    let Came::Different(words) = came else { panic!("{came:?}") };
    assert!(words.contains("another"), "{words}");
    // The effect names the weight; the observation of another one would be found, too.
    assert!(!matches!(Effect::Observe(Observation::None), Effect::SetTraffic { .. }));
}
