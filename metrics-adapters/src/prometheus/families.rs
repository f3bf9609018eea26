//! What is read of one version: selectors of its requests, errors, buckets, and of what tells when its pods began.

use sluice_analyzers::Arm;
use sluice_wire::policy;

use super::{
    preset,
    selector::{Op, Selector},
    template,
};
use crate::ask::{AskError, Names};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Families {
    pub(crate) requests: Selector,
    pub(crate) errors: Selector,
    pub(crate) buckets: Option<Selector>,
    /// Stands on every pod that is scraped.
    pub(crate) up: Option<Selector>,
    pub(crate) started: Option<Selector>,
    pub(crate) pod_labels: Vec<String>,
}

/// Stable's and the canary's.
pub(crate) fn families(block: &policy::Prometheus, names: &Names) -> Result<[Families; 2], AskError> {
    let one = |arm| match &block.queries {
        Some(queries) => template::families(queries, block, names, arm),
        None => preset::families(block, names, arm),
    };
    let (stable, canary) = (one(Arm::Stable)?, one(Arm::Canary)?);
    if stable.requests == canary.requests {
        let why = format!(
            "both versions' requests are {}: tell them apart, for example with labels: {{by: app, stable: checkout, canary: checkout-canary}}",
            stable.requests
        );
        return Err(AskError::new("spec.metrics.prometheus.labels", why));
    }
    Ok([stable, canary])
}

impl Families {
    /// Boundaries are divided by this to be seconds.
    pub(crate) fn buckets_per_second(&self) -> f64 {
        let metric = self.buckets.as_ref().and_then(Selector::metric).unwrap_or_default();
        if metric.contains("milliseconds") { 1000.0 } else { 1.0 }
    }

    /// Equal for families that differ only in values that a merged query can list.
    pub(crate) fn template_key(&self) -> String {
        let mut key = self.pod_labels.join(",");
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
