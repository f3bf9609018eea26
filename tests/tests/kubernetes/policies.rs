//! Policies that stand in the cluster: served, shown, and refused with a reason.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rig::{Kube, wait};
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, LIMIT, PolicyText, World, story};

const DEFINITION: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/rolloutpolicies.json"));

/// The kind, as it is deployed.
async fn install(kube: &Kube) -> Result<()> {
    kube.define(DEFINITION).await
}

/// A shop whose daemon knows these files, and the policies in the shop's namespace.
async fn shop(label: &str, files: Vec<PolicyText>) -> Result<(World, Daemon)> {
    let world = World::open(label).await?;
    install(world.kube).await?;
    let daemon = world.daemon_of(vec![format!("--policies-from-cluster={}", world.namespace)], files).await?;
    Ok((world, daemon))
}

async fn apply(world: &World, policy: &Value) -> Result<()> {
    world.apply(&policy.to_string()).await
}

/// Waits until the status says of this generation what is wanted, and gives its words.
async fn judged(world: &World, generation: i64, status: &str) -> Result<String> {
    wait::until(&format!("generation {generation} to be judged {status}"), LIMIT, || async {
        let object = world.get("rolloutpolicy/checkout").await?;
        let accepted = &object["status"]["conditions"][0];
        let is_it = accepted["observedGeneration"] == generation && accepted["status"] == status;
        Ok(is_it.then(|| accepted["message"].as_str().unwrap_or_default().to_owned()))
    })
    .await
}

#[test]
fn a_policy_in_the_cluster_is_served_and_shows_how_its_rollout_stands() -> Result<()> {
    story(async {
        let (world, daemon) = shop("in-cluster", Vec::new()).await?;
        let _load = world.load().await?;
        let mark = world.kube.audit.mark()?;
        apply(&world, &world.policy_value(json!({}))).await?;
        judged(&world, 1, "True").await?;

        let rollout = world.rollout();
        let started = daemon.cli(&["start", &rollout, "--version", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&rollout).await);
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;

        // As a person sees it.
        world.wait_field("rolloutpolicy/checkout", "/status/rollout/phase", json!("promoted")).await?;
        let shown = world.kubectl(&["get", "rolloutpolicies"]).await?;
        for word in
            ["ACCEPTED", "RELEASE", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE", "True", "v2", "promoted"]
        {
            ensure!(shown.contains(word), "{word} is missing:\n{shown}");
        }
        // One that the API server was too busy for comes after those behind it.
        wait::until("the events up to the end", LIMIT, || async {
            let told = world.kubectl(&["describe", "rolloutpolicy", "checkout"]).await?;
            for word in ["PolicyAccepted", "Shifting", "Baking", "v2 at 25 %", "Promoted"] {
                ensure!(told.contains(word), "{word} is missing:\n{told}");
            }
            Ok(Some(()))
        })
        .await?;

        // Only the status was written, nothing holds the object back, and few writes were enough.
        let object = world.get("rolloutpolicy/checkout").await?;
        ensure!(object["metadata"]["generation"] == 1, "{object:#}");
        ensure!(object["metadata"]["finalizers"].is_null(), "{object:#}");
        let writes = world.kube.audit.by("sluice", &world.namespace, mark)?;
        let (statuses, others): (Vec<_>, Vec<_>) = writes
            .iter()
            .filter(|write| write.resource == "rolloutpolicies")
            .partition(|write| write.subresource == "status");
        ensure!(others.is_empty(), "{others:?}");
        // At most one a second, and only what has changed since: a release that takes longer has more of them.
        let changes = daemon.history(&rollout).await?.len();
        ensure!(statuses.len() <= changes.max(30), "{} statuses of {changes} changes", statuses.len());
        Ok(())
    })
}

#[test]
fn a_wrong_policy_changes_nothing_and_one_that_is_gone_holds_nothing_up() -> Result<()> {
    story(async {
        let (world, daemon) = shop("misfit", Vec::new()).await?;
        let long = json!({"steps": [{"weight": 10, "min": "10m", "max": "1h"}, {"weight": 50}]});
        let right = world.policy_value(long);
        apply(&world, &right).await?;
        judged(&world, 1, "True").await?;

        // What the API server itself sees.
        let mut two = right.clone();
        two["spec"]["target"]["webhook"] = json!({"url": "http://127.0.0.1:1"});
        for (wrong, words) in [
            (two, "write exactly one of httpRoute"),
            (changed(&right, "onDrift", json!("ignore")), "Unsupported value: \"ignore\""),
            (changed(&right, "onDirft", json!("report")), "unknown field \"spec.onDirft\""),
            (changed(&right, "steps", json!([])), "steps: write at least one"),
        ] {
            let refused = apply(&world, &wrong).await.err().context("it was taken")?;
            ensure!(format!("{refused:#}").contains(words), "{refused:#}");
        }
        // What only the daemon sees: its former generation stays, and is what a release gets.
        apply(&world, &changed(&right, "steps", json!([{"weight": 20}, {"weight": 5}]))).await?;
        let told = judged(&world, 2, "False").await?;
        ensure!(told.contains("spec.steps[1]") && told.ends_with("generation 1 stays in force"), "{told}");
        let abroad = world.shape.target();
        let mut abroad = json!({"httpRoute": abroad["httpRoute"]});
        abroad["httpRoute"]["namespace"] = json!("default");
        apply(&world, &changed(&right, "target", abroad)).await?;
        let told = judged(&world, 3, "False").await?;
        ensure!(told.contains("objects of its own namespace"), "{told}");
        // Who may write policies is not therefore somebody who may run images or read secrets.
        let job = json!([{"name": "smoke", "job": {"image": "registry.example/tests:1"}}]);
        apply(&world, &changed(&right, "gates", job)).await?;
        let told = judged(&world, 4, "False").await?;
        ensure!(
            told.contains("spec.gates[0].job: ") && told.contains("--cluster-policies-may jobs"),
            "{told}"
        );
        apply(&world, &changed(&right, "alerts", json!([{"slack": {"urlFile": "bank/slack-url"}}]))).await?;
        let told = judged(&world, 5, "False").await?;
        ensure!(told.contains("spec.alerts[0].slack.urlFile: bank/slack-url is a secret"), "{told}");
        let rollout = world.rollout();
        world.bus.announce(&rollout, "v2").await?;
        daemon.wait_for(&rollout, "to stand at 10 %", |view| view.phase == "observing").await?;
        world.wait_field("rolloutpolicy/checkout", "/status/rollout/weight", json!("10 %")).await?;

        // Gone at once, and the rollout goes on under what it began with.
        world.kubectl(&["delete", "rolloutpolicy", "checkout", "--timeout=20s"]).await?;
        daemon.stays(&rollout, "observing", World::A_WHILE, |view| view.phase == "observing").await?;
        let aborted = daemon.cli(&["abort", &rollout, "--reason", "enough"]).await?;
        ensure!(aborted.code == 0, "{aborted:?}");
        let ended = daemon.wait_for_end(&rollout).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        let refused = daemon.cli(&["start", &rollout, "--version", "v3"]).await?;
        ensure!(refused.code == 1 && refused.text().contains("no policy"), "{refused:?}");
        Ok(())
    })
}

fn changed(policy: &Value, field: &str, value: Value) -> Value {
    let mut policy = policy.clone();
    policy["spec"][field] = value;
    policy
}

#[test]
fn of_a_file_and_an_object_of_one_name_the_file_counts_and_the_object_says_so() -> Result<()> {
    story(async {
        let world = World::open("name-taken").await?;
        install(world.kube).await?;
        let by_file =
            world.policy(json!({"steps": [{"weight": 20, "min": "10m", "max": "1h"}, {"weight": 50}]}));
        let more = vec![format!("--policies-from-cluster={}", world.namespace)];
        let daemon = world.daemon_of(more, vec![by_file]).await?;
        apply(&world, &world.policy_value(json!({}))).await?;
        let told = judged(&world, 1, "False").await?;
        ensure!(told.contains("files come first"), "{told}");
        world.bus.announce(&world.rollout(), "v2").await?;
        daemon.wait_for(&world.rollout(), "to stand at 20 %", |view| view.weight.percent() == 20.0).await?;
        let object = world.get("rolloutpolicy/checkout").await?;
        ensure!(object["status"]["rollout"].is_null(), "another policy's rollout: {object:#}");
        Ok(())
    })
}
