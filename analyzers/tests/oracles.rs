//! Numbers that others computed.

use sluice_analyzers::plan::{ErrorsPlan, Margin, Plan, Pods, Weighted};
use sluice_analyzers::rate_ratio::{Alternative, Pair, increment};
use sluice_analyzers::{Arm, Evidence, PodWindow, Window, judge, report};

/// `savvi` 0.3.1 (PyPI), multinomial test of S = [20, 80] against theta = [.1, .9], prior k = 100: the same closed form
/// lnB(k theta + S) - lnB(k theta) - sum S ln theta. Mixing our binomial likelihood ratio over that Beta prior must give
/// its number, and our ratio for a given rho is that likelihood ratio.
#[test]
fn savvis_multinomial_mixture() {
    // theta = share of the canary's requests = 0.1: n_c : n_s = 1 : 9, of 100 errors 20 are the canary's.
    let pair = Pair::new((1_000, 20), (9_000, 80));
    let log_ratio = |share: f64| {
        let rho = 9.0 * share / (1.0 - share);
        increment(1.0, &Alternative::new(rho, 1.0, 1.0), pair).s1
    };
    // Midpoint rule over the Beta(10, 90) prior of the share.
    let steps = 200_000;
    let log_beta = |x: f64| 9.0 * x.ln() + 89.0 * (1.0 - x).ln();
    let top = log_beta(9.0 / 98.0);
    let (mut mass, mut mixed) = (0.0, 0.0);
    for step in 0..steps {
        let share = (step as f64 + 0.5) / steps as f64;
        let prior = (log_beta(share) - top).exp();
        mass += prior;
        mixed += prior * log_ratio(share).exp();
    }
    assert!(((mixed / mass).ln() - 1.920_724_002_169_663_4).abs() < 1e-7);
}

/// With one step, no margin, pods ignored and explicit ratios `logAbort` is formula 1's mixture and nothing else.
#[test]
fn log_abort_is_the_plain_mixture() {
    let ratios = [1.1, 1.5, 3.0];
    let margin = Margin { ratio: 1.0, plus: 0.0 };
    let mut errors = ErrorsPlan::with_margin(margin);
    errors.alternatives = ratios.map(|ratio| Weighted { ratio, weight: 1.0 }).to_vec();
    let plan = Plan { errors: Some(errors), pods: Pods::Ignore, latency: None, ..Plan::new(vec![0.1]) };
    assert_eq!(plan.check(), Ok(()));
    let mut evidence = Evidence::new(&plan);
    let mut products = [0.0f64; 3];
    for at in 0..50u64 {
        let (n_c, x_c, n_s, x_s) = (90 + at, at % 4, 900 - at, at % 7);
        let pods = vec![
            PodWindow::new(Arm::Canary, "c", n_c, x_c),
            PodWindow::new(Arm::Stable, "a", n_s / 2, x_s),
            PodWindow::new(Arm::Stable, "b", n_s - n_s / 2, 0),
        ];
        let start_ms = at as i64 * 1000;
        judge(&plan, &mut evidence, &Window { step: 1, start_ms, end_ms: start_ms + 1000, pods }).unwrap();
        for (product, rho) in products.iter_mut().zip(ratios) {
            let (n_c, n_s) = (n_c as f64, n_s as f64);
            let b: f64 = (n_c + n_s) / (rho * n_c + n_s);
            *product += x_c as f64 * (rho * b).ln() + x_s as f64 * b.ln();
        }
        let mixture = (products.iter().map(|log_e| log_e.exp()).sum::<f64>() / 3.0).ln();
        let log_abort = report(&plan, &evidence).findings[0].log_abort;
        assert!((log_abort - mixture).abs() < 1e-10, "{at}: {log_abort} {mixture}");
    }
}
