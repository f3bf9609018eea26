//! A Route as a target: two weights like any other's, and a word where the router makes another share of them.
//!
//! Endpoints are counted after a write that goes up, never before one and never on the way down; not knowing them fails nothing.

use async_trait::async_trait;
use futures::stream::BoxStream;
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy::PlainRoute;

use super::{RouteVersions, Skew, skew};
use crate::kubernetes::KubeTarget;
use crate::workload::endpoints::ready_endpoints;
use crate::{Clients, Observed, Target, TargetError, Wanted};

#[derive(Debug)]
pub(crate) struct OpenShiftRoute {
    target: KubeTarget<RouteVersions>,
    stable: String,
    canary: String,
    clients: Clients,
}

impl OpenShiftRoute {
    pub fn new(target: KubeTarget<RouteVersions>, route: &PlainRoute, clients: &Clients) -> Self {
        let (stable, canary) = (route.stable.clone(), route.canary.clone());
        OpenShiftRoute { target, stable, canary, clients: clients.clone() }
    }

    async fn warn_of_skew(&self, observed: &Observed) {
        let namespace = self.target.namespace();
        let counted = tokio::try_join!(
            ready_endpoints(namespace, &self.canary, &self.clients),
            ready_endpoints(namespace, &self.stable, &self.clients)
        );
        if let Ok((canary, stable)) = counted
            && let Some(skew) = skewed(observed, canary, stable)
        {
            tracing::warn!(target = self.name(), canary = self.canary, "{skew}");
        }
    }
}

/// The canary's share, if its endpoints skew it.
fn skewed(observed: &Observed, canary: u32, stable: u32) -> Option<Skew> {
    let (c, s) = observed.written.split_once('/')?;
    skew(&[(s.parse().ok()?, stable), (c.parse().ok()?, canary)], 1)
}

#[async_trait]
impl Target for OpenShiftRoute {
    fn name(&self) -> String {
        self.target.name()
    }

    fn key(&self) -> String {
        self.target.key()
    }

    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError> {
        self.target.check(weights).await
    }

    async fn nearest(&self, weight: Weight) -> Result<Vec<Weight>, TargetError> {
        self.target.nearest(weight).await
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        self.target.observe().await
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        let observed = self.target.apply(wanted).await?;
        if wanted.rising {
            self.warn_of_skew(&observed).await;
        }
        Ok(observed)
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        self.target.release(fence).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        self.target.watch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(percent: f64, written: &str) -> Observed {
        Observed {
            canary: Weight::from_percent(percent).unwrap(),
            written: written.to_owned(),
            fence: None,
            abort: None,
        }
    }

    #[test]
    fn a_share_that_endpoints_skew_is_noticed() {
        assert_eq!(skewed(&observed(5.0, "5/95"), 1, 2), None, "4.83 % is near enough");
        assert_eq!(skewed(&observed(5.0, "5/95"), 0, 2), None, "nobody is there yet");
        assert_eq!(skewed(&observed(1.0, "1/99"), 10, 1).unwrap().nearest_endpoints, 3);
    }
}
