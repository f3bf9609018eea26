//! `init`: makes and checks what Sluice needs on a NATS server.

use serde_json::json;
use sluice_bus::{Bus, BusError, Nats, NatsConfig};

use crate::cli::{Exit, Global, InitArgs, host_name, with_records};
use crate::client::nats_config;

use super::{Failure, Screen};

pub async fn perform(args: &InitArgs, global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    if !global.nats.is_given() {
        let remedy =
            "name the server, for example --nats nats://127.0.0.1:4222; the embedded bus needs no init";
        return Err(Failure::input("no NATS server is named", remedy));
    }
    let daemons = if args.daemon.is_empty() { vec![host_name()] } else { args.daemon.clone() };
    let mut made = Vec::new();
    for daemon in &daemons {
        made.extend(for_daemon(daemon, args, global).await?);
    }
    if screen.json() {
        screen.value(&json!({"made": made, "daemons": daemons}))?;
        return Ok(Exit::Well);
    }
    if made.is_empty() {
        screen.line("everything is there already, and as it should be")?;
    }
    made.iter().try_for_each(|line| screen.line(line))?;
    let named = daemons.join(", ");
    screen.line(&format!("ready for the daemon {named}; another name at `sluice run --daemon` needs init --daemon with that name"))?;
    Ok(Exit::Well)
}

async fn for_daemon(daemon: &str, args: &InitArgs, global: &Global) -> Result<Vec<String>, Failure> {
    let remedy = if args.replicas > 1 {
        "init needs a credential that may create streams, buckets and consumers, and for --replicas a cluster of at least so many servers with JetStream"
    } else {
        "init needs a credential that may create streams, buckets and consumers; see --nats-creds-file"
    };
    let failed = |error: BusError| {
        let unreachable = matches!(error, BusError::Unreachable(_));
        let remedy = if unreachable { "is the server there? --nats names it" } else { remedy };
        Failure::server(error.to_string(), remedy)
    };
    let (daemon, cluster, replicas) = (daemon.to_owned(), args.cluster.clone(), args.replicas);
    let limits = with_records(args.records);
    let config = NatsConfig { daemon, cluster, replicas, limits, ..nats_config(&global.nats) };
    Nats::connect(config).await.map_err(failed)?.init().await.map_err(failed)
}
