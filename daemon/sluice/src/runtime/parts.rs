//! What every rollout of a daemon shares, and the one clock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sluice_alerts::Exchange;
use sluice_bus::Bus;
use sluice_metrics_adapters::Sources;
use sluice_rollout::Timestamp;
use sluice_traffic::Clients;

use super::{historian::Historian, hub::Hubs, ledger::Ledger, meters::Meters};

/// Shared by all rollouts; clones share what they hold.
#[derive(Clone)]
pub struct Parts {
    pub bus: Arc<dyn Bus>,
    pub ledger: Ledger,
    pub clients: Clients,
    /// Sinks are shared by the policies that name them alike.
    pub alerts: Arc<Exchange>,
    pub sources: Arc<Sources>,
    pub hubs: Arc<Hubs>,
    pub meters: Arc<Meters>,
    pub historian: Historian,
    /// For gates: no redirects, no link-local addresses, time limits.
    pub http: reqwest::Client,
    /// This daemon's name and this start's own mark.
    pub daemon: String,
    pub incarnation: String,
}

/// The wall clock, read here and nowhere else.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
