//! Random events in random order, duplicates and late ones included: the invariants of the design, by number.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::timelines::policy;
use crate::*;

/// What happens next, told relative to the state it meets, so that random walks get far.
#[derive(Debug, Clone)]
enum Chance {
    Requested,
    Baseline(bool),
    Scaled {
        own: bool,
        needed: u32,
    },
    Pods(u32),
    /// The weight on its way is read back; `late` brings an older fence, `foreign` another hand's weight.
    Written {
        late: bool,
    },
    Foreign {
        percent: u8,
        fresh: bool,
    },
    Evidence {
        off: i8,
        verdict: Verdict,
        seconds: u16,
    },
    Vanished,
    Unseen,
    Drained,
    Ready {
        own: bool,
    },
    Failed {
        pick: usize,
        retrying: bool,
    },
    Done {
        pick: usize,
    },
    Timer {
        pick: usize,
    },
    Gate(u8),
    Person {
        key: u8,
        stale: bool,
        action: Action,
    },
    Superseded,
    Recovered {
        takeover: bool,
        mark: bool,
    },
    /// The last event once more.
    Again,
}

fn chances() -> impl Strategy<Value = Chance> {
    let verdict = prop_oneof![
        6 => Just(Verdict::Pass), 1 => Just(Verdict::Fail), 2 => Just(Verdict::Undecided),
        1 => Just(Verdict::NoData), 1 => Just(Verdict::SourceDown)
    ];
    let action = prop_oneof![
        Just(Action::Promote),
        Just(Action::PromoteFull),
        Just(Action::Pause),
        Just(Action::Resume),
        Just(Action::Abort),
        Just(Action::Retry),
        (0usize..5).prop_map(|to| Action::Skip { to: (to > 0).then_some(to) }),
        (0u32..10_001, any::<bool>()).prop_map(|(w, fits)| Action::SetWeight {
            weight: Weight::from_hundredths(w).unwrap(),
            inexpressible: (!fits).then(|| Inexpressible { why: "too fine".into(), nearest: Vec::new() }),
        }),
        Just(Action::Extend { by: Duration::from_secs(60) })
    ];
    prop_oneof![
        1 => Just(Chance::Requested),
        4 => any::<bool>().prop_map(Chance::Baseline),
        6 => (any::<bool>(), 0u32..4).prop_map(|(own, needed)| Chance::Scaled { own, needed }),
        8 => (0u32..5).prop_map(Chance::Pods),
        12 => any::<bool>().prop_map(|late| Chance::Written { late }),
        2 => (0u8..101, any::<bool>()).prop_map(|(percent, fresh)| Chance::Foreign { percent, fresh }),
        16 => (-1i8..2, verdict, 0u16..200)
            .prop_map(|(off, verdict, seconds)| Chance::Evidence { off, verdict, seconds }),
        1 => Just(Chance::Vanished),
        1 => Just(Chance::Unseen),
        1 => Just(Chance::Drained),
        3 => any::<bool>().prop_map(|own| Chance::Ready { own }),
        2 => (0usize..9, any::<bool>()).prop_map(|(pick, retrying)| Chance::Failed { pick, retrying }),
        3 => (0usize..9).prop_map(|pick| Chance::Done { pick }),
        2 => (0usize..9).prop_map(|pick| Chance::Timer { pick }),
        3 => (0u8..3).prop_map(Chance::Gate),
        4 => (0u8..20, any::<bool>(), action)
            .prop_map(|(key, stale, action)| Chance::Person { key, stale, action }),
        1 => Just(Chance::Superseded),
        1 => (any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(takeover, mark)| Chance::Recovered { takeover, mark }),
        2 => Just(Chance::Again),
    ]
}

fn event(chance: &Chance, state: &State, policy: &Policy, last: &Event) -> Event {
    let pick = |pick: usize| {
        let known = state.outstanding.get(pick).map(|one| one.id);
        known.unwrap_or(EffectId { revision: 0, seq: pick as u64 })
    };
    let of =
        |is: &dyn Fn(&Effect) -> bool| state.outstanding.iter().find(|one| is(&one.effect)).map(|one| one.id);
    let stray = EffectId { revision: 0, seq: 1 };
    match chance {
        Chance::Requested => Event::Requested,
        Chance::Baseline(true) => Event::BaselineMeasured(Baseline::Measured),
        Chance::Baseline(false) => Event::BaselineMeasured(Baseline::Unavailable { why: "down".into() }),
        Chance::Scaled { own, needed } => {
            let id = of(&|e| matches!(e, Effect::ScaleWorkload { role: Role::Canary, .. }));
            Event::Scaled { id: id.filter(|_| *own).unwrap_or(stray), needed: *needed }
        }
        Chance::Pods(available) => {
            Event::WorkloadObserved { role: Role::Canary, wanted: *available, available: *available }
        }
        Chance::Written { late } => {
            let asked = state.outstanding.iter().find_map(|one| match one.effect {
                Effect::SetTraffic { weight, .. } => Some((one.id, weight)),
                _ => None,
            });
            let (id, weight) = asked.unwrap_or((stray, state.weight));
            let seq = if *late { id.seq.saturating_sub(1) } else { id.seq };
            let fence = Some(Fence { epoch: state.epoch, seq });
            Event::TrafficObserved(ReadBack { weight, fence, fresh: !late })
        }
        Chance::Foreign { percent, fresh } => Event::TrafficObserved(ReadBack {
            weight: Weight::from_percent(f64::from(*percent)).unwrap(),
            fence: None,
            fresh: *fresh,
        }),
        Chance::Evidence { off, verdict, seconds } => {
            let step = state.step(policy).unwrap_or(0).saturating_add_signed(isize::from(*off));
            let counted = Duration::from_secs(u64::from(*seconds));
            let until = state.now.plus(counted);
            let alarms = [None, Some(Vec::new()), Some(vec![format!("split: {seconds}")])]
                [usize::from(*seconds % 3)]
            .clone();
            Event::Evidence { step, verdict: *verdict, counted, until, words: "as seen".into(), alarms }
        }
        Chance::Vanished => Event::CanaryVanished,
        Chance::Unseen => Event::TargetUnseen { why: "it is gone".into() },
        Chance::Drained => Event::Drained(DrainEnd::Unknown),
        Chance::Ready { own } => {
            let id = of(&ends_in_ready);
            Event::WorkloadReady { id: id.filter(|_| *own).unwrap_or(stray) }
        }
        Chance::Failed { pick: index, retrying } => {
            Event::EffectFailed { id: pick(*index), why: "no".into(), retrying: *retrying }
        }
        Chance::Done { pick: index } => match state.outstanding.get(*index).map(|one| &one.effect) {
            // The edge completes these with events of their own.
            Some(effect) if matches!(effect, Effect::SetTraffic { .. }) || ends_in_ready(effect) => {
                Event::Requested
            }
            Some(_) | None => Event::EffectDone { id: pick(*index) },
        },
        Chance::Timer { pick: index } => match state.outstanding.get(*index) {
            Some(Numbered { id, effect: Effect::WakeAt { timer, .. } }) => {
                Event::TimerFired { timer: *timer, id: *id }
            }
            Some(_) | None => Event::TimerFired { timer: TimerId::Shift, id: stray },
        },
        Chance::Gate(answer) => {
            let gate = state.asked_gate(policy).cloned().unwrap_or(GateId("none".into()));
            let answer = match answer {
                0 => GateAnswer::Yes,
                1 => GateAnswer::NotYet { why: "later".into(), again: state.now },
                _ => GateAnswer::No { why: "never".into() },
            };
            Event::GateAnswered { gate, answer }
        }
        Chance::Person { key, stale, action } => Event::Override(Override {
            key: format!("k{key}"),
            actor: "ann".into(),
            reason: String::new(),
            expected_revision: stale.then_some(state.revision + 1),
            action: action.clone(),
        }),
        Chance::Superseded => Event::Superseded { by: "v3".into() },
        Chance::Recovered { takeover, mark } => Event::Recovered {
            epoch: state.epoch + u64::from(*takeover),
            takeover: *takeover,
            abort_mark: mark.then(|| "errors".into()),
        },
        Chance::Again => last.clone(),
    }
}

/// Effects whose end is `WorkloadReady`.
fn ends_in_ready(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::EmptyWorkload | Effect::PromoteFirst | Effect::PromoteWorkload | Effect::RestoreWorkload
    )
}

/// What was outstanding is asked for again after a crash.
fn asked_before(before: &State) -> bool {
    before.outstanding.iter().any(|one| one.effect == Effect::EmptyWorkload)
}

fn policies() -> impl Strategy<Value = Policy> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    let arms = (0u8..3, flags, 0u8..3, any::<bool>(), any::<bool>());
    arms.prop_map(|(promote, (bake, gates, pause, in_place, recreate), deadline, testers, pods)| {
        let mut policy = policy();
        policy.promote = [Promote::CopyTemplate, Promote::Swap, Promote::External][usize::from(promote)];
        policy.limits.on_deadline =
            [OnDeadline::Hold, OnDeadline::Pause, OnDeadline::Abort][usize::from(deadline)];
        let gate = |name: &str| GateSpec { id: GateId(name.into()), patience: Duration::from_secs(9) };
        if !bake {
            policy.bake = None;
        }
        if gates {
            policy.gates = vec![gate("freeze")];
            policy.steps[1].gates = vec![gate("approval")];
            policy.promote_gates = vec![gate("last")];
            policy.hooks = Hooks { mid: vec![gate("mid")], post: vec![gate("post")] };
            policy.limits.replace = Some(Duration::from_secs(300));
        }
        if testers && gates {
            policy.steps[0].gates = vec![gate("testers")];
        }
        policy.testers = testers;
        // Without a router nobody changes roles, and nobody is told apart.
        policy.pods_are_the_weight = pods && policy.promote != Promote::Swap && !testers && !in_place;
        policy.steps[0].pause = pause;
        if recreate && policy.promote == Promote::CopyTemplate {
            policy.replace = Replace::Recreate;
        }
        if in_place {
            policy = Policy { in_place, promote: Promote::CopyTemplate, steps: vec![], bake: None, ..policy };
        }
        policy
    })
}

/// The invariants, held against every transition of a walk.
struct Watcher {
    /// The highest step whose weight is earned by a pass or an allowed override.
    earned: usize,
    aborted_at: Option<Weight>,
    terminal: BTreeSet<EffectId>,
    raised: BTreeSet<AlertKind>,
    /// When weight 0 was written after the end.
    corrected: Vec<Timestamp>,
}

impl Watcher {
    fn check(&mut self, policy: &Policy, before: &State, event: &Event, after: &Transition) {
        let state = &after.state;
        self.earn(policy, before, event, after);
        self.first(policy, before, state, event);
        self.second(policy, before, after);
        self.third(before, state, event);
        let empties = after.effects.iter().any(|one| one.effect == Effect::EmptyWorkload);
        assert!(
            !empties || policy.in_place || asked_before(before) || state.read_back == Some(Weight::FULL),
            "stable is emptied while it has traffic"
        );
        self.seventh(state, &after.effects);
        assert!(state.outstanding.len() <= 64, "invariant 10: {} outstanding", state.outstanding.len());
        assert!(state.revision <= before.revision + 1, "one transition counts one revision");
        if after.reason.code() == "stale" {
            assert_eq!(state.phase, before.phase, "a stale event changes no phase");
            assert!(after.effects.iter().all(|one| !matches!(one.effect, Effect::SetTraffic { .. })));
        }
    }

    fn earn(&mut self, policy: &Policy, before: &State, event: &Event, after: &Transition) {
        let (was, is) = (before.step(policy), after.state.step(policy));
        let full = policy.steps.len() + 1;
        match event {
            Event::Evidence { verdict: Verdict::Pass, step, .. } => {
                if was == Some(*step) && is != was {
                    self.earned = self.earned.max(step + 1);
                }
                if matches!(after.state.phase, Phase::Promoting { .. }) {
                    self.earned = full;
                }
            }
            // What had passed before the policy's own pause, or a person's word.
            Event::Override(_) if after.answer.as_ref().is_some_and(|answer| answer.accepted) => {
                self.earned = self.earned.max(is.unwrap_or(full));
            }
            _ => {}
        }
    }

    fn first(&self, policy: &Policy, before: &State, state: &State, event: &Event) {
        let most =
            if self.earned > policy.steps.len() { Weight::FULL } else { policy.weight_of(self.earned) };
        assert!(state.weight <= most, "invariant 1: {} above {most} after {event:?}", state.weight);
        if let Some(step) = state.step(policy) {
            assert!(state.weight <= policy.weight_of(step), "invariant 1: above its step after {event:?}");
        }
        if state.weight > before.weight && !policy.pods_are_the_weight {
            assert!(state.canary_available > 0, "invariant 1: risen without a pod after {event:?}");
        }
    }

    fn second(&mut self, policy: &Policy, before: &State, after: &Transition) {
        if before.is_aborting() || after.state.is_aborting() {
            let ceiling = *self.aborted_at.get_or_insert(after.state.weight);
            for one in &after.effects {
                if let Effect::SetTraffic { weight, .. } = one.effect {
                    assert!(weight <= ceiling, "invariant 2: raised after the abort");
                }
            }
        }
        if let (false, Phase::Done { outcome: Outcome::Reverted, .. }) =
            (before.is_done(), &after.state.phase)
        {
            assert_eq!(after.state.read_back, Some(Weight::ZERO), "invariant 2: 0 was not read back");
            assert!(after.state.confirmed.is_some(), "invariant 2: 0 is not ours");
        }
        if let (false, Phase::Done { outcome: Outcome::Promoted, .. }) =
            (before.is_done(), &after.state.phase)
        {
            let last = if policy.promote == Promote::Swap { Weight::FULL } else { Weight::ZERO };
            assert_eq!(after.state.read_back, Some(last), "promoted, but the traffic is elsewhere");
        }
        if let (false, Phase::Done { outcome: Outcome::Failed, .. }) = (before.is_done(), &after.state.phase)
        {
            assert!(
                !after.state.had_traffic,
                "invariant 2: the canary has traffic, and nobody takes it away"
            );
        }
        if before.is_done() {
            self.after_done(before, after);
        }
    }

    /// After the end only weight 0 is written, for an end in weight 0, and at most three times in five minutes.
    fn after_done(&mut self, before: &State, after: &Transition) {
        let new = after.effects.iter().filter(|one| one.id.seq > before.seq);
        for one in new {
            if let Effect::SetTraffic { weight, abort } = &one.effect {
                assert!(weight.is_zero() && abort.is_some(), "invariant 2: opened after the end");
                assert!(matches!(before.phase, Phase::Done { outcome: Outcome::Reverted, .. }));
                self.corrected.push(after.state.now);
            }
        }
        let recent = |at: &&Timestamp| after.state.now.since(**at) <= Duration::from_secs(300);
        assert!(self.corrected.iter().filter(recent).count() <= 3, "corrected without end");
    }

    fn third(&self, before: &State, state: &State, event: &Event) {
        let blind = matches!(
            event,
            Event::Evidence { verdict: Verdict::NoData | Verdict::SourceDown | Verdict::Undecided, .. }
                | Event::BaselineMeasured(Baseline::Unavailable { .. })
        );
        if blind {
            assert_eq!(state.weight, before.weight, "invariant 3: missing metrics moved the weight");
            assert_eq!(state.is_aborting(), before.is_aborting(), "invariant 3: missing metrics aborted");
            assert_eq!(state.is_done(), before.is_done(), "invariant 3: missing metrics ended it");
        }
    }

    fn seventh(&mut self, state: &State, effects: &[Numbered]) {
        for one in effects {
            match &one.effect {
                Effect::Publish { notice: Notice::Finished { .. }, .. } => drop(self.terminal.insert(one.id)),
                Effect::Alert { kind, .. } => drop(self.raised.insert(*kind)),
                Effect::ResolveAlert { kind, .. } => {
                    assert!(self.raised.contains(kind), "resolved, but never raised")
                }
                _ => {}
            }
        }
        assert!(self.terminal.len() <= 1, "invariant 7: two terminal events");
        if state.is_done() {
            assert_eq!(self.terminal.len(), 1, "invariant 7: no terminal event");
            assert!(state.alerts.is_empty(), "invariant 7: an alert stays up");
        }
    }
}

fn walk(policy: &Policy, chances: &[(u16, Chance)]) -> State {
    let id = RolloutId::new("shop", "checkout", "v2").unwrap();
    let mut state = State::new(id, 1, Timestamp::default());
    let mut watcher = Watcher {
        earned: 0,
        aborted_at: None,
        terminal: BTreeSet::new(),
        raised: BTreeSet::new(),
        corrected: Vec::new(),
    };
    let mut last = Event::Requested;
    let mut now = 0i64;
    for (seconds, chance) in chances {
        now += i64::from(*seconds) * 1000 - 2000;
        let event = event(chance, &state, policy, &last);
        let after = step(policy, state.clone(), Timestamp::from_millis(now), event.clone());
        watcher.check(policy, &state, &event, &after);
        let again = step(policy, state.clone(), Timestamp::from_millis(now), event.clone());
        assert_eq!(after, again, "invariant 11: the same decision twice");
        state = after.state;
        last = event;
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_1_2_3_7_hold_on_every_walk(
        policy in policies(),
        chances in prop::collection::vec((0u16..120, chances()), 1..160),
    ) {
        let state = walk(&policy, &chances);
        let saved = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<State>(&saved).unwrap(), state, "a state reads back as it was saved");
    }
}

/// The walks must get somewhere, or the properties say nothing.
#[test]
fn walks_reach_every_end() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = (policies(), prop::collection::vec((0u16..120, chances()), 100..160));
    let mut seen = BTreeSet::new();
    for _ in 0..1_000 {
        let (policy, chances) = strategy.new_tree(&mut runner).unwrap().current();
        let state = walk(&policy, &chances);
        seen.insert(state.phase.name());
        if state.is_done() && !state.drifts.is_empty() {
            seen.insert("opened after the end");
        }
    }
    for end in ["promoted", "reverted", "failed", "reverting", "paused", "observing", "opened after the end"]
    {
        assert!(seen.contains(end), "no walk ended {end}: {seen:?}");
    }
}
