//! The cells of the table: goals 1 to 5 of the statistics page, and the rivals.

use crate::beside;
use crate::passing;
use crate::rivals::{Bars, Measure, NAMES};
use crate::runs::{Cost, Kind, Outcome, many, wald};
use crate::table::{Options, Summary, percent, upper};
use crate::world::{Change, Service, Trouble};
use sluice_analyzers::plan::{ErrorsPlan, Margin, Plan, Pods};

pub fn print(options: &Options) {
    if options.wants("healthy") {
        healthy(options, &[6.0]);
        healthy_defaults(options);
    }
    if options.wants("unmeasured") {
        healthy(options, &[0.0]);
    }
    if options.wants("limit") {
        limit(options);
    }
    if options.wants("troubled") {
        troubled(options);
    }
    if options.wants("budget") {
        passing::budget(options);
    }
    if options.wants("pass") {
        passing::exposure(options);
        passing::false_pass(options);
    }
    if options.wants("late") {
        late(options);
    }
    if options.wants("latency") {
        latency(options);
    }
    if options.wants("rivals") {
        beside::print(options);
    }
}

pub const SERVICE: Service =
    Service { per_second: 200.0, base: 0.01, window_s: 15.0, stable_pods: 8, canary_pods: 2, latency: false };

/// The same with the overshoot taken out.
fn without_overshoot(plan: Plan) -> Plan {
    Plan { errors: plan.errors.map(|errors| ErrorsPlan { overshoot: true, ..errors }), ..plan }
}

/// Ten per cent, one step, errors only.
pub fn one_step(r: f64, pods: Pods) -> Plan {
    let errors = ErrorsPlan::with_margin(Margin { ratio: r, plus: 0.0 });
    Plan { errors: Some(errors), latency: None, pods, ..Plan::new(vec![0.1]) }
}

pub fn defaults() -> Plan {
    Plan::new(vec![0.01, 0.05, 0.25, 0.5])
}

pub fn kind(service: Service, trouble: Trouble, change: Change, plan: Plan) -> Kind {
    Kind {
        service,
        trouble,
        change,
        plan,
        history_h: 6.0,
        most_s: 86_400.0,
        advances: false,
        step_s: f64::INFINITY,
        rivals: None,
    }
}

pub const TROUBLES: [(&str, Trouble); 12] = [
    ("ideal", Trouble::None),
    ("uneven pods 10 %", Trouble::UnevenPods(0.1)),
    ("uneven pods 20 %", Trouble::UnevenPods(0.2)),
    ("bursts of 5", Trouble::Bursts(5.0)),
    ("bursts, geometric 5", Trouble::GeometricBursts(5.0)),
    ("daily wave x3", Trouble::DailyWave(3.0)),
    ("wandering rate", Trouble::Wander(0.5, 0.98)),
    ("pod crashes", Trouble::Crashes),
    ("traffic mix shift", Trouble::MixShift),
    ("shared incidents", Trouble::Incidents),
    ("incidents between scrapes", Trouble::IncidentsBetweenScrapes),
    ("slow start", Trouble::SlowStart),
];

fn healthy(options: &Options, hours: &[f64]) {
    println!(
        "\n## False aborts of a healthy release watched for 24 h ({} rollouts a cell)\n",
        options.rollouts
    );
    println!("| world | history | steps | false aborts | upper 99 % bound |");
    println!("| --- | --- | --- | --- | --- |");
    let few = Service { stable_pods: 2, canary_pods: 1, ..SERVICE };
    let rare = Service { base: 0.0001, ..SERVICE };
    let mut cells: Vec<(String, Service, Trouble)> =
        TROUBLES.iter().map(|(name, trouble)| ((*name).to_owned(), SERVICE, *trouble)).collect();
    cells.push(("few pods (2 and 1), uneven 10 %".into(), few, Trouble::UnevenPods(0.1)));
    cells.push(("rare errors (0.01 %)".into(), rare, Trouble::None));
    for (name, service, trouble) in cells.into_iter().filter(|(name, ..)| options.wants_world(name)) {
        for history_h in hours.iter().copied() {
            let kind = Kind {
                history_h,
                ..kind(service, trouble, Change::None, one_step(1.25, Pods::RandomEffect))
            };
            healthy_row(&name, history_h, "10 %", &kind, options);
        }
    }
}

fn healthy_defaults(options: &Options) {
    let latency = Service { latency: true, ..SERVICE };
    for (name, trouble) in
        [("ideal", Trouble::None), ("bursts of 5", Trouble::Bursts(5.0)), ("slow start", Trouble::SlowStart)]
    {
        let name = &format!("{name}, defaults");
        if !options.wants_world(name) {
            continue;
        }
        let kind = Kind { step_s: 3600.0, ..kind(latency, trouble, Change::None, defaults()) };
        let fewer = Options { rollouts: options.rollouts / 5, ..options.clone() };
        healthy_row(name, 6.0, "all defaults, with latency", &kind, &fewer);
    }
}

fn healthy_row(name: &str, history_h: f64, steps: &str, kind: &Kind, options: &Options) {
    let outcomes = many(kind, options.rollouts, options.threads);
    let summary = Summary::of(&outcomes, |outcome| outcome.aborted);
    println!(
        "| {name} | {history_h} h | {steps} | {} | {} |",
        percent(summary.share()),
        percent(upper(summary.caught, summary.rollouts))
    );
}

/// Rates, as (before, times worse).
const CHANGES: [(f64, f64); 5] = [(0.001, 3.0), (0.01, 2.0), (0.005, 2.0), (0.001, 10.0), (0.0001, 10.0)];

fn limit(options: &Options) {
    println!(
        "\n## Exposure over Wald's bound ({} rollouts a cell, 20 canary requests a second, windows of 1 s)\n",
        options.power
    );
    println!("| plan | change | bound | mean / bound | median | 95 % | 99 % | caught |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let service = Service { window_s: 1.0, ..SERVICE };
    let plans = [
        ("(a) ideal: r = 1, pods ignored", 1.0, one_step(1.0, Pods::Ignore), 0.0, f64::INFINITY),
        (
            "(a') ideal, overshoot taken out",
            1.0,
            without_overshoot(one_step(1.0, Pods::Ignore)),
            0.0,
            f64::INFINITY,
        ),
        (
            "(b) robust: r = 1.25, history, pod effect",
            1.25,
            one_step(1.25, Pods::RandomEffect),
            6.0,
            f64::INFINITY,
        ),
    ];
    for (name, r, plan, history_h, step_s) in plans {
        for (base, ratio) in CHANGES {
            let kind = Kind {
                history_h,
                step_s,
                most_s: 40.0 * 3600.0,
                ..kind(Service { base, ..service }, Trouble::None, Change::Errors(ratio), plan.clone())
            };
            limit_row(name, &kind, r, 0.1, options);
        }
    }
    for (base, ratio) in CHANGES {
        let service = Service { base, latency: true, ..service };
        let plan = Plan { steps: vec![0.1, 0.5], ..defaults() };
        let kind =
            Kind { most_s: 40.0 * 3600.0, ..kind(service, Trouble::None, Change::Errors(ratio), plan) };
        limit_row("(c) all defaults: two metrics, restarts", &kind, 1.25, 0.1, options);
    }
}

fn limit_row(name: &str, kind: &Kind, r: f64, weight: f64, options: &Options) {
    let Change::Errors(ratio) = kind.change else { return };
    let base = kind.service.base;
    let bound = wald(0.01, base, ratio, r, weight);
    let outcomes = many(kind, options.power, options.threads);
    let of = Summary::of(&outcomes, |outcome| outcome.aborted);
    println!(
        "| {name} | {} % -> {:.3} % | {bound:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        base * 100.0,
        base * ratio * 100.0,
        of.mean / bound,
        of.median / bound,
        of.p95 / bound,
        of.p99 / bound,
        percent(of.share())
    );
}

fn troubled(options: &Options) {
    println!(
        "\n## Caught in worlds that are not ideal (1 % -> 3 %, 24 h, windows of 15 s, {} rollouts a cell)\n",
        options.power
    );
    println!("| world | bound (x mean burst) | mean / bound | median | 99 % | caught |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let few = Service { stable_pods: 2, canary_pods: 1, ..SERVICE };
    let mut cells: Vec<(&str, Service, Trouble)> =
        TROUBLES.iter().map(|(name, of)| (*name, SERVICE, *of)).collect();
    cells.push(("few pods (2 and 1), uneven 10 %", few, Trouble::UnevenPods(0.1)));
    for (name, service, trouble) in cells.into_iter().filter(|(name, ..)| options.wants_world(name)) {
        let kind = kind(service, trouble, Change::Errors(3.0), one_step(1.25, Pods::RandomEffect));
        let outcomes = many(&kind, options.power, options.threads);
        let of = Summary::of(&outcomes, |outcome| outcome.aborted);
        let bound = beside::burst(trouble) * wald(0.01, service.base, 3.0, 1.25, 0.1);
        let over = |requests: f64| requests / bound;
        let (mean, median, p99) = (over(of.mean), over(of.median), over(of.p99));
        println!("| {name} | {bound:.0} | {mean:.2} | {median:.2} | {p99:.2} | {} |", percent(of.share()));
    }
}

fn late(options: &Options) {
    let rollouts = options.power.min(1_000);
    println!(
        "\n## A change that begins in the fourth step (1, 5, 25, 50 %, half an hour each; {rollouts} rollouts a cell)\n"
    );
    println!(
        "| errors | rule | stopped before it | caught after it | median minutes | mean bad requests served |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for (base, ratio) in [(0.001, 3.0), (0.01, 2.0), (0.001, 10.0)] {
        let kind = Kind {
            rivals: Some(Bars { measure: Measure::Errors, most: 0.01 }),
            step_s: 1_800.0,
            most_s: 4.0 * 3_600.0,
            ..kind(
                Service { base, ..SERVICE },
                Trouble::None,
                Change::LateErrors(ratio, 3.0 * 1_800.0),
                Plan { latency: None, ..defaults() },
            )
        };
        let outcomes = many(&kind, rollouts, options.threads);
        let what = format!("{} % -> {:.2} %", base * 100.0, base * ratio * 100.0);
        late_row(&what, "Sluice", &outcomes, |outcome| outcome.aborted);
        for (at, name) in NAMES.iter().enumerate() {
            late_row(&what, name, &outcomes, |outcome| outcome.rivals[at]);
        }
    }
}

fn late_row(what: &str, name: &str, outcomes: &[Outcome], rule: impl Fn(&Outcome) -> Option<Cost>) {
    let after = Summary::of(outcomes, |outcome| rule(outcome).filter(|cost| cost.seconds > 0.0));
    let early =
        outcomes.iter().filter(|outcome| rule(outcome).is_some_and(|cost| cost.seconds <= 0.0)).count();
    println!(
        "| {what} | {name} | {} | {} | {:.1} | {:.0} |",
        percent(early as f64 / outcomes.len() as f64),
        percent(after.share()),
        after.median_seconds / 60.0,
        after.mean_bad
    );
}

fn latency(options: &Options) {
    println!("\n## Latency: canary requests until the abort ({} rollouts a cell)\n", options.power);
    println!("| change | bound at the best boundary | mean / bound | 95 % | 99 % | caught |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let service = Service { latency: true, window_s: 1.0, ..SERVICE };
    for (name, change) in [
        ("all latencies x1.25", Change::Scale(1.25)),
        ("all latencies x1.5", Change::Scale(1.5)),
        ("all latencies x2", Change::Scale(2.0)),
        ("1 % of requests 1 s slower", Change::Tail(0.01)),
        ("0.3 % of requests 1 s slower", Change::Tail(0.003)),
    ] {
        let plan = Plan { errors: None, ..Plan::new(vec![0.1]) };
        let kind =
            Kind { most_s: 4.0 * 3600.0, history_h: 1.0, ..kind(service, Trouble::None, change, plan) };
        let outcomes = many(&kind, options.power, options.threads);
        let of = Summary::of(&outcomes, |outcome| outcome.aborted);
        let bound = crate::bounds::latency(change, 1.25, 0.1);
        println!(
            "| {name} | {bound:.0} | {:.2} | {:.2} | {:.2} | {} |",
            of.mean / bound,
            of.p95 / bound,
            of.p99 / bound,
            percent(of.share())
        );
    }
}
