//! What every rollout of a daemon shares.

use std::sync::Arc;

use sluice_alerts::Exchange;
use sluice_bus::{Bus, Doors};
use sluice_metrics_adapters::Sources;
use sluice_outbound::Client;
use sluice_traffic::Clients;

use super::{historian::Historian, hub::Hubs, ledger::Ledger, meters::Meters, recorder::Records};

/// Shared by all rollouts; clones share what they hold.
#[derive(Clone)]
pub struct Parts {
    pub bus: Arc<dyn Bus>,
    /// The bus as people see it: answers that were given, and questions to other daemons.
    pub doors: Arc<dyn Doors>,
    pub ledger: Ledger,
    pub clients: Clients,
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
