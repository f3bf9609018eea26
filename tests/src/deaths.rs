//! A daemon that dies as by a power cut, once at every boundary of its order or at random instants, and is started again each
//! time as an init system would. Boundaries: `daemon/sluice/src/runtime/boundary.rs`; only a build with debug assertions has them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
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
    only: Option<String>,
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

    /// Once at every boundary that begins with one of these.
    pub fn at(only: &[&str]) -> Result<Deaths> {
        Ok(Deaths { folder: Folder::new("deaths")?, only: Some(only.join(",")), fault: None })
    }

    /// Something that the daemon does wrong besides (`runtime/fault.rs`).
    pub fn with_fault(self, fault: &'static str) -> Deaths {
        Deaths { fault: Some(fault), ..self }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("met")
    }

    /// Of the daemon that dies.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let file = [("SLUICE_DIES", self.file().display().to_string())];
        let only = self.only.clone().map(|only| ("SLUICE_DIES_AT", only));
        let fault = self.fault.map(|fault| ("SLUICE_FAULT", fault.to_owned()));
        file.into_iter().chain(only).chain(fault).collect()
    }

    /// Where it has died so far.
    pub fn met(&self) -> Result<BTreeSet<String>> {
        self.lines("! ")
    }

    /// It has died at these, and nowhere else.
    pub fn were(&self, wanted: &[&str]) -> Result<()> {
        let met = self.met()?;
        let wanted: BTreeSet<String> = wanted.iter().map(|place| (*place).to_owned()).collect();
        ensure!(met == wanted, "died at {met:?}, and not at {wanted:?}");
        Ok(())
    }

    /// It has died at these.
    pub fn include(&self, wanted: &[&str]) -> Result<()> {
        let met = self.met()?;
        let missed: Vec<&&str> = wanted.iter().filter(|place| !met.contains(**place)).collect();
        ensure!(missed.is_empty(), "{missed:?} were not died at: {met:?}");
        Ok(())
    }

    /// These effects' beginning and coming about are among them.
    pub fn include_effects(&self, wanted: &[&str]) -> Result<()> {
        let both = wanted
            .iter()
            .map(|effect| ["effect-begins", "effect-performed"].map(|b| format!("{b} {effect}")));
        let both: Vec<String> = both.flatten().collect();
        self.include(&both.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Every kind of boundary that the program knows was died at, but for these at most.
    pub fn missed_only(&self, elsewhere: &[&str]) -> Result<()> {
        let met = self.met()?;
        let is_met = |kind: &String| met.iter().any(|place| place.split(' ').next() == Some(kind));
        let missed: Vec<String> = self.lines("? ")?.into_iter().filter(|kind| !is_met(kind)).collect();
        let expected = missed.iter().all(|kind| elsewhere.contains(&kind.as_str()));
        ensure!(expected, "not died at: {missed:?}, and that is expected of {elsewhere:?}");
        Ok(())
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
        self.outlive(Some(bus)).await
    }

    /// The same on the embedded bus, whose messages nobody else can count.
    pub async fn outlive_deaths_alone(&mut self) -> Result<usize> {
        self.outlive(None).await
    }

    async fn outlive(&mut self, bus: Option<&Bus>) -> Result<usize> {
        let (begun, mut deaths) = (Instant::now(), 0);
        loop {
            deaths += usize::from(self.revived()?);
            // While it is dead, or not ready yet, there is no answer.
            if self.has_nothing_left().await.unwrap_or(false) && all_is_taken(bus).await? {
                return Ok(deaths);
            }
            if begun.elapsed() > LIMIT {
                bail!("no end after {LIMIT:?} and {deaths} deaths:\n{}", self.server.log_tail());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Announces a release over HTTP as a CI job does, again under the same id until it was taken, whoever dies over it.
    pub async fn outlive_announcing(&mut self, path: &str, event: &Value) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            match self.post(path, event).await {
                Ok((202, _)) => return Ok(()),
                Ok((409, refusal)) if !refusal.to_string().contains("announce it again") => {
                    bail!("refused: {refusal}")
                }
                // It died over it, is not back yet, or has not taken up what it began.
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
            self.revived()?;
        }
        bail!("it was never taken within {LIMIT:?}:\n{}", self.server.log_tail())
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

    /// Every transition has one line in the history, in order, however often it died. (A command that came again has a line of its
    /// own, and no revision.)
    pub async fn told_history_once(&self, rollout: &str) -> Result<()> {
        let lines = self.history(rollout).await?;
        let transitions = lines.iter().filter(|line| line.accepted.is_none());
        let revisions: Vec<u64> = transitions.map(|line| line.revision).collect();
        let mut sorted = revisions.clone();
        sorted.sort_unstable();
        sorted.dedup();
        ensure!(revisions == sorted, "the history has lines twice, or out of order: {revisions:?}");
        Ok(())
    }

    /// Its rollouts have ended, and nothing of them is left to be done.
    pub async fn has_nothing_left(&self) -> Result<bool> {
        let (views, metrics) = (self.views().await?, self.metrics().await?);
        let ended = !views.is_empty() && views.iter().all(|view| view.outcome.is_some());
        Ok(ended && in_hand(&metrics) == 0.0)
    }
}

async fn all_is_taken(bus: Option<&Bus>) -> Result<bool> {
    match bus {
        Some(bus) => Ok(bus.unacknowledged().await? == 0),
        None => Ok(true),
    }
}

/// Rollouts that the daemon still has something to do for, by its own metrics.
fn in_hand(metrics: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with("sluice_rollouts{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
