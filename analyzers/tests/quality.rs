//! The benchmark's short form: the same worlds and rules, few rollouts, and bars wide enough never to fail by chance.
//!
//! The whole table: `cargo bench -p sluice-analyzers --bench quality`.

#![allow(dead_code, reason = "the benchmark's modules, of which the short form uses a part")]

#[path = "../benches/quality/chance.rs"]
mod chance;
#[path = "../benches/quality/rivals.rs"]
mod rivals;
#[path = "../benches/quality/runs.rs"]
mod runs;
#[path = "../benches/quality/world.rs"]
mod world;

use rivals::{Bars, Measure};
use runs::{Kind, Outcome, many, wald};
use sluice_analyzers::plan::{ErrorsPlan, Margin, Plan, Pods};
use world::{Change, Service, Trouble};

const SERVICE: Service =
    Service { per_second: 200.0, base: 0.01, window_s: 15.0, stable_pods: 8, canary_pods: 2, latency: false };

fn plan(r: f64, pods: Pods) -> Plan {
    let errors = ErrorsPlan::with_margin(Margin { ratio: r, plus: 0.0 });
    Plan { errors: Some(errors), latency: None, pods, ..Plan::new(vec![0.1]) }
}

fn kind(trouble: Trouble, change: Change) -> Kind {
    Kind {
        service: SERVICE,
        trouble,
        change,
        plan: plan(1.25, Pods::RandomEffect),
        history_h: 6.0,
        most_s: 6.0 * 3600.0,
        advances: false,
        step_s: f64::INFINITY,
        rivals: None,
    }
}

fn aborted(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|one| one.aborted.is_some()).count()
}

#[test]
fn healthy_releases_are_left_alone() {
    let worlds = [
        Trouble::None,
        Trouble::UnevenPods(0.1),
        Trouble::Bursts(5.0),
        Trouble::GeometricBursts(5.0),
        Trouble::DailyWave(3.0),
        Trouble::Wander(0.5, 0.98),
        Trouble::Crashes,
        Trouble::MixShift,
        Trouble::Incidents,
        Trouble::IncidentsBetweenScrapes,
        Trouble::SlowStart,
    ];
    let healthy = |trouble| kind(trouble, Change::None);
    let few = Service { stable_pods: 2, canary_pods: 1, ..SERVICE };
    let rare = Service { base: 0.0001, ..SERVICE };
    let mut kinds: Vec<Kind> = worlds.into_iter().map(healthy).collect();
    kinds.push(Kind { service: few, ..healthy(Trouble::UnevenPods(0.1)) });
    kinds.push(Kind { service: rare, ..healthy(Trouble::None) });
    let latency = Service { latency: true, ..SERVICE };
    kinds.push(Kind {
        service: latency,
        plan: Plan { errors: None, ..Plan::new(vec![0.1]) },
        most_s: 3_600.0,
        ..healthy(Trouble::SlowStart)
    });
    let aborts: usize = kinds.iter().map(|kind| aborted(&many(kind, 25, 2))).sum();
    // 350 rollouts at 1 % would be 3.5 on average; ours are about a tenth of that.
    assert!(aborts <= 3, "{aborts} of 350");
}

#[test]
fn slower_canaries_are_caught() {
    let service = Service { latency: true, window_s: 1.0, ..SERVICE };
    for (change, most) in [(Change::Scale(1.5), 400.0), (Change::Tail(0.01), 900.0)] {
        let kind = Kind {
            service,
            plan: Plan { errors: None, ..Plan::new(vec![0.1]) },
            history_h: 1.0,
            ..kind(Trouble::None, change)
        };
        let outcomes = many(&kind, 40, 2);
        assert_eq!(aborted(&outcomes), 40);
        let requests = outcomes.iter().filter_map(|one| one.aborted).map(|cost| cost.canary_requests);
        let mean = requests.sum::<f64>() / 40.0;
        assert!(mean < most, "{change:?}: {mean} canary requests");
    }
}

#[test]
fn changes_are_caught_near_the_limit() {
    for (base, ratio, most) in [(0.01, 2.0, 1.6), (0.001, 3.0, 1.6), (0.001, 10.0, 1.8)] {
        let kind = Kind {
            service: Service { base, window_s: 1.0, ..SERVICE },
            plan: plan(1.0, Pods::Ignore),
            history_h: 0.0,
            ..kind(Trouble::None, Change::Errors(ratio))
        };
        let outcomes = many(&kind, 100, 2);
        assert_eq!(aborted(&outcomes), 100);
        let mean =
            outcomes.iter().filter_map(|one| one.aborted).map(|cost| cost.canary_requests).sum::<f64>()
                / 100.0;
        let over = mean / wald(0.01, base, ratio, 1.0, 0.1);
        assert!(over < most, "{base} x{ratio}: {over} times the bound");
    }
}

#[test]
fn a_change_in_the_fourth_step_is_caught_in_it_or_in_the_bake() {
    let kind = Kind {
        plan: Plan { latency: None, ..Plan::new(vec![0.01, 0.05, 0.25, 0.5]) },
        step_s: 1800.0,
        ..kind(Trouble::None, Change::LateErrors(3.0, 4.0 * 1800.0))
    };
    let outcomes = many(&kind, 60, 2);
    assert_eq!(aborted(&outcomes), 60);
    let mut seconds: Vec<f64> =
        outcomes.iter().filter_map(|one| one.aborted).map(|cost| cost.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    assert!(seconds[30] < 600.0 && seconds[0] > 0.0, "{} s in the median", seconds[30]);
}

#[test]
fn the_harm_budget_lets_the_good_through_and_not_the_bad() {
    let run = |ratio| {
        let kind = Kind {
            service: Service { per_second: 50.0, base: 0.005, window_s: 5.0, ..SERVICE },
            plan: Plan { latency: None, ..Plan::new(vec![0.01, 0.05, 0.25, 0.5]) },
            advances: true,
            history_h: 1.0,
            most_s: 7200.0,
            ..kind(Trouble::None, Change::Errors(ratio))
        };
        many(&kind, 40, 2)
    };
    let left =
        |outcomes: &[Outcome], step: usize| outcomes.iter().filter(|one| one.left_s[step].is_some()).count();
    assert!(left(&run(1.0), 3) >= 38);
    // Twice the errors are just beyond the last step's tolerance: falsePass bounds that at 5 %.
    assert!(left(&run(2.0), 3) <= 3);
    // Six times are far beyond the second step's, and yet one in three hundred is lucky.
    assert!(left(&run(6.0), 1) <= 1);
    assert_eq!(left(&run(6.0), 2), 0);
}

#[test]
fn rivals_do_what_their_rules_say() {
    let bars = Bars { measure: Measure::Errors, most: 0.01 };
    let kind = Kind { rivals: Some(bars), most_s: 7200.0, ..kind(Trouble::None, Change::None) };
    let outcomes = many(&kind, 30, 2);
    let stopped = |rule: usize| outcomes.iter().filter(|one| one.rivals[rule].is_some()).count();
    assert_eq!(
        (stopped(0), stopped(1), aborted(&outcomes)),
        (30, 30, 0),
        "a bar at the base rate stops everybody"
    );
}
