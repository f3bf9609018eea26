//! Alert sinks: one file each, all alike. A dispatcher keeps firing alerts up, groups, limits and retries.
//!
//! ```text
//!  fire, resolve ─> Dispatcher ─┬─> outlet: ledger + worker ─> Alertmanager, replica 1
//!        │                      ├─> outlet: ledger + worker ─> Alertmanager, replica 2
//!     Receipt <── told ─────────┴─> outlet: ledger + worker ─> Slack, webhook, …
//! ```
//!
//! What holds:
//! - Each sink has a ledger and a worker of its own: none waits for another.
//! - What is to be said is decided in the ledger (plain functions over a given instant), and said by the worker.
//! - A sink gets each resolved alert once, and nothing at all of an alert that came and went before it was told; but an
//!   abort is told even if it is over by then, and stays up where the sink needs time to tell somebody. What was up and is
//!   over while a sink took nothing is told there once it does, with both times. Its receipt waits for that, so whoever keeps
//!   what is not confirmed says it again after a restart ([`Dispatcher::missed`]).
//! - Secrets live in files, are read for each message, and stand in no log, error or `Debug`.
//! - Nothing here decides what an alert is; that is the rollout's.

mod alertmanager;
mod dispatcher;
mod exchange;
mod instant;
mod ledger;
mod outlet;
mod outward;
mod receipt;
mod secret;
mod slack;
mod webhook;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use sluice_outbound::Outbound;
use sluice_wire::{alert::Alert, policy::AlertSink};

pub use dispatcher::{Dispatcher, Settings, Unsaid};
pub use exchange::Exchange;
pub use outlet::SinkStats;
pub use receipt::{Delivery, Outcome, Receipt};

/// Why a sink has not taken a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It was not taken. Trying again can help, after this long if the sink said so.
    #[error("{why}")]
    Passing { why: String, after: Option<Duration> },
    /// It was sent, and no answer came: it may have been taken. It is tried again.
    #[error("{why}")]
    Unanswered { why: String },
    /// Trying again cannot help: the configuration or the message is wrong.
    #[error("{why}")]
    Final { why: String },
}

/// How fast a sink may be sent messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// One message per this time on average, …
    pub per: Duration,
    /// … and so many at once after a rest.
    pub burst: NonZeroU32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { per: Duration::from_millis(100), burst: NonZeroU32::MIN.saturating_add(9) }
    }
}

/// Where alerts go.
#[async_trait]
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// For logs and metrics, without secrets: `alertmanager http://alertmanager:9093`.
    fn name(&self) -> String;
    /// Sinks of one receiver are its replicas: an alert is told there when one of them has it.
    fn receiver(&self) -> String {
        self.name()
    }
    /// How often a firing alert has to be posted again to stay up; `None`: once is enough.
    fn repeat(&self) -> Option<Duration>;
    /// How long an alert has to stay up there, so that the sink itself tells anybody of it.
    fn at_least(&self) -> Duration {
        Duration::ZERO
    }
    fn pace(&self) -> Pace {
        Pace::default()
    }
    /// Posts these alerts together, within the sink's own time limit. Called by one worker, one after the other.
    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError>;
}

/// The sinks of a policy, one per replica. Nothing is sent and no secret is read yet. `http` begins each client: the
/// place for a private CA or a proxy; time limits are set here, and `outbound` says what may be reached. rustls needs its
/// provider before.
pub fn connect(
    sinks: &[AlertSink],
    outbound: &Outbound,
    http: impl Fn() -> reqwest::ClientBuilder + Clone + Send + Sync + 'static,
) -> Result<Vec<Arc<dyn Sink>>, SinkError> {
    let mut connected: Vec<Arc<dyn Sink>> = Vec::new();
    for sink in sinks {
        sink.check().map_err(|(field, why)| SinkError::Final { why: format!("{field}: {why}") })?;
        let client = outward::client(outbound, http.clone())?;
        match sink {
            AlertSink::Alertmanager(block) => {
                for replica in alertmanager::replicas(block, &client, outbound)? {
                    connected.push(Arc::new(replica));
                }
            }
            AlertSink::Slack(block) => {
                connected.push(Arc::new(slack::Slack::new(block, client, outbound.clone())?))
            }
            AlertSink::Webhook(block) => {
                connected.push(Arc::new(webhook::Webhook::new(block, client, outbound)?))
            }
        }
    }
    Ok(connected)
}
