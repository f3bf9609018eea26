//! HAProxy: the weights of the servers of one backend, set at run time through its socket (a path, or a port on loopback).
//!
//! `set weight <backend>/<server> <0..256>` takes effect at once and is lost at a reload; the watch reads every second, so a
//! reload shows as a weight that is not wanted. HAProxy can test nothing before a write, so it belongs to one daemon: a lock file
//! beside the socket says whose, and fence and abort mark are kept beside it (`ledger`). Weights that 0 to 256 cannot express
//! near enough are refused (`weights`). Servers' states, drains and health are not touched.
//! <https://docs.haproxy.org/2.6/management.html#9.3-set%20weight>

mod ledger;
mod runtime;
mod weights;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy;

use crate::poll::poll;
use crate::{AbortMark, Observed, Target, TargetError, Unfit, Wanted, share};
use ledger::{Entry, Ledger};
use runtime::{Address, Runtime};
use weights::Arms;

/// How often the watch reads.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) struct Haproxy {
    runtime: Runtime,
    backend: String,
    stable: Vec<String>,
    canary: Vec<String>,
    ledger: Arc<Ledger>,
}

pub(crate) async fn connect(config: &policy::Haproxy) -> Result<Haproxy, TargetError> {
    let address = address(&config.socket)?;
    check_names(config)?;
    let ledger = Ledger::open(&address)?;
    Ok(Haproxy {
        runtime: Runtime::new(address),
        backend: config.backend.clone(),
        stable: config.stable.clone(),
        canary: config.canary.clone(),
        ledger,
    })
}

/// A path, or `host:port` that is loopback: whoever reaches the runtime API rules HAProxy.
fn address(socket: &str) -> Result<Address, TargetError> {
    if socket.contains('/') {
        return Ok(Address::Unix(socket.into()));
    }
    check_socket(socket)?;
    let unfit = |why: &str| TargetError::from(not_the_socket(socket, why));
    let found = socket.to_socket_addrs().map_err(|error| unfit(&error.to_string()))?.next();
    match found {
        Some(address) if address.ip().is_loopback() => Ok(Address::Tcp(address)),
        Some(_) => Err(unfit("not on loopback, and the runtime API has no authentication")),
        None => Err(unfit("leads nowhere")),
    }
}

fn not_the_socket(socket: &str, why: &str) -> Unfit {
    let remedy = "give a path such as /run/haproxy/admin.sock, or 127.0.0.1:9999";
    Unfit::new("haproxy.socket", format!("{socket:?}: {why}; {remedy}"))
}

/// As far as that goes without looking up a name.
fn check_socket(socket: &str) -> Result<(), Unfit> {
    let unfit = |why: &str| Err(not_the_socket(socket, why));
    if socket.contains('/') {
        return Ok(());
    }
    match (socket.parse::<SocketAddr>(), socket.rsplit_once(':')) {
        (Ok(address), _) if !address.ip().is_loopback() => {
            unfit("not on loopback, and the runtime API has no authentication")
        }
        (Ok(_), _) => Ok(()),
        (Err(_), Some((host, port))) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        (Err(_), _) => unfit("neither a path nor host:port"),
    }
}

/// What is wrong with the block itself, steps that these servers cannot express included.
pub(crate) fn check(config: &policy::Haproxy, weights: &[Weight]) -> Vec<Unfit> {
    let mut unfit: Vec<Unfit> =
        [check_socket(&config.socket).err(), check_names(config).err()].into_iter().flatten().collect();
    if unfit.is_empty() {
        let arms = Arms { stable: config.stable.len() as u64, canary: config.canary.len() as u64 };
        let finer = weights.iter().filter_map(|weight| arms.numbers(*weight).err());
        unfit.extend(finer.map(|error| Unfit::new("haproxy", error.to_string())));
    }
    unfit
}

/// Names go into a command line: what could end or widen the command is refused.
fn check_names(config: &policy::Haproxy) -> Result<(), Unfit> {
    let unfit = |why: String| Err(Unfit::new("haproxy", why));
    // What HAProxy takes for names (https://docs.haproxy.org/2.6/configuration.html#2.2).
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
    };
    let mut names = config.stable.iter().chain(&config.canary).chain([&config.backend]);
    if let Some(bad) = names.find(|name| !is_name(name)) {
        return unfit(format!(
            "{bad:?} is no name of a backend or server: letters, digits, '-', '_', '.' and ':'"
        ));
    }
    if config.stable.is_empty() || config.canary.is_empty() {
        return unfit("stable and canary each need at least one server".into());
    }
    match config.stable.iter().find(|name| config.canary.contains(name)) {
        Some(both) => unfit(format!("server {both} stands on both sides")),
        None => Ok(()),
    }
}

impl Haproxy {
    fn arms(&self) -> Arms {
        Arms { stable: self.stable.len() as u64, canary: self.canary.len() as u64 }
    }

    /// One for each pair of arms.
    fn entry_name(&self) -> String {
        format!("{}/{}|{}", self.backend, self.stable.join(","), self.canary.join(","))
    }

    async fn read(&self) -> Result<(Vec<u64>, Vec<u64>), TargetError> {
        let mut numbers = Vec::new();
        for server in self.canary.iter().chain(&self.stable) {
            numbers.push(self.runtime.weight(&self.backend, server).await?);
        }
        let stable = numbers.split_off(self.canary.len());
        Ok((numbers, stable))
    }

    async fn write(&self, weight: Weight) -> Result<(), TargetError> {
        let (canary, stable) = self.arms().numbers(weight)?;
        let number = |servers: &[String], number: u64| {
            servers.iter().map(move |name| (name.clone(), number)).collect::<Vec<_>>()
        };
        let (canary, stable) = (number(&self.canary, canary), number(&self.stable, stable));
        // In between, the canary has no more than before or after, and somebody always has something.
        let settings = if weight == Weight::FULL { [canary, stable] } else { [stable, canary] };
        self.runtime.set_weights(&self.backend, &settings.concat()).await
    }

    fn observed(&self, canary: &[u64], stable: &[u64]) -> Result<Observed, TargetError> {
        let entry = self.ledger.entry(&self.entry_name());
        let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("+");
        let canary_share = self.arms().read(canary, stable, entry.weight).ok_or_else(|| {
            TargetError::NotAsNeeded(format!(
                "{}: every server has weight 0 (see: {})",
                self.name(),
                self.runtime.show(&self.backend)
            ))
        })?;
        Ok(Observed {
            canary: canary_share,
            written: format!("{}/{}", list(canary), list(stable)),
            fence: entry.fence,
            abort: entry.abort,
        })
    }
}

#[async_trait]
impl Target for Haproxy {
    fn name(&self) -> String {
        format!("haproxy {} ({})", self.backend, self.runtime.address)
    }

    fn key(&self) -> String {
        format!("haproxy/{}/{}", self.runtime.address, self.backend)
    }

    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError> {
        weights.iter().try_for_each(|weight| self.arms().numbers(*weight).map(drop))?;
        self.observe().await.map(drop)
    }

    async fn nearest(&self, weight: Weight) -> Result<Vec<Weight>, TargetError> {
        let arms = self.arms();
        Ok(share::nearest(weight, |weight| arms.numbers(weight).ok()))
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        let (canary, stable) = self.read().await?;
        self.observed(&canary, &stable)
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        // Held until the end, so that a later fence is not overtaken by an earlier one that is still on its way.
        let _turn = self.ledger.turn(&self.entry_name()).await;
        let before = self.ledger.entry(&self.entry_name());
        before.admit(wanted)?;
        self.arms().numbers(wanted.weight)?;
        if wanted.weight.is_zero() {
            // The weight first: nothing, not even a full disk, delays an abort.
            self.write(wanted.weight).await?;
            if let Err(error) = self.ledger.keep(&self.entry_name(), before.after(wanted)) {
                tracing::warn!(target = self.name(), %error, "weight 0 is set, but a restart of this daemon would not know why");
            }
        } else {
            self.ledger.keep(&self.entry_name(), before.after(wanted))?;
            self.write(wanted.weight).await?;
        }
        self.observe().await
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        let _turn = self.ledger.turn(&self.entry_name()).await;
        let entry = self.ledger.entry(&self.entry_name());
        if let Some(found) = entry.fence.filter(|found| *found > fence) {
            return Err(TargetError::Fenced { found, ours: fence });
        }
        self.ledger.keep(
            &self.entry_name(),
            Entry { fence: Some(fence), weight: entry.weight, ..Entry::default() },
        )?;
        self.observe().await
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        poll(self.clone(), POLL)
    }
}

impl Entry {
    fn admit(&self, wanted: &Wanted) -> Result<(), TargetError> {
        let rollout = wanted.rollout.to_string();
        let same = self.rollout.as_ref() == Some(&rollout) && self.weight == Some(wanted.weight);
        if let Some(found) =
            self.fence.filter(|found| *found > wanted.fence || (*found == wanted.fence && !same))
        {
            return Err(TargetError::Fenced { found, ours: wanted.fence });
        }
        match &self.abort {
            Some(mark) if wanted.rising && mark.rollout == rollout => Err(TargetError::Refused(format!(
                "{rollout} was aborted ({}), so its weight does not rise again",
                mark.reason
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn after(self, wanted: &Wanted) -> Entry {
        let rollout = wanted.rollout.to_string();
        let abort = match &wanted.abort {
            Some(reason) => Some(AbortMark { rollout: rollout.clone(), reason: reason.clone() }),
            None => self.abort.filter(|mark| mark.rollout == rollout),
        };
        Entry { fence: Some(wanted.fence), weight: Some(wanted.weight), rollout: Some(rollout), abort }
    }
}

#[cfg(test)]
mod tests;
