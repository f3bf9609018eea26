//! The machine told as timelines: given a policy, these events at these seconds, those effects and that phase.

use std::time::Duration;

use crate::*;

/// A rollout under test: plays the obedient edge where a story does not care.
pub(super) struct Story {
    pub policy: Policy,
    pub state: State,
    pub at: i64,
    pub effects: Vec<Effect>,
    pub all: Vec<Effect>,
}

fn by_hand(weight: Weight) -> Action {
    Action::SetWeight { weight, inexpressible: None }
}

pub(super) fn policy() -> Policy {
    let step = |percent: f64| Step {
        weight: Weight::from_percent(percent).unwrap(),
        min: Duration::from_secs(60),
        max: Duration::from_secs(600),
        gates: Vec::new(),
        pause: false,
    };
    Policy {
        gates: Vec::new(),
        steps: vec![step(5.0), step(50.0)],
        bake: Some(Bake {
            weight: Weight::from_percent(95.0).unwrap(),
            length: Duration::from_secs(120),
            max: Duration::from_secs(900),
        }),
        promote_gates: Vec::new(),
        limits: Limits {
            prepare: Duration::from_secs(300),
            shift: Duration::from_secs(30),
            promote: Duration::from_secs(300),
            replace: None,
            on_deadline: OnDeadline::Hold,
            on_undecided: OnTrouble::Hold,
            on_no_data: OnTrouble::Alert,
            on_source_down: OnTrouble::Alert,
            trouble_after: Duration::from_secs(60),
            drain: Duration::from_secs(60),
            on_undrained: OnUndrained::Cut,
            scale_down_delay: Duration::from_secs(30),
        },
        on_drift: OnDrift::Correct,
        promote: Promote::CopyTemplate,
        flip: false,
        testers: false,
        in_place: false,
        replace: Replace::Rolling,
        hooks: Hooks::default(),
        pods_are_the_weight: false,
    }
}

impl Story {
    pub fn of(policy: Policy) -> Story {
        let id = RolloutId::new("shop", "checkout", "v2").unwrap();
        Story { policy, state: State::new(id, 1, Timestamp::default()), at: 0, effects: vec![], all: vec![] }
    }

    /// Up to the watch of the first step.
    pub fn watched(policy: Policy) -> Story {
        let mut story = Story::of(policy);
        story.event(Event::Requested);
        story.event(Event::BaselineMeasured(Baseline::Measured));
        story.pods_ready(3);
        story.written();
        story
    }

    pub fn event(&mut self, event: Event) -> Reason {
        let Transition { state, effects, reason, .. } =
            step(&self.policy, self.state.clone(), Timestamp::from_millis(self.at * 1000), event);
        self.state = state;
        self.effects = effects.into_iter().map(|numbered| numbered.effect).collect();
        self.all.extend(self.effects.iter().cloned());
        reason
    }

    pub fn after(&mut self, seconds: i64) -> &mut Story {
        self.at += seconds;
        self
    }

    pub fn outstanding(&self, is: impl Fn(&Effect) -> bool) -> Option<EffectId> {
        self.state.outstanding.iter().find(|one| is(&one.effect)).map(|one| one.id)
    }

    /// The canary was scaled and its pods are available.
    pub fn pods_ready(&mut self, pods: u32) -> &mut Story {
        if let Some(id) = self.outstanding(|e| matches!(e, Effect::ScaleWorkload { role: Role::Canary, .. }))
        {
            self.event(Event::Scaled { id, needed: pods });
        }
        self.event(Event::WorkloadObserved { role: Role::Canary, wanted: pods, available: pods });
        self
    }

    /// The outstanding weight is written and read back.
    pub fn written(&mut self) -> Reason {
        let (id, weight) = self
            .state
            .outstanding
            .iter()
            .find_map(|one| match one.effect {
                Effect::SetTraffic { weight, .. } => Some((one.id, weight)),
                _ => None,
            })
            .expect("a weight is on its way");
        let fence = Some(self.state.fence(id));
        self.event(Event::TrafficObserved(ReadBack { weight, fence, fresh: true }))
    }

    pub fn evidence(&mut self, verdict: Verdict, seconds: u64) -> Reason {
        self.evidence_with(verdict, seconds, &[])
    }

    pub fn evidence_with(&mut self, verdict: Verdict, seconds: u64, alarms: &[&str]) -> Reason {
        let step = self.state.step(&self.policy).unwrap();
        let counted = Duration::from_secs(seconds);
        let until = Timestamp::from_millis(self.at * 1000);
        let alarms = Some(alarms.iter().map(ToString::to_string).collect());
        self.event(Event::Evidence { step, verdict, counted, until, words: "so it is".into(), alarms })
    }

    pub fn says(&mut self, key: &str, action: Action) -> Answered {
        self.says_at(key, None, action)
    }

    pub fn says_at(&mut self, key: &str, expected_revision: Option<u64>, action: Action) -> Answered {
        let command = Override {
            key: key.into(),
            actor: "ann".into(),
            reason: "because".into(),
            expected_revision,
            action,
        };
        let at = Timestamp::from_millis(self.at * 1000);
        let Transition { state, effects, answer, .. } =
            step(&self.policy, self.state.clone(), at, Event::Override(command));
        self.state = state;
        self.effects = effects.into_iter().map(|numbered| numbered.effect).collect();
        self.all.extend(self.effects.iter().cloned());
        answer.expect("every override is answered")
    }

    pub fn fire(&mut self, timer: TimerId) -> Reason {
        let id = self
            .outstanding(|e| matches!(e, Effect::WakeAt { timer: set, .. } if *set == timer))
            .expect("the timer is set");
        self.event(Event::TimerFired { timer, id })
    }

    pub fn phase(&self) -> &'static str {
        self.state.phase.name()
    }

    pub fn asked_weights(&self) -> Vec<f64> {
        let weight = |e: &Effect| match e {
            Effect::SetTraffic { weight, .. } => Some(weight.percent()),
            _ => None,
        };
        self.all.iter().filter_map(weight).collect()
    }

    pub fn notices(&self) -> Vec<String> {
        let name = |e: &Effect| match e {
            Effect::Publish { notice, .. } => {
                Some(format!("{notice:?}").split([' ', '{']).next().unwrap_or_default().to_owned())
            }
            _ => None,
        };
        self.all.iter().filter_map(name).collect()
    }

    pub fn firing(&self) -> Vec<AlertKind> {
        self.state.alerts.iter().map(|firing| firing.kind).collect()
    }
}

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

#[test]
fn a_good_release_climbs_bakes_replaces_stable_and_is_told_once() {
    let mut story = Story::watched(policy());
    assert_eq!(story.phase(), "observing");
    story.after(30).evidence(Verdict::Pass, 30);
    assert_eq!(story.phase(), "observing", "thirty seconds are less than its least");
    story.after(30).evidence(Verdict::Pass, 30);
    assert_eq!(story.phase(), "preparing");
    story.pods_ready(5).written();
    story.after(60).evidence(Verdict::Pass, 60);
    story.pods_ready(10).written();
    assert_eq!(story.phase(), "baking");
    story.after(120).evidence(Verdict::Pass, 120);
    assert_eq!(story.phase(), "promoting");
    let id = story.outstanding(|e| matches!(e, Effect::PromoteWorkload)).unwrap();
    story.after(20).event(Event::WorkloadReady { id });
    story.written();
    assert_eq!(story.phase(), "promoted");
    assert_eq!(story.asked_weights(), [5.0, 50.0, 95.0, 0.0]);
    assert_eq!(
        story.notices(),
        [
            "Started",
            "StepReached",
            "StepPassed",
            "StepReached",
            "StepPassed",
            "Baking",
            "Promoting",
            "Finished"
        ]
    );
    assert!(story.effects.contains(&Effect::ScaleWorkload {
        role: Role::Canary,
        replicas: Replicas::ZeroAfter(Duration::from_secs(30))
    }));
}

#[test]
fn a_bad_canary_loses_its_traffic_at_once_and_the_end_is_weight_0_read_back() {
    let mut story = Story::watched(policy());
    story.after(10).evidence(Verdict::Fail, 1);
    assert_eq!(story.phase(), "reverting");
    assert!(matches!(
        &story.effects[..],
        [.., Effect::SetTraffic { weight: Weight::ZERO, abort: Some(_) }, _]
    ));
    assert_eq!(story.firing(), [AlertKind::Aborting]);
    let late = ReadBack { weight: Weight::ZERO, fence: Some(Fence { epoch: 1, seq: 1 }), fresh: false };
    story.event(Event::TrafficObserved(late));
    assert_eq!(story.phase(), "reverting", "an older 0 is not ours: a write may still be in flight");
    story.after(1).written();
    assert_eq!(story.phase(), "reverted");
    assert_eq!(story.firing(), []);
    story.after(5).event(Event::Drained(DrainEnd::Yes));
    assert!(
        story.effects.contains(&Effect::ScaleWorkload { role: Role::Canary, replicas: Replicas::AsBefore })
    );
    let again = story.event(Event::Drained(DrainEnd::Yes));
    assert_eq!((again.code().as_str(), story.effects.len()), ("stale", 0));
}

#[test]
fn missing_metrics_hold_and_tell_and_go_on_where_they_were() {
    for (verdict, kind) in [(Verdict::NoData, AlertKind::Blind), (Verdict::SourceDown, AlertKind::Blind)] {
        let mut story = Story::watched(policy());
        story.after(40).evidence(Verdict::Pass, 40);
        story.after(10).evidence(verdict, 0);
        story.after(59).evidence(verdict, 0);
        assert_eq!(story.firing(), [], "not yet a minute");
        story.after(1).evidence(verdict, 0);
        assert_eq!((story.phase(), story.firing()), ("observing", vec![kind]));
        story.after(600).evidence(verdict, 0);
        assert_eq!(story.phase(), "observing", "ten minutes blind neither advance nor abort");
        story.after(20).evidence(Verdict::Pass, 20);
        assert_eq!((story.phase(), story.firing()), ("preparing", vec![]));
    }
}

#[test]
fn a_deadline_does_not_abort_a_rollout_that_cannot_see() {
    let mut policy = policy();
    policy.limits.on_deadline = OnDeadline::Abort;
    let mut blind = Story::watched(policy.clone());
    blind.after(599).evidence(Verdict::SourceDown, 0);
    blind.after(1).fire(TimerId::StepDeadline);
    assert_eq!((blind.phase(), blind.firing()), ("observing", vec![AlertKind::NeedsAttention]));
    let mut seeing = Story::watched(policy);
    seeing.after(599).evidence(Verdict::Undecided, 599);
    seeing.after(1).fire(TimerId::StepDeadline);
    assert_eq!(seeing.phase(), "reverting");
}

#[test]
fn a_canary_that_never_becomes_ready_never_gets_traffic() {
    let mut story = Story::of(policy());
    story.event(Event::Requested);
    story.event(Event::BaselineMeasured(Baseline::Measured));
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 3, available: 0 });
    story.after(300).fire(TimerId::Prepare);
    assert_eq!(story.phase(), "failed");
    assert_eq!(story.asked_weights(), [] as [f64; 0]);
    assert!(
        story.effects.contains(&Effect::ScaleWorkload { role: Role::Canary, replicas: Replicas::AsBefore })
    );
}

#[test]
fn pods_of_before_the_scaling_do_not_count_as_ready() {
    let mut story = Story::of(policy());
    story.event(Event::Requested);
    story.event(Event::BaselineMeasured(Baseline::Measured));
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 1, available: 1 });
    assert_eq!(story.phase(), "preparing");
    let id = story.outstanding(|e| matches!(e, Effect::ScaleWorkload { role: Role::Canary, .. })).unwrap();
    story.event(Event::Scaled { id, needed: 2 });
    assert_eq!(story.phase(), "preparing");
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 2, available: 2 });
    assert_eq!(story.phase(), "shifting");
}

#[test]
fn a_dead_source_before_the_start_holds_the_rollout_and_tells() {
    let mut story = Story::of(policy());
    story.event(Event::Requested);
    story.pods_ready(1);
    story.event(Event::BaselineMeasured(Baseline::Unavailable { why: "refused".into() }));
    assert_eq!((story.phase(), story.firing()), ("preparing", vec![]));
    story.after(61).event(Event::BaselineMeasured(Baseline::Unavailable { why: "refused".into() }));
    assert_eq!((story.phase(), story.firing()), ("preparing", vec![AlertKind::Blind]));
    story.after(240).fire(TimerId::Prepare);
    assert_eq!(story.phase(), "preparing", "the canary is ready: a dead source aborts nothing");
    story.event(Event::BaselineMeasured(Baseline::Measured));
    assert_eq!((story.phase(), story.firing()), ("shifting", vec![]));
}

#[test]
fn a_vanished_canary_is_aborted_without_statistics() {
    let mut story = Story::watched(policy());
    story.event(Event::CanaryVanished);
    assert_eq!(story.phase(), "reverting");
    let mut before = Story::of(policy());
    before.event(Event::Requested);
    assert_eq!(before.event(Event::CanaryVanished).code(), "stale");
}

#[test]
fn gates_are_asked_in_order_and_a_no_ends_it() {
    let mut gated = policy();
    let gate = |name: &str| GateSpec { id: GateId(name.into()), patience: Duration::from_secs(60) };
    gated.gates = vec![gate("freeze"), gate("approval")];
    let mut story = Story::of(gated);
    story.event(Event::Requested);
    assert!(story.effects.contains(&Effect::AskGate { gate: GateId("freeze".into()) }));
    let early = Event::GateAnswered { gate: GateId("approval".into()), answer: GateAnswer::Yes };
    assert_eq!(story.event(early).code(), "stale");
    let again = Timestamp::from_millis(30_000);
    let not_yet = GateAnswer::NotYet { why: "weekend".into(), again };
    story.event(Event::GateAnswered { gate: GateId("freeze".into()), answer: not_yet });
    assert_eq!(story.state.timer(TimerId::Gate), Some(again));
    story.after(30).fire(TimerId::Gate);
    story.event(Event::GateAnswered { gate: GateId("freeze".into()), answer: GateAnswer::Yes });
    assert_eq!(story.phase(), "gated");
    story.after(60).fire(TimerId::Patience);
    assert_eq!(story.firing(), [AlertKind::NeedsAttention]);
    assert!(story.says("1", Action::Promote).accepted, "a person opens the approval");
    assert_eq!((story.phase(), story.firing()), ("preparing", vec![]));

    let mut refused = Story::of(Policy { gates: vec![gate("approval")], ..policy() });
    refused.event(Event::Requested);
    let no = GateAnswer::No { why: "not today".into() };
    refused.event(Event::GateAnswered { gate: GateId("approval".into()), answer: no });
    assert_eq!(refused.phase(), "failed");
}

#[test]
fn pause_holds_and_still_aborts_and_resume_goes_on() {
    let mut story = Story::watched(policy());
    assert!(story.says("1", Action::Pause).accepted);
    story.after(120).evidence(Verdict::Pass, 120);
    assert_eq!(story.phase(), "paused");
    assert!(!story.says("2", Action::Pause).accepted);
    assert!(story.says("3", Action::Resume).accepted);
    story.after(1).evidence(Verdict::Pass, 1);
    assert_eq!(story.phase(), "preparing");
    story.says("4", Action::Pause);
    story.evidence(Verdict::Fail, 1);
    assert_eq!(story.phase(), "reverting");
}

#[test]
fn a_repeated_command_gets_the_first_answer_and_has_its_effect_once() {
    let mut story = Story::watched(policy());
    let first = story.says("ann 1", by_hand(percent(2.0)));
    let revision = story.state.revision;
    let second = story.says("ann 1", by_hand(percent(2.0)));
    assert_eq!(first, second);
    assert_eq!((story.state.revision, story.effects.len()), (revision, 0));
}

#[test]
fn a_command_for_another_revision_is_refused_with_both_numbers() {
    let mut story = Story::watched(policy());
    let at = story.state.revision;
    let refused = story.says_at("1", Some(at - 2), Action::Abort);
    assert_eq!(refused.reason.to_string(), format!("revision {} expected, it is at {at}", at - 2));
    assert_eq!((story.phase(), story.state.revision), ("observing", at));
    assert!(story.says_at("2", Some(at), Action::Abort).accepted);
}

#[test]
fn a_weight_by_hand_stays_below_the_steps_and_until_resumed() {
    let mut story = Story::watched(policy());
    let refused = story.says("1", by_hand(percent(6.0)));
    assert_eq!(refused.reason.to_string(), "weight 6 % is above this step's 5 %; promote or skip first");
    assert!(story.says("2", by_hand(percent(2.0))).accepted);
    story.written();
    assert_eq!((story.phase(), story.state.weight), ("paused", percent(2.0)));
    assert!(story.says("3", Action::Resume).accepted);
    story.pods_ready(3);
    assert_eq!(story.asked_weights(), [5.0, 2.0, 5.0]);
}

#[test]
fn a_weight_by_hand_that_the_target_cannot_express_is_refused_with_the_nearest_and_nothing_else_happens() {
    let mut story = Story::watched(policy());
    let before = story.state.clone();
    let odd = |nearest: Vec<Weight>| Action::SetWeight {
        weight: percent(4.9),
        inexpressible: Some(Inexpressible { why: "its weights sum to 20".into(), nearest }),
    };
    // 10 % is above this step's 5 %, so it is no help.
    let refused = story.says("1", odd(vec![percent(0.0), percent(5.0), percent(10.0)]));
    let words = "weight 4.9 % is finer than the target can express; nearest to it are 0 % and 5 %";
    assert_eq!((refused.accepted, refused.reason.to_string().as_str()), (false, words));
    let unknown = story.says("2", odd(Vec::new())).reason.to_string();
    assert_eq!(unknown, "weight 4.9 % cannot be written: its weights sum to 20");
    let after = &story.state;
    assert_eq!((&after.phase, after.weight, after.revision), (&before.phase, before.weight, before.revision));
    assert_eq!(story.asked_weights(), [5.0]);
}

#[test]
fn a_weight_by_hand_that_the_target_refuses_in_the_end_leaves_what_stands_there() {
    let mut story = Story::watched(policy());
    assert!(story.says("1", by_hand(percent(2.0))).accepted);
    let id = story.outstanding(|e| matches!(e, Effect::SetTraffic { .. })).unwrap();
    story.event(Event::EffectFailed { id, why: "too fine".into(), retrying: false });
    assert_eq!((story.phase(), story.state.weight), ("paused", percent(5.0)));
    assert_eq!(story.firing(), [AlertKind::NeedsAttention]);
    assert!(story.says("2", Action::Resume).accepted);
    assert_eq!((story.phase(), story.asked_weights()), ("observing", vec![5.0, 2.0]));
}

#[test]
fn skip_passes_over_a_step_or_goes_to_one() {
    let mut story = Story::watched(policy());
    assert!(!story.says("1", Action::Skip { to: Some(1) }).accepted);
    assert!(!story.says("2", Action::Skip { to: Some(9) }).accepted);
    assert!(story.says("3", Action::Skip { to: None }).accepted);
    story.pods_ready(9).written();
    assert_eq!((story.phase(), story.asked_weights()), ("baking", vec![5.0, 95.0]));
}

#[test]
fn nobody_passes_over_the_bake_by_the_way() {
    let mut story = Story::watched(policy());
    assert!(story.says("1", Action::Promote).accepted);
    story.pods_ready(9).written();
    assert_eq!((story.phase(), story.state.step(&story.policy)), ("observing", Some(1)));
    let refused = story.says("2", Action::Skip { to: None });
    assert!(!refused.accepted && refused.reason.to_string().contains("promote-full"), "{}", refused.reason);
    assert_eq!(story.phase(), "observing");
}

#[test]
fn promote_full_needs_a_canary_and_goes_straight_to_promotion() {
    let mut story = Story::of(policy());
    story.event(Event::Requested);
    assert!(!story.says("1", Action::PromoteFull).accepted);
    let mut story = Story::watched(policy());
    assert!(story.says("2", Action::PromoteFull).accepted);
    assert!(story.effects.contains(&Effect::PromoteWorkload));
}

#[test]
fn extend_moves_the_deadline() {
    let mut story = Story::watched(policy());
    let before = story.state.timer(TimerId::StepDeadline).unwrap();
    assert!(story.says("1", Action::Extend { by: Duration::from_secs(600) }).accepted);
    assert_eq!(story.state.timer(TimerId::StepDeadline).unwrap(), before.plus(Duration::from_secs(600)));
}

#[test]
fn a_target_that_is_gone_is_told_once_and_changes_nothing_until_it_is_seen_again() {
    let mut story = Story::watched(policy());
    let gone = || Event::TargetUnseen { why: "httproute shop/checkout is not there".into() };
    story.after(10).event(gone());
    story.after(2).event(gone());
    assert_eq!((story.phase(), story.firing()), ("observing", vec![AlertKind::NeedsAttention]));
    let told = story.all.iter().filter(|effect| matches!(effect, Effect::Alert { .. })).count();
    assert_eq!((told, story.asked_weights()), (1, vec![5.0]));
    let weight = story.state.weight;
    let fence = story.state.confirmed;
    story.after(5).event(Event::TrafficObserved(ReadBack { weight, fence, fresh: true }));
    assert_eq!((story.phase(), story.firing()), ("observing", vec![]));
}

#[test]
fn drift_is_put_right_three_times_then_paused_and_told() {
    let mut story = Story::watched(policy());
    let foreign = |fence| Event::TrafficObserved(ReadBack { weight: percent(0.0), fence, fresh: true });
    for _ in 0..3 {
        story.after(10).event(foreign(None));
        assert_eq!(story.phase(), "observing");
        story.written();
    }
    story.after(10).event(foreign(None));
    assert_eq!((story.phase(), story.firing()), ("paused", vec![AlertKind::NeedsAttention]));
    assert_eq!(story.asked_weights(), [5.0, 5.0, 5.0, 5.0]);
}

#[test]
fn late_news_of_an_older_weight_are_no_drift() {
    let mut story = Story::watched(policy());
    let late = ReadBack { weight: Weight::ZERO, fence: Some(Fence { epoch: 1, seq: 1 }), fresh: false };
    assert_eq!(story.event(Event::TrafficObserved(late)).code(), "stale");
    assert_eq!(story.effects, []);
}

#[test]
fn an_abort_while_stable_is_replaced_restores_it_before_the_traffic_moves() {
    let mut story = Story::watched(policy());
    story.says("1", Action::PromoteFull);
    assert!(story.says("2", Action::Abort).accepted);
    assert!(story.effects.contains(&Effect::RestoreWorkload));
    assert_eq!(story.asked_weights(), [5.0], "the traffic stays where pods are available");
    let id = story.outstanding(|e| matches!(e, Effect::RestoreWorkload)).unwrap();
    story.event(Event::WorkloadReady { id });
    assert_eq!(story.asked_weights(), [5.0, 0.0]);
    story.written();
    assert_eq!(story.phase(), "reverted");
}

#[test]
fn a_swap_grows_the_canary_before_it_takes_everything() {
    let mut story = Story::watched(Policy { promote: Promote::Swap, bake: None, ..policy() });
    story.says("1", Action::PromoteFull);
    assert_eq!(story.asked_weights(), [5.0]);
    story.pods_ready(10);
    story.written();
    assert_eq!((story.phase(), story.asked_weights()), ("promoted", vec![5.0, 100.0]));
}

#[test]
fn a_flip_goes_all_at_once_and_bakes() {
    let bake = Bake { weight: Weight::FULL, ..policy().bake.unwrap() };
    let flip = Policy { flip: true, steps: vec![], bake: Some(bake), promote: Promote::Swap, ..policy() };
    flip.check().unwrap();
    let mut story = Story::watched(flip);
    assert_eq!((story.phase(), story.asked_weights()), ("baking", vec![100.0]));
    story.after(120).evidence(Verdict::Pass, 120);
    story.pods_ready(3);
    assert_eq!((story.phase(), story.asked_weights()), ("promoted", vec![100.0]));
}

#[test]
fn a_newer_release_reverts_this_one_without_an_alert() {
    let mut story = Story::watched(policy());
    story.event(Event::Superseded { by: "v3".into() });
    assert_eq!((story.phase(), story.firing()), ("reverting", vec![]));
}

#[test]
fn a_finished_rollout_gives_up_its_aftermath_to_a_newer_one_and_still_tells() {
    let mut story = Story::watched(policy());
    story.evidence(Verdict::Fail, 1);
    story.written();
    assert!(story.outstanding(|e| matches!(e, Effect::WatchDrain { .. })).is_some());
    story.event(Event::Superseded { by: "v3".into() });
    assert!(story.outstanding(|e| matches!(e.lane(), Lane::Target | Lane::Workload)).is_none());
    assert!(
        story.outstanding(|e| matches!(e, Effect::Publish { notice: Notice::Finished { .. }, .. })).is_some()
    );
}

#[test]
fn after_a_crash_what_was_outstanding_runs_again_with_the_same_ids() {
    let mut story = Story::watched(policy());
    story.evidence(Verdict::Fail, 1);
    let outstanding = story.state.outstanding.clone();
    let crashed = story.state.clone();
    let recovered = Event::Recovered { epoch: 2, takeover: false, abort_mark: None };
    let Transition { state, effects, .. } = step(&story.policy, crashed, Timestamp::default(), recovered);
    assert!(outstanding.iter().all(|one| effects.contains(one)));
    assert_eq!(state.phase.name(), "reverting");
}

#[test]
fn an_abort_mark_on_the_target_wins_over_the_saved_state() {
    let mut story = Story::watched(policy());
    story.event(Event::Recovered { epoch: 2, takeover: true, abort_mark: Some("errors".into()) });
    assert_eq!(story.phase(), "reverting");
    assert_eq!(story.asked_weights(), [5.0, 0.0]);
}

#[test]
fn a_target_that_refuses_an_abort_is_tried_again_for_ever() {
    let mut story = Story::watched(policy());
    story.evidence(Verdict::Fail, 1);
    for _ in 0..5 {
        let id = story.outstanding(|e| matches!(e, Effect::SetTraffic { .. })).unwrap();
        story.after(10).event(Event::EffectFailed { id, why: "denied".into(), retrying: false });
        assert_eq!(story.phase(), "reverting");
        assert!(story.effects.iter().any(|e| matches!(e, Effect::SetTraffic { weight: Weight::ZERO, .. })));
    }
    story.written();
    assert_eq!((story.phase(), story.firing()), ("reverted", vec![]));
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let mut story = Story::watched(policy());
    story.after(100).says("1", Action::Pause);
    let now = story.state.now;
    story.after(-90).says("2", Action::Resume);
    assert_eq!(story.state.now, now);
}

#[test]
fn a_restart_while_a_swap_grows_the_canary_does_not_promote_at_the_bakes_weight() {
    let mut story = Story::watched(Policy { promote: Promote::Swap, ..policy() });
    story.says("1", Action::Skip { to: None });
    story.pods_ready(9).written();
    story.after(120).evidence(Verdict::Pass, 120);
    assert_eq!(story.phase(), "promoting");
    story.event(Event::Recovered { epoch: 2, takeover: true, abort_mark: None });
    story.written();
    assert_eq!(story.phase(), "promoting", "95 % is not everything");
    story.pods_ready(10);
    story.written();
    assert_eq!((story.phase(), story.state.weight), ("promoted", Weight::FULL));
}

#[test]
fn a_canary_that_vanishes_while_stable_is_replaced_loses_its_traffic_first() {
    let mut story = Story::watched(policy());
    story.says("1", Action::PromoteFull);
    story.event(Event::CanaryVanished);
    assert_eq!(story.asked_weights(), [5.0, 0.0]);
    assert!(story.outstanding(|e| matches!(e, Effect::RestoreWorkload)).is_some());
}

#[test]
fn a_restore_that_fails_for_good_is_told_once_and_a_second_abort_ends_it() {
    let mut story = Story::watched(policy());
    story.says("1", Action::PromoteFull);
    story.says("2", Action::Abort);
    let id = story.outstanding(|e| matches!(e, Effect::RestoreWorkload)).unwrap();
    story.event(Event::EffectFailed { id, why: "its revision is gone".into(), retrying: false });
    assert_eq!(story.firing(), [AlertKind::Aborting, AlertKind::NeedsAttention]);
    assert!(story.outstanding(|e| matches!(e, Effect::RestoreWorkload)).is_none(), "no hot loop");
    story.says("3", Action::Abort);
    story.written();
    assert_eq!((story.phase(), story.firing()), ("reverted", vec![]));
}

#[test]
fn a_weight_by_hand_of_0_comes_back_only_with_pods() {
    let mut story = Story::watched(policy());
    story.says("1", by_hand(Weight::ZERO));
    story.written();
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 0, available: 0 });
    story.says("2", Action::Resume);
    assert_eq!((story.phase(), story.state.weight), ("preparing", Weight::ZERO));
    story.pods_ready(1).written();
    assert_eq!((story.phase(), story.state.weight), ("observing", percent(5.0)));
}

#[test]
fn pods_that_were_refused_for_a_later_step_hold_the_weight() {
    let mut story = Story::watched(policy());
    story.after(60).evidence(Verdict::Pass, 60);
    let id = story.outstanding(|e| matches!(e, Effect::ScaleWorkload { role: Role::Canary, .. })).unwrap();
    story.event(Event::EffectFailed { id, why: "quota".into(), retrying: false });
    story.event(Event::WorkloadObserved { role: Role::Canary, wanted: 3, available: 3 });
    assert_eq!((story.phase(), story.state.weight), ("preparing", percent(5.0)));
    story.says("1", Action::Retry);
    story.pods_ready(5).written();
    assert_eq!(story.state.weight, percent(50.0));
}

#[test]
fn what_is_over_before_it_was_told_says_so_for_whoever_takes_it_up() {
    for told in [false, true] {
        let mut story = Story::watched(policy());
        story.after(10).evidence(Verdict::NoData, 0);
        story.after(60).evidence(Verdict::NoData, 0);
        assert_eq!(story.firing(), [AlertKind::Blind]);
        let raised = |one: &&Numbered| matches!(one.effect, Effect::Alert { kind: AlertKind::Blind, .. });
        let id = story.state.outstanding.iter().find(raised).unwrap().id;
        if told {
            story.event(Event::EffectDone { id });
        }
        story.after(30).evidence(Verdict::Undecided, 30);
        let over = story.state.outstanding.iter().find_map(|one| match &one.effect {
            Effect::ResolveAlert { kind: AlertKind::Blind, untold, .. } => Some(*untold),
            _ => None,
        });
        assert_eq!(over, Some((!told).then_some(story.state.now)));
    }
}

#[test]
fn a_gap_that_is_read_again_counts_once() {
    let mut story = Story::watched(policy());
    story.after(30).evidence(Verdict::Pass, 30);
    story.evidence(Verdict::Pass, 30);
    assert_eq!(story.state.watch().unwrap().counted_ms, 30_000);
}

#[test]
fn a_canary_that_never_gets_ready_fails_and_on_call_hears_of_it_though_it_is_over_at_once() {
    let mut story = Story::of(policy());
    story.event(Event::Requested);
    story.event(Event::BaselineMeasured(Baseline::Measured));
    story.after(300).fire(TimerId::Prepare);
    assert_eq!(story.state.phase.name(), "failed");
    let told: Vec<&Effect> = story.effects.iter().filter(|effect| effect.is_alert()).collect();
    assert!(
        matches!(
            told[..],
            [
                Effect::Alert { kind: AlertKind::Aborting, .. },
                Effect::ResolveAlert { kind: AlertKind::Aborting, .. }
            ]
        ),
        "{told:?}"
    );
    let both = story.state.outstanding.iter().filter(|one| one.effect.is_alert()).count();
    assert_eq!(both, 2, "after a crash both are told again, in order");
}
