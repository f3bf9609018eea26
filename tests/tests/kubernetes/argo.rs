//! Argo Rollouts that Sluice drives, under Argo's own controller. The weights are those of the VirtualService that the controller
//! writes; what Sluice wrote stands in the API server's audit log.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rollout::Outcome;
use sluice_tests::world::{Shape, WorldOptions};
use sluice_tests::{Daemon, Output, World, story};

const ROLLOUT: &str = "rollouts.argoproj.io/checkout";

async fn open(label: &str, shape: Shape) -> Result<World> {
    let world = World::with(label, WorldOptions { shape, ..WorldOptions::default() }).await?;
    world.wait_field(ROLLOUT, "/status/phase", json!("Healthy")).await?;
    Ok(world)
}

/// CI's part: the new image.
async fn set_version(world: &World, version: &str) -> Result<()> {
    let patch = Shape::next(version);
    world.kubectl(&["patch", ROLLOUT, "--type=merge", "--patch", &patch]).await.map(drop)
}

async fn released(world: &World, daemon: &Daemon, version: &str) -> Result<Output> {
    daemon.cli(&["start", &world.rollout(), "--version", version, "--wait"]).await
}

#[test]
fn a_canary_is_driven_from_pause_to_pause_and_promoted_by_its_own_controller() -> Result<()> {
    story(async {
        let world = open("argo-good", Shape::ArgoRollout).await?;
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        let early = released(&world, &daemon, "v1").await?;
        ensure!(early.code == 1 && early.text().contains("nothing to roll out"), "{early:?}");

        set_version(&world, "v2").await?;
        let mark = world.kube.audit.mark()?;
        let ended = released(&world, &daemon, "v2").await?;
        ensure!(ended.code == 0, "{ended:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        let writes = world.kube.audit.by("sluice", &world.namespace, mark)?;
        ensure!(writes.iter().all(|write| write.resource == "rollouts"), "more than the Rollout: {writes:?}");
        let current = world.get(ROLLOUT).await?["status"]["currentPodHash"].clone();
        world.wait_field(ROLLOUT, "/status/stableRS", current).await?;
        ensure!(world.notified("aborting").await?.is_empty(), "on-call was told of an abort");
        world.finished(1).await.map(drop)
    })
}

#[test]
fn errors_are_aborted_and_a_retry_begins_anew() -> Result<()> {
    story(async {
        let world = open("argo-bad", Shape::ArgoRollout).await?;
        world.behaviour("v1").set_error_share(0.01);
        world.behaviour("v2").set_error_share(0.10);
        set_version(&world, "v2").await?;
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        let ended = released(&world, &daemon, "v2").await?;
        ensure!(ended.code == 1, "{ended:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_shut().await?;
        world.wait_field(ROLLOUT, "/status/abort", json!(true)).await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await?;

        world.behaviour("v2").set_error_share(0.01);
        let again = daemon.cli(&["retry", &world.rollout(), "--reason", "it was the database"]).await?;
        ensure!(again.code == 0, "{again:?}");
        let promoted = |view: &sluice_wire::view::RolloutView| view.outcome == Some(Outcome::Promoted);
        daemon.wait_for(&world.rollout(), "to be promoted", promoted).await?;
        world.wait_now(0.0).await
    })
}

#[test]
fn blue_becomes_green_and_a_green_that_breaks_its_objective_blue_again() -> Result<()> {
    story(async {
        let world = open("argo-green", Shape::ArgoBlueGreen).await?;
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        set_version(&world, "v2").await?;
        let good = released(&world, &daemon, "v2").await?;
        ensure!(good.code == 0, "{good:?}\n{}", daemon.account(&world.rollout()).await);
        let active = async || -> Result<Value> {
            Ok(world.get("service/checkout").await?["spec"]["selector"].clone())
        };
        let second = active().await?;

        world.behaviour("v3").set_error_share(0.10);
        set_version(&world, "v3").await?;
        let bad = released(&world, &daemon, "v3").await?;
        ensure!(bad.code == 1, "{bad:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_field("service/checkout", "/spec/selector", second).await?;
        let image = "/spec/template/spec/containers/0/image";
        world.wait_field(ROLLOUT, image, json!("registry.example/checkout:v2")).await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await
    })
}
