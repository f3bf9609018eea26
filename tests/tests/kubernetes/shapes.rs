//! The same pair of stories, good and bad, for the other targets and promotions.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::Outcome;
use sluice_tests::world::{IMAGE, Shape, WorldOptions, owners_part};
use sluice_tests::{World, story};

#[test]
fn a_virtual_service_is_opened_step_by_step_and_put_back_as_its_owner_wrote_it() -> Result<()> {
    story(async {
        let world = open("mesh-good", Shape::VirtualService).await?;
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.daemon(json!({})).await?;
        let started = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        let strip = |object| owners_part(&world.shape.without_weights(object));
        for seen in world.routes.events().iter().filter(|seen| seen.name() == "checkout") {
            ensure!(strip(&seen.object) == strip(&before), "changed: {:#}", seen.object);
        }
        world.wait_as_before(&before).await?;
        world.wait_field("deployment/checkout", IMAGE, json!("registry.example/checkout:v2")).await?;
        world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await
    })
}

#[test]
fn subsets_are_opened_again_after_gitops_has_written_the_virtual_service_back() -> Result<()> {
    story(async {
        let world = open("subsets", Shape::Subsets).await?;
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        world.wait_now(10.0).await?;
        world.gitops_writes(0, 100).await?;
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0]).await?;
        let full = daemon.cli(&["promote-full", &world.rollout(), "--reason", "seen enough"]).await?;
        ensure!(full.code == 0, "{full:?}");
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(
            ended.outcome == Some(Outcome::Promoted),
            "{ended:?}\n{}",
            daemon.account(&world.rollout()).await
        );
        world.wait_as_before(&before).await?;
        world.wait_field("deployment/checkout", IMAGE, json!("registry.example/checkout:v2")).await
    })
}

#[test]
fn errors_behind_a_virtual_service_are_aborted() -> Result<()> {
    story(async { aborted(open("mesh-bad", Shape::VirtualService).await?).await })
}

#[test]
fn a_flip_from_blue_to_green_is_watched_and_blue_goes() -> Result<()> {
    story(async {
        let world = open("flip-good", Shape::Service).await?;
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.daemon(json!({})).await?;
        let started = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_weights(&[0.0, 100.0]).await?;
        let strip = |object| owners_part(&world.shape.without_weights(object));
        ensure!(strip(&world.route().await?) == strip(&before), "more than the selector changed");
        world.wait_field("deployment/checkout-green", "/status/availableReplicas", json!(3)).await?;
        world.wait_field("deployment/checkout-blue", "/spec/replicas", json!(0)).await
    })
}

#[test]
fn a_flip_to_a_green_that_breaks_its_objective_is_flipped_back() -> Result<()> {
    story(async { aborted(open("flip-bad", Shape::Service).await?).await })
}

#[test]
fn a_pool_group_is_drained_to_one_version_and_the_next_release_reverses_the_roles() -> Result<()> {
    story(async {
        let world = open("pools", Shape::PoolGroup).await?;
        let _load = world.load().await?;
        let strip = |object| owners_part(&world.shape.without_weights(object));
        let before = world.route().await?;
        let daemon = world.daemon(json!({})).await?;
        let release = async |version: &str| {
            let started = daemon.cli(&["start", &world.rollout(), "--version", version, "--wait"]).await?;
            ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&world.rollout()).await);
            Ok(())
        };
        release("v2").await?;
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 100.0]).await?;
        ensure!(world.shape.backends(&world.route().await?) == ratios(0, 1), "{:?}", world.route().await?);
        world.wait_field("deployment/checkout", "/spec/replicas", json!(0)).await?;
        world.wait_field("deployment/checkout-canary", "/status/availableReplicas", json!(3)).await?;

        world.kubectl(&["set", "image", "deployment/checkout", "app=registry.example/checkout:v3"]).await?;
        release("v3").await?;
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 100.0, 90.0, 75.0, 50.0, 10.0, 0.0]).await?;
        ensure!(world.shape.backends(&world.route().await?) == ratios(1, 0), "{:?}", world.route().await?);
        world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await?;
        world.wait_field("deployment/checkout", "/status/availableReplicas", json!(3)).await?;
        for seen in world.routes.events().iter().filter(|seen| seen.name() == "checkout") {
            ensure!(strip(&seen.object) == strip(&before), "more than the ratios changed: {:#}", seen.object);
        }
        Ok(())
    })
}

/// Of `checkout`, and of `checkout-canary`.
fn ratios(first: u64, second: u64) -> Vec<(String, u64)> {
    vec![("checkout".to_owned(), first), ("checkout-canary".to_owned(), second)]
}

#[test]
fn without_a_router_the_canarys_share_of_the_pods_is_its_weight() -> Result<()> {
    story(async {
        let world = open("replicas-good", Shape::Replicas).await?;
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        let started = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_weights(&[0.0, 25.0, 50.0, 0.0]).await?;
        world.wait_field("deployment/checkout-main", IMAGE, json!("registry.example/checkout:v2")).await?;
        world.wait_field("deployment/checkout-main", "/status/availableReplicas", json!(3)).await
    })
}

#[test]
fn errors_of_a_pod_without_a_router_are_aborted_while_an_autoscaler_gives_stable_more() -> Result<()> {
    story(async {
        let world = open("replicas-bad", Shape::Replicas).await?;
        world.apply(AUTOSCALER).await?;
        let _load = world.load().await?;
        let long = json!({"steps": [{"weight": 25, "min": "10m", "max": "1h"}]});
        let daemon = world.daemon(long).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        daemon.wait_for(&world.rollout(), "to stand at 25 %", |view| view.phase == "observing").await?;
        world.wait_field("hpa/checkout-main", "/spec/minReplicas", json!(3)).await?;
        // What an autoscaler does: the canary's one pod has a smaller share then, and that is nobody's drift.
        world.kubectl(&["scale", "deployment/checkout-main", "--replicas=5"]).await?;
        world.fleet.wait_until_ready(world.shape.stable_label(), 5, sluice_tests::LIMIT).await?;
        world.behaviour("v2").set_error_share(0.5);
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted) && ended.reason.contains("errors"), "{ended:?}");
        world.wait_weights(&[0.0, 25.0, 0.0]).await?;
        let history = daemon.history(&world.rollout()).await?;
        ensure!(!history.iter().any(|line| line.reason.contains("in five minutes")), "a drift: {history:?}");
        world.wait_field("hpa/checkout-main", "/spec/minReplicas", json!(1)).await
    })
}

const AUTOSCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: checkout-main}
spec:
  minReplicas: 1
  maxReplicas: 10
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: checkout-main}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
";

#[test]
fn an_external_promotion_is_waited_for() -> Result<()> {
    story(async {
        let world = World::open("external").await?;
        let _load = world.load().await?;
        let daemon = world.daemon(json!({"workloads": {"promote": "external"}})).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        let promoting = |view: &sluice_wire::view::RolloutView| view.phase == "promoting";
        daemon.wait_for(&world.rollout(), "to promote", promoting).await?;
        daemon
            .stays(&world.rollout(), "promoting until somebody has done it", World::A_WHILE, promoting)
            .await?;
        // The pipeline's own deployment of the new version.
        let image = "deployment/checkout app=registry.example/checkout:v2";
        let args: Vec<&str> = ["set", "image"].into_iter().chain(image.split(' ')).collect();
        world.kubectl(&args).await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(
            ended.outcome == Some(Outcome::Promoted),
            "{ended:?}\n{}",
            daemon.account(&world.rollout()).await
        );
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await
    })
}

async fn open(label: &str, shape: Shape) -> Result<World> {
    World::with(label, WorldOptions { shape, ..WorldOptions::default() }).await
}

/// Errors from 1 % to 10 %: back where it was, exit code 1, told once, on-call told and told that it is over.
async fn aborted(world: World) -> Result<()> {
    world.behaviour("v1").set_error_share(0.01);
    world.behaviour("v2").set_error_share(0.10);
    let _load = world.load().await?;
    let before = world.route().await?;
    let daemon = world.daemon(json!({})).await?;
    let ended = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
    ensure!(ended.code == 1, "{ended:?}\n{}", daemon.account(&world.rollout()).await);
    world.wait_shut().await?;
    world.wait_as_before(&before).await?;
    let finished = world.finished(1).await?;
    ensure!(finished.len() == 1 && finished[0].outcome == Some(Outcome::Reverted), "{finished:?}");
    world.wait_notified("aborting", &["firing", "resolved"]).await?;
    world.wait_put_back().await
}
