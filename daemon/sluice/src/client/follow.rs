//! A watch that survives a daemon's restart.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sluice_wire::view::RolloutView;
use tokio::time::Instant;

use super::{ClientError, Views, Way};
use crate::cli::Aim;

/// So long a daemon may be away before the watch gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Rollouts as they stand, then every change. After a new connection what stands is told again.
pub struct Following {
    way: Arc<dyn Way>,
    aim: Option<Aim>,
    open: Option<Views>,
    /// Whether anything was ever received: a daemon that was never there is not waited for.
    heard: bool,
    /// Since when nothing is received.
    lost: Option<(Instant, ClientError)>,
    pause: Duration,
}

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Following").field("aim", &self.aim).finish_non_exhaustive()
    }
}

impl Following {
    pub(super) fn new(way: Arc<dyn Way>, aim: Option<Aim>) -> Following {
        Following { way, aim, open: None, heard: false, lost: None, pause: FIRST_PAUSE }
    }

    /// Connects if need be, so that later changes are not missed.
    pub async fn connected(&mut self) -> Result<(), ClientError> {
        if self.open.is_none() {
            self.open = Some(self.way.changes(self.aim.as_ref()).await?);
            self.heard = true;
        }
        Ok(())
    }

    /// The next view. An error is the end: nobody answered for a minute, or trying again would not help.
    pub async fn next(&mut self) -> Result<RolloutView, ClientError> {
        loop {
            let error = match self.connected().await {
                Ok(()) => match self.received().await {
                    Ok(view) => return Ok(view),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.lost(error).await?;
        }
    }

    async fn received(&mut self) -> Result<RolloutView, ClientError> {
        let gone =
            || ClientError::Unreachable { at: "the daemon".into(), why: "it ended the connection".into() };
        let next = match &mut self.open {
            Some(open) => open.next().await.unwrap_or_else(|| Err(gone())),
            None => Err(gone()),
        };
        match next {
            Ok(view) => {
                (self.lost, self.pause) = (None, FIRST_PAUSE);
                Ok(view)
            }
            Err(error) => {
                self.open = None;
                Err(error)
            }
        }
    }

    /// Waits before another try, or gives up.
    async fn lost(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !self.heard || !error.is_passing() {
            return Err(error);
        }
        let (since, _) = self.lost.get_or_insert((Instant::now(), error.clone()));
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
