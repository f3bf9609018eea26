//! What every rollout of a daemon shares.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_alerts::Exchange;
use sluice_bus::{Bus, Doors};
use sluice_metrics_adapters::Sources;
use sluice_outbound::Client;
use sluice_traffic::{Clients, Target, TargetError, Workloads};
use sluice_wire::policy::Policy;

use super::{historian::Historian, hub::Hubs, ledger::Ledger, meters::Meters, recorder::Records};

/// Where policies' targets and workloads come from.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Reads nothing from them yet; `check` and `observe` do.
    async fn connect(&self, policy: &Policy) -> Result<(Arc<dyn Target>, Arc<dyn Workloads>), TargetError>;
}

#[async_trait]
impl Outside for Clients {
    async fn connect(&self, policy: &Policy) -> Result<(Arc<dyn Target>, Arc<dyn Workloads>), TargetError> {
        let (spec, namespace) = (&policy.spec, &policy.metadata.namespace);
        let target =
            sluice_traffic::connect(&spec.target, spec.testers.as_ref(), &spec.workloads, namespace, self)
                .await?;
        let workloads =
            sluice_traffic::connect_workloads(&spec.workloads, &spec.target, namespace, self).await?;
        Ok((target, workloads))
    }
}

/// Shared by all rollouts; clones share what they hold.
#[derive(Clone)]
pub struct Parts {
    pub bus: Arc<dyn Bus>,
    /// The bus as people see it: answers that were given, and questions to other daemons.
    pub doors: Arc<dyn Doors>,
    pub ledger: Ledger,
    /// For gates.
    pub clients: Clients,
    pub outside: Arc<dyn Outside>,
    /// Sinks are shared by the policies that name them alike.
    pub alerts: Arc<Exchange>,
    pub sources: Arc<Sources>,
    pub hubs: Arc<Hubs>,
    pub meters: Arc<Meters>,
    pub historian: Historian,
    pub records: Records,
    /// For gates.
    pub http: Client,
    /// Nobody else can have this store: what another name left here is taken up, too.
    pub alone: bool,
    /// This daemon's name and this start's own mark.
    pub daemon: String,
    pub incarnation: String,
    /// The cluster that it acts in, where several share the bus.
    pub cluster: Option<String>,
}
