//! Releases that nobody announces: a changed image of the canary's workload.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::wait;
use sluice_rollout::{Outcome, RolloutId};
use sluice_tests::{Daemon, LIMIT, World, story};
use sluice_wire::view::RolloutView;

async fn set_image(world: &World, version: &str) -> Result<()> {
    let image = format!("app=registry.example/checkout:{version}");
    world.kubectl(&["set", "image", "deployment/checkout-canary", &image]).await.map(drop)
}

/// The end of a rollout that is not `before`.
async fn promoted(
    daemon: &Daemon,
    rollout: &str,
    version: &str,
    before: Option<&RolloutView>,
) -> Result<RolloutView> {
    let another = |view: &RolloutView| before.is_none_or(|before| before.rollout != view.rollout);
    let what = format!("to end with {version}");
    let end = daemon.wait_for(rollout, &what, |view| another(view) && view.outcome.is_some()).await?;
    let as_wanted = end.outcome == Some(Outcome::Promoted) && end.release.as_deref() == Some(version);
    ensure!(as_wanted, "{end:?}\n{}", daemon.account(rollout).await);
    Ok(end)
}

#[test]
fn a_changed_image_is_a_release_once_whoever_looks_and_whenever() -> Result<()> {
    story(async {
        let world = World::open("trigger").await?;
        let _load = world.load().await?;
        let quick = json!({"trigger": {"on": "image", "settle": "1s"}, "steps": [{"weight": 50}]});
        let mut daemon = world.daemon(quick).await?;
        let rollout = world.rollout();
        let looks =
            || async { Ok(daemon.log().contains("its changes start rollouts from now on").then_some(())) };
        wait::until("the daemon to look", LIMIT, looks).await?;
        ensure!(daemon.views().await?.is_empty(), "what was there before started a rollout");

        set_image(&world, "v3").await?;
        let first = promoted(&daemon, &rollout, "checkout:v3", None).await?;

        // Neither the promotion nor the canary's end nor a restart is a release.
        world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await?;
        world.kubectl(&["rollout", "restart", "deployment/checkout-canary"]).await?;
        let same = |view: &RolloutView| view.rollout == first.rollout;
        daemon.stays(&rollout, "as it ended", World::A_WHILE, same).await?;

        // Changed while nobody looks: found at the next start, and only once.
        daemon.stop().await?;
        set_image(&world, "v4").await?;
        daemon.start_again().await?;
        let second = promoted(&daemon, &rollout, "checkout:v4", Some(&first)).await?;
        daemon.kill9();
        daemon.start_again().await?;
        let same = |view: &RolloutView| view.rollout == second.rollout;
        daemon.stays(&rollout, "as it ended", World::A_WHILE, same).await?;
        let told = world.finished(2).await?;
        let known = |id: &RolloutId| *id == first.rollout || *id == second.rollout;
        ensure!(told.iter().all(|end| known(&end.rollout)), "{told:?}");
        world
            .wait_field(
                "deployment/checkout",
                sluice_tests::world::IMAGE,
                json!("registry.example/checkout:v4"),
            )
            .await
    })
}
