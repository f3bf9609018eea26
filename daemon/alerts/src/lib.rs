//! Alert sinks: one file each, all alike. A dispatcher keeps firing alerts up, groups, limits and retries.

use std::time::Duration;

use async_trait::async_trait;
use sluice_wire::alert::Alert;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Trying again can help, after this long if the sink said so.
    #[error("{why}")]
    Passing { why: String, after: Option<Duration> },
    /// Trying again cannot help: the configuration is wrong.
    #[error("{why}")]
    Final { why: String },
}

/// Where alerts go.
#[async_trait]
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// For logs and metrics, without secrets: `alertmanager http://alertmanager:9093`.
    fn name(&self) -> String;
    /// How often a firing alert has to be posted again to stay up; `None`: once is enough.
    fn repeat(&self) -> Option<Duration>;
    /// Posts these alerts together.
    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError>;
}
