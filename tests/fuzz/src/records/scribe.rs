//! Writes a decision record as a daemon does, from the machine and the judge themselves, without either: for whoever tests what
//! a replay makes of records, genuine and other ones (here, and beside the replay itself, which has this file in its tests).

use sluice_analyzers::{Arm, Baseline, Evidence, Plan, PodWindow, Window};
use sluice_rollout::{
    Baseline as Measured, Effect, EffectId, Event, Fence, Policy as Machine, ReadBack, Role, RolloutId,
    State, Timestamp, step,
};

use sluice_wire::{
    decisions::{Decided, Entry, Head, Judged, Line, Planned, Resumed, Sum, Taken, sum},
    policy::Policy,
    record::{Charter, Owner},
};

/// Counts a window in the evidence; `step` is counted from 0. Answers what the owner is told.
pub type Judge = fn(&Plan, &mut Evidence, usize, &Window) -> Event;

const ANNOUNCED_MS: i64 = 1_000;
const WINDOW_MS: i64 = 5_000;
/// Between two events (ms).
const APART_MS: i64 = 500;

/// One rollout, its record so far, and everything that the next line rests on.
#[derive(Clone)]
pub struct Scribe {
    pub machine: Machine,
    pub plan: Plan,
    pub state: State,
    pub charter: Charter,
    pub lines: Vec<Line>,
    judge: Judge,
    evidence: Evidence,
    now_ms: i64,
    n: u64,
    before: Sum,
    /// Where the next window begins, by the source's clock.
    at_ms: i64,
}

impl Scribe {
    /// A session has begun, and the plan is frozen.
    pub fn new(policy: &str, judge: Judge) -> Scribe {
        let policy = Policy::parse("policy", policy.as_bytes()).expect("the policy is sound");
        let id = RolloutId::new("shop", "checkout", "v2").expect("a name");
        let charter = charter(&policy, &id);
        let plan = policy.plan().expect("the policy has a plan");
        let mut scribe = Scribe {
            machine: policy.machine(),
            evidence: Evidence::new(&plan),
            plan,
            state: State::new(id, 1, charter.announced),
            now_ms: ANNOUNCED_MS,
            charter,
            lines: Vec::new(),
            judge,
            n: 0,
            before: Sum::new(),
            at_ms: 2 * WINDOW_MS,
        };
        scribe.take();
        scribe.freeze();
        scribe
    }

    pub fn write(&mut self, entry: &Entry) {
        let line = Line::after(&self.before, self.n, entry).expect("an entry is JSON");
        self.n += 1;
        self.before.clone_from(&line.sum);
        self.lines.push(line);
    }

    /// What follows is the first line of a session.
    pub fn restart(&mut self) {
        (self.n, self.before) = (0, Sum::new());
    }

    /// A session begins.
    pub fn take(&mut self) {
        self.restart();
        let epoch = self.state.epoch;
        let owner = Owner { daemon: "a".into(), incarnation: "1".into(), epoch, cluster: None };
        let at = Timestamp::from_millis(self.now_ms);
        let taken = Taken::of(&self.charter, owner, self.state.clone(), at);
        self.write(&Entry::Taken(Box::new(taken)));
    }

    fn freeze(&mut self) {
        let mut baseline = Baseline::new();
        for n in 0..40_i64 {
            let errors = if n % 2 == 0 { 1 } else { 2 };
            let pods = vec![PodWindow::new(Arm::Stable, "s", 500, errors)];
            let start_ms = n * 15_000 - 1_000_000;
            let window = Window { step: 0, start_ms, end_ms: start_ms + 15_000, pods };
            baseline.add(&window).expect("a sound window");
        }
        self.plan = self.plan.clone().frozen(&baseline);
        self.evidence = Evidence::new(&self.plan);
        let planned = Planned { baseline: Some(baseline), plan: self.plan.clone() };
        self.write(&Entry::Planned(Box::new(planned)));
    }

    /// Evidence of the session before is taken up.
    pub fn resume(&mut self) {
        let resumed = Resumed { plan: self.plan.clone(), evidence: self.evidence.clone() };
        self.write(&Entry::Resumed(Box::new(resumed)));
    }

    /// The machine is given an event, and what came of it is in the store. Answers what it asked for.
    pub fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.decide(event, true)
    }

    pub fn decide(&mut self, event: Event, saved: bool) -> Vec<Effect> {
        self.now_ms += APART_MS;
        let now = Timestamp::from_millis(self.now_ms);
        let made = step(&self.machine, self.state.clone(), now, event.clone());
        self.state = made.state;
        self.write(&Entry::Decided(Box::new(Decided {
            now,
            event,
            revision: self.state.revision,
            phase: self.state.phase.name().into(),
            weight: self.state.weight,
            reason: made.reason,
            effects: made.effects.clone(),
            answer: made.answer,
            saved,
            state: sum(&self.state),
        })));
        made.effects.into_iter().map(|one| one.effect).collect()
    }

    /// A window of the step that is watched, if one is: each version had so many requests.
    pub fn window(&mut self, requests: u64, errors_of_canary: u64) {
        let Some(at) = self.state.step(&self.machine) else { return };
        let pods = vec![
            PodWindow::new(Arm::Stable, "s", requests, requests / 500),
            PodWindow::new(Arm::Canary, "c", requests, errors_of_canary),
        ];
        let step = u32::try_from(at + 1).expect("a policy has few steps");
        let window = Window { step, start_ms: self.at_ms, end_ms: self.at_ms + WINDOW_MS, pods };
        self.at_ms = window.end_ms;
        let event = (self.judge)(&self.plan, &mut self.evidence, at, &window);
        let evidence = sum(&self.evidence);
        self.write(&Entry::Judged(Box::new(Judged { step: at, window, event: event.clone(), evidence })));
        self.tell(event);
    }

    /// Everything that is asked for comes about, until the canary has traffic.
    pub fn begin(&mut self) {
        self.tell(Event::Requested);
        let canary = |effect: &Effect| matches!(effect, Effect::ScaleWorkload { role: Role::Canary, .. });
        if let Some(id) = self.outstanding(canary) {
            self.tell(Event::Scaled { id, needed: 1 });
        }
        self.tell(Event::WorkloadObserved { role: Role::Canary, wanted: 1, available: 1 });
        self.tell(Event::BaselineMeasured(Measured::Measured));
        self.read_back();
    }

    /// The weight that is asked for, if one is, stands.
    pub fn read_back(&mut self) {
        if let Some(id) = self.outstanding(|effect| matches!(effect, Effect::SetTraffic { .. })) {
            let fence = Some(Fence { epoch: self.state.epoch, seq: id.seq });
            self.tell(Event::TrafficObserved(ReadBack { weight: self.state.weight, fence, fresh: true }));
        }
    }

    fn outstanding(&self, is: impl Fn(&Effect) -> bool) -> Option<EffectId> {
        self.state.outstanding.iter().find(|one| is(&one.effect)).map(|one| one.id)
    }

    /// The same rollout with other lines.
    pub fn with(self, lines: Vec<Line>) -> Scribe {
        Scribe { lines, ..self }
    }

    /// The whole export.
    pub fn text(&self) -> String {
        let head = serde_json::to_string(&Head::new(&self.charter).expect("a charter is JSON"));
        let lines = self.lines.iter().map(serde_json::to_string);
        let all = std::iter::once(head).chain(lines).map(|line| line.expect("a line is JSON") + "\n");
        all.collect()
    }
}

/// As one is read from the store: what may be left out is.
fn charter(policy: &Policy, id: &RolloutId) -> Charter {
    let bytes = serde_json::to_string(policy).expect("a policy is JSON");
    let charter = serde_json::json!({"version": 1, "id": id, "release": "v2", "actor": null, "key": "ci 1",
        "policyHash": Charter::hash(&bytes), "policy": bytes, "announced": ANNOUNCED_MS});
    serde_json::from_value(charter).expect("a charter")
}
