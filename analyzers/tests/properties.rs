//! What holds whatever the windows are.

use proptest::prelude::*;
use sluice_analyzers::plan::{Plan, Pods};
use sluice_analyzers::{Arm, Evidence, PodWindow, Window, judge, report};

fn plan() -> Plan {
    Plan { pods: Pods::Ignore, latency: None, requests_per_second: Some(100.0), ..Plan::new(vec![0.1]) }
}

fn window(at: i64, (n_c, x_c): (u64, u64), (n_s, x_s): (u64, u64)) -> Window {
    let pods = vec![
        PodWindow::new(Arm::Canary, "c", n_c, x_c.min(n_c)),
        PodWindow::new(Arm::Stable, "s", n_s, x_s.min(n_s)),
    ];
    Window { step: 1, start_ms: at * 1000, end_ms: (at + 1) * 1000, pods }
}

fn log_abort(windows: &[Window]) -> f64 {
    let (plan, mut evidence) = (plan(), Evidence::new(&plan()));
    for window in windows {
        judge(&plan, &mut evidence, window).expect("a good window");
    }
    report(&plan, &evidence).findings[0].log_abort
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two windows with the traffic split alike are one window: evidence comes from counts, not from looks.
    #[test]
    fn splitting_a_window_creates_nothing(n in 1u64..500, k in 1u64..20, a in 0u64..9, b in 0u64..9, c in 0u64..9, d in 0u64..9) {
        let halves = [window(0, (n, a.min(n)), (n * k, b.min(n))), window(1, (n, c.min(n)), (n * k, d.min(n)))];
        let whole = [window(0, (2 * n, a.min(n) + c.min(n)), (2 * n * k, b.min(n) + d.min(n)))];
        prop_assert!((log_abort(&halves) - log_abort(&whole)).abs() < 1e-9);
    }

    /// Whatever is counted, nothing becomes infinite, and the report can be written down.
    #[test]
    fn every_number_stays_finite(counts in proptest::collection::vec((0u64..100_000, 0u64..100_000, 0u64..1_000_000, 0u64..1_000_000), 1..20)) {
        for pods in [Pods::Ignore, Pods::Dispersion, Pods::RandomEffect] {
            let plan = Plan { pods, ..plan() };
            let mut evidence = Evidence::new(&plan);
            for (at, (n_c, x_c, n_s, x_s)) in counts.iter().enumerate() {
                judge(&plan, &mut evidence, &window(at as i64, (*n_c, *x_c), (*n_s, *x_s))).expect("a good window");
            }
            let report = report(&plan, &evidence);
            prop_assert!(report.log_abort.is_finite());
            for finding in &report.findings {
                prop_assert!(finding.log_abort.is_finite() && finding.log_advance.is_finite());
            }
            prop_assert!(!report.words().contains("NaN") && !report.words().contains("inf"));
        }
    }

    /// More canary errors never speak for the canary.
    #[test]
    fn evidence_rises_with_the_canarys_errors(n in 10u64..5_000, x in 0u64..9, s in 0u64..50) {
        let one = log_abort(&[window(0, (n, x), (9 * n, s))]);
        let more = log_abort(&[window(0, (n, x + 1), (9 * n, s))]);
        prop_assert!(more >= one);
    }
}
