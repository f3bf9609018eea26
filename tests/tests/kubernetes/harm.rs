//! Links that harm what passes: slow ones, connections that close late, and half-open ones, on which packets vanish and no
//! connection ends. Every outward call ends by its own time limit, says so, and none of them keeps an abort waiting.

use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_rig::toxiproxy::Harm;
use sluice_rollout::{Outcome, Verdict};
use sluice_tests::story;
use sluice_wire::view::RolloutView;

use crate::outages::{agrees, long, open, promoted, short, waits_for, watched};

#[test]
fn behind_slow_links_a_release_takes_its_course() -> Result<()> {
    story(async {
        let world = open("slow-links").await?;
        let _load = world.load().await?;
        let links = world.links()?;
        for (_, link) in links.all() {
            link.harm(Harm::Slow(Duration::from_millis(80))).await?;
            link.harm(Harm::SlowClose(Duration::from_millis(300))).await?;
        }
        let daemon = world.daemon(short()).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        promoted(&world, &daemon).await?;
        agrees(&daemon, &world.rollout()).await
    })
}

#[test]
fn on_half_open_links_every_call_ends_and_an_abort_waits_for_none() -> Result<()> {
    story(async {
        let world = open("half-open").await?;
        let _load = world.load().await?;
        let daemon = world.daemon(long()).await?;
        let (rollout, links) = (world.rollout(), world.links()?);
        world.bus.announce(&rollout, "v2").await?;
        watched(&daemon, &rollout).await?;

        links.prometheus.harm(Harm::Silent).await?;
        waits_for(&daemon, &rollout, "no answer within 2s").await?;
        let blind =
            |view: &RolloutView| view.weight.percent() == 10.0 && view.verdict == Some(Verdict::SourceDown);
        daemon.wait_for(&rollout, "to be blind at 10 %", blind).await?;
        links.prometheus.heal().await?;
        let judged = |view: &RolloutView| view.verdict != Some(Verdict::SourceDown);
        daemon.wait_for(&rollout, "to be judged again", judged).await?;

        links.alertmanager.harm(Harm::Silent).await?;
        links.nats.harm(Harm::Silent).await?;
        links.api.harm(Harm::Silent).await?;
        let aborted = daemon.cli(&["abort", &rollout, "--reason", "the basket is empty"]).await?;
        ensure!(aborted.code == 0, "{aborted:?}\n{}", daemon.account(&rollout).await);
        waits_for(&daemon, &rollout, "the target, to take the weight: no answer within 2s").await?;
        links.api.heal().await?;
        // The store is still silent.
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        waits_for(&daemon, &rollout, "the store, to save what was decided").await?;
        waits_for(&daemon, &rollout, "on-call, to be told: alertmanager").await?;
        links.alertmanager.heal().await?;
        world.wait_alert("aborting").await?;
        links.nats.heal().await?;

        let ended = daemon.wait_for_end(&rollout).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        ensure!(world.finished(1).await?.len() == 1, "told twice");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await?;
        agrees(&daemon, &rollout).await
    })
}
