//! `sluice backends` on a real Route, as a person uses it; and the same as a command to the daemon.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rig::kube::{Crds, deployed_rights};
use sluice_rig::page::Page;
use sluice_rig::{Kube, Nats, NatsOptions, wait};
use sluice_rollout::Outcome;
use sluice_tests::{Bus, Daemon, DaemonOptions, LIMIT, Output, PolicyText, cli, policy, story, world};
use sluice_wire::view::RolloutView;

#[test]
fn a_routes_weights_are_shown_and_adjusted() -> Result<()> {
    story(async {
        let kube = world::servers::shared().await?.kube;
        kube.install(Crds::Routers).await?;
        let namespace = kube.namespace("backends").await?;
        kube.apply(&namespace, &Page::read("openshift-route")?.objects).await?;
        let config = kube.kubeconfig(Kube::ADMIN).display().to_string();
        let ask = async |args: &[&str]| -> Result<Output> {
            let route = format!("{namespace}/checkout");
            cli::sluice(&[&["backends", &route, "--kubeconfig", &config], args].concat(), &[]).await
        };
        let shown = ask(&[]).await?;
        ensure!(shown.code == 0 && shown.stdout.contains("100.0 %"), "{shown:?}");
        let adjusted = ask(&["--adjust", "checkout-canary=+15%", "-o", "json"]).await?;
        let backends = adjusted.json()?["backends"].clone();
        ensure!(backends[0]["weight"] == 85 && backends[1]["weight"] == 15, "{adjusted:?}");
        let equal = ask(&["--equal", "-o", "json"]).await?;
        ensure!(equal.json()?["backends"][1]["weight"] == 100, "{equal:?}");

        let unknown = ask(&["--adjust", "nowhere=5%"]).await?;
        ensure!(
            unknown.code == 2 && unknown.stderr.contains("they are checkout, checkout-canary"),
            "{unknown:?}"
        );
        let both = ask(&["--equal", "--zero"]).await?;
        ensure!(both.code == 2, "{both:?}");
        let missing =
            cli::sluice(&["backends", "nowhere", "-n", &namespace, "--kubeconfig", &config], &[]).await?;
        ensure!(missing.code == 2 && missing.stderr.contains("kubectl -n"), "{missing:?}");
        Ok(())
    })
}

#[test]
fn a_route_is_adjusted_by_message_while_no_rollout_runs() -> Result<()> {
    story(async {
        let kube = world::servers::shared().await?.kube;
        kube.install(Crds::Routers).await?;
        let namespace = kube.namespace("by-message").await?;
        let objects = [deployed_rights()?, Page::read("openshift-route")?.objects, SERVICES.to_owned()];
        kube.apply(&namespace, &objects.join("\n---\n")).await?;
        let (nats, policy) = (Nats::start(NatsOptions::default()).await?, gated(&namespace));
        let bus = Bus::connect(&nats.url()).await?;
        let kubeconfig = Some(kube.kubeconfig("sluice"));
        let daemon = DaemonOptions { kubeconfig, ..DaemonOptions::nats(&nats.url(), vec![policy]) };
        let daemon = Daemon::start(daemon).await?;
        let shop = format!("{namespace}/checkout");
        let stands = async |wanted: [u64; 2]| {
            wait::until_equal("the Route's weights", LIMIT, wanted, || weights(kube, &namespace)).await
        };

        // At once; the same message again has no second effect.
        for _ in 0..2 {
            let ask = json!({"backends": "checkout-canary=+15%", "reason": "a look", "id": "a-look"});
            let answer = bus.request("ann", &shop, "backends", ask).await?;
            ensure!(
                answer.accepted && answer.message.ends_with("checkout 85, checkout-canary 15"),
                "{answer:?}"
            );
        }
        ensure!(weights(kube, &namespace).await? == [85, 15]);
        // Kept on the bus.
        bus.command("ann", &shop, "backends", json!({"backends": "checkout-canary=5%"})).await?;
        stands([95, 5]).await?;
        // By the command line, over HTTP.
        let equal = daemon.cli(&["backends", "--policy", &shop, "--equal"]).await?;
        ensure!(equal.code == 0 && equal.stdout.contains("checkout 100, checkout-canary 100"), "{equal:?}");

        let refused = async |user: &str, change: &str| {
            let answer = bus.request(user, &shop, "backends", json!({"backends": change})).await?;
            ensure!(!answer.accepted, "{answer:?}");
            Ok(answer.message)
        };
        let eve = refused("eve", "zero").await?;
        ensure!(eve.contains("lets eve do abort, and not backends"), "{eve}");
        let nowhere = refused("ann", "nowhere=5%").await?;
        ensure!(nowhere.contains("they are checkout, checkout-canary"), "{nowhere}");

        // A rollout that runs has the Route in hand. (It begins with all traffic at stable, or would put that right first.)
        let none = daemon.cli(&["backends", "--policy", &shop, "--adjust", "checkout-canary=0"]).await?;
        ensure!(none.code == 0, "{none:?}");
        let started = daemon.cli(&["start", &shop, "--version", "v2"]).await?;
        ensure!(started.code == 0, "{started:?}");
        let waits = |view: &RolloutView| view.phase == "gated";
        daemon.wait_for(&shop, "to wait for its approval", waits).await?;
        let busy = refused("ann", "zero").await?;
        ensure!(busy.contains("is running") && busy.contains("sluice set-weight"), "{busy}");
        let busy = daemon.cli(&["backends", "--policy", &shop, "--zero"]).await?;
        ensure!(busy.code == 1 && busy.stdout.contains("sluice abort"), "{busy:?}");
        let kept = weights(kube, &namespace).await?;
        ensure!(kept == [100, 0], "{kept:?}");

        // Approved and reverted, both by message. Nobody tells of the service, so it gets no traffic before.
        let approved = bus.request("ann", &shop, "promote", json!({"reason": "seen by QA"})).await?;
        ensure!(approved.accepted, "{approved:?}");
        daemon.wait_for(&shop, "to go on", |view| view.phase == "preparing").await?;
        bus.command("ann", &shop, "abort", json!({"reason": "not today"})).await?;
        let ended = daemon.wait_for_end(&shop).await?;
        ensure!(ended.outcome == Some(Outcome::Failed) && ended.reason.contains("not today"), "{ended:?}");
        ensure!(weights(kube, &namespace).await? == [100, 0]);
        Ok(())
    })
}

const SERVICES: &str =
    "{apiVersion: v1, kind: Service, metadata: {name: checkout}, spec: {selector: {app: checkout}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: checkout-canary}, spec: {selector: {app: checkout-canary}, ports: [{port: 80}]}}";

/// A release waits for an approval before anything is done; who is not named may abort alone.
fn gated(namespace: &str) -> PolicyText {
    let spec = json!({
        "target": {"openShiftRoute": {"name": "checkout", "stable": "checkout", "canary": "checkout-canary"}},
        "metrics": {"prometheus": {"url": "http://127.0.0.1:9"}},
        "gates": [{"name": "approval", "approval": {}}],
        "access": [{"users": ["ann", "tester"], "actions": ["*"]}, {"users": ["*"], "actions": ["abort"]}],
    });
    PolicyText::of(&policy::policy(namespace, "checkout", spec))
}

/// Of `to` and of the first alternate.
async fn weights(kube: &Kube, namespace: &str) -> Result<[u64; 2]> {
    let route: Value = kube.get(namespace, "routes.route.openshift.io/checkout").await?;
    let spec = &route["spec"];
    Ok([&spec["to"], &spec["alternateBackends"][0]].map(|one| one["weight"].as_u64().unwrap_or_default()))
}
