//! Windows and plans that several suites tell their stories with.

use sluice_analyzers::plan::{Plan, Pods, SloLimit, SloOf, SloSource};
use sluice_analyzers::{Arm, Bucket, PodWindow, Window};

pub const LENGTH_MS: i64 = 15_000;

pub fn window(at: i64, step: u32, pods: Vec<PodWindow>) -> Window {
    Window { step, start_ms: at * LENGTH_MS, end_ms: (at + 1) * LENGTH_MS, pods }
}

/// Stable's and the canary's requests, how many over 0.1 s, how many over 0.5 s.
pub fn with_latency(at: i64, step: u32, arms: [(u64, u64, u64); 2]) -> Window {
    let pod = |arm, name: &str, (n, over_100ms, over_500ms): (u64, u64, u64)| {
        let buckets = [(0.1, n - over_100ms), (0.5, n - over_500ms), (f64::INFINITY, n)];
        let buckets = buckets.map(|(le, count)| Bucket { le, count }).to_vec();
        PodWindow::new(arm, name, n, 0).with_buckets(buckets)
    };
    window(at, step, vec![pod(Arm::Stable, "s", arms[0]), pod(Arm::Canary, "c", arms[1])])
}

/// Latencies alone, of independent requests.
pub fn latency_plan(steps: &[f64]) -> Plan {
    Plan { errors: None, pods: Pods::Ignore, requests_per_second: Some(60.0), ..Plan::new(steps.to_vec()) }
}

/// At most 1 % of the canary's requests may fail.
pub fn limit(source: SloSource) -> SloLimit {
    SloLimit { of: SloOf::Errors, limit: 0.01, source, dispersion: None, weight: 1.0 }
}
