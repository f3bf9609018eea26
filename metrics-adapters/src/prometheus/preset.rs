//! Presets: whose metrics they are, and by which labels the versions are told apart.
//!
//! | preset | requests | errors | told apart by |
//! | --- | --- | --- | --- |
//! | http | `http_requests_total` | `code=~"5.."` | pod names of the workload, else `app` |
//! | openTelemetry | `http_server_request_duration_seconds_count` | `http_response_status_code=~"5.."` | the same |
//! | istio | `istio_requests_total{reporter="destination"}` | `response_code=~"5.."` | `destination_workload`, else `destination_service_name` |
//! | traefik | `traefik_service_requests_total` | `code=~"5.."` | `service`, which holds namespace and Service |
//! | haproxy | `haproxy_server_http_responses_total{proxy}` | `code="5xx"` | `server` |
//!
//! `labels:` overrides: `by` another label, `stable` and `canary` its values, `namespace` (empty: not matched), `match`
//! more matchers for everything, `errors` other matchers for errors. Istio counts at the destination's own sidecar, so
//! what never reached the pod (no healthy upstream) is not the pod's error; its `response_code="0"` is a client that left.
//! A Traefik or HAProxy instance counts for all pods behind it: its own name stands for the pod's.

use std::{collections::BTreeMap, sync::LazyLock};

use sluice_analyzers::Arm;
use sluice_wire::policy::{Preset, Prometheus, Workload};

use super::{
    families::Families,
    selector::{Matcher, Op, Selector, literal},
};
use crate::{
    ask::{ArmNames, AskError, Names},
    reading::arm_name,
};

/// A workload's pods: its name, and what its controller puts behind it. `None` where somebody else runs them.
pub(crate) fn pods_of(workload: &Workload) -> Option<String> {
    let (name, behind) = match workload {
        // The hash of the template, then five random characters. Kubernetes draws both without vowels, so `checkout` does not match
        // the pods of `checkout-canary`.
        Workload::Deployment(name) => (name, "-[bcdfghjklmnpqrstvwxz0-9]{5,10}-[bcdfghjklmnpqrstvwxz0-9]{5}"),
        // The version's number in place of the hash. Its deployer's pod ends in `-deploy`.
        Workload::DeploymentConfig(name) => (name, "-[0-9]+-[bcdfghjklmnpqrstvwxz0-9]{5}"),
        Workload::StatefulSet(name) => (name, "-[0-9]+"),
        Workload::External => return None,
    };
    Some(format!("{}{behind}", literal(name)))
}

/// Statuses of a server's own errors, as a regular expression.
const SERVER_ERROR: &str = "5..";

/// What a preset knows beforehand.
struct Known {
    requests: &'static str,
    fixed: &'static [(&'static str, &'static str)],
    /// The label, and its value or [`SERVER_ERROR`].
    errors: (&'static str, &'static str),
    buckets: Option<&'static str>,
    namespace: Option<&'static str>,
    pod_labels: &'static [&'static str],
    /// Whether the pods themselves are scraped, so that `up` and the start of the process carry the same labels.
    own_target: bool,
}

fn known(preset: Preset) -> Known {
    let pods = &["pod", "container"];
    match preset {
        Preset::Http => Known {
            requests: "http_requests_total",
            fixed: &[],
            errors: ("code", SERVER_ERROR),
            buckets: Some("http_request_duration_seconds_bucket"),
            namespace: Some("namespace"),
            pod_labels: pods,
            own_target: true,
        },
        Preset::OpenTelemetry => Known {
            requests: "http_server_request_duration_seconds_count",
            errors: ("http_response_status_code", SERVER_ERROR),
            buckets: Some("http_server_request_duration_seconds_bucket"),
            ..known(Preset::Http)
        },
        Preset::Istio => Known {
            requests: "istio_requests_total",
            fixed: &[("reporter", "destination")],
            errors: ("response_code", SERVER_ERROR),
            buckets: Some("istio_request_duration_milliseconds_bucket"),
            namespace: Some("destination_workload_namespace"),
            pod_labels: pods,
            own_target: false,
        },
        Preset::Traefik => Known {
            requests: "traefik_service_requests_total",
            fixed: &[],
            errors: ("code", SERVER_ERROR),
            buckets: Some("traefik_service_request_duration_seconds_bucket"),
            namespace: None,
            pod_labels: &["pod"],
            own_target: false,
        },
        Preset::Haproxy => Known {
            requests: "haproxy_server_http_responses_total",
            errors: ("code", "5xx"),
            buckets: None,
            pod_labels: &["server", "pod"],
            ..known(Preset::Traefik)
        },
    }
}

pub(super) fn families(block: &Prometheus, names: &Names, arm: Arm) -> Result<Families, AskError> {
    check_keys(&block.labels)?;
    let known = known(block.preset);
    let more = extra(block, "match")?;
    let target = [scope(block, names, &known), vec![version(block, names, arm)?], more].concat();
    let fixed = known.fixed.iter().map(|(label, value)| Matcher::is(label, value));
    let base: Vec<Matcher> = fixed.chain(target.iter().cloned()).collect();
    let requests = Selector::of(known.requests, base.clone());
    let own = |metric: &str| known.own_target.then(|| Selector::of(metric, target.clone()));
    Ok(Families {
        errors: requests.with(&errors(block, &known)?),
        requests,
        buckets: known.buckets.map(|metric| Selector::of(metric, base)),
        up: own("up"),
        started: own("process_start_time_seconds"),
        pod_labels: known.pod_labels.iter().map(|label| (*label).to_owned()).collect(),
        strata: Vec::new(),
        native: None,
        native_errors: Vec::new(),
    })
}

/// Namespace, or HAProxy's backend.
fn scope(block: &Prometheus, names: &Names, known: &Known) -> Vec<Matcher> {
    if block.preset == Preset::Haproxy {
        let proxy = block.labels.get("proxy").or(names.backend.as_ref());
        return proxy.iter().map(|proxy| Matcher::is("proxy", proxy)).collect();
    }
    let namespace =
        block.labels.get("namespace").or(names.namespace.as_ref()).filter(|name| !name.is_empty());
    match (known.namespace, namespace, block.preset) {
        (Some(label), Some(name), Preset::Istio) if told_by_service(block, names) => {
            vec![Matcher::is(&label.replace("workload", "service"), name)]
        }
        (Some(label), Some(name), _) => vec![Matcher::is(label, name)],
        _ => vec![],
    }
}

fn told_by_service(block: &Prometheus, names: &Names) -> bool {
    !block.labels.contains_key("by")
        && names.stable.workload.is_none()
        && !block.labels.contains_key("stable")
}

/// The matcher that tells this version from the other.
fn version(block: &Prometheus, all: &Names, arm: Arm) -> Result<Matcher, AskError> {
    let names = all.arm(arm);
    let given = block.labels.get(arm_name(arm));
    let by = block.labels.get("by");
    let value = given.or(names.workload.as_ref()).or(names.service.as_ref());
    let matcher = match (by, given, block.preset) {
        (Some(by), _, _) => Matcher::is(by, value.ok_or_else(|| nameless(arm))?),
        (None, Some(value), preset) => Matcher::is(default_label(preset), value),
        (None, None, Preset::Http | Preset::OpenTelemetry) => by_pod_or_app(names, arm)?,
        (None, None, Preset::Istio) => by_istio(names, arm)?,
        (None, None, Preset::Traefik) => by_traefik(block, all, arm)?,
        (None, None, Preset::Haproxy) => by_server(names, arm)?,
    };
    Ok(matcher)
}

fn default_label(preset: Preset) -> &'static str {
    match preset {
        Preset::Http | Preset::OpenTelemetry => "app",
        Preset::Istio => "destination_workload",
        Preset::Traefik => "service",
        Preset::Haproxy => "server",
    }
}

fn by_pod_or_app(names: &ArmNames, arm: Arm) -> Result<Matcher, AskError> {
    match (&names.pods, &names.service) {
        (Some(pods), _) => like("pod", pods),
        (None, Some(service)) => Ok(Matcher::is("app", service)),
        (None, None) => Err(nameless(arm)),
    }
}

fn by_istio(names: &ArmNames, arm: Arm) -> Result<Matcher, AskError> {
    match (&names.workload, &names.service) {
        (Some(workload), _) => Ok(Matcher::is("destination_workload", workload)),
        (None, Some(service)) => Ok(Matcher::is("destination_service_name", service)),
        (None, None) => Err(nameless(arm)),
    }
}

/// HTTPRoutes: `…-svc-NAMESPACE-SERVICE-INDEX`; Traefik's own routes: `NAMESPACE-SERVICE-PORT@kubernetescrd`.
fn by_traefik(block: &Prometheus, all: &Names, arm: Arm) -> Result<Matcher, AskError> {
    let names = all.arm(arm);
    let service = names.service.as_ref().or(names.workload.as_ref()).ok_or_else(|| nameless(arm))?;
    let namespace = block.labels.get("namespace").or(all.namespace.as_ref()).map_or("", String::as_str);
    let prefix = if namespace.is_empty() { String::new() } else { format!("{}-", literal(namespace)) };
    like("service", &format!("(?:.*-svc-)?{prefix}{}-[0-9]+(?:@.*)?", literal(service)))
}

fn by_server(names: &ArmNames, arm: Arm) -> Result<Matcher, AskError> {
    if names.servers.is_empty() {
        return Err(nameless(arm));
    }
    let servers: Vec<String> = names.servers.iter().map(|server| literal(server)).collect();
    like("server", &servers.join("|"))
}

fn errors(block: &Prometheus, known: &Known) -> Result<Vec<Matcher>, AskError> {
    let given = extra(block, "errors")?;
    if !given.is_empty() {
        return Ok(given);
    }
    let (label, value) = known.errors;
    if value != SERVER_ERROR {
        return Ok(vec![Matcher::is(label, value)]);
    }
    /// Compiled once for all rollouts.
    static COMPILED: LazyLock<Result<Matcher, String>> =
        LazyLock::new(|| Matcher::new("", Op::Like, SERVER_ERROR));
    let compiled = COMPILED.clone().map_err(|why| AskError::new(FIELD, why))?;
    Ok(vec![compiled.of(label)])
}

const FIELD: &str = "spec.metrics.prometheus.labels";

fn extra(block: &Prometheus, key: &str) -> Result<Vec<Matcher>, AskError> {
    let text = block.labels.get(key).map_or("", String::as_str);
    Selector::parse_matchers(text)
        .map_err(|error| AskError::new(format!("{FIELD}.{key}"), format!("{error}\n  in {text}")))
}

fn like(label: &str, pattern: &str) -> Result<Matcher, AskError> {
    Matcher::new(label, Op::Like, pattern).map_err(|why| AskError::new(FIELD, why))
}

fn nameless(arm: Arm) -> AskError {
    let arm = arm_name(arm);
    AskError::new(
        FIELD,
        format!(
            "nothing says which series are {arm}'s: name its Deployment under workloads, or write labels: {{by: app, {arm}: …}}"
        ),
    )
}

/// Every key of `labels:` that a preset understands.
const KEYS: [&str; 7] = ["stable", "canary", "by", "namespace", "match", "errors", "proxy"];

/// A key that no preset reads is a mistake, and would change nothing silently.
fn check_keys(labels: &BTreeMap<String, String>) -> Result<(), AskError> {
    match labels.keys().find(|key| !KEYS.contains(&key.as_str())) {
        Some(key) => Err(AskError::new(
            format!("{FIELD}.{key}"),
            format!("no preset reads it; known are {}", KEYS.join(", ")),
        )),
        None => Ok(()),
    }
}
