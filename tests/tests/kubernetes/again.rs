//! A second release while one runs.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::{LIMIT, World, story};

#[test]
fn the_newest_release_supersedes_the_running_one() -> Result<()> {
    story(async {
        let world = World::open("supersede").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        world.bus.announce(&world.rollout(), "v3").await?;
        let (first, second) = (format!("{}@v2", world.rollout()), format!("{}@v3", world.rollout()));
        daemon.wait_for(&second, "to stand at 10 %", |view| view.phase == "observing").await?;
        let former = daemon.wait_for_end(&first).await?;
        ensure!(
            former.outcome == Some(Outcome::Reverted) && former.reason.contains("superseded"),
            "{former:?}"
        );
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0]).await?;
        ensure!(world.notified("aborting").await?.is_empty(), "a newer release is no reason to wake anybody");

        // A command that names the former attempt does not hit the present one.
        let stale = json!({"attempt": "v2", "reason": "bad"});
        let answer = world.bus.request("ann", &world.rollout(), "abort", stale).await?;
        ensure!(!answer.accepted && answer.message.contains("no longer current"), "{answer:?}");
        ensure!(
            world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "enough"})).await?.accepted,
            "refused"
        );
        ensure!(daemon.wait_for_end(&second).await?.outcome == Some(Outcome::Reverted), "the second went on");
        // The canary has the size from before the first of them, which had raised it.
        world.wait_put_back().await?;
        let finished = world.finished(2).await?;
        let ids: Vec<String> = finished.iter().map(|told| told.rollout.to_string()).collect();
        ensure!(ids == [first, second], "{ids:?}");
        Ok(())
    })
}

#[test]
fn a_queued_release_begins_when_the_running_one_has_ended() -> Result<()> {
    story(async {
        let world = World::open("queue").await?;
        let daemon = world.standing_at_ten(json!({"onNewRelease": "queue"})).await?;
        world.bus.announce(&world.rollout(), "v3").await?;
        let stands = |view: &sluice_wire::view::RolloutView| {
            view.rollout.attempt() == "v2" && view.phase == "observing"
        };
        daemon.stays(&world.rollout(), "with the first release", World::A_WHILE, stands).await?;
        ensure!(
            world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?.accepted,
            "refused"
        );
        let second = format!("{}@v3", world.rollout());
        daemon.wait_for(&second, "to stand at 10 %", |view| view.phase == "observing").await?;
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0]).await?;
        Ok(())
    })
}

#[test]
fn a_release_that_is_overtaken_while_it_waits_ends_as_whoever_waits_for_it_hears() -> Result<()> {
    story(async {
        let world = World::open("overtaken").await?;
        let daemon = world.standing_at_ten(json!({"onNewRelease": "queue"})).await?;
        let (rollout, environment) = (world.rollout(), daemon.environment());
        let waiting = tokio::spawn(async move {
            let args = ["start", &rollout, "--version", "v3", "--attempt", "v3", "--wait"];
            sluice_tests::cli::sluice(&args, &environment).await
        });
        let waits = format!("{}@v3 begins when", world.rollout());
        wait::until("the second to wait", LIMIT, || async {
            Ok(daemon.log().contains(&waits).then_some(()))
        })
        .await?;
        world.bus.announce(&world.rollout(), "v4").await?;
        let ended = waiting.await??;
        let by = format!("it never began: superseded by {}@v4 while it waited", world.rollout());
        ensure!(ended.code == 1 && ended.text().contains(&by), "{ended:?}");
        let told = world.finished(1).await?;
        ensure!(told[0].rollout.attempt() == "v3" && told[0].outcome == Some(Outcome::Failed), "{told:?}");
        ensure!(daemon.view(&world.rollout()).await?.rollout.attempt() == "v2", "the first goes on");
        ensure!(
            world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?.accepted,
            "refused"
        );
        let third = format!("{}@v4", world.rollout());
        daemon.wait_for(&third, "to stand at 10 %", |view| view.phase == "observing").await?;
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0]).await
    })
}

#[test]
fn a_policy_may_refuse_a_second_release() -> Result<()> {
    story(async {
        let world = World::open("refuse").await?;
        let daemon = world.standing_at_ten(json!({"onNewRelease": "refuse"})).await?;
        world.bus.announce(&world.rollout(), "v3").await?;
        let letter =
            world.bus.wait_dead(&format!("sluice.event.{}.checkout.announced", world.namespace)).await?;
        let reason = letter.header("Sluice-Reason").unwrap_or_default();
        ensure!(reason.contains("is running") && reason.contains("onNewRelease: refuse"), "{reason}");
        let started = daemon.cli(&["start", &world.rollout(), "--version", "v4", "--wait"]).await?;
        ensure!(started.code == 1 && started.text().contains("is running"), "{started:?}");
        world.wait_weights(&[0.0, 10.0]).await?;
        Ok(())
    })
}
