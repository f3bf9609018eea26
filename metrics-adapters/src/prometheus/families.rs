//! What is read of one version: selectors of its requests, errors, buckets, and of what tells when its pods began.

use sluice_analyzers::Arm;
use sluice_wire::policy;

use super::{
    preset,
    selector::{Op, Selector},
    template,
};
use crate::{
    ask::{AskError, Names},
    strata,
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Families {
    pub(crate) requests: Selector,
    pub(crate) errors: Selector,
    pub(crate) buckets: Option<Selector>,
    /// Stands on every pod that is scraped.
    pub(crate) up: Option<Selector>,
    pub(crate) started: Option<Selector>,
    pub(crate) pod_labels: Vec<String>,
    /// Labels by which counts are told apart; see [`crate::strata`].
    pub(crate) strata: Vec<String>,
}

/// Stable's and the canary's.
pub(crate) fn families(block: &policy::Prometheus, names: &Names) -> Result<[Families; 2], AskError> {
    let one = |arm| match &block.queries {
        Some(queries) => template::families(queries, block, names, arm),
        None => preset::families(block, names, arm),
    };
    let (mut stable, mut canary) = (one(Arm::Stable)?, one(Arm::Canary)?);
    (stable.strata, canary.strata) = (strata(block, &stable)?, strata(block, &canary)?);
    if stable.requests == canary.requests {
        let why = format!(
            "both versions' requests are {}: tell them apart, for example with labels: {{by: app, stable: checkout, canary: checkout-canary}}",
            stable.requests
        );
        return Err(AskError::new("spec.metrics.prometheus.labels", why));
    }
    Ok([stable, canary])
}

const STRATA: &str = "spec.metrics.prometheus.strata";

/// With own queries only what is written: nobody knows their labels.
fn strata(block: &policy::Prometheus, families: &Families) -> Result<Vec<String>, AskError> {
    if block.strata.is_none() && block.queries.is_some() {
        return Ok(Vec::new());
    }
    let labels = strata::labels(STRATA, block.strata.as_ref(), block.preset)?;
    let taken = |label: &&String| {
        let tells_errors = families
            .errors
            .matchers
            .iter()
            .any(|matcher| matcher.label == **label && !families.requests.matchers.contains(matcher));
        tells_errors || families.pod_labels.contains(label)
    };
    match labels.iter().position(|label| taken(&label)) {
        Some(at) if block.strata.is_some() => {
            let why = format!(
                "{} tells errors or pods from each other: a stratum is what requests ask for, such as a route",
                labels[at]
            );
            Err(AskError::new(format!("{STRATA}[{at}]"), why))
        }
        Some(_) => Ok(Vec::new()),
        None => Ok(labels),
    }
}

impl Families {
    /// Boundaries are divided by this to be seconds.
    pub(crate) fn buckets_per_second(&self) -> f64 {
        let metric = self.buckets.as_ref().and_then(Selector::metric).unwrap_or_default();
        if metric.contains("milliseconds") { 1000.0 } else { 1.0 }
    }

    /// Equal for families that differ only in values that a merged query can list.
    pub(crate) fn template_key(&self) -> String {
        let mut key = format!("{};{}", self.pod_labels.join(","), self.strata.join(","));
        for selector in [
            Some(&self.requests),
            Some(&self.errors),
            self.buckets.as_ref(),
            self.up.as_ref(),
            self.started.as_ref(),
        ] {
            key.push(';');
            selector.iter().flat_map(|s| &s.matchers).for_each(|matcher| {
                let fixed =
                    matcher.label == super::selector::NAME || matches!(matcher.op, Op::Not | Op::Unlike);
                key += &if fixed { matcher.to_string() } else { format!("{}{}", matcher.label, matcher.op) };
                key.push(',');
            });
        }
        key
    }
}
