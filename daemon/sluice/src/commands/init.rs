//! `init`: makes and checks what Sluice needs on a NATS server.

use serde_json::json;
use sluice_bus::{Bus, Nats};

use crate::cli::{Exit, Global};
use crate::client::nats_config;

use super::{Failure, Screen};

pub async fn perform(global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    if !global.nats.is_given() {
        let remedy =
            "name the server, for example --nats nats://127.0.0.1:4222; the embedded bus needs no init";
        return Err(Failure::input("no NATS server is named", remedy));
    }
    let remedy =
        "init needs a credential that may create streams, buckets and consumers; see --nats-creds-file";
    let failed = |error: sluice_bus::BusError| Failure::server(error.to_string(), remedy);
    let nats = Nats::connect(nats_config(&global.nats)).await.map_err(failed)?;
    let made = nats.init().await.map_err(failed)?;
    if screen.json() {
        screen.value(&json!({"made": made}))?;
    } else if made.is_empty() {
        screen.line("everything is there already, and as it should be")?;
    }
    if !screen.json() {
        made.iter().try_for_each(|line| screen.line(line))?;
    }
    Ok(Exit::Well)
}
