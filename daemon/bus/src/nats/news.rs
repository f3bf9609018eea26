//! What the connection tells on the side: that it is there again, and refusals. A forbidden publish gets no answer, just
//! an error on the connection; who waits for an answer listens here too, and need not wait for its time limit.

use std::time::Duration;

use async_nats::{Event, ServerError};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::BusError;

/// Refusals that a slow listener may lag behind.
const KEPT: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct News {
    refusals: broadcast::Sender<String>,
    connections: watch::Sender<u64>,
    /// Since when there has been no connection.
    lost: watch::Sender<Option<Instant>>,
}

/// Refusals from now on.
pub(super) struct Listener(broadcast::Receiver<String>);

impl News {
    pub(super) fn new() -> News {
        let refusals = broadcast::Sender::new(KEPT);
        News { refusals, connections: watch::Sender::new(0), lost: watch::Sender::new(None) }
    }

    pub(super) fn listen(&self) -> Listener {
        Listener(self.refusals.subscribe())
    }

    /// Changes whenever a connection was made: what the server kept in its memory for us is gone by then.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// For how long there has been no connection.
    pub(super) fn lost_for(&self) -> Duration {
        // The client may know of it a moment before it tells.
        self.lost.send_if_modified(|lost| lost.replace(lost.unwrap_or_else(Instant::now)).is_none());
        self.lost.borrow().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Takes note of what the client tells of its connection.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::ServerError(ServerError::Other(text)) => {
                tracing::warn!(error = text, "the NATS server refuses");
                // An error means that nobody waits for an answer just now.
                let _ = self.refusals.send(text.clone());
            }
            Event::Connected => {
                tracing::info!("connected to NATS");
                self.lost.send_replace(None);
                self.connections.send_modify(|count| *count = count.wrapping_add(1));
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!(%event, "no connection to NATS; trying again");
                self.lost.send_replace(Some(Instant::now()));
            }
            // One an attempt: that there is no connection has been said.
            Event::ClientError(_) if self.lost.borrow().is_some() => {
                tracing::debug!(%event, "NATS connection");
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
