//! Takes alerts and sees to it that every sink gets them.
//!
//! `fire` and `resolve` never wait: they write into the sinks' ledgers, and the receipt says when the sinks have it.
//! Nothing here outlives the process: whoever holds the rollouts' states restores what fires, and says again what had not
//! been confirmed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sluice_rollout::{AlertKind, RolloutId};
use sluice_wire::alert::{Alert, AlertStatus};

use crate::{
    Receipt, Sink,
    ledger::Rules,
    outlet::{Outlet, SinkStats},
};

/// What is the same for all sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Alerts to one sink within this time go together.
    pub window: Duration,
    /// Most alerts that a sink's ledger holds, firing ones included.
    pub capacity: usize,
    /// Most alerts in one message.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { window: Duration::from_millis(200), capacity: 20_000, batch: 30 }
    }
}

/// What a shutdown had to leave: alerts with news per sink.
pub type Unsaid = BTreeMap<String, usize>;

/// A handle; clones share the sinks. The workers end with the last one.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    outlets: Arc<[Arc<Outlet>]>,
}

impl Dispatcher {
    /// Must be called within a tokio runtime.
    pub fn new(sinks: Vec<Arc<dyn Sink>>) -> Dispatcher {
        Dispatcher::with(sinks, Settings::default())
    }

    pub fn with(sinks: Vec<Arc<dyn Sink>>, settings: Settings) -> Dispatcher {
        Dispatcher::of(sinks.into_iter().map(|sink| open(sink, settings)).collect())
    }

    pub(crate) fn of(outlets: Vec<Arc<Outlet>>) -> Dispatcher {
        Dispatcher { outlets: outlets.into() }
    }

    /// The alert is up from now on, until it is resolved. Firing the same again changes nothing; another summary or other
    /// details are told as news.
    pub fn fire(&self, alert: Alert) -> Receipt {
        self.say(&Alert { status: AlertStatus::Firing, ..alert })
    }

    /// The alert is over. What the former firing said counts for `since`.
    pub fn resolve(&self, alert: Alert) -> Receipt {
        self.say(&Alert { status: AlertStatus::Resolved, ..alert })
    }

    /// After a restart: alerts that had been told and still stand. They are kept up and not told anew.
    pub fn restore(&self, firing: &[Alert]) {
        for outlet in &*self.outlets {
            outlet.restore(firing);
        }
    }

    /// After a restart or a takeover: alerts that were about to be told, and may have been. Their end is told also if it
    /// comes before they are told here.
    pub fn doubt(&self, firing: &[Alert]) {
        for outlet in &*self.outlets {
            outlet.doubt(firing);
        }
    }

    /// After a restart: alerts that were up and are over (with the times of both), of which the former process knows no more
    /// than that not every sink had been told. It is told once, with both times; [`Self::resolve`] waits for that.
    pub fn missed(&self, resolved: &[Alert]) {
        for outlet in &*self.outlets {
            outlet.missed(resolved);
        }
    }

    /// Somebody else keeps this rollout's alerts from now on, but for some kinds: here they are dropped, and nothing is said
    /// of them.
    pub fn forget(&self, rollout: &RolloutId, but: &[AlertKind]) {
        for outlet in &*self.outlets {
            outlet.forget(rollout, but);
        }
    }

    /// How each sink fares.
    pub fn stats(&self) -> Vec<SinkStats> {
        self.outlets.iter().map(|outlet| outlet.stats()).collect()
    }

    /// Says what is unsaid, for at most `limit`. Firing alerts stay up: the next start restores them.
    pub async fn shutdown(&self, limit: Duration) -> Unsaid {
        shut(&self.outlets, limit).await
    }

    fn say(&self, alert: &Alert) -> Receipt {
        let told = self.outlets.iter().filter(|outlet| outlet.has_told(alert));
        let told: Vec<String> = told.map(|outlet| outlet.receiver()).collect();
        let parts = self.outlets.iter().map(|outlet| outlet.say(alert, told.contains(&outlet.receiver())));
        Receipt::new(parts.collect())
    }
}

pub(crate) fn open(sink: Arc<dyn Sink>, settings: Settings) -> Arc<Outlet> {
    let (repeat, at_least) = (sink.repeat(), sink.at_least());
    let Settings { window, capacity, batch } = settings;
    Arc::new(Outlet::open(sink, Rules { window, repeat, at_least, capacity, batch: batch.max(1) }))
}

pub(crate) async fn shut(outlets: &[Arc<Outlet>], limit: Duration) -> Unsaid {
    let shut = outlets.iter().map(|outlet| async { (outlet.name(), outlet.shut(limit).await) });
    futures::future::join_all(shut).await.into_iter().filter(|(_, unsaid)| *unsaid > 0).collect()
}
