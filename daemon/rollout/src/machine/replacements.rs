//! How stable is replaced, told as timelines: recreate and rolling, with weights and without, and the way back from each part.

use std::time::Duration;

use super::timelines::{Story, policy};
use crate::*;

fn gate(name: &str) -> GateSpec {
    GateSpec { id: GateId(name.into()), patience: Duration::from_secs(9) }
}

fn hooked() -> Policy {
    let hooks = Hooks { mid: vec![gate("mid")], post: vec![gate("post")] };
    let limits = Limits { replace: Some(Duration::from_secs(120)), ..policy().limits };
    Policy { replace: Replace::Recreate, promote_gates: vec![gate("pre")], hooks, limits, ..policy() }
}

fn in_place() -> Policy {
    Policy { in_place: true, steps: vec![], bake: None, ..hooked() }
}

impl Story {
    fn gate_says(&mut self, name: &str, answer: GateAnswer) -> Reason {
        assert!(
            self.outstanding(|e| *e == Effect::AskGate { gate: GateId(name.into()) }).is_some(),
            "{name}"
        );
        self.event(Event::GateAnswered { gate: GateId(name.into()), answer })
    }

    fn done(&mut self, effect: &Effect) -> &mut Story {
        let id = self.outstanding(|e| e == effect).unwrap_or_else(|| panic!("{effect:?} is not asked for"));
        self.event(Event::WorkloadReady { id });
        self
    }

    fn stage(&self) -> Option<PromoteStage> {
        match self.state.phase {
            Phase::Promoting { stage, .. } => Some(stage),
            _ => None,
        }
    }

    /// Workload effects in the order in which they were asked for.
    fn works(&self) -> Vec<&'static str> {
        let works = self.all.iter().filter(|effect| effect.lane() == Lane::Workload);
        works.filter(|effect| !matches!(effect, Effect::ScaleWorkload { .. })).map(Effect::name).collect()
    }
}

#[test]
fn recreate_in_place_asks_pre_empties_asks_mid_proves_one_pod_then_the_rest_then_asks_post() {
    let mut story = Story::of(in_place());
    story.event(Event::Requested);
    story.gate_says("pre", GateAnswer::Yes);
    assert_eq!(story.stage(), Some(PromoteStage::Emptying));
    story.done(&Effect::EmptyWorkload);
    assert_eq!(story.works(), ["empty-workload"], "nothing new before the hook between");
    story.gate_says("mid", GateAnswer::Yes);
    story.done(&Effect::PromoteFirst).done(&Effect::PromoteWorkload);
    story.written();
    assert_eq!(story.stage(), Some(PromoteStage::After));
    story.gate_says("post", GateAnswer::Yes);
    assert_eq!(story.state.phase.name(), "promoted");
    assert_eq!(story.works(), ["empty-workload", "promote-first", "promote-workload"]);
    assert!(story.all.iter().all(|effect| !matches!(effect, Effect::Observe(Observation::Baseline))));
}

#[test]
fn rolling_in_place_needs_no_stop_in_between() {
    let mut story = Story::of(Policy { replace: Replace::Rolling, promote_gates: vec![], ..in_place() });
    story.event(Event::Requested);
    story.done(&Effect::PromoteWorkload);
    story.written();
    story.gate_says("post", GateAnswer::Yes);
    assert_eq!((story.state.phase.name(), story.works()), ("promoted", vec!["promote-workload"]));
}

#[test]
fn a_pre_hook_that_fails_ends_it_before_anything_was_touched() {
    let mut story = Story::of(in_place());
    story.event(Event::Requested);
    story.gate_says("pre", GateAnswer::No { why: "migration refused".into() });
    assert_eq!((story.state.phase.name(), story.works()), ("failed", vec![]));
}

#[test]
fn a_hook_that_fails_later_brings_the_former_version_back_before_the_end() {
    for failing in ["mid", "post"] {
        let mut story = Story::of(in_place());
        story.event(Event::Requested);
        story.gate_says("pre", GateAnswer::Yes);
        story.done(&Effect::EmptyWorkload);
        if failing == "post" {
            story.gate_says("mid", GateAnswer::Yes);
            story.done(&Effect::PromoteFirst).done(&Effect::PromoteWorkload).written();
        }
        story.gate_says(failing, GateAnswer::No { why: "no".into() });
        assert_eq!(story.state.phase.name(), "reverting", "{failing}");
        story.done(&Effect::RestoreWorkload).written();
        assert_eq!(story.state.phase.name(), "reverted", "{failing}");
        assert!(story.outstanding(|e| matches!(e, Effect::WatchDrain { .. })).is_none(), "nothing drains");
    }
}

#[test]
fn with_a_router_stable_is_emptied_only_when_the_canary_carries_everything() {
    let mut story = Story::watched(Policy { promote_gates: vec![], ..hooked() });
    story.says("1", Action::PromoteFull);
    assert_eq!(story.stage(), Some(PromoteStage::Raising));
    story.pods_ready(10);
    assert!(story.works().is_empty(), "the weight is not read back yet");
    story.written();
    assert_eq!((story.stage(), story.state.weight), (Some(PromoteStage::Emptying), Weight::FULL));
    story.done(&Effect::EmptyWorkload);
    story.gate_says("mid", GateAnswer::Yes);
    story.done(&Effect::PromoteFirst);
    assert_eq!(story.state.weight, Weight::FULL, "one pod is not all of them");
    story.done(&Effect::PromoteWorkload);
    assert_eq!(story.state.weight, Weight::ZERO);
    story.written();
    story.gate_says("post", GateAnswer::Yes);
    assert_eq!(story.state.phase.name(), "promoted");
}

#[test]
fn a_part_that_takes_longer_than_its_time_is_undone() {
    let mut story = Story::of(in_place());
    story.event(Event::Requested);
    story.gate_says("pre", GateAnswer::Yes);
    story.done(&Effect::EmptyWorkload);
    assert!(story.state.timer(TimerId::Replace).is_none(), "hooks have times of their own");
    story.gate_says("mid", GateAnswer::Yes);
    story.after(120).fire(TimerId::Replace);
    assert_eq!(story.state.phase.name(), "reverting");
    assert!(story.outstanding(|e| *e == Effect::PromoteFirst).is_none());
    assert!(story.outstanding(|e| *e == Effect::RestoreWorkload).is_some());
}

#[test]
fn nobody_pauses_while_no_pod_may_be_there_and_an_abort_is_always_taken() {
    let mut story = Story::of(in_place());
    story.event(Event::Requested);
    story.gate_says("pre", GateAnswer::Yes);
    assert!(!story.says("1", Action::Pause).accepted);
    story.done(&Effect::EmptyWorkload);
    assert!(!story.says("2", Action::Pause).accepted);
    assert!(story.says("3", Action::Promote).accepted, "a person waives the hook");
    assert_eq!(story.stage(), Some(PromoteStage::Proving));
    assert!(story.says("4", Action::Abort).accepted);
    assert_eq!(story.state.phase.name(), "reverting");
}

#[test]
fn traffic_that_somebody_moves_while_a_post_hook_runs_comes_back_before_the_end() {
    let mut story = Story::watched(Policy { replace: Replace::Rolling, promote_gates: vec![], ..hooked() });
    story.says("1", Action::PromoteFull);
    story.done(&Effect::PromoteWorkload).written();
    let read = ReadBack { weight: Weight::from_percent(30.0).unwrap(), fence: None, fresh: true };
    story.event(Event::TrafficObserved(read));
    story.gate_says("post", GateAnswer::Yes);
    assert_eq!(story.stage(), Some(PromoteStage::After), "the traffic is elsewhere");
    story.written();
    assert_eq!(story.state.phase.name(), "promoted");
}
