//! What is no fault and yet cannot work, or surely not as it was meant.

use std::time::Duration;

use sluice_analyzers::{Arm, Plan, PodWindow, Verdict, Window};
use sluice_wire::policy::{Metrics, Policy, Preset, PromoteBy, Workload};
use sluice_wire::windows::Judging;

/// What is assumed of a healthy service when its steps are tried out.
const ERROR_SHARE: f64 = 0.01;
const PODS: u64 = 3;
const WINDOW: Duration = Duration::from_secs(15);
const HISTORY_WINDOWS: usize = 40;
/// A step is not tried out for longer than this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Fields and what is doubtful about them.
pub(super) fn of(policy: &Policy) -> Vec<(String, String)> {
    let rules = [metrics, workloads, telling, baking];
    let mut doubts: Vec<_> =
        rules.iter().flat_map(|rule| rule(policy)).map(|(field, why)| (field.to_owned(), why)).collect();
    doubts.extend(undecidable(policy));
    doubts
}

type Doubts = Vec<(&'static str, String)>;

fn metrics(policy: &Policy) -> Doubts {
    let preset = match &policy.spec.metrics {
        Metrics::Prometheus(source) if source.queries.is_none() => source.preset,
        Metrics::Scrape(scrape) => scrape.preset,
        Metrics::Prometheus(_) => return Vec::new(),
    };
    let latency = &policy.spec.analysis.latency;
    let asked =
        [latency.p50, latency.p90, latency.p95, latency.p99, latency.p999].iter().any(Option::is_some);
    let mut doubts = Vec::new();
    if preset == Preset::Haproxy && asked {
        let why = "HAProxy's exporter has no latency histogram: this objective can never be met; leave it out, or read the pods' own metrics";
        doubts.push(("spec.analysis.latency", why.to_owned()));
    }
    if matches!(policy.spec.metrics, Metrics::Scrape(_))
        && !matches!(preset, Preset::Http | Preset::OpenTelemetry)
    {
        doubts.push((
            "spec.metrics.scrape.preset",
            "pods do not write these metrics themselves: use http or openTelemetry".to_owned(),
        ));
    }
    doubts
}

fn workloads(policy: &Policy) -> Doubts {
    let workloads = &policy.spec.workloads;
    let external = |workload: &Workload| *workload == Workload::External;
    let both_needed = workloads.promote == PromoteBy::CopyTemplate;
    if both_needed && (external(&workloads.stable) || external(&workloads.canary)) {
        let why = "copyTemplate needs both Deployments: name them, or write promote: external (or swap)";
        return vec![("spec.workloads", why.to_owned())];
    }
    Vec::new()
}

fn telling(policy: &Policy) -> Doubts {
    if policy.spec.alerts.is_empty() {
        return vec![(
            "spec.alerts",
            "nobody is told when a rollout is aborted or stuck: add a sink".to_owned(),
        )];
    }
    Vec::new()
}

fn baking(policy: &Policy) -> Doubts {
    let bake = policy.spec.bake.length.0;
    if bake.is_zero() && !policy.spec.is_flip() {
        let why = "without a bake the old version is replaced right after the last step: give at least 10m";
        return vec![("spec.bake.for", why.to_owned())];
    }
    Vec::new()
}

/// Tries each step with the traffic that the policy names and a healthy canary.
fn undecidable(policy: &Policy) -> Vec<(String, String)> {
    let Some(per_second) = policy.spec.analysis.requests_per_second else { return Vec::new() };
    let Ok(plan) = policy.plan() else { return Vec::new() };
    // Only errors are tried out: no histogram is at hand here.
    let plan = Plan { latency: None, slo: Vec::new(), gauges: Vec::new(), ..plan };
    let machine = policy.machine();
    let mut doubts = Vec::new();
    for (index, step) in machine.steps.iter().enumerate() {
        let trial = Trial { per_second, share: step.weight.fraction(), step: index as u32 + 1 };
        let needed = trial.until_pass(&plan);
        if needed.is_some_and(|needed| needed <= step.max) {
            continue;
        }
        let most = step.max.as_secs() / 60;
        let fits = needed.map_or("more traffic, or a larger risk.badRequests".to_owned(), |needed| {
            format!("a max of {} min, or a larger weight", needed.as_secs().div_ceil(60))
        });
        let why = format!(
            "at {per_second} requests a second and {} % errors a healthy canary does not pass within its max of {most} min: {fits} would do",
            ERROR_SHARE * 100.0
        );
        doubts.push((format!("spec.steps[{index}]"), why));
    }
    doubts
}

/// A healthy canary at one step, with even traffic.
struct Trial {
    per_second: f64,
    share: f64,
    step: u32,
}

impl Trial {
    fn until_pass(&self, plan: &Plan) -> Option<Duration> {
        let mut judging = Judging::new(plan.clone());
        let mut clock = Ticks::default();
        for _ in 0..HISTORY_WINDOWS {
            judging.window(&self.window(&mut clock, 0, 0.0)).ok()?;
        }
        let mut watched = Duration::ZERO;
        while watched < LONGEST {
            watched += WINDOW;
            let window = self.window(&mut clock, self.step, self.share);
            if judging.window(&window).ok()? == Verdict::Pass {
                return Some(watched);
            }
        }
        None
    }

    fn window(&self, clock: &mut Ticks, step: u32, share: f64) -> Window {
        let start_ms = clock.at_ms;
        clock.at_ms += WINDOW.as_millis() as i64;
        let total = self.per_second * WINDOW.as_secs_f64();
        let mut pods = clock.pods(Arm::Stable, total * (1.0 - share));
        if share > 0.0 {
            pods.extend(clock.pods(Arm::Canary, total * share));
        }
        Window { step, start_ms, end_ms: clock.at_ms, pods }
    }
}

/// Fractions of requests and errors are carried over, so that none is lost by rounding.
#[derive(Default)]
struct Ticks {
    at_ms: i64,
    left: [(f64, f64); 2],
}

impl Ticks {
    fn pods(&mut self, arm: Arm, requests: f64) -> Vec<PodWindow> {
        let left = &mut self.left[usize::from(arm == Arm::Canary)];
        let mut pods = Vec::new();
        for number in 0..PODS {
            left.0 += requests / PODS as f64;
            left.1 += requests / PODS as f64 * ERROR_SHARE;
            let n = left.0.floor();
            let failed = left.1.floor().min(n);
            *left = (left.0 - n, left.1 - failed);
            pods.push(PodWindow::new(arm, format!("{number}"), n as u64, failed as u64));
        }
        pods
    }
}
