//! From options to a running daemon with its doors open: `sluice run`.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use sluice_bus::{Bus, Doors, Embedded, EmbeddedConfig, Nats, NatsConfig, Store};
use sluice_outbound::Outbound;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Daemon, Setup, clock::now};
use crate::{
    cli::{BusChoice, RunOptions},
    client::nats_config,
    cluster_rights::Rights,
    http,
};

/// The embedded bus' file in its folder.
const FILE: &str = "sluice.redb";

/// A daemon and its HTTP door.
pub struct Served {
    /// Where the HTTP door listens.
    pub address: SocketAddr,
    pub daemon: Arc<Daemon>,
    shutdown: CancellationToken,
    door: JoinHandle<std::io::Result<()>>,
}

/// Opens the bus, starts the daemon, opens the HTTP door. Errors say which of them, and why.
pub async fn serve(options: &RunOptions) -> anyhow::Result<Served> {
    let tls = match &options.tls {
        Some(files) => {
            Some(Arc::new(http::Tls::open(files.clone()).await.map_err(anyhow::Error::msg).context("TLS")?))
        }
        None => None,
    };
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", options.listen)
    })?;
    let address = listener.local_addr()?;
    let (bus, store, doors) = open_bus(options).await?;
    let made = bus.init().await.context("the bus is not as Sluice needs it")?;
    for line in made {
        tracing::info!(made = line, "bus");
    }
    let setup = Setup {
        bus,
        store,
        doors: doors.clone(),
        daemon: options.daemon.clone(),
        incarnation: format!("{}-{}", now().millis(), std::process::id()),
        cluster: options.cluster.clone(),
        policies: options.policies.clone(),
        cluster_policies: options.cluster_policies.clone(),
        cluster_rights: Rights {
            granted: options.cluster_policies_may.clone(),
            secrets: options.secrets.clone(),
        },
        alone: matches!(options.bus, BusChoice::Embedded { .. }),
        kubeconfig: options.kubeconfig.clone(),
        kube_context: options.kube_context.clone(),
        signers: options.signers.clone(),
        outbound: Outbound::new(vec![address], options.allowed.clone()).with_secrets(options.secrets.clone()),
    };
    let daemon = Daemon::start(setup).await?;
    let shutdown = CancellationToken::new();
    let (tokens, doors) = (options.http_tokens.clone(), Some(doors));
    let door = http::HttpOptions { tokens, doors, tls, ..Default::default() };
    let door = tokio::spawn(http::serve(listener, daemon.clone(), door, shutdown.clone()));
    Ok(Served { address, daemon, shutdown, door })
}

impl Served {
    /// A clean stop: no new work, then the rollouts, then the door. Ends within some seconds.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.daemon.shutdown().await;
        self.shutdown.cancel();
        self.door.await.context("the HTTP door")??;
        Ok(())
    }
}

type Opened = (Arc<dyn Bus>, Arc<dyn Store>, Arc<dyn Doors>);

async fn open_bus(options: &RunOptions) -> anyhow::Result<Opened> {
    match &options.bus {
        BusChoice::Embedded { data: None } => Ok(three(Embedded::in_memory()?)),
        BusChoice::Embedded { data: Some(folder) } => {
            make(folder)?;
            let config = EmbeddedConfig { limits: options.limits(), ..EmbeddedConfig::at(folder.join(FILE)) };
            Ok(three(Embedded::open(config)?))
        }
        BusChoice::Nats(access) => {
            let config = NatsConfig {
                name: format!("sluice {}", options.daemon),
                daemon: options.daemon.clone(),
                cluster: options.cluster.clone(),
                limits: options.limits(),
                ..nats_config(access)
            };
            Ok(three(Nats::connect(config).await?))
        }
    }
}

fn make(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}; choose another with --data", folder.display()))
}

/// One bus is all three.
fn three<B: Bus + Store + Doors + 'static>(bus: B) -> Opened {
    let bus = Arc::new(bus);
    (bus.clone(), bus.clone(), bus)
}
