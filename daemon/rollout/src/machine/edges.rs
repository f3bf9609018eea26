//! More timelines: what happens before the first weight, beside the verdicts, and after the end.

use super::timelines::{Story, policy};
use crate::*;

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn gated() -> Policy {
    let gate = GateSpec { id: GateId("approval".into()), patience: std::time::Duration::from_secs(60) };
    Policy { gates: vec![gate], ..policy() }
}

/// Put back, with weight 0 read back and the drain under way.
fn reverted() -> Story {
    let mut story = Story::watched(policy());
    story.evidence(Verdict::Fail, 1);
    story.written();
    assert_eq!(story.phase(), "reverted");
    story
}

fn somebody_writes(story: &mut Story, weight: Weight) -> Reason {
    story.event(Event::TrafficObserved(ReadBack { weight, fence: None, fresh: true }))
}

fn drains(story: &Story) -> bool {
    story.outstanding(|e| matches!(e, Effect::WatchDrain { .. })).is_some()
}

#[test]
fn who_opens_the_canary_again_while_it_drains_is_put_right_downwards_three_times_and_then_told_of() {
    let mut story = reverted();
    let mut closed = story.asked_weights();
    for time in 1..=3 {
        let reason = somebody_writes(story.after(10), percent(5.0));
        assert!(reason.to_string().contains(&format!("number {time} in five minutes")), "{reason}");
        assert!(!drains(&story), "nothing comes to rest while it has traffic");
        story.written();
        assert!(drains(&story), "its drain begins anew");
        closed.push(0.0);
    }
    somebody_writes(story.after(10), percent(5.0));
    somebody_writes(story.after(10), percent(5.0));
    assert_eq!(story.asked_weights(), closed, "three times, and no more");
    let told = story.notices().iter().filter(|notice| *notice == "Attention").count();
    assert_eq!((told, story.firing()), (1, vec![]), "told once, and no alert after the end");
    story.event(Event::Drained(DrainEnd::Unknown));
    assert!(
        story.outstanding(|e| matches!(e, Effect::ScaleWorkload { role: Role::Canary, .. })).is_some(),
        "the canary goes all the same"
    );
}

/// Without a router.
fn by_pods() -> Policy {
    let mut policy = policy();
    policy.pods_are_the_weight = true;
    policy.limits.prepare = std::time::Duration::from_secs(300);
    policy
}

#[test]
fn without_a_router_the_canarys_pods_come_with_its_weight_and_the_canary_is_never_scaled_before() {
    let mut story = Story::of(by_pods());
    story.event(Event::Requested);
    assert_eq!(story.phase(), "preparing", "it is to be measured first");
    story.event(Event::BaselineMeasured(Baseline::Measured));
    assert_eq!(story.phase(), "shifting");
    assert!(
        story.all.contains(&Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::HeldAtStart })
    );
    story.written();
    assert_eq!(story.phase(), "observing");
    story.after(60).evidence(Verdict::Pass, 60);
    assert_eq!((story.phase(), story.asked_weights()), ("shifting", vec![5.0, 50.0]));
    let scaled = |effect: &Effect| matches!(effect, Effect::ScaleWorkload { role: Role::Canary, .. });
    assert!(!story.all.iter().any(scaled), "its size is its weight");
}

#[test]
fn without_a_router_a_first_weight_whose_pods_never_come_is_taken_back() {
    let mut story = Story::of(by_pods());
    story.event(Event::Requested);
    story.event(Event::BaselineMeasured(Baseline::Measured));
    story.after(300).fire(TimerId::Shift);
    assert_eq!((story.phase(), story.asked_weights()), ("reverting", vec![5.0, 0.0]));
}

#[test]
fn after_the_aftermath_and_after_a_later_rollouts_write_the_target_is_none_of_ours() {
    let mut story = reverted();
    let later = ReadBack { weight: percent(5.0), fence: Some(Fence { epoch: 2, seq: 1 }), fresh: true };
    assert_eq!(story.event(Event::TrafficObserved(later)).code(), "stale");
    story.event(Event::Superseded { by: "v3".into() });
    assert!(!story.state.has_put_back(), "what it had raised is left to the newer one");
    assert_eq!(somebody_writes(&mut story, percent(5.0)).code(), "stale");
    assert_eq!(story.effects, []);
}

#[test]
fn a_target_that_is_gone_after_the_end_does_not_keep_the_canary_alive() {
    let mut story = reverted();
    somebody_writes(&mut story, percent(5.0));
    let id = story.outstanding(|e| matches!(e, Effect::SetTraffic { .. })).unwrap();
    story.event(Event::EffectFailed { id, why: "it is gone".into(), retrying: false });
    assert!(drains(&story));
}

#[test]
fn promoted_by_hand_at_the_first_gate_stables_size_is_remembered_before_its_template_goes() {
    let mut story = Story::of(gated());
    story.event(Event::Requested);
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 2, available: 2 });
    assert!(story.says("1", Action::PromoteFull).accepted);
    let workload: Vec<&Effect> = story.effects.iter().filter(|e| e.lane() == Lane::Workload).collect();
    let held = Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::HeldAtStart };
    assert_eq!(workload, [&held, &Effect::PromoteWorkload], "the lane keeps this order");
}

#[test]
fn promoted_by_hand_at_the_first_gate_and_aborted_stable_gets_its_template_back() {
    let mut story = Story::of(gated());
    story.event(Event::Requested);
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 2, available: 2 });
    story.says("1", Action::PromoteFull);
    assert!(story.says("2", Action::Abort).accepted);
    assert_eq!(story.phase(), "reverting", "it had no traffic, but stable may have its template");
    let id = story.outstanding(|e| matches!(e, Effect::RestoreWorkload)).unwrap();
    story.event(Event::WorkloadReady { id });
    story.written();
    assert_eq!((story.phase(), story.asked_weights()), ("reverted", vec![0.0]));
}

#[test]
fn what_never_passed_its_first_gate_touches_nothing() {
    let mut story = Story::of(gated());
    story.event(Event::Requested);
    let no = GateAnswer::No { why: "not today".into() };
    story.event(Event::GateAnswered { gate: GateId("approval".into()), answer: no });
    assert_eq!(story.phase(), "failed");
    assert!(!story.all.iter().any(|e| matches!(e.lane(), Lane::Target | Lane::Workload)));
}

#[test]
fn a_release_that_waited_in_vain_is_told_as_any_other_end() {
    let mut story = Story::of(policy());
    story.event(Event::NeverBegan { why: "superseded while waiting by v4".into() });
    assert_eq!((story.phase(), story.notices()), ("failed", vec!["Finished".to_owned()]));
    assert!(story.all.iter().all(|e| matches!(e.lane(), Lane::Telling | Lane::Watching)), "{:?}", story.all);
    let mut running = Story::watched(policy());
    assert_eq!(running.event(Event::NeverBegan { why: "late".into() }).code(), "stale");
}

#[test]
fn alarms_of_the_analysis_are_told_and_withdrawn_and_decide_nothing() {
    let mut story = Story::watched(policy());
    let split = "split: the canary gets 9.0 % of the requests, the weight says 5.0 %";
    story.after(30).evidence_with(Verdict::Undecided, 30, &[split]);
    assert_eq!((story.phase(), story.firing()), ("observing", vec![AlertKind::Advisory]));
    let figures = "split: the canary gets 9.1 % of the requests, the weight says 5.0 %";
    story.after(10).evidence_with(Verdict::Undecided, 10, &[figures]);
    assert_eq!(story.effects, [], "other figures of the same are no news");
    story.after(10).evidence_with(Verdict::Undecided, 10, &[figures, "collateral: stable suffers"]);
    assert!(story.state.alerts[0].summary.contains("collateral"), "another subject is");
    for gone in [&[][..], &[figures][..], &[]] {
        story.after(10).evidence_with(Verdict::Undecided, 10, gone);
        assert_eq!(story.effects, [], "what comes and goes with the windows is told once");
    }
    story.after(50).evidence_with(Verdict::Undecided, 10, &[]);
    assert_eq!(story.firing(), vec![], "gone for a minute, it is withdrawn");
    story.after(10).evidence_with(Verdict::Pass, 10, &[]);
    assert_eq!(story.phase(), "preparing", "what passes goes on");
    let told = story.notices().iter().filter(|notice| *notice == "Attention").count();
    assert_eq!(told, 2);
}

#[test]
fn what_is_told_carries_the_revision_and_weight_of_its_transition() {
    let mut story = Story::watched(policy());
    story.after(60).evidence(Verdict::Pass, 60);
    let passed = (story.state.revision, story.state.weight);
    story.pods_ready(5).written();
    story.after(10).evidence(Verdict::Fail, 1);
    let aborted = (story.state.revision, story.state.weight);
    let told = |wanted: &str| {
        story.state.outstanding.iter().find_map(|one| match &one.effect {
            Effect::Publish { notice, revision, weight, .. } if format!("{notice:?}").starts_with(wanted) => {
                Some((*revision, *weight))
            }
            _ => None,
        })
    };
    assert_eq!(told("StepPassed"), Some(passed));
    assert_eq!((told("Aborting"), aborted.1), (Some(aborted), Weight::ZERO));
}

#[test]
fn testers_are_let_in_at_weight_0_before_the_first_steps_gates() {
    let gate = |name: &str| GateSpec { id: GateId(name.into()), ..gated().gates[0].clone() };
    let yes = |name: &str| Event::GateAnswered { gate: GateId(name.into()), answer: GateAnswer::Yes };
    let mut policy = Policy { gates: vec![gate("freeze")], testers: true, ..policy() };
    policy.steps[0].gates = vec![gate("testers")];
    let open = Effect::SetTraffic { weight: Weight::ZERO, abort: None };
    let looked = || {
        let mut story = Story::of(policy.clone());
        story.event(Event::Requested);
        story.event(yes("freeze"));
        assert_eq!(story.phase(), "preparing", "pods first");
        story.event(Event::BaselineMeasured(Baseline::Measured));
        story.pods_ready(3);
        assert_eq!(story.phase(), "gated");
        assert!(story.effects.contains(&open), "{:?}", story.effects);
        assert!(story.effects.contains(&Effect::AskGate { gate: GateId("testers".into()) }));
        story.written();
        story
    };

    let mut well = looked();
    assert!(
        !well
            .all
            .iter()
            .any(|effect| matches!(effect, Effect::SetTraffic { weight, .. } if !weight.is_zero()))
    );
    well.event(yes("testers"));
    well.pods_ready(3);
    well.written();
    assert_eq!(well.phase(), "observing");

    // A tester's no: there is traffic to take away, and the rule goes with it.
    let mut badly = looked();
    let no = GateAnswer::No { why: "the basket is empty".into() };
    badly.event(Event::GateAnswered { gate: GateId("testers".into()), answer: no });
    assert_eq!(badly.phase(), "reverting");
    assert!(matches!(&badly.effects[..], effects if effects.iter().any(|effect|
        matches!(effect, Effect::SetTraffic { weight: Weight::ZERO, abort: Some(_) }))));
    badly.written();
    assert_eq!(badly.phase(), "reverted");
}

#[test]
fn testers_who_cannot_be_let_in_end_it_before_there_was_traffic() {
    let mut story = Story::of(Policy { testers: true, ..policy() });
    story.event(Event::Requested);
    story.event(Event::BaselineMeasured(Baseline::Measured));
    story.pods_ready(3);
    let id = story.outstanding(|effect| matches!(effect, Effect::SetTraffic { .. })).unwrap();
    story.event(Event::EffectFailed { id, why: "no such field".into(), retrying: false });
    assert_eq!(story.phase(), "failed");
}

#[test]
fn where_the_policy_says_report_somebody_elses_weight_stays_until_a_person_resumes() {
    let mut story = Story::watched(Policy { on_drift: OnDrift::Report, ..policy() });
    somebody_writes(&mut story, Weight::ZERO);
    assert_eq!((story.phase(), story.firing()), ("paused", vec![AlertKind::NeedsAttention]));
    somebody_writes(&mut story, Weight::ZERO);
    assert_eq!(story.asked_weights(), [5.0], "nothing is written");
    assert!(story.says("1", Action::Resume).accepted);
    assert_eq!((story.phase(), story.asked_weights()), ("observing", vec![5.0, 5.0]));
}
