//! What is read of one version: selectors of its requests, errors, buckets, and of what tells when its pods began.

use sluice_analyzers::Arm;
use sluice_wire::policy;

use super::{
    preset,
    selector::{Matcher, NAME, Op, Selector},
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
    /// The native histogram beside the classic buckets, or in their place.
    pub(crate) native: Option<Selector>,
    /// Where requests are the histogram's own count: what tells the failed ones among its series.
    pub(crate) native_errors: Vec<Matcher>,
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
    for families in [&mut stable, &mut canary] {
        families.strata = strata(block, families)?;
        families.find_native();
    }
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

    /// A native histogram has the classic one's name without `_bucket`.
    fn find_native(&mut self) {
        let Some(buckets) = &self.buckets else { return };
        let Some(metric) = buckets.metric() else { return };
        let base = metric.strip_suffix("_bucket").unwrap_or(metric).to_owned();
        let rest = buckets.matchers.iter().filter(|matcher| matcher.label != NAME).cloned();
        if self
            .requests
            .metric()
            .is_some_and(|requests| requests == base || requests.strip_suffix("_count") == Some(&base))
        {
            let own = |matcher: &&Matcher| !self.requests.matchers.contains(matcher);
            self.native_errors = self.errors.matchers.iter().filter(own).cloned().collect();
        }
        self.native = Some(Selector::of(&base, rest.collect()));
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
                let fixed = matcher.label == NAME || matches!(matcher.op, Op::Not | Op::Unlike);
                key += &if fixed { matcher.to_string() } else { format!("{}{}", matcher.label, matcher.op) };
                key.push(',');
            });
        }
        key
    }
}
