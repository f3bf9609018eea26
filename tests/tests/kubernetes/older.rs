//! The same on Debian's nats-server 2.9.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::nats::Release;
use sluice_rollout::Outcome;
use sluice_tests::world::WorldOptions;
use sluice_tests::{World, story};

async fn open(label: &str) -> Result<World> {
    World::with(label, WorldOptions { nats: Some(Release::Debian), ..WorldOptions::default() }).await
}

#[test]
fn a_good_release_is_promoted() -> Result<()> {
    story(async {
        let world = open("older-good").await?;
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        let started = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        let finished = world.finished(1).await?;
        ensure!(finished.len() == 1 && finished[0].outcome == Some(Outcome::Promoted), "{finished:?}");
        Ok(())
    })
}

#[test]
fn a_rollout_outlives_its_daemon_and_both_doors_reach_it_again() -> Result<()> {
    story(async {
        let world = open("older-doors").await?;
        let mut daemon = world.standing_at_ten(json!({})).await?;
        daemon.kill9();
        daemon.start_again().await?;
        daemon.wait_for(&world.rollout(), "to stand at 10 % again", |view| view.phase == "observing").await?;
        let paused = world.bus.request("ann", &world.rollout(), "pause", json!({"reason": "look"})).await?;
        ensure!(paused.accepted, "{paused:?}");
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        world.wait_put_back().await
    })
}
