//! A person's message on NATS until the weight is written to an HTTPRoute, with a hundred rollouts running.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_rig::{Nats, NatsOptions, Service};
use sluice_tests::{Bus, Daemon, DaemonOptions};

use crate::routes::{self, Routes, rollout};
use crate::table::{Row, milliseconds};

const ROLLOUTS: usize = 100;
const WEIGHTS: usize = 200;
/// A route of nobody's, for the bare PATCH.
const BARE: &str = "bare";

pub async fn table() -> Result<String> {
    let names: Vec<String> = (0..ROLLOUTS).map(|number| format!("r{number}")).collect();
    let all: Vec<String> = names.iter().cloned().chain([BARE.to_owned()]).collect();
    let routes = Routes::open(&all).await?;
    let (stable, canary) = (Service::start("v1", "stable").await?, Service::start("v2", "canary").await?);
    let pages = |service: &Service| vec![format!("{}/metrics", service.url())];
    let metrics = json!({"scrape": {"stable": pages(&stable), "canary": pages(&canary), "every": "5s"}});
    let nats = Nats::start(NatsOptions::default()).await?;
    let bus = Bus::connect(&nats.url()).await?;
    let policies = names.iter().map(|name| routes::standing(name, &metrics, &json!({}), 50)).collect();
    let options = DaemonOptions {
        kubeconfig: Some(routes.kube.kubeconfig("sluice")),
        log: "warn".to_owned(),
        ..DaemonOptions::nats(&nats.url(), policies)
    };
    let daemon = Daemon::start(options).await?;
    stand(&bus, &daemon, &names).await?;

    let rows = measure(&routes, &bus, &names).await.with_context(|| daemon.log())?;
    let title = format!(
        "Override sent on NATS (request door) until the weight is written: HTTPRoute, {ROLLOUTS} rollouts running"
    );
    Ok(milliseconds(&title, &rows))
}

/// All announced, all at their step.
pub async fn stand(bus: &Bus, daemon: &Daemon, names: &[String]) -> Result<()> {
    for name in names {
        bus.announce(&rollout(name), "v2").await?;
    }
    for name in names {
        daemon.wait_for(&rollout(name), "to stand at its step", |view| view.phase == "observing").await?;
    }
    Ok(())
}

/// One override and one bare PATCH in turns, so that both meet the same machine.
async fn measure(routes: &Routes, bus: &Bus, names: &[String]) -> Result<Vec<Row>> {
    let mut set = Row::new("`set-weight`, until the API server's watch told of it");
    let mut answered = Row::new("`set-weight`, until it was answered (decided and saved)");
    let mut abort = Row::new("`abort`, until the watch told of weight 0");
    let mut bare = Row::new("one bare PATCH, until the watch told of it");
    let mut responded = Row::new("one bare PATCH, until it was answered");
    for turn in 0..WEIGHTS + names.len() {
        let name = &names[turn % names.len()];
        let last = turn >= WEIGHTS;
        let (action, percent) =
            if last { ("abort", 0.0) } else { ("set-weight", 10.0 + (turn / names.len()) as f64) };
        let known = routes.known();
        let begun = Instant::now();
        let body =
            if last { json!({"reason": "bench"}) } else { json!({"reason": "bench", "weight": percent}) };
        let (answer, told) = tokio::join!(
            async {
                let answer = bus.request("ann", &rollout(name), action, body).await;
                (answer, begun.elapsed())
            },
            routes.told(name, percent, known, begun)
        );
        let (answer, took) = answer;
        let answer = answer?;
        ensure!(answer.accepted, "{name}, {action}: {}", answer.message);
        if last {
            abort.took.push(told?);
        } else {
            set.took.push(told?);
            answered.took.push(took);
        }
        let (response, seen) = routes.patch(BARE, 1.0 + (turn % 90) as f64).await?;
        responded.took.push(response);
        bare.took.push(seen);
    }
    Ok(vec![set, abort, bare, answered, responded])
}
