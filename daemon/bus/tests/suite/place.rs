//! Where a story happens: one kind of bus, made anew for each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sluice_bus::{Bus, Doors, Embedded, EmbeddedConfig, Limits, Store};
#[cfg(feature = "real")]
use sluice_bus::{Nats, NatsConfig};
#[cfg(feature = "real")]
use sluice_rig::NatsOptions;

/// All that a bus offers.
pub trait Whole: Bus + Store + Doors {}
impl<T: Bus + Store + Doors> Whole for T {}

/// A kind of bus.
#[derive(Clone, Copy)]
pub enum Place {
    Memory,
    File,
    #[cfg(feature = "real")]
    Nats(fn() -> NatsOptions),
}

#[expect(non_upper_case_globals, reason = "they stand as module names in the list of stories")]
mod places {
    use super::Place;

    pub const memory: Place = Place::Memory;
    pub const file: Place = Place::File;
    #[cfg(feature = "real")]
    pub const nats_2_9: Place = Place::Nats(sluice_rig::NatsOptions::default);
    #[cfg(feature = "real")]
    pub const nats_latest: Place = Place::Nats(sluice_rig::NatsOptions::latest);
}
pub use places::*;

/// A bus that was made for one story. What it lives on goes with it.
pub struct Here {
    pub bus: Arc<dyn Whole>,
    _folder: Option<tempfile::TempDir>,
    #[cfg(feature = "real")]
    _server: Option<sluice_rig::Nats>,
}

/// What a story wants otherwise than usual.
#[derive(Default)]
pub struct Wishes {
    pub ack_wait: Option<Duration>,
    pub limits: Limits,
}

impl Place {
    pub async fn make(&self) -> Result<Here> {
        self.make_with(Wishes::default()).await
    }

    pub async fn make_with(&self, wishes: Wishes) -> Result<Here> {
        let here = match self {
            Place::Memory => embedded(EmbeddedConfig::default(), wishes, None)?,
            Place::File => {
                let folder = tempfile::tempdir()?;
                embedded(EmbeddedConfig::at(folder.path().join("bus.redb")), wishes, Some(folder))?
            }
            #[cfg(feature = "real")]
            Place::Nats(options) => nats(options(), wishes).await?,
        };
        here.bus.init().await?;
        Ok(here)
    }
}

fn embedded(config: EmbeddedConfig, wishes: Wishes, folder: Option<tempfile::TempDir>) -> Result<Here> {
    let ack_wait = wishes.ack_wait.unwrap_or(config.ack_wait);
    let bus = Embedded::open(EmbeddedConfig { ack_wait, limits: wishes.limits, ..config })?;
    Ok(Here {
        bus: Arc::new(bus),
        _folder: folder,
        #[cfg(feature = "real")]
        _server: None,
    })
}

#[cfg(feature = "real")]
async fn nats(options: NatsOptions, wishes: Wishes) -> Result<Here> {
    let server = sluice_rig::Nats::start(options).await?;
    let usual = NatsConfig::at(server.url());
    let ack_wait = wishes.ack_wait.unwrap_or(usual.ack_wait);
    let bus = Nats::connect(NatsConfig { ack_wait, limits: wishes.limits, ..usual }).await?;
    Ok(Here { bus: Arc::new(bus), _folder: None, _server: Some(server) })
}
