//! A small genuine record, written by the machine and the judge themselves: a canary that goes bad at its first step.

use sluice::judging::judge;
use sluice_analyzers::{Arm, Baseline, Evidence, Plan, PodWindow, Window};
use sluice_rollout::{
    Baseline as Measured, Effect, EffectId, Event, Fence, Policy as Machine, ReadBack, Role, RolloutId,
    State, Timestamp, step,
};
use sluice_wire::decisions::{Decided, Entry, Head, Judged, Line, Planned, Sum, Taken, sum};
use sluice_wire::policy::Policy;
use sluice_wire::record::{Charter, Owner};

const POLICY: &str = r#"
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: checkout, namespace: shop}
spec:
  target: {webhook: {url: "http://127.0.0.1:1/"}}
  metrics: {scrape: {stable: ["http://127.0.0.1:1/metrics"], canary: ["http://127.0.0.1:1/metrics"]}}
  analysis: {warmup: 0s}
  steps: [{weight: 5}]
  limits: {step: {min: 10s, max: 45m}}
  bake: {for: 0s}
"#;
const LENGTH_MS: i64 = 5_000;

struct Scribe {
    machine: Machine,
    plan: Plan,
    evidence: Evidence,
    state: State,
    now_ms: i64,
    charter: Charter,
    lines: Vec<Line>,
}

/// The whole export.
pub fn genuine() -> String {
    let mut scribe = Scribe::new();
    scribe.begin();
    for at in 0..20 {
        scribe.window(10_000 + at * LENGTH_MS, 10);
    }
    scribe.read_back();
    scribe.text()
}

impl Scribe {
    fn new() -> Scribe {
        let policy = Policy::parse("policy.yaml", POLICY.as_bytes()).expect("the policy is sound");
        let id = RolloutId::new("shop", "checkout", "v2").expect("a name");
        let charter = charter(&policy, &id);
        let plan = policy.plan().expect("the policy has a plan");
        let now_ms = charter.announced.millis();
        Scribe {
            machine: policy.machine(),
            evidence: Evidence::new(&plan),
            plan,
            state: State::new(id, 1, charter.announced),
            now_ms,
            charter,
            lines: Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.take();
        self.freeze();
        self.tell(Event::Requested);
        let canary = |effect: &Effect| matches!(effect, Effect::ScaleWorkload { role: Role::Canary, .. });
        if let Some(id) = self.outstanding(canary) {
            self.tell(Event::Scaled { id, needed: 1 });
        }
        self.tell(Event::WorkloadObserved { role: Role::Canary, wanted: 1, available: 1 });
        self.tell(Event::BaselineMeasured(Measured::Measured));
        self.read_back();
    }

    fn take(&mut self) {
        let owner =
            Owner { daemon: "a".into(), incarnation: "1".into(), epoch: self.state.epoch, cluster: None };
        let taken = Taken::of(&self.charter, owner, self.state.clone(), self.charter.announced);
        self.write(&Entry::Taken(Box::new(taken)));
    }

    fn freeze(&mut self) {
        let mut baseline = Baseline::new();
        for n in 0..20_i64 {
            let pods = vec![PodWindow::new(Arm::Stable, "stable", 500, 1)];
            let start_ms = n * 15_000 - 1_000_000;
            let window = Window { step: 0, start_ms, end_ms: start_ms + 15_000, pods };
            baseline.add(&window).expect("a sound window");
        }
        self.plan = self.plan.clone().frozen(&baseline);
        self.evidence = Evidence::new(&self.plan);
        self.write(&Entry::Planned(Box::new(Planned { baseline: Some(baseline), plan: self.plan.clone() })));
    }

    fn write(&mut self, entry: &Entry) {
        let before = self.lines.last().map_or(Sum::new(), |line| line.sum.clone());
        let n = self.lines.len() as u64;
        self.lines.push(Line::after(&before, n, entry).expect("an entry is JSON"));
    }

    fn tell(&mut self, event: Event) {
        self.now_ms += 500;
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
            effects: made.effects,
            answer: made.answer,
            saved: true,
            state: sum(&self.state),
        })));
    }

    fn window(&mut self, start_ms: i64, errors: u64) {
        let Some(at) = self.state.step(&self.machine) else { return };
        let pods = vec![
            PodWindow::new(Arm::Stable, "stable", 400, 1),
            PodWindow::new(Arm::Canary, "canary", 400, errors),
        ];
        let step = u32::try_from(at + 1).expect("a policy has few steps");
        let window = Window { step, start_ms, end_ms: start_ms + LENGTH_MS, pods };
        let event = judge(&self.plan, &mut self.evidence, at, &window).event;
        let evidence = sum(&self.evidence);
        self.write(&Entry::Judged(Box::new(Judged { step: at, window, event: event.clone(), evidence })));
        self.tell(event);
    }

    fn read_back(&mut self) {
        if let Some(id) = self.outstanding(|effect| matches!(effect, Effect::SetTraffic { .. })) {
            let fence = Some(Fence { epoch: self.state.epoch, seq: id.seq });
            self.tell(Event::TrafficObserved(ReadBack { weight: self.state.weight, fence, fresh: true }));
        }
    }

    fn outstanding(&self, is: impl Fn(&Effect) -> bool) -> Option<EffectId> {
        self.state.outstanding.iter().find(|one| is(&one.effect)).map(|one| one.id)
    }

    fn text(&self) -> String {
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
        "policyHash": Charter::hash(&bytes), "policy": bytes, "announced": 1_000});
    serde_json::from_value(charter).expect("a charter")
}
