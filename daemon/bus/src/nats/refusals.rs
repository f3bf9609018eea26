//! Refusals that NATS tells only on the side: a forbidden publish gets no answer, just an error on the connection. Who
//! waits for an answer listens here too, and need not wait for its time limit.

use async_nats::{Event, ServerError};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::BusError;

/// Refusals that a slow listener may lag behind.
const KEPT: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct Refusals(broadcast::Sender<String>);

/// Refusals from now on.
pub(super) struct Listener(broadcast::Receiver<String>);

impl Refusals {
    pub(super) fn new() -> Refusals {
        Refusals(broadcast::Sender::new(KEPT))
    }

    pub(super) fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }

    /// Takes note of what the client tells of its connection.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::ServerError(ServerError::Other(text)) => {
                tracing::warn!(error = text, "the NATS server refuses");
                // An error means that nobody waits for an answer just now.
                let _ = self.0.send(text.clone());
            }
            Event::Connected => tracing::info!("connected to NATS"),
            Event::Disconnected | Event::Closed => {
                tracing::warn!(%event, "no connection to NATS; trying again")
            }
            Event::SlowConsumer(_) => {
                tracing::warn!(%event, "messages were dropped: they came faster than they were read")
            }
            Event::LameDuckMode | Event::Draining | Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(%event, "NATS connection");
            }
        }
    }
}

impl Listener {
    /// Ends when this subject is refused.
    pub(super) async fn about(&mut self, subject: &str) -> BusError {
        let quoted = format!("\"{subject}\"");
        loop {
            match self.0.recv().await {
                Ok(text) if text.contains(&quoted) => return BusError::Denied(text),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
