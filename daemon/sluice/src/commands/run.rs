//! `run`: the daemon, put together: bus, runtime, HTTP, and an orderly end.

use std::sync::Arc;

use sluice_bus::{Bus, Doors, Embedded, EmbeddedConfig, Nats, NatsConfig, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{BusChoice, Exit, Global, RunArgs, RunOptions};
use crate::client::{fresh_id, nats_config};
use crate::http::{self, HttpOptions};
use crate::runtime::{Daemon, Setup};

use super::Failure;
use super::watch::Stop;

pub async fn perform(args: RunArgs, global: &Global) -> Result<Exit, Failure> {
    let options = args.resolve(global).map_err(|why| Failure::input(why, "see `sluice run --help`"))?;
    let listener = listen(&options).await?;
    let bus = Buses::open(&options).await?;
    let daemon = start(&options, &bus).await?;
    let stop = CancellationToken::new();
    let http = HttpOptions { tokens: options.http_tokens.clone(), doors: Some(bus.doors), ..HttpOptions::default() };
    let served = tokio::spawn(http::serve(listener, daemon.clone(), http, stop.clone()));
    tracing::info!(daemon = options.daemon, listen = %options.listen, "running");
    Stop::new()?.asked().await;
    tracing::info!("stopping; rollouts stay where they are and are taken up by the next start");
    daemon.shutdown().await;
    stop.cancel();
    if let Err(error) = served.await {
        tracing::error!(%error, "the HTTP door did not end well");
    }
    Ok(Exit::Well)
}

/// One bus, seen from its three sides.
struct Buses {
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    doors: Arc<dyn Doors>,
}

impl Buses {
    async fn open(options: &RunOptions) -> Result<Buses, Failure> {
        match &options.bus {
            BusChoice::Embedded { data } => embedded(data.as_deref()),
            BusChoice::Nats(access) => {
                let name = format!("sluice {}", options.daemon);
                nats(NatsConfig { name, daemon: options.daemon.clone(), ..nats_config(access) }).await
            }
        }
    }

    fn of<B: Bus + Store + Doors + 'static>(one: B) -> Buses {
        let one = Arc::new(one);
        Buses { bus: one.clone(), store: one.clone(), doors: one }
    }
}

fn embedded(data: Option<&std::path::Path>) -> Result<Buses, Failure> {
    let Some(dir) = data else {
        return Embedded::in_memory().map(Buses::of).map_err(|error| Failure::server(error.to_string(), "is there memory left?"));
    };
    let remedy = "give --data a folder that can be written, and one daemon a folder";
    std::fs::create_dir_all(dir).map_err(|error| Failure::input(format!("{}: {error}", dir.display()), remedy))?;
    let opened = Embedded::open(EmbeddedConfig::at(dir.join("sluice.redb")));
    opened.map(Buses::of).map_err(|error| Failure::server(error.to_string(), remedy))
}

async fn nats(config: NatsConfig) -> Result<Buses, Failure> {
    let failed = |error: sluice_bus::BusError| {
        let remedy = "is the server there, and are the credentials right? `sluice init` makes what is missing there";
        Failure::server(error.to_string(), remedy)
    };
    let nats = Nats::connect(config).await.map_err(failed)?;
    for line in nats.init().await.map_err(failed)? {
        tracing::info!(made = line, "on the NATS server");
    }
    Ok(Buses::of(nats))
}

async fn listen(options: &RunOptions) -> Result<TcpListener, Failure> {
    let address = options.listen;
    if !address.ip().is_loopback() && options.http_tokens.is_none() {
        tracing::warn!(%address, "anybody who reaches this port may read; nobody but this host may write: no --http-tokens");
    }
    TcpListener::bind(address).await.map_err(|error| {
        Failure::server(format!("{address}: {error}"), "is another daemon running? Give --listen another port")
    })
}

async fn start(options: &RunOptions, bus: &Buses) -> Result<Arc<Daemon>, Failure> {
    let setup = Setup {
        bus: bus.bus.clone(),
        store: bus.store.clone(),
        daemon: options.daemon.clone(),
        incarnation: fresh_id(),
        policies: options.policies.clone(),
        kubeconfig: options.kubeconfig.clone(),
    };
    Daemon::start(setup).await.map_err(|error| Failure::server(format!("{error:#}"), "see the lines above, and `sluice validate`"))
}
