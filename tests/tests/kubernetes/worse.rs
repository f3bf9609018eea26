//! Releases that are worse than the version before them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::{Outcome, Verdict};
use sluice_tests::world::WorldOptions;
use sluice_tests::{Daemon, Output, World, story};
use sluice_wire::view::RolloutView;

#[test]
fn a_release_with_ten_times_the_errors_is_aborted_and_put_back() -> Result<()> {
    story(async {
        let world = World::open("errors").await?;
        world.behaviour("v1").set_error_share(0.01);
        world.behaviour("v2").set_error_share(0.10);
        let _load = world.load().await?;
        let before = world.route().await?;
        let daemon = world.daemon(json!({})).await?;
        let ended = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        put_back(&world, &daemon, &ended).await?;
        world.wait_as_before(&before).await?;
        let reason = daemon.view(&world.rollout()).await?.reason;
        ensure!(reason.contains("error"), "the reason names no errors: {reason}");
        Ok(())
    })
}

#[test]
fn a_release_twice_as_slow_is_aborted_and_put_back() -> Result<()> {
    story(async {
        let world = World::open("slow").await?;
        world.behaviour("v1").set_latency(Duration::from_millis(40));
        world.behaviour("v2").set_latency(Duration::from_millis(80));
        let _load = world.load().await?;
        let daemon = world.daemon(json!({})).await?;
        let ended = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        put_back(&world, &daemon, &ended).await
    })
}

#[test]
fn a_canary_that_never_becomes_ready_gets_no_request_and_fails() -> Result<()> {
    story(async {
        let canary_labels = vec![("sluice.test/ready".to_owned(), "never".to_owned())];
        let world =
            World::with("never-ready", WorldOptions { canary_labels, ..WorldOptions::default() }).await?;
        let before = world.route().await?;
        let mark = world.kube.audit.mark()?;
        let daemon = world.daemon(json!({"limits": {"prepare": "5s"}})).await?;
        let ended = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(ended.code == 1, "{ended:?}\n{}", daemon.account(&world.rollout()).await);
        ensure!(ended.text().contains("did not become ready in time: 0 of 1"), "{ended:?}");
        ensure!(world.route().await? == before, "the route was written");
        let writes = world.kube.audit.by("sluice", &world.namespace, mark)?;
        ensure!(writes.iter().all(|write| write.resource != "httproutes"), "{writes:?}");
        let finished = world.finished(1).await?;
        ensure!(finished.len() == 1 && finished[0].outcome == Some(Outcome::Failed), "{finished:?}");
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await
    })
}

#[test]
fn a_canary_that_gets_no_traffic_is_neither_opened_nor_aborted_and_on_call_is_told() -> Result<()> {
    story(async {
        let world = World::open("no-traffic").await?;
        let _load = world.load_of_stable_alone().await?;
        let daemon = world.daemon(json!({})).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        let summary = world.wait_alert("blind").await?;
        ensure!(summary.contains("no data"), "{summary}");
        // A Prometheus that is too busy to answer is no data either.
        let unseen = |view: &RolloutView| matches!(view.verdict, Some(Verdict::NoData | Verdict::SourceDown));
        let stands = |view: &RolloutView| view.weight.percent() == 10.0 && unseen(view);
        daemon.stays(&world.rollout(), "at 10 % without data", World::A_WHILE, stands).await?;
        let aborted = daemon.cli(&["abort", &world.rollout(), "--reason", "nobody uses it"]).await?;
        ensure!(aborted.code == 0, "{aborted:?}");
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        world.wait_over("blind").await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await
    })
}

#[test]
fn a_canary_whose_endpoints_vanish_under_traffic_is_aborted_without_statistics() -> Result<()> {
    story(async {
        let world = World::open("vanished").await?;
        let _load = world.load().await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        let label =
            ["label", "pods", "--selector", "app=checkout-canary", "sluice.test/ready=never", "--overwrite"];
        world.kubectl(&label).await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        ensure!(ended.reason.contains("no ready endpoint"), "{}", ended.reason);
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await
    })
}

/// Exit code 1, weight 0 as the last word, stable untouched, told once, and on-call told and told that it is over.
async fn put_back(world: &World, daemon: &Daemon, ended: &Output) -> Result<()> {
    let rollout = world.rollout();
    ensure!(ended.code == 1, "{ended:?}\n{}", daemon.account(&rollout).await);
    let weights = world.wait_shut().await?;
    ensure!(!weights.contains(&90.0), "it came as far as the bake: {weights:?}");
    let finished = world.finished(1).await?;
    ensure!(finished.len() == 1 && finished[0].outcome == Some(Outcome::Reverted), "{finished:?}");
    world.wait_notified("aborting", &["firing", "resolved"]).await?;
    world.wait_quiet().await?;
    world.wait_put_back().await
}
