//! The sinks of all policies of a daemon.
//!
//! Policies that name the same sink share it: one ledger, one pace, one connection pool, whatever the number of rollouts.
//! Slack counts its messages by webhook and not by rollout, and a thousand rollouts in trouble are a few messages then.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_outbound::Outbound;
use sluice_wire::policy::AlertSink;

use crate::{
    Dispatcher, Settings, Sink, SinkError, SinkStats, Unsaid, connect,
    dispatcher::{open, shut},
    outlet::Outlet,
};

/// Holds every sink that a policy uses or that has alerts up; others are let go when the next dispatcher is asked for.
pub struct Exchange {
    outbound: Outbound,
    http: Arc<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>,
    settings: Settings,
    lines: Mutex<Vec<Line>>,
}

/// A policy's block and its outlets, one per replica.
struct Line {
    block: AlertSink,
    outlets: Vec<Arc<Outlet>>,
    /// Whoever put it here may need it later.
    kept: bool,
}

impl Exchange {
    /// `http` begins each client, as for [`connect`].
    pub fn new(
        outbound: Outbound,
        http: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static,
        settings: Settings,
    ) -> Exchange {
        Exchange { outbound, http: Arc::new(http), settings, lines: Mutex::default() }
    }

    /// Sinks of one's own for this block, for tests. Must be called within a tokio runtime.
    pub fn put(&self, block: &AlertSink, sinks: Vec<Arc<dyn Sink>>) {
        let outlets = sinks.into_iter().map(|sink| open(sink, self.settings)).collect();
        self.lines().push(Line { block: block.clone(), outlets, kept: true });
    }

    /// For the rollouts of one policy. Must be called within a tokio runtime. Do not shut it down; shut the exchange down.
    pub fn dispatcher(&self, sinks: &[AlertSink]) -> Result<Dispatcher, SinkError> {
        let mut lines = self.lines();
        lines.retain(Line::is_needed);
        let mut outlets = Vec::new();
        for block in sinks {
            outlets.extend(self.line(&mut lines, block)?);
        }
        Ok(Dispatcher::of(outlets))
    }

    /// How each sink fares.
    pub fn stats(&self) -> Vec<SinkStats> {
        self.outlets().iter().map(|outlet| outlet.stats()).collect()
    }

    /// As [`Dispatcher::shutdown`], for all sinks.
    pub async fn shutdown(&self, limit: Duration) -> Unsaid {
        shut(&self.outlets(), limit).await
    }

    fn line(&self, lines: &mut Vec<Line>, block: &AlertSink) -> Result<Vec<Arc<Outlet>>, SinkError> {
        if let Some(line) = lines.iter().find(|line| line.block == *block) {
            return Ok(line.outlets.clone());
        }
        let sinks = {
            let http = self.http.clone();
            connect(std::slice::from_ref(block), &self.outbound, move || http())?
        };
        let outlets: Vec<Arc<Outlet>> = sinks.into_iter().map(|sink| open(sink, self.settings)).collect();
        lines.push(Line { block: block.clone(), outlets: outlets.clone(), kept: false });
        Ok(outlets)
    }

    fn outlets(&self) -> Vec<Arc<Outlet>> {
        self.lines().iter().flat_map(|line| line.outlets.clone()).collect()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_needed(&self) -> bool {
        self.kept || self.outlets.iter().any(|outlet| Arc::strong_count(outlet) > 1 || !outlet.is_idle())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("sinks", &self.stats()).finish_non_exhaustive()
    }
}
