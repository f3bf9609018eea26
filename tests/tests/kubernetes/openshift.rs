//! Two DeploymentConfigs behind an OpenShift Route: released by weights, undone, and switched from blue to green and back by the
//! one name in the Route.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::world::{IMAGE, Shape, WorldOptions, owners_part};
use sluice_tests::{Daemon, LIMIT, PolicyText, World, story};

use crate::lifecycle::next_end;

const STABLE: &str = "deploymentconfigs.apps.openshift.io/checkout";
const CANARY: &str = "deploymentconfigs.apps.openshift.io/checkout-canary";
const ROUTE: &str = "routes.route.openshift.io/checkout";

fn image(version: &str) -> Value {
    json!(format!("registry.example/checkout:{version}"))
}

async fn edit(world: &World, what: &str, operation: Value) -> Result<()> {
    let patch = json!([operation]).to_string();
    world.kubectl(&["patch", what, "--type=json", "--patch", &patch]).await.map(drop)
}

/// What a pipeline does, or `oc set image`.
async fn gets(world: &World, what: &str, version: &str) -> Result<()> {
    edit(world, what, json!({"op": "replace", "path": IMAGE, "value": image(version)})).await
}

async fn released(daemon: &Daemon, rollout: &str, version: &str) -> Result<()> {
    let started = daemon.cli(&["start", rollout, "--version", version, "--wait"]).await?;
    ensure!(started.code == 0, "{started:?}\n{}", daemon.account(rollout).await);
    Ok(())
}

async fn says(daemon: &Daemon, words: &str) -> Result<()> {
    let said = || async { Ok(daemon.log().contains(words).then_some(())) };
    wait::until(words, LIMIT, said).await
}

/// One policy for weights, which a changed image starts; one for the same objects as blue and green, where the Route names one.
fn policies(world: &World) -> Vec<PolicyText> {
    let trigger = json!({"on": "image", "settle": "1s"});
    let weighted = world.policy(json!({"trigger": trigger, "steps": [{"weight": 50}]}));
    let mut switched = world
        .policy_value(json!({"strategy": "blueGreen", "steps": [], "workloads": {"promote": "swap"},
        "bake": {"for": "3s", "holdback": "0%"}, "analysis": {"slo": {"errors": "2%"}}}));
    switched["metadata"]["name"] = json!("blue-green");
    vec![weighted, PolicyText::of(&switched)]
}

#[test]
fn deployment_configs_behind_a_route_are_released_undone_and_switched_from_blue_to_green_and_back()
-> Result<()> {
    story(async {
        let options = WorldOptions { shape: Shape::Route, ..WorldOptions::default() };
        let world = World::with("openshift", options).await?;
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.daemon_with(policies(&world)).await?;
        let (weighted, switched) = (world.rollout(), format!("{}/blue-green", world.namespace));
        says(&daemon, "its changes start rollouts from now on").await?;

        // Weights over both, and stable's own controller rolls the promoted template out.
        released(&daemon, &weighted, "v2").await?;
        world.wait_weights(&[0.0, 50.0, 90.0, 0.0]).await?;
        world.wait_field(STABLE, IMAGE, image("v2")).await?;
        world.wait_field(STABLE, "/status/latestVersion", json!(2)).await?;
        world.wait_field(CANARY, "/spec/replicas", json!(0)).await?;
        world.wait_as_before(&before).await?;
        let strip = |object| owners_part(&world.shape.without_weights(object));
        for seen in world.routes.events().iter().filter(|seen| seen.name() == "checkout") {
            ensure!(strip(&seen.object) == strip(&before), "more than weights changed: {:#}", seen.object);
        }

        // Back to the version before, and the image that comes next starts nothing.
        let first = daemon.view(&weighted).await?.rollout;
        let undone = daemon.cli(&["undo", &weighted, "--reason", "INC-17"]).await?;
        ensure!(undone.code == 0 && undone.text().contains("back to revision 1"), "{undone:?}");
        ensure!(undone.text().contains("triggers are off"), "{undone:?}");
        let (undo, outcome) = next_end(&daemon, &weighted, &first).await?;
        ensure!(outcome == Some(Outcome::Promoted), "{}", daemon.account(&weighted).await);
        world.wait_field(STABLE, IMAGE, image("v1")).await?;
        gets(&world, CANARY, "v3").await?;
        says(&daemon, "it was changed while its triggers are off").await?;
        ensure!(daemon.view(&weighted).await?.rollout == undo, "the change began a rollout");

        // Blue and green: the Route names one version alone.
        edit(&world, ROUTE, json!({"op": "remove", "path": "/spec/alternateBackends"})).await?;
        released(&daemon, &switched, "v3").await?;
        world.wait_field(ROUTE, "/spec/to/name", json!("checkout-canary")).await?;
        world.wait_field(STABLE, "/spec/replicas", json!(0)).await?;
        world.wait_field(CANARY, "/status/availableReplicas", json!(3)).await?;
        gets(&world, STABLE, "v4").await?;
        released(&daemon, &switched, "v4").await?;
        world.wait_field(ROUTE, "/spec/to/name", json!("checkout")).await?;
        world.wait_field(CANARY, "/spec/replicas", json!(0)).await?;
        world.wait_field(STABLE, "/status/availableReplicas", json!(3)).await?;
        let spec = world.route().await?["spec"].clone();
        let alone = json!({"host": "shop.example", "port": {"targetPort": 80}, "to": before["spec"]["to"]});
        ensure!(without_defaults(&spec) == alone, "more than the name was switched: {spec}");

        // With triggers on again the next image is a release.
        let other = json!([{"kind": "Service", "name": "checkout-canary", "weight": 0}]);
        edit(&world, ROUTE, json!({"op": "add", "path": "/spec/alternateBackends", "value": other})).await?;
        let on = daemon.cli(&["triggers-on", &weighted]).await?;
        ensure!(on.code == 0 && on.text().contains("are on"), "{on:?}");
        gets(&world, CANARY, "v5").await?;
        let (_, outcome) = next_end(&daemon, &weighted, &undo).await?;
        ensure!(outcome == Some(Outcome::Promoted), "{}", daemon.account(&weighted).await);
        world.wait_field(STABLE, IMAGE, image("v5")).await
    })
}

/// What the Route's CRD fills in by itself.
fn without_defaults(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("wildcardPolicy");
    }
    spec
}
