//! What the doors (HTTP, bus, command line) may ask of a running daemon.

use async_trait::async_trait;
use futures::stream::BoxStream;
use sluice_wire::{
    cloudevent::CloudEvent,
    decisions::RecordPage,
    message::{Answer, Command},
    record::HistoryLine,
    view::RolloutView,
};

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("no rollout {0}; `sluice status` lists those that there are")]
    Unknown(String),
    #[error("the store cannot be read: {0}")]
    Store(String),
}

/// A running daemon, seen from its doors.
#[async_trait]
pub trait Control: Send + Sync {
    /// The latest rollout of every policy, newest first.
    async fn rollouts(&self) -> Vec<RolloutView>;
    /// The latest rollout of a policy, or the attempt that is named.
    async fn rollout(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<RolloutView, ControlError>;
    /// Oldest first.
    async fn history(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<Vec<HistoryLine>, ControlError>;
    /// A part of the decision record: what comes after the place `after` (0: from the oldest that is kept).
    async fn record(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
        after: u64,
    ) -> Result<RecordPage, ControlError>;
    /// A person's command; `namespace` or `name` may be `_all`. `key` recognises repeats.
    async fn command(
        &self,
        user: &str,
        namespace: &str,
        name: &str,
        action: &str,
        key: String,
        command: Command,
    ) -> Answer;
    /// A release announcement for `namespace`/`name`.
    async fn announce(&self, namespace: &str, name: &str, event: CloudEvent) -> Answer;
    /// Every rollout that changes, as it stands then. Slow readers lose the oldest changes, never the last.
    fn changes(&self) -> BoxStream<'static, RolloutView>;
    /// Whether bus and store can be reached and work is being taken; otherwise what is missing, in words.
    async fn ready(&self) -> Result<(), Vec<String>>;
    /// The Prometheus text exposition of our own metrics.
    fn metrics(&self) -> String;
}
