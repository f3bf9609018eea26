//! How the command line reaches a daemon: over HTTP, or over the bus. The same questions, the same answers.
//!
//! Every call has a time limit. What could not be reached says where it was looked for and what to do; whether a command
//! that timed out took effect is never guessed, its id is told so that it can be repeated.

mod error;
mod follow;
mod http;
mod id;
mod nats;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::decisions::RecordPage;
use sluice_wire::message::{Answer, Command};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

pub use error::ClientError;
pub use follow::Following;
pub use id::fresh_id;
pub use nats::config as nats_config;

use crate::cli::{Aim, Global};

/// An answer that takes longer is given up, unless `--timeout` says otherwise.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

pub type Views = BoxStream<'static, Result<RolloutView, ClientError>>;

/// One way to a daemon.
#[async_trait]
pub trait Way: Send + Sync {
    /// The latest rollout of every policy, newest first, without evidence.
    async fn list(&self) -> Result<Vec<RolloutView>, ClientError>;
    async fn status(&self, aim: &Aim) -> Result<RolloutView, ClientError>;
    /// Oldest first.
    async fn history(&self, aim: &Aim) -> Result<Vec<HistoryLine>, ClientError>;
    /// The decision record after the place `after` (0: from the oldest that is kept).
    async fn record(&self, aim: &Aim, after: u64) -> Result<RecordPage, ClientError>;
    async fn command(&self, aim: &Aim, action: &str, command: &Command) -> Result<Answer, ClientError>;
    async fn announce(&self, aim: &Aim, event: &CloudEvent) -> Result<Answer, ClientError>;
    /// Everything (or one rollout) as it stands, then every change. Ends when the connection does.
    async fn changes(&self, aim: Option<&Aim>) -> Result<Views, ClientError>;
}

/// A daemon, seen from outside. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    way: Arc<dyn Way>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Over the bus if a NATS server is named, over HTTP otherwise. HTTP connects with the first question.
    pub async fn connect(global: &Global) -> Result<Client, ClientError> {
        let limit = global
            .timeout
            .map_or(ANSWER_LIMIT, |span| span.0.clamp(Duration::from_millis(100), ANSWER_LIMIT));
        let way: Arc<dyn Way> = if global.nats.is_given() {
            Arc::new(nats::OverBus::connect(&global.nats, global.user(), limit).await?)
        } else {
            Arc::new(http::OverHttp::new(global, limit)?)
        };
        Ok(Client { way })
    }

    /// Any other way, for tests and for a daemon in the same process.
    pub fn over(way: Arc<dyn Way>) -> Client {
        Client { way }
    }

    pub async fn list(&self) -> Result<Vec<RolloutView>, ClientError> {
        self.way.list().await
    }

    pub async fn status(&self, aim: &Aim) -> Result<RolloutView, ClientError> {
        self.way.status(aim).await
    }

    pub async fn history(&self, aim: &Aim) -> Result<Vec<HistoryLine>, ClientError> {
        self.way.history(aim).await
    }

    pub async fn record(&self, aim: &Aim, after: u64) -> Result<RecordPage, ClientError> {
        self.way.record(aim, after).await
    }

    pub async fn command(&self, aim: &Aim, action: &str, command: &Command) -> Result<Answer, ClientError> {
        self.way.command(aim, action, command).await
    }

    pub async fn announce(&self, aim: &Aim, event: &CloudEvent) -> Result<Answer, ClientError> {
        self.way.announce(aim, event).await
    }

    /// Everything (or one rollout) as it stands, then every change; connects again by itself.
    pub fn watch(&self, aim: Option<Aim>) -> Following {
        Following::new(self.way.clone(), aim)
    }
}
