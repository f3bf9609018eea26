//! Today's rules beside ours on the same data, world by world: a healthy release and a bad one, two hours each.

use crate::bounds;
use crate::rivals::{Bars, Measure, NAMES};
use crate::runs::{Cost, Kind, Outcome, many, wald};
use crate::suites::{SERVICE, TROUBLES, defaults, kind, one_step};
use crate::table::{Options, Summary, percent};
use crate::world::{Change, Service, Trouble};
use sluice_analyzers::plan::{Plan, Pods};

/// A rollout lasts so long, at 10 % unless its world says otherwise.
const LIFE_S: f64 = 7_200.0;

struct World {
    name: String,
    service: Service,
    trouble: Trouble,
    bad: Change,
    plan: Plan,
    /// Canary requests that any test needs.
    bound: f64,
    bars: Bars,
}

pub fn print(options: &Options) {
    println!("\n## Beside today's rules, on the same data ({} rollouts a cell, 2 h)\n", options.power);
    println!(
        "| world | rule | false abort | caught | median / bound | 99 % / bound | bad requests served | false pass |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for world in worlds().into_iter().filter(|world| options.wants_world(&world.name)) {
        let run = |change| {
            let kind = Kind {
                rivals: Some(world.bars),
                most_s: LIFE_S,
                step_s: LIFE_S / world.plan.steps.len() as f64,
                ..kind(world.service, world.trouble, change, world.plan.clone())
            };
            many(&kind, options.power, options.threads)
        };
        let (healthy, bad) = (run(Change::None), run(world.bad));
        let passed = bad.iter().filter(|one| one.passed).count() as f64 / bad.len() as f64;
        row(&world, "Sluice", (&healthy, &bad), |one| one.aborted, passed);
        for (at, name) in NAMES.iter().enumerate() {
            let rule = |one: &Outcome| one.rivals[at];
            let quiet = bad.iter().filter(|one| rule(one).is_none()).count() as f64 / bad.len() as f64;
            row(&world, name, (&healthy, &bad), rule, quiet);
        }
    }
}

fn row(
    world: &World,
    rule: &str,
    (healthy, bad): (&[Outcome], &[Outcome]),
    aborts: impl Fn(&Outcome) -> Option<Cost>,
    passed: f64,
) {
    // A late change is bad from then on: who stopped it before was wrong.
    let since = |one: &Outcome| aborts(one).filter(|cost| cost.seconds > 0.0);
    let (wrong, right) = (Summary::of(healthy, &aborts), Summary::of(bad, since));
    let served: Vec<f64> = bad.iter().map(|one| aborts(one).unwrap_or(one.end).canary_bad).collect();
    let over = |requests: f64| {
        if requests.is_finite() { format!("{:.2}", requests / world.bound) } else { String::new() }
    };
    println!(
        "| {} | {rule} | {} | {} | {} | {} | {:.0} | {} |",
        world.name,
        percent(wrong.share()),
        percent(right.share()),
        over(right.median),
        over(right.p99),
        served.iter().sum::<f64>() / served.len() as f64,
        percent(passed)
    );
}

fn worlds() -> Vec<World> {
    let tripled = |name: &str, service: Service, trouble| World {
        name: name.to_owned(),
        service,
        trouble,
        bad: Change::Errors(3.0),
        plan: one_step(1.25, Pods::RandomEffect),
        bound: burst(trouble) * wald(0.01, service.base, 3.0, 1.25, 0.1),
        bars: Bars { measure: Measure::Errors, most: 2.0 * service.base },
    };
    let mut worlds: Vec<World> =
        TROUBLES.iter().map(|(name, trouble)| tripled(name, SERVICE, *trouble)).collect();
    let few = Service { stable_pods: 2, canary_pods: 1, ..SERVICE };
    worlds.push(tripled("few pods (2 and 1), uneven 10 %", few, Trouble::UnevenPods(0.1)));
    let rare = Service { base: 0.0001, ..SERVICE };
    worlds.push(World {
        bad: Change::Errors(10.0),
        bound: wald(0.01, rare.base, 10.0, 1.25, 0.1),
        ..tripled("rare errors, x10", rare, Trouble::None)
    });
    worlds.push(World {
        bad: Change::LateErrors(3.0, 0.75 * LIFE_S),
        plan: Plan { latency: None, ..defaults() },
        bound: wald(0.01, SERVICE.base, 3.0, 1.25, 0.5),
        ..tripled("late onset in step 4", SERVICE, Trouble::None)
    });
    worlds.push(latency("latency scale, x1.5", Change::Scale(1.5)));
    worlds.push(latency("latency tail, 1 % a second slower", Change::Tail(0.01)));
    worlds
}

fn latency(name: &str, bad: Change) -> World {
    World {
        name: name.to_owned(),
        service: Service { latency: true, ..SERVICE },
        trouble: Trouble::None,
        bad,
        plan: Plan { errors: None, ..Plan::new(vec![0.1]) },
        bound: bounds::latency(bad, 1.25, 0.1),
        bars: Bars { measure: Measure::Slow, most: 0.01 },
    }
}

/// Errors that come together count as one.
pub const fn burst(trouble: Trouble) -> f64 {
    match trouble {
        Trouble::Bursts(size) | Trouble::GeometricBursts(size) => size,
        Trouble::None
        | Trouble::UnevenPods(_)
        | Trouble::DailyWave(_)
        | Trouble::Wander(..)
        | Trouble::Crashes
        | Trouble::MixShift
        | Trouble::Incidents
        | Trouble::IncidentsBetweenScrapes
        | Trouble::SlowStart => 1.0,
    }
}
