//! A daemon that dies as by a power cut, once at every boundary of its order or at random instants, and is started again each
//! time as an init system would. Boundaries: `daemon/sluice/src/runtime/boundary.rs`; only a build with debug assertions has them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sluice_rig::folder::Folder;

use crate::{Bus, Daemon};

/// So often it is looked whether the daemon lives.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A story of many deaths ends within this; usually it takes a tenth.
const LIMIT: Duration = Duration::from_secs(1000);

/// Where a daemon dies, and where it has died.
#[derive(Debug)]
pub struct Deaths {
    folder: Folder,
    only: Option<&'static str>,
    fault: Option<&'static str>,
}

impl Deaths {
    /// Once at every boundary that it comes to, but for those that begin with one of these.
    pub fn everywhere_but(spared: &[&str]) -> Result<Deaths> {
        let deaths = Deaths { folder: Folder::new("deaths")?, only: None, fault: None };
        let met: String = spared.iter().map(|place| format!("! {place}\n")).collect();
        if !met.is_empty() {
            std::fs::write(deaths.file(), met)?;
        }
        Ok(deaths)
    }

    /// Once at every boundary that begins with this, or with one of several that commas part; `fault` is something that the daemon does wrong (`runtime/fault.rs`).
    pub fn at(only: &'static str, fault: Option<&'static str>) -> Result<Deaths> {
        Ok(Deaths { folder: Folder::new("deaths")?, only: Some(only), fault })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("met")
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let file = [("SLUICE_DIES", self.file().display().to_string())];
        let only = self.only.map(|only| ("SLUICE_DIES_AT", only.to_owned()));
        let fault = self.fault.map(|fault| ("SLUICE_FAULT", fault.to_owned()));
        file.into_iter().chain(only).chain(fault).collect()
    }

    /// Where it has died so far.
    pub fn met(&self) -> Result<BTreeSet<String>> {
        self.lines("! ")
    }

    /// The kinds of boundaries that the program knows.
    pub fn known(&self) -> Result<BTreeSet<String>> {
        self.lines("? ")
    }

    fn lines(&self, mark: &str) -> Result<BTreeSet<String>> {
        let text = std::fs::read_to_string(self.file()).context(
            "the daemon has not listed its boundaries: only a build with debug assertions has them",
        )?;
        Ok(text.lines().filter_map(|line| line.strip_prefix(mark)).map(str::to_owned).collect())
    }
}

impl Daemon {
    /// Starts it anew whenever it has died, until its rollouts have ended, nothing of them is left to be done, and every message
    /// to it was acknowledged; how often that was.
    pub async fn outlive_deaths(&mut self, bus: &Bus) -> Result<usize> {
        let (begun, mut deaths) = (Instant::now(), 0);
        loop {
            deaths += usize::from(self.revived()?);
            // While it is dead, or not ready yet, there is no answer.
            if self.has_nothing_left().await.unwrap_or(false) && bus.unacknowledged().await? == 0 {
                return Ok(deaths);
            }
            if begun.elapsed() > LIMIT {
                bail!("no end after {LIMIT:?} and {deaths} deaths:\n{}", self.server.log_tail());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts it anew whenever it has died, until something holds.
    pub async fn outlive_until(&mut self, holds: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !holds() {
            self.revived()?;
            ensure!(begun.elapsed() < LIMIT, "not within {LIMIT:?}:\n{}", self.server.log_tail());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Started again, if it had died.
    pub fn revived(&mut self) -> Result<bool> {
        let dead = !self.server.is_running();
        if dead {
            self.server.revive()?;
        }
        Ok(dead)
    }

    /// Its rollouts have ended, and nothing of them is left to be done.
    pub async fn has_nothing_left(&self) -> Result<bool> {
        let (views, metrics) = (self.views().await?, self.metrics().await?);
        let ended = !views.is_empty() && views.iter().all(|view| view.outcome.is_some());
        Ok(ended && in_hand(&metrics) == 0.0)
    }
}

/// Rollouts that the daemon still has something to do for, by its own metrics.
fn in_hand(metrics: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with("sluice_rollouts{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
