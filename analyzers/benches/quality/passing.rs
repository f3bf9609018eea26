//! The other direction: how soon good canaries pass, and how seldom those at the tolerance do.

use crate::bounds;
use crate::runs::{Kind, Outcome, many};
use crate::suites::{SERVICE, defaults, kind};
use crate::table::{Options, percent, upper};
use crate::world::{Change, Service, Trouble};
use sluice_analyzers::plan::Plan;

/// Canary requests until a healthy canary passes its first step, over the bound of the pass direction.
pub fn exposure(options: &Options) {
    println!(
        "\n## Exposure until the pass over its bound ({} rollouts a cell, 10 %, 20 canary requests a second, windows of 1 s)\n",
        options.power
    );
    println!("| errors | bound | mean / bound | median | 95 % | passed |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for base in [0.0, 0.001, 0.005, 0.01] {
        let plan = Plan { latency: None, steps: vec![0.1, 0.5], ..defaults() };
        let service = Service { base, window_s: 1.0, ..SERVICE };
        let d = (0.001f64 / 0.5).max(10.0 / (service.per_second * 0.5 * 60.0));
        let kind =
            Kind { advances: true, most_s: 8.0 * 3600.0, ..kind(service, Trouble::None, Change::None, plan) };
        let outcomes = many(&kind, options.power, options.threads);
        let bound = bounds::pass(0.05, base, 1.25, d, 0.1);
        let canary_per_second = service.per_second * 0.1;
        let mut over: Vec<f64> = outcomes
            .iter()
            .map(|one| one.left_s[0].map_or(f64::INFINITY, |left| left * canary_per_second / bound))
            .collect();
        over.sort_by(f64::total_cmp);
        let at = |p: f64| over[((p * over.len() as f64) as usize).min(over.len() - 1)];
        let passed = over.iter().filter(|over| over.is_finite()).count();
        let mean = over.iter().filter(|over| over.is_finite()).sum::<f64>() / passed.max(1) as f64;
        println!(
            "| {} % | {bound:.0} | {mean:.2} | {:.2} | {:.2} | {} |",
            base * 100.0,
            at(0.5),
            at(0.95),
            percent(passed as f64 / over.len() as f64)
        );
    }
}

pub fn budget(options: &Options) {
    println!(
        "\n## The harm budget over 1, 5, 25, 50 %, the abort running beside it ({} rollouts a cell)\n",
        options.power.min(500)
    );
    println!(
        "| requests/s | errors | canary | left the last step | median min | 95 % min | aborted | left step 1 / 2 / 3 |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let healthy = [(5.0, 0.0), (50.0, 0.0), (50.0, 0.005), (500.0, 0.005), (500.0, 0.02), (5000.0, 0.02)];
    for (per_second, base) in healthy {
        budget_row(per_second, base, 1.0, 14_400.0, options);
    }
    for (per_second, base, ratio) in [
        (50.0, 0.005, 2.0),
        (500.0, 0.005, 2.0),
        (50.0, 0.005, 6.0),
        (500.0, 0.005, 6.0),
        (50.0, 0.005, 21.0),
    ] {
        budget_row(per_second, base, ratio, 14_400.0, options);
    }
}

fn budget_row(per_second: f64, base: f64, ratio: f64, most_s: f64, options: &Options) {
    let service = Service { per_second, base, window_s: 5.0, ..SERVICE };
    let plan = Plan { latency: None, ..defaults() };
    let kind = Kind {
        advances: true,
        most_s,
        history_h: 1.0,
        ..kind(service, Trouble::None, Change::Errors(ratio), plan)
    };
    let outcomes = many(&kind, options.power.min(500), options.threads);
    let mut minutes: Vec<f64> =
        outcomes.iter().map(|one| one.left_s[3].map_or(f64::INFINITY, |left| left / 60.0)).collect();
    minutes.sort_by(f64::total_cmp);
    let at = |p: f64| minutes[((p * minutes.len() as f64) as usize).min(minutes.len() - 1)];
    let share = |test: &dyn Fn(&Outcome) -> bool| {
        percent(outcomes.iter().filter(|one| test(one)).count() as f64 / outcomes.len() as f64)
    };
    println!(
        "| {per_second} | {} % | x{ratio} | {} | {:.1} | {:.1} | {} | {} / {} / {} |",
        base * 100.0,
        share(&|one| one.left_s[3].is_some()),
        at(0.5),
        at(0.95),
        share(&|one| one.aborted.is_some()),
        share(&|one| one.left_s[0].is_some()),
        share(&|one| one.left_s[1].is_some()),
        share(&|one| one.left_s[2].is_some()),
    );
}

/// A canary exactly at the tolerance of its step: how often is it passed, the abort switched off?
pub fn false_pass(options: &Options) {
    println!("\n## False passes of a canary at the tolerance ({} rollouts a cell, 8 h)\n", options.power);
    println!("| requests/s | errors | passed | upper 99 % bound |");
    println!("| --- | --- | --- | --- |");
    for (per_second, base) in [(50.0, 0.0001), (50.0, 0.005), (500.0, 0.005), (500.0, 0.02)] {
        let plan = Plan { latency: None, false_abort: 1e-12, steps: vec![0.1, 0.5], ..defaults() };
        let d = (0.001f64 / 0.5).max(10.0 / (per_second * 0.5 * 60.0));
        let kind = Kind {
            advances: true,
            most_s: 8.0 * 3600.0,
            history_h: 1.0,
            ..kind(
                Service { per_second, base, ..SERVICE },
                Trouble::None,
                Change::Errors(1.25 + d / base),
                plan,
            )
        };
        let outcomes = many(&kind, options.power, options.threads);
        let passed = outcomes.iter().filter(|one| one.left_s[0].is_some()).count();
        let share = passed as f64 / outcomes.len() as f64;
        println!(
            "| {per_second} | {} % | {} | {} |",
            base * 100.0,
            percent(share),
            percent(upper(passed, outcomes.len()))
        );
    }
}
