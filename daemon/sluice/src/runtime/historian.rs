//! Writes the history behind the decisions: in order, and nothing waits for it. A line that is not known to be in its
//! stream stands in the rollout's record meanwhile, so a crash loses none ([`Pen`]).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sluice_wire::record::HistoryLine;
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    boundary::{self, Boundary},
    ledger::Ledger,
    meters::Meters,
};

const QUEUE: usize = 4_096;
/// A line that the store refuses is given up after so many attempts: the history is told, not decided upon. A store that
/// is away is waited for.
const MOST_REFUSALS: u32 = 50;
/// Soon after the store is back all lines are in it, and their rollouts can settle.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Lines that a record carries; older ones are in memory only.
const MOST_UNTOLD: usize = 16;
/// How often the last line is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub struct Historian {
    lines: mpsc::Sender<Entry>,
    meters: Arc<Meters>,
}

/// A line, and where its author counts those that need no more care.
struct Entry {
    line: HistoryLine,
    over: Arc<AtomicU64>,
}

impl Historian {
    pub fn start(ledger: Ledger, meters: Arc<Meters>) -> Historian {
        let (lines, mut inbox) = mpsc::channel::<Entry>(QUEUE);
        let counting = meters.clone();
        tokio::spawn(async move {
            while let Some(entry) = inbox.recv().await {
                write(&ledger, &counting, &entry.line).await;
                boundary::met(Boundary::HistoryAppended, "");
                entry.over.fetch_add(1, Ordering::Release);
            }
        });
        Historian { lines, meters }
    }

    pub fn pen(&self) -> Pen {
        Pen { historian: self.clone(), over: Arc::default(), forgotten: 0, untold: VecDeque::new() }
    }

    fn write(&self, entry: Entry) {
        if let Err(error) = self.lines.try_send(entry) {
            self.meters.drop_one("history");
            tracing::error!(%error, "a line of history is lost: the store has been away for too long");
            error.into_inner().over.fetch_add(1, Ordering::Release);
        }
    }
}

/// One rollout's lines, in order.
pub struct Pen {
    historian: Historian,
    /// Lines that were written or given up.
    over: Arc<AtomicU64>,
    /// How many of those are no longer in `untold`.
    forgotten: u64,
    untold: VecDeque<HistoryLine>,
}

impl Pen {
    /// The lines that are not known to be in their stream: they stand in the record until they are.
    pub fn untold(&mut self) -> Vec<HistoryLine> {
        let over = self.over.load(Ordering::Acquire);
        while self.forgotten < over && self.untold.pop_front().is_some() {
            self.forgotten += 1;
        }
        self.untold.iter().cloned().collect()
    }

    /// Hands a line over. Whoever saved the record with it before loses none.
    pub fn write(&mut self, line: HistoryLine) {
        self.untold.push_back(line.clone());
        if self.untold.len() > MOST_UNTOLD {
            // It is still written; only a crash in a long outage would lose it.
            self.untold.pop_front();
            self.forgotten += 1;
        }
        self.historian.write(Entry { line, over: self.over.clone() });
    }

    /// Waits until all of it is in its stream.
    pub async fn told(&mut self) {
        while !self.untold().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn write(ledger: &Ledger, meters: &Meters, line: &HistoryLine) {
    let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);
    let mut refusals = 0;
    while let Err(error) = ledger.tell_history(line).await {
        refusals += u32::from(!error.is_passing());
        if refusals >= MOST_REFUSALS {
            meters.drop_one("history");
            tracing::error!(rollout = %line.rollout, %error, "a line of history is lost");
            return;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
