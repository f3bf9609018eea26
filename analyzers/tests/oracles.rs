//! Numbers that others computed.

use sluice_analyzers::plan::{ErrorsPlan, Margin, Plan, Pods, Weighted};
use sluice_analyzers::rate_ratio::{Alternative, Pair, increment};
use sluice_analyzers::slo;
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

/// `confseq`'s uniform boundaries, `test/uniform_boundaries_unittest.cpp`: its constants come from a reference in R.
/// Their mixtures' strength is that of Howard and others (2021) for V = 100 and alpha = 5 %, one-sided.
fn strength() -> f64 {
    let doubt = 2.0 * (1.0f64 / 0.1).ln();
    100.0 / (doubt + (1.0 + doubt).ln())
}

/// ln of the mean of `exp(log_e)` over a prior on (low, high) whose log density is `log_prior`, by the midpoint rule.
fn mixed(low: f64, high: f64, log_prior: impl Fn(f64) -> f64, log_e: impl Fn(f64) -> f64) -> f64 {
    let (steps, mut mass, mut sum) = (200_000, 0.0, 0.0);
    for step in 0..steps {
        let at = low + (high - low) * (f64::from(step) + 0.5) / f64::from(steps);
        let prior = log_prior(at).exp();
        (mass, sum) = (mass + prior, sum + prior * log_e(at).exp());
    }
    (sum / mass).ln()
}

/// beta_binomial_log_mixture(s = 10, v = 100, v_opt = 100, g = .2, h = .8) = -0.07134019: 625 trials at 20 %, 135 hits.
/// Our share of errors is the canary's at a fifth of the traffic.
#[test]
fn confseqs_beta_binomial_mixture() {
    let (g, h) = (0.2, 0.8);
    let r = strength() - g * h;
    let log_prior = |share: f64| (r / h - 1.0) * (share / g).ln() + (r / g - 1.0) * ((1.0 - share) / h).ln();
    let pair = Pair::new((1_000, 135), (4_000, 490));
    let log_e = |share: f64| {
        let rho = 4.0 * share / (1.0 - share);
        increment(1.0, &Alternative::new(rho, 1.0, 1.0), pair).s1
    };
    assert!((mixed(g, 1.0, log_prior, log_e) - -0.071_340_19).abs() < 1e-8);
}

/// gamma_poisson_log_mixture(s = 10, v = 100, v_opt = 100, c = 2) = -0.06991219: 30 events where 25 are expected.
#[test]
fn confseqs_gamma_poisson_mixture() {
    let shape = strength() / 4.0;
    let log_prior = |rho: f64| (shape - 1.0) * rho.ln() - shape * (rho - 1.0);
    let log_e = |rho: f64| slo::increment(&Alternative::new(rho, 1.0, 1.0), 30.0, 25.0);
    assert!((mixed(1.0, 12.0, log_prior, log_e) - -0.069_912_19).abs() < 1e-8);
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
