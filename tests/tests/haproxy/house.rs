//! What CI, a person and a page ask of the daemon over HTTP, beyond what the shared harness has.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use sluice_rig::http;
use sluice_tests::{Daemon, DaemonOptions, LIMIT, Output, PolicyText};
use sluice_wire::message::Answer;
use sluice_wire::view::RolloutView;

use crate::shop::Shop;

/// After the last event, what else is kept comes without a pause.
const NO_PAUSE: Duration = Duration::from_millis(500);

/// A daemon with its bus in a file, and these policies.
pub async fn run(policies: Vec<PolicyText>) -> Result<Daemon> {
    Daemon::start(DaemonOptions::embedded(policies)).await
}

/// Announces a release as a CI job does, and follows it to its end.
pub async fn start_and_wait(daemon: &Daemon, shop: &Shop, version: &str) -> Result<Output> {
    daemon.cli(&["start", &shop.rollout(), "--version", version, "--attempt", version, "--wait"]).await
}

/// An announcement; its id, version and attempt are one.
pub fn announcement(version: &str) -> Value {
    json!({
        "specversion": "1.0", "id": version, "source": "ci", "type": "dev.sluice.release.announced",
        "data": {"version": version, "attempt": version},
    })
}

/// `POST /events/NAMESPACE/NAME`; it has to be accepted.
pub async fn announce(daemon: &Daemon, shop: &Shop, version: &str) -> Result<Answer> {
    let (status, body) = daemon.post(&format!("/events/{}", shop.rollout()), &announcement(version)).await?;
    if status != 202 {
        bail!("the announcement of {version} came to {status}: {body}");
    }
    Ok(serde_json::from_value(body)?)
}

/// A person's command, accepted or refused.
pub async fn command(daemon: &Daemon, rollout: &str, action: &str, body: Value) -> Result<Answer> {
    let (status, answer) = daemon.post(&format!("/api/v1/rollouts/{rollout}/{action}"), &body).await?;
    serde_json::from_value(answer.clone()).with_context(|| format!("{status}, no answer: {answer}"))
}

/// Waits until the canary's weight was read back as this.
pub async fn until_weight(daemon: &Daemon, shop: &Shop, percent: f64) -> Result<RolloutView> {
    let reached = |view: &RolloutView| view.read_back.is_some_and(|weight| weight.percent() == percent);
    daemon.wait_for(&shop.rollout(), &format!("to have weight {percent} %"), reached).await
}

/// The kinds of events that were told of an attempt, in order, each with its id: `GET /events` from the beginning, until
/// its last one and whatever else is kept.
pub async fn told(daemon: &Daemon, shop: &Shop, attempt: &str) -> Result<Vec<Value>> {
    let (namespace, name) = (crate::shop::NAMESPACE, &shop.name);
    let url = format!("{}/events?namespace={namespace}&name={name}&after=0", daemon.url());
    let mut stream = http::client()?.get(url).timeout(LIMIT).send().await?.bytes_stream();
    let (mut text, mut told) = (String::new(), Vec::<Value>::new());
    let ours = |event: &Value| event["data"]["rollout"] == shop.attempt(attempt);
    loop {
        let ended = told.iter().any(|event| ours(event) && is_last(event));
        match tokio::time::timeout(if ended { NO_PAUSE } else { LIMIT }, stream.next()).await {
            Ok(Some(part)) => text.push_str(&String::from_utf8_lossy(&part?)),
            Ok(None) | Err(_) if ended => return Ok(told.into_iter().filter(ours).collect()),
            Ok(None) | Err(_) => bail!("the events ended before {} did: {told:?}", shop.attempt(attempt)),
        }
        while let Some(end) = text.find("\n\n") {
            let frame: String = text.drain(..end + 2).collect();
            let data = frame.lines().find_map(|line| line.strip_prefix("data:"));
            told.extend(data.map(serde_json::from_str::<Value>).transpose()?);
        }
    }
}

/// What was put back has drained after its terminal event.
fn is_last(event: &Value) -> bool {
    match event["type"].as_str().unwrap_or_default() {
        "dev.sluice.rollout.finished" => event["data"]["outcome"] != "reverted",
        "dev.sluice.rollout.drained" => true,
        _ => false,
    }
}

/// The last word of each event's type.
pub fn kinds(told: &[Value]) -> Vec<String> {
    let kind = |event: &Value| {
        event["type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned()
    };
    told.iter().map(kind).collect()
}

/// Every event was told under an id of its own, and the terminal one once.
pub fn once_each(told: &[Value]) -> Result<()> {
    let ids: BTreeSet<&str> = told.iter().filter_map(|event| event["id"].as_str()).collect();
    let kinds = kinds(told);
    ensure!(ids.len() == told.len(), "an event was told twice: {kinds:?}");
    ensure!(kinds.iter().filter(|kind| *kind == "finished").count() == 1, "{kinds:?}");
    Ok(())
}
