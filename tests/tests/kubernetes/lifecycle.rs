//! Versions without a router: one word in the policy, hooks around the replacement, revisions to go back to, triggers that
//! are off after an undo.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rollout::{Outcome, RolloutId};
use sluice_tests::world::IMAGE;
use sluice_tests::{Daemon, World, cli, story};

fn image(version: &str) -> Value {
    json!(format!("registry.example/checkout:{version}"))
}

async fn canary_gets(world: &World, version: &str) -> Result<()> {
    let image = format!("app=registry.example/checkout:{version}");
    world.kubectl(&["set", "image", "deployment/checkout-canary", &image]).await.map(drop)
}

/// The end of a rollout other than `before`.
pub(crate) async fn next_end(
    daemon: &Daemon,
    rollout: &str,
    before: &RolloutId,
) -> Result<(RolloutId, Option<Outcome>)> {
    let another = |view: &sluice_wire::view::RolloutView| view.rollout != *before && view.outcome.is_some();
    let view = daemon.wait_for(rollout, "to end anew", another).await?;
    Ok((view.rollout, view.outcome))
}

/// Sizes that stable was to have, each once, in the order in which the API server told them.
fn sizes(watch: &sluice_rig::kube::Watch) -> Vec<u64> {
    let of_stable = watch.events().into_iter().filter(|seen| seen.name() == "checkout");
    let mut sizes: Vec<u64> = of_stable.filter_map(|seen| seen.object["spec"]["replicas"].as_u64()).collect();
    sizes.dedup();
    sizes
}

fn hook(name: &str, image: &str) -> Value {
    json!([{"name": name, "job": {"image": format!("registry.example/{image}:1")}}])
}

#[test]
fn stable_is_recreated_between_its_hooks_and_an_undo_goes_back_past_what_was_put_back() -> Result<()> {
    story(async {
        let world = World::open("lifecycle").await?;
        let in_place = |spec: Value| {
            let mut all =
                json!({"target": {"httpRoute": null, "inPlace": {"name": "checkout"}}, "steps": []});
            sluice_tests::policy::merge(&mut all, spec);
            all
        };
        let usual = in_place(json!({"strategy": "recreate", "trigger": {"on": "image", "settle": "1s"},
            "hooks": {"pre": hook("pre", "ok"), "mid": hook("mid", "ok"), "post": hook("post", "ok")}}));
        let strict = in_place(json!({"strategy": "rolling", "hooks": {"post": hook("tests", "fails")},
            "workloads": {"replace": {"rolling": {"maxSurge": 1, "maxUnavailable": 0}}}}));
        let own = in_place(json!({"strategy": "custom",
            "workloads": {"replace": {"custom": {"image": "registry.example/fails:1"}}}}));
        let named = |name: &str, spec: Value| {
            let mut policy = world.policy_value(spec);
            policy["metadata"]["name"] = json!(name);
            sluice_tests::PolicyText::of(&policy)
        };
        let policies = vec![world.policy(usual), named("strict", strict), named("own-deployer", own)];
        let deployments =
            world.kube.watch(&format!("/apis/apps/v1/namespaces/{}/deployments", world.namespace)).await?;
        let daemon = world.daemon_with(policies).await?;
        let rollout = world.rollout();
        let stands = |version: &str| world.wait_field("deployment/checkout", IMAGE, image(version));

        let validated = cli::sluice(&["validate", &daemon.policies().display().to_string()], &[]).await?;
        let words = "strategy recreate: no weights and nothing judged beside it, promote: copyTemplate";
        ensure!(validated.text().contains(words), "{validated:?}");

        let started = daemon.cli(&["start", &rollout, "--version", "v2", "--wait"]).await?;
        ensure!(started.code == 0, "{started:?}\n{}", daemon.account(&rollout).await);
        stands("v2").await?;
        // The watch may tell of the last size after the command has told of the end.
        let told = || async { Ok((sizes(&deployments) == [3, 0, 1, 3]).then_some(())) };
        let sizes_told = sluice_rig::wait::until("stable's sizes", sluice_tests::LIMIT, told).await;
        sizes_told.with_context(|| format!("{:?}", sizes(&deployments)))?;
        for hook in ["pre", "mid", "post"] {
            let jobs = world
                .kubectl(&["get", "jobs", "-l", &format!("sluice.dev/gate={hook}"), "-o", "name"])
                .await?;
            ensure!(jobs.lines().count() == 1, "hook {hook}: {jobs}");
        }
        let first = daemon.view(&rollout).await?.rollout;

        canary_gets(&world, "v3").await?;
        let (triggered, outcome) = next_end(&daemon, &rollout, &first).await?;
        ensure!(outcome == Some(Outcome::Promoted), "{}", daemon.account(&rollout).await);
        stands("v3").await?;

        let undone = daemon.cli(&["undo", &rollout, "--reason", "INC-17"]).await?;
        ensure!(undone.code == 0 && undone.text().contains("back to revision 2"), "{undone:?}");
        ensure!(undone.text().contains("triggers are off"), "{undone:?}");
        let (undo, outcome) = next_end(&daemon, &rollout, &triggered).await?;
        ensure!(outcome == Some(Outcome::Promoted), "{}", daemon.account(&rollout).await);
        stands("v2").await?;
        canary_gets(&world, "v4").await?;
        let off =
            || async { Ok(daemon.log().contains("it was changed while its triggers are off").then_some(())) };
        sluice_rig::wait::until("a change that starts nothing", sluice_tests::LIMIT, off).await?;
        ensure!(daemon.view(&rollout).await?.rollout == undo, "the change began a rollout");

        let strict = format!("{}/strict", world.namespace);
        let failed = daemon.cli(&["start", &strict, "--version", "v4", "--wait"]).await?;
        ensure!(failed.code == 1 && failed.text().contains("gate tests says no"), "{failed:?}");
        stands("v2").await?;
        let kubeconfig = world.kube.kubeconfig("sluice").display().to_string();
        let deployment = format!("{}/checkout", world.namespace);
        let listed = cli::sluice(&["revisions", &deployment, "--kubeconfig", &kubeconfig], &[]).await?;
        let line = |of: &str| {
            listed.stdout.lines().find(|line| line.contains(of)).context("not listed").map(str::to_owned)
        };
        ensure!(
            line("checkout:v4")?.contains("put back") && line("checkout:v2")?.contains("current"),
            "{listed:?}"
        );

        let own = format!("{}/own-deployer", world.namespace);
        let failed = daemon.cli(&["start", &own, "--version", "v4", "--wait"]).await?;
        ensure!(failed.code == 1 && failed.text().contains("the custom deployment failed"), "{failed:?}");
        stands("v2").await?;

        let wrong = daemon.cli(&["undo", &rollout, "--to-revision", "99"]).await?;
        ensure!(wrong.code == 1 && wrong.text().contains("no revision 99"), "{wrong:?}");
        let (status, answer) =
            daemon.post(&format!("/api/v1/rollouts/{rollout}/undo"), &json!({"id": "u-2"})).await?;
        ensure!(status == 200 && answer["message"].to_string().contains("checkout:v3"), "{status} {answer}");
        let (undo, _) = next_end(&daemon, &rollout, &undo).await?;
        stands("v3").await?;
        let again = daemon.post(&format!("/api/v1/rollouts/{rollout}/undo"), &json!({"id": "u-2"})).await?;
        ensure!(
            again.0 == 200 && again.1["rollout"] == answer["rollout"],
            "a repeat has no second effect: {again:?}"
        );
        let named = daemon.cli(&["undo", &rollout, "--to-revision", "1"]).await?;
        ensure!(named.code == 0, "{named:?}");
        let (undo, _) = next_end(&daemon, &rollout, &undo).await?;
        stands("v1").await?;

        let on = daemon.cli(&["triggers-on", &rollout]).await?;
        ensure!(on.code == 0 && on.text().contains("are on"), "{on:?}");
        canary_gets(&world, "v5").await?;
        let (_, outcome) = next_end(&daemon, &rollout, &undo).await?;
        ensure!(outcome == Some(Outcome::Promoted), "{}", daemon.account(&rollout).await);
        stands("v5").await
    })
}
