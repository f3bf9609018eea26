//! Many rollouts of one kind, and what came of them.

use crate::rivals::{Bars, Measure, Rivals, bad};
use crate::world::{Change, Service, Trouble, World};
use sluice_analyzers::{Baseline, Evidence, Plan, Verdict, Window, judge};

/// One kind of rollout.
#[derive(Clone)]
pub struct Kind {
    pub service: Service,
    pub trouble: Trouble,
    pub change: Change,
    pub plan: Plan,
    /// Hours of history before it.
    pub history_h: f64,
    /// It ends undecided after so long.
    pub most_s: f64,
    /// Whether it goes on to the next step when it passes (and has stayed a minute), or looks on for an abort only.
    pub advances: bool,
    /// So long a step lasts when it does not advance by verdict; the bake takes what is left.
    pub step_s: f64,
    /// Today's rules look on, with these bars.
    pub rivals: Option<Bars>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Seconds and canary requests (from the change on) until the abort.
    pub aborted: Option<Cost>,
    pub rivals: [Option<Cost>; 4],
    /// The judge passed its last step, a minute in it at least, before it aborted, if at all.
    pub passed: bool,
    /// What it had cost when it ended, by an abort of everybody or undecided.
    pub end: Cost,
    /// When each of the first steps was left.
    pub left_s: [Option<f64>; 8],
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub seconds: f64,
    pub canary_requests: f64,
    /// Errors, or slow ones where the rivals look at latencies.
    pub canary_bad: f64,
}

pub fn run(kind: &Kind, seed: u64) -> Outcome {
    let mut world = World::new(kind.service, kind.trouble, kind.change, seed);
    let plan = frozen(kind, &mut world);
    let mut evidence = Evidence::new(&plan);
    let (mut outcome, mut rivals) = (Outcome::default(), kind.rivals.map(Rivals::new));
    let (mut step, mut entered) = (1u32, 0.0);
    let mut cost = Cost::default();
    let from = if let Change::LateErrors(_, from) = kind.change { from } else { 0.0 };
    while world.seconds() < kind.most_s {
        let begun = world.seconds();
        let window = world.next(step, plan.weight_at(step));
        if begun >= from {
            add(&mut cost, window, kind.rivals.map_or(Measure::Errors, |bars| bars.measure));
        }
        let verdict = judge(&plan, &mut evidence, window).expect("worlds make good windows");
        let stopped = rivals.as_mut().map_or([false; 4], |rivals| rivals.window(window));
        let now = world.seconds();
        cost.seconds = now - from;
        for (rival, stops) in outcome.rivals.iter_mut().zip(stopped) {
            *rival = rival.or(stops.then_some(cost));
        }
        let last = step + 1 == plan.bake_step() && now - entered >= 60.0;
        outcome.passed |= last && verdict == Verdict::Pass && outcome.aborted.is_none();
        if verdict == Verdict::Fail {
            outcome.aborted = outcome.aborted.or(Some(cost));
            if outcome.rivals.iter().all(Option::is_some) || rivals.is_none() {
                break;
            }
        }
        let leaves = if kind.advances {
            verdict == Verdict::Pass && now - entered >= 60.0
        } else {
            now - entered >= kind.step_s
        };
        if leaves && step < plan.bake_step() {
            outcome.left_s[(step as usize - 1).min(7)] = Some(now);
            (step, entered) = (step + 1, now);
            if kind.advances && step == plan.bake_step() {
                break;
            }
        }
    }
    outcome.end = cost;
    outcome
}

fn frozen(kind: &Kind, world: &mut World) -> Plan {
    let mut history = Baseline::new();
    let windows = (kind.history_h * 3600.0 / world.window_s(0)) as usize;
    for _ in 0..windows {
        history.add(world.next(0, 0.0)).expect("worlds make good windows");
    }
    let mut plan = kind.plan.clone().frozen(&history);
    plan.requests_per_second = plan.requests_per_second.or(Some(kind.service.per_second));
    plan
}

fn add(cost: &mut Cost, window: &Window, measure: Measure) {
    let canary = bad(window, measure, 0.25).canary;
    cost.canary_requests += canary.n as f64;
    cost.canary_bad += canary.x as f64;
}

/// Rollouts `seeds` of a kind on so many threads; the order of outcomes is the seeds'.
pub fn many(kind: &Kind, rollouts: u64, threads: u64) -> Vec<Outcome> {
    let part = |thread: u64| (0..rollouts).filter(move |seed| seed % threads == thread);
    let mut outcomes: Vec<(u64, Outcome)> = std::thread::scope(|scope| {
        let work = |thread| move || part(thread).map(|seed| (seed, run(kind, seed + 1))).collect::<Vec<_>>();
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(work(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a rollout panicked")).collect()
    });
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Wald's bound: canary requests that any test at `alpha` needs on average, about the null `p_c <= r p_s`.
pub fn wald(alpha: f64, base: f64, ratio: f64, r: f64, weight: f64) -> f64 {
    let stable = (1.0 - weight) / weight;
    let (share, null) = (ratio / (ratio + stable), r / (r + stable));
    if ratio <= r {
        return f64::INFINITY;
    }
    let apart = share * (share / null).ln() + (1.0 - share) * ((1.0 - share) / (1.0 - null)).ln();
    (1.0 / alpha).ln() / (apart * base * (ratio + stable))
}
