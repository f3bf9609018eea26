//! Releases that are worse than the version before them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::Outcome;
use sluice_tests::world::owners_part;
use sluice_tests::{Daemon, Output, World, story};

#[test]
fn a_release_with_ten_times_the_errors_is_aborted_and_put_back() -> Result<()> {
    story(async {
        let world = World::open("errors").await?;
        world.behaviour("v1").set_error_share(0.01);
        world.behaviour("v2").set_error_share(0.10);
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.daemon(json!({})).await?;
        let ended = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        put_back(&world, &daemon, &ended).await?;
        ensure!(owners_part(&world.route().await?) == owners_part(&before), "the route is not as it was");
        let reason = daemon.view(&world.rollout()).await?.reason;
        ensure!(reason.contains("error"), "the reason names no errors: {reason}");
        Ok(())
    })
}

#[test]
fn a_release_twice_as_slow_is_aborted_and_put_back() -> Result<()> {
    story(async {
        let world = World::open("slow").await?;
        world.behaviour("v1").set_latency(Duration::from_millis(40));
        world.behaviour("v2").set_latency(Duration::from_millis(80));
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        let ended = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        put_back(&world, &daemon, &ended).await
    })
}

/// Exit code 1, weight 0 as the last word, stable untouched, told once, and on-call told and told that it is over.
async fn put_back(world: &World, daemon: &Daemon, ended: &Output) -> Result<()> {
    let rollout = world.rollout();
    ensure!(ended.code == 1, "{ended:?}\n{}", daemon.account(&rollout).await);
    let weights = world.weights();
    ensure!(weights.last() == Some(&0.0) && weights.iter().any(|weight| *weight > 0.0), "{weights:?}");
    ensure!(!weights.contains(&90.0), "it came as far as the bake: {weights:?}");
    let finished = world.bus.told(&rollout, "finished")?;
    ensure!(finished.len() == 1 && finished[0].outcome == Some(Outcome::Reverted), "{finished:?}");
    world.wait_notified("aborting", &["firing", "resolved"]).await?;
    world.wait_quiet().await?;
    let image = "/spec/template/spec/containers/0/image";
    world.wait_field("deployment/checkout", image, json!("registry.example/checkout:v1")).await?;
    world.wait_field("deployment/checkout", "/spec/replicas", json!(3)).await?;
    world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await
}
