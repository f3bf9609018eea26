//! Writes the history behind the decisions: in order, and nothing waits for it.

use std::time::Duration;

use sluice_wire::record::HistoryLine;
use tokio::sync::mpsc;

use super::{backoff::Backoff, ledger::Ledger};

const QUEUE: usize = 4_096;
/// A line is given up after so many attempts: the history is told, not decided upon.
const MOST_ATTEMPTS: u32 = 50;

#[derive(Clone, Debug)]
pub struct Historian {
    lines: mpsc::Sender<HistoryLine>,
}

impl Historian {
    pub fn start(ledger: Ledger) -> Historian {
        let (lines, mut inbox) = mpsc::channel::<HistoryLine>(QUEUE);
        tokio::spawn(async move {
            while let Some(line) = inbox.recv().await {
                write(&ledger, &line).await;
            }
        });
        Historian { lines }
    }

    pub fn write(&self, line: HistoryLine) {
        if let Err(error) = self.lines.try_send(line) {
            tracing::error!(%error, "a line of history is lost: the store has been away for too long");
        }
    }
}

async fn write(ledger: &Ledger, line: &HistoryLine) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while let Err(error) = ledger.tell_history(line).await {
        if backoff.attempts() >= MOST_ATTEMPTS {
            tracing::error!(rollout = %line.rollout, %error, "a line of history is lost");
            return;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
