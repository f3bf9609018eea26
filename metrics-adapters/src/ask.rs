//! What one rollout wants to read: which series, or which pages, belong to which of its versions.
//!
//! Made once from the policy; a policy that does not say enough is refused here, with the field and the remedy, and not
//! later by an empty answer.

use sluice_analyzers::Arm;
use sluice_rollout::RolloutId;
use sluice_wire::analysis::GaugeQuery;
use sluice_wire::policy::{Metrics, Policy, Target, Workload};
use url::Url;

use crate::{
    prometheus::{self, Families},
    scrape,
};

#[derive(Debug, Clone)]
pub struct Ask {
    pub rollout: RolloutId,
    pub stable: ArmSelector,
    pub canary: ArmSelector,
    /// Asks with equal templates differ in names only and share a query.
    pub(crate) template: String,
    pub(crate) gauges: Vec<GaugeAsk>,
}

/// One gauge, as an expression for each version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GaugeAsk {
    pub(crate) name: String,
    pub(crate) expressions: [(Arm, String); 2],
}

/// Where one version's counters are.
#[derive(Debug, Clone)]
pub struct ArmSelector(pub(crate) Place);

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Series(Families),
    Pages { urls: Vec<Url>, shape: scrape::Shape },
}

/// Why a policy does not say what is to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct AskError {
    pub field: String,
    pub why: String,
}

impl Ask {
    /// From the metrics block, the namespace, and the names of workloads and services.
    pub fn of(policy: &Policy, rollout: RolloutId) -> Result<Ask, AskError> {
        let names = Names::of(policy);
        match &policy.spec.metrics {
            Metrics::Prometheus(block) => {
                let [stable, canary] = prometheus::families(block, &names)?;
                let template = format!("{} {}", stable.template_key(), canary.template_key());
                let [stable, canary] = [stable, canary].map(|families| ArmSelector(Place::Series(families)));
                let gauges = prometheus::gauges(&policy.spec.analysis, block, &names)?;
                Ok(Ask { rollout, stable, canary, template, gauges })
            }
            Metrics::Scrape(block) => {
                let [stable, canary] = scrape::pages(block)?.map(ArmSelector);
                if let Some(GaugeQuery { place: (field, at), .. }) =
                    policy.spec.analysis.gauge_queries().first()
                {
                    let why =
                        "direct scrape reads no gauges: read the metrics from Prometheus, or leave it out";
                    return Err(AskError::new(format!("{field}[{at}]"), why));
                }
                Ok(Ask { rollout, stable, canary, template: String::new(), gauges: Vec::new() })
            }
        }
    }

    /// Whether the policy names gauges to be read beside the counters.
    pub fn has_gauges(&self) -> bool {
        !self.gauges.is_empty()
    }

    pub(crate) fn arms(&self) -> [(Arm, &Place); 2] {
        [(Arm::Stable, &self.stable.0), (Arm::Canary, &self.canary.0)]
    }
}

impl AskError {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> AskError {
        AskError { field: field.into(), why: why.into() }
    }
}

/// What a policy calls things; the same for every source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// `None` where nothing of the policy lives in Kubernetes.
    pub(crate) namespace: Option<String>,
    pub(crate) stable: ArmNames,
    pub(crate) canary: ArmNames,
    /// HAProxy's backend.
    pub(crate) backend: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ArmNames {
    pub(crate) workload: Option<String>,
    /// Its pods' names, as a regular expression.
    pub(crate) pods: Option<String>,
    pub(crate) service: Option<String>,
    /// HAProxy's names of its servers.
    pub(crate) servers: Vec<String>,
}

impl Names {
    pub(crate) fn of(policy: &Policy) -> Names {
        let spec = &policy.spec;
        let (stable_service, canary_service) = services(&spec.target);
        let in_kubernetes = spec.target.object().is_some()
            || [&spec.workloads.stable, &spec.workloads.canary].iter().any(|w| workload(w).is_some());
        let mut names = Names {
            namespace: in_kubernetes.then(|| policy.metadata.namespace.clone()),
            stable: ArmNames::of(&spec.workloads.stable, stable_service),
            canary: ArmNames::of(&spec.workloads.canary, canary_service),
            backend: None,
        };
        if let Target::Haproxy(haproxy) = &spec.target {
            names.backend = Some(haproxy.backend.clone());
            names.stable.servers.clone_from(&haproxy.stable);
            names.canary.servers.clone_from(&haproxy.canary);
        }
        names
    }

    pub(crate) fn arm(&self, arm: Arm) -> &ArmNames {
        match arm {
            Arm::Stable => &self.stable,
            Arm::Canary => &self.canary,
        }
    }
}

impl ArmNames {
    fn of(run_by: &Workload, service: Option<String>) -> ArmNames {
        ArmNames {
            workload: workload(run_by),
            pods: prometheus::pods_of(run_by),
            service,
            servers: Vec::new(),
        }
    }
}

fn workload(workload: &Workload) -> Option<String> {
    match workload {
        Workload::Deployment(name) | Workload::DeploymentConfig(name) | Workload::StatefulSet(name) => {
            Some(name.clone())
        }
        Workload::External => None,
    }
}

/// Services of both versions, where the target names them. A host's first label is its Service's name.
fn services(target: &Target) -> (Option<String>, Option<String>) {
    let name = |host: &str| Some(host.split('.').next().unwrap_or(host).to_owned());
    target.services().map_or((None, None), |services| (name(services.stable), name(services.canary)))
}
