//! A pipeline with a Deployment for each version: deploy new, health check, switch, test, remove old; or switch back and
//! remove new. The policy names no version; each release does.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::Outcome;
use sluice_tests::world::{Shape, WorldOptions};
use sluice_tests::{World, story};
use sluice_wire::view::RolloutView;

/// Its Job is one that fails (see the rig's stages).
const FAILS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout-fails}
spec:
  replicas: 0
  selector: {matchLabels: {app: checkout-fails}}
  template:
    metadata: {labels: {app: checkout-fails, version: v3}}
    spec: {containers: [{name: app, image: 'registry.example/checkout:v3'}]}
";

#[test]
fn a_version_that_passes_its_tests_replaces_the_old_one_and_one_that_fails_them_is_switched_back()
-> Result<()> {
    story(async {
        let options = WorldOptions { shape: Shape::Service, ..WorldOptions::default() };
        let world = World::with("pipeline", options).await?;
        let _load = world.load().await?;
        let version = |name: &str| json!({"app": format!("checkout-{name}")});
        let daemon = world
            .daemon(json!({
                "target": {"service": {"stable": version("${stable}"), "canary": version("${version}")}},
                "workloads": {"stable": {"deployment": "checkout-${stable}"}, "canary": {"deployment": "checkout-${version}"}},
                "gates": [{"name": "pre", "failurePolicy": "ignore", "job": {"image": "registry.example/fails:1"}}],
                "promoteGates": [{"name": "tests", "job": {"image": "registry.example/${version}:1"}}],
            }))
            .await?;
        let start = async |args: &[&str]| {
            daemon.cli(&[&["start", &world.rollout(), "--wait", "--version"], args].concat()).await
        };
        let unknown = start(&["green"]).await?;
        ensure!(unknown.code == 1 && unknown.text().contains("start --from"), "{unknown:?}");

        let good = start(&["green", "--from", "blue"]).await?;
        ensure!(good.code == 0, "{good:?}\n{}", daemon.account(&world.rollout()).await);
        world.wait_field("service/checkout", "/spec/selector/app", json!("checkout-green")).await?;
        world.wait_field("deployment/checkout-green", "/status/availableReplicas", json!(3)).await?;
        world.wait_field("deployment/checkout-blue", "/spec/replicas", json!(0)).await?;

        world.apply(FAILS).await?;
        let bad = start(&["fails"]).await?;
        ensure!(bad.code == 1, "{bad:?}\n{}", daemon.account(&world.rollout()).await);
        ensure!(bad.text().contains("gate tests says no") && bad.text().contains("logs job/"), "{bad:?}");
        world.wait_field("service/checkout", "/spec/selector/app", json!("checkout-green")).await?;
        world.wait_field("deployment/checkout-fails", "/spec/replicas", json!(0)).await?;
        world.wait_field("deployment/checkout-green", "/spec/replicas", json!(3)).await?;

        // The Job is the operator's choice, whoever asks for it again.
        let again = daemon.cli(&["retry", &world.rollout(), "--reason", "it was the network"]).await?;
        ensure!(again.code == 0, "{again:?}");
        let second = |view: &RolloutView| {
            view.rollout.attempt().ends_with("-r2") && view.outcome == Some(Outcome::Reverted)
        };
        let view = daemon.wait_for(&world.rollout(), "to be switched back again", second).await?;
        ensure!(view.reason.contains("gate tests says no"), "{}", view.reason);
        Ok(())
    })
}
