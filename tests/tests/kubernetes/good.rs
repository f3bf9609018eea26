//! A release that is as good as the version before it.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::Outcome;
use sluice_tests::world::owners_part;
use sluice_tests::{World, story};

#[test]
fn a_good_release_is_opened_step_by_step_and_promoted() -> Result<()> {
    story(async {
        let world = World::open("good").await?;
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.daemon(json!({})).await?;

        let started =
            daemon.cli(&["start", &world.rollout(), "--version", "v2", "--attempt", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&world.rollout()).await);

        // The weights in order, and at the end the owner's own again, with nothing else changed on the way.
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        let strip = |object| owners_part(&world.shape.without_weights(object));
        for seen in world.routes.events().iter().filter(|seen| seen.name() == "checkout") {
            ensure!(strip(&seen.object) == strip(&before), "changed: {:#}", seen.object);
        }
        world.wait_as_before(&before).await?;

        // Stable is the new version, whole; the canary is gone.
        let image = "/spec/template/spec/containers/0/image";
        world.wait_field("deployment/checkout", image, json!("registry.example/checkout:v2")).await?;
        world.wait_field("deployment/checkout", "/status/availableReplicas", json!(3)).await?;
        world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await?;

        // Told once, with a history from request to end; on-call was never bothered.
        let finished = world.finished(1).await?;
        ensure!(finished.len() == 1 && finished[0].outcome == Some(Outcome::Promoted), "{finished:?}");
        daemon.wait_history(&world.rollout(), "its end", |line| line.phase == "promoted").await?;
        let history = daemon.history(&world.rollout()).await?;
        ensure!(history.first().is_some_and(|line| line.event == "requested"), "{history:?}");
        ensure!(world.notified("aborting").await?.is_empty(), "on-call was told of an abort");
        Ok(())
    })
}
