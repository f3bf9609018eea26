//! Other hands on the weights: a HAProxy that was started again, a person at its socket.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, LIMIT, story};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

use crate::house::{announce, command, run, until_weight};
use crate::shop::Shop;
use crate::split::path;

#[test]
fn weights_that_haproxy_lost_at_a_restart_are_put_right() -> Result<()> {
    story(async {
        let mut shop = Shop::open("restarted").await?;
        let policy = shop.policy_with(|spec| spec["steps"][1]["min"] = json!("6s"));
        let daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 25.0).await?;
        // So that it stays at this weight for as long as we look.
        let paused =
            command(&daemon, &shop.rollout(), "pause", json!({"reason": "HAProxy gets an update"})).await?;
        ensure!(paused.accepted, "{}", paused.message);

        shop.haproxy.server.stop().await?;
        shop.haproxy.server.start_again().await?;

        stands_at(&shop, 85).await?;
        command(&daemon, &shop.rollout(), "resume", json!({"reason": "updated"})).await?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        // Whether the log has seen the configured weights depends on who asked HAProxy first after its start, it or the daemon.
        let without_them = [0.0, 5.0, 25.0, 50.0, 90.0, 100.0];
        let with_them = [0.0, 5.0, 25.0, 0.0, 25.0, 50.0, 90.0, 100.0];
        wait::until("the weights that HAProxy told", LIMIT, || async {
            let told = path(&shop.weights);
            ensure!(told == with_them || told == without_them, "{told:?}");
            Ok(Some(()))
        })
        .await
    })
}

#[test]
fn a_weight_set_by_hand_is_put_right_three_times_and_then_a_person_is_asked() -> Result<()> {
    story(async {
        let shop = Shop::open("by-hand").await?;
        let policy = shop.policy_with(|spec| spec["steps"][0]["pause"] = json!(true));
        let daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;
        let held = |view: &RolloutView| view.phase == "paused";
        daemon.wait_for(&shop.rollout(), "to wait for a person", held).await?;

        for time in 1..=3 {
            shop.haproxy.set_weight("canary", 256).await?;
            is_put_right(&daemon, &shop, time).await?;
            stands_at(&shop, 13).await?;
        }
        shop.haproxy.set_weight("canary", 256).await?;
        let asked = |view: &RolloutView| {
            let asks = view.alerts.iter().any(|alert| alert.contains("keeps setting the weight"));
            asks && view.phase == "paused"
        };
        daemon.wait_for(&shop.rollout(), "to ask a person", asked).await?;

        // Whoever it was has stopped: go on, from the weight that is ours.
        command(&daemon, &shop.rollout(), "resume", json!({"reason": "the cron job is off"})).await?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        ensure!(view.alerts.is_empty(), "{:?}", view.alerts);
        Ok(())
    })
}

#[test]
fn a_hand_that_opens_what_was_aborted_is_shut_out() -> Result<()> {
    story(async {
        let shop = Shop::open("reopened").await?;
        let policy = shop.policy_with(|spec| {
            spec["onDrift"] = json!("report");
            spec["steps"][0]["min"] = json!("10m");
            spec["steps"][0]["max"] = json!("1h");
        });
        let daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;
        shop.haproxy.set_weight("canary", 200).await?;
        let asked = |view: &RolloutView| view.phase == "paused" && !view.alerts.is_empty();
        daemon.wait_for(&shop.rollout(), "to report the hand", asked).await?;
        assert_eq!(shop.haproxy.weight("canary").await?, 200, "it was to be reported, not put right");

        command(&daemon, &shop.rollout(), "abort", json!({"reason": "who was that?"})).await?;
        assert_eq!(daemon.wait_for_end(&shop.rollout()).await?.outcome, Some(Outcome::Reverted));
        assert_eq!(shop.haproxy.weight("canary").await?, 0);
        Ok(())
    })
}

/// Waits until the daemon has put a weight right for the so-manieth time, and has read that back: the next one is another hand's.
async fn is_put_right(daemon: &Daemon, shop: &Shop, time: u32) -> Result<()> {
    let again = format!("(number {time} in five minutes)");
    let rollout = shop.rollout();
    let decided = daemon.wait_history(&rollout, &again, |line| line.reason.contains(&again)).await?;
    let read_back = |line: &HistoryLine| {
        line.revision > decided.revision
            && line.event == "traffic-observed"
            && line.reason.contains("read back")
    };
    daemon.wait_history(&rollout, "its read-back", read_back).await.map(drop)
}

/// Waits until HAProxy tells this number for the canary, and goes on telling it for longer than the daemon needs to look.
async fn stands_at(shop: &Shop, number: u16) -> Result<()> {
    wait::until_equal("the canary's weight", LIMIT, number, || shop.haproxy.weight("canary")).await?;
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_millis(200) {
        ensure!(shop.haproxy.weight("canary").await? == number, "the weight did not stay at {number}");
    }
    Ok(())
}
