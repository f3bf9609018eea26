//! Lives under plans that were written by hand: what no seed meets.

use sluice_wire::policy::OnNewRelease;

use super::{
    Run,
    plan::{Door, Happening, Lasting, Plan, Trouble},
    planned,
};

/// How long each release has (ms), and when a person aborts it.
const EACH: i64 = 30_000;
const ABORTED_AFTER: i64 = 20_000;
/// More than are kept of a policy.
const RELEASES: i64 = 24;

/// One release after the other is aborted by a person, and on-call takes nothing until the last one is over. Half a minute
/// before, the daemon is replaced, or is not.
fn on_call_is_away(is_replaced: bool) -> Run {
    let end = RELEASES * EACH;
    let mut happenings = Vec::new();
    for number in 0..RELEASES {
        let (at, attempt) = (number * EACH, format!("v{number}"));
        happenings.push((at, Happening::Announces { attempt, copies: 1 }));
        let (door, key) = (Door::Stored, format!("enough {number}"));
        happenings.push((at + ABORTED_AFTER, Happening::Says { door, key, action: "abort" }));
    }
    if is_replaced {
        happenings.push((end, Happening::Stops { who: 0 }));
    }
    let on_call = Lasting { trouble: Trouble::OnCallAway, from: 0, to: end + EACH, whose: None };
    planned(1, None, |_| Plan {
        daemons: 1,
        on_new_release: OnNewRelease::Supersede,
        grain: 500,
        lasting: vec![on_call],
        happenings,
        bad: Vec::new(),
        calm_from: end + EACH,
    })
}

fn told(run: &Run, words: &str) -> usize {
    run.story.iter().filter(|line| line.contains("alert: ") && line.contains(words)).count()
}

/// Its record is gone, and still somebody has to say that the alert is over.
#[test]
fn what_was_told_of_a_release_is_taken_back_although_nothing_is_kept_of_it() {
    let run = on_call_is_away(false);
    assert_eq!(run.broken, None, "{}", run.story.join("\n"));
    let releases = usize::try_from(RELEASES).unwrap();
    assert_eq!(told(&run, "Resolved"), releases, "{}", run.story.join("\n"));
}

/// And nobody goes on trying to take it up.
#[test]
fn a_release_of_which_nothing_is_kept_is_given_up_by_the_next_daemon() {
    let run = on_call_is_away(true);
    assert_eq!(run.broken, None, "{}", run.story.join("\n"));
    let kept = 20;
    assert!(told(&run, "Resolved") >= kept, "{}", run.story.join("\n"));
}
