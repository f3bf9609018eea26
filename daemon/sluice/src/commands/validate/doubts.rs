//! What is no fault and yet cannot work, or surely not as it was meant.

use std::path::Path;

use sluice_analyzers::outlook::{Questions, outlook};
use sluice_wire::policy::{Metrics, Policy, Preset, PromoteBy, Replace, Workload};
use sluice_wire::units::Percent;

use crate::cli::SECRETS;
use crate::commands::plan;

/// What is assumed of a healthy service when the time of its steps is foretold.
const ERROR_SHARE: f64 = 0.01;

/// Fields and what is doubtful about them.
pub(super) fn of(policy: &Policy) -> Vec<(String, String)> {
    let rules = [metrics, workloads, halfway, telling, baking];
    let mut doubts: Vec<_> =
        rules.iter().flat_map(|rule| rule(policy)).map(|(field, why)| (field.to_owned(), why)).collect();
    doubts.extend(secrets(policy));
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

/// OpenShift's deployer stops where its script says so; nobody here knows of that.
fn halfway(policy: &Policy) -> Doubts {
    let Some(Replace::Custom(job)) = &policy.spec.workloads.replace else { return Vec::new() };
    let script = [job.command.as_slice(), &job.args].concat().join(" ");
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, ';' | '&' | '"' | '\'');
    let stops: Vec<&str> = script
        .split("--until")
        .skip(1)
        .filter_map(|rest| rest.trim_start_matches(['=', ' ']).split(ends).next())
        .collect();
    if stops.is_empty() {
        return Vec::new();
    }
    let steps: Vec<String> =
        stops.iter().filter_map(|stop| Some(format!("{{weight: {}}}", stop.strip_suffix('%')?))).collect();
    let steps = if steps.is_empty() { "{weight: 50}".to_owned() } else { steps.join(", ") };
    let why = format!(
        "--until={} is a stop that only OpenShift's own deployer knows: write strategy: canary, a target that divides traffic or pods, and steps: [{steps}] (--until=pre and mid are hooks); see docs/targets/in-place.md",
        stops.join(", --until=")
    );
    vec![("spec.workloads.replace.custom", why)]
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
    if bake.is_zero() && !policy.spec.is_flip() && !policy.spec.is_in_place() {
        let why = "without a bake the old version is replaced right after the last step: give at least 10m";
        return vec![("spec.bake.for", why.to_owned())];
    }
    Vec::new()
}

/// The daemon may have other folders; what is named without one is right in any.
fn secrets(policy: &Policy) -> Vec<(String, String)> {
    let elsewhere = |file: &str| file.starts_with('/') && !Path::new(file).starts_with(SECRETS);
    let files = policy.secret_files().into_iter().filter(|(_, file)| elsewhere(file));
    files
        .map(|(field, file)| (field, format!(
            "{file} is read only by a daemon whose --secrets is a folder above it ({SECRETS} if nobody says otherwise): name the file below that folder, without the folder"
        )))
        .collect()
}

/// Looks ahead with the traffic that the policy names; latencies are not known here.
fn undecidable(policy: &Policy) -> Vec<(String, String)> {
    let Some(per_second) = policy.spec.analysis.requests_per_second else { return Vec::new() };
    let Ok(plan) = policy.plan() else { return Vec::new() };
    let traffic = plan::usual_traffic(policy, per_second, Percent(ERROR_SHARE));
    let rows = outlook(&plan, &traffic, &Questions::default());
    let doubts = plan::doubts(policy, &plan, &traffic, &rows).into_iter();
    doubts.map(|doubt| (format!("spec.steps[{}]", doubt.step - 1), doubt.why)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_custom(script: &str) -> Vec<String> {
        let custom = json!({"custom": {"image": "deployer", "command": ["/bin/sh", "-c", script]}});
        let document = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy", "metadata": {"name": "checkout"},
            "spec": {"strategy": "custom", "target": {"inPlace": {"name": "a"}}, "metrics": {"prometheus": {"url": "http://p"}},
                "workloads": {"stable": {"deployment": "a"}, "canary": {"deployment": "b"}, "replace": custom}}});
        let policy = Policy::from_json("policy", &document).unwrap();
        halfway(&policy).into_iter().map(|(_, why)| why).collect()
    }

    #[test]
    fn a_halfway_stop_of_a_custom_deployer_is_told_as_the_step_that_it_is_here() {
        let told = of_custom("set -e; openshift-deploy --until=50%; echo Halfway there; openshift-deploy");
        assert!(told[0].starts_with("--until=50% ") && told[0].contains("steps: [{weight: 50}]"), "{told:?}");
        let told = of_custom("openshift-deploy --until 25% && openshift-deploy --until=75%");
        assert!(told[0].contains("steps: [{weight: 25}, {weight: 75}]"), "{told:?}");
        assert!(of_custom("openshift-deploy --until=mid")[0].contains("mid are hooks"));
        assert_eq!(of_custom("deploy"), [""; 0]);
    }
}
