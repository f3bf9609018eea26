//! Nobody intervenes: good releases go through, bad ones are put back, and what cannot be measured moves nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::service::Exposition;
use sluice_rig::wait;
use sluice_rollout::{Outcome, Verdict};
use sluice_tests::{LIMIT, story};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

use crate::house::{announce, kinds, run, start_and_wait, told, until_weight};
use crate::shop::Shop;
use crate::split::path;

#[test]
fn a_good_release_is_opened_step_by_step_baked_and_promoted() -> Result<()> {
    story(async {
        let shop = Shop::open("good").await?;
        let daemon = run(vec![shop.policy()]).await?;

        let ended = start_and_wait(&daemon, &shop, "v2").await?;

        ensure!(ended.code == 0, "{}\n{}", ended.text(), daemon.account(&shop.rollout()).await);
        shop.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        shop.share_was_the_weights()?;
        let told = told(&daemon, &shop, "v2").await?;
        let step = ["step-reached", "step-passed"];
        let expected = [&["started"][..], &step, &step, &step, &["baking", "promoting", "finished"]].concat();
        // On a busy machine a deadline may pass meanwhile, of which a person is told.
        let told: Vec<String> = kinds(&told).into_iter().filter(|kind| kind != "attention").collect();
        assert_eq!(told, expected);
        let promoted = |line: &HistoryLine| line.phase == "promoted";
        daemon.wait_history(&shop.attempt("v2"), "its end", promoted).await.map(drop)
    })
}

#[test]
fn a_release_with_ten_times_the_errors_is_put_back_at_once() -> Result<()> {
    story(async {
        let shop = Shop::open("errors").await?;
        shop.stable.behaviour.set_error_share(0.01);
        shop.canary.behaviour.set_error_share(0.10);
        let daemon = run(vec![shop.policy()]).await?;

        let ended = start_and_wait(&daemon, &shop, "v2").await?;

        ensure!(ended.code == 1, "{}\n{}", ended.text(), daemon.account(&shop.rollout()).await);
        put_back(&shop).await?;
        let view = daemon.view(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Reverted));
        ensure!(view.reason.contains("errors"), "{}", view.reason);
        let kinds = kinds(&told(&daemon, &shop, "v2").await?);
        assert_eq!(kinds.iter().filter(|kind| *kind == "finished").count(), 1, "{kinds:?}");
        ensure!(kinds.contains(&"aborting".to_owned()), "{kinds:?}");
        Ok(())
    })
}

#[test]
fn a_release_that_was_put_back_is_tried_again_and_both_attempts_share_one_chance_of_a_false_abort()
-> Result<()> {
    story(async {
        let shop = Shop::open("again").await?;
        shop.canary.behaviour.set_error_share(0.3);
        let daemon = run(vec![shop.policy()]).await?;
        let ended = start_and_wait(&daemon, &shop, "v2").await?;
        ensure!(ended.code == 1, "{}\n{}", ended.text(), daemon.account(&shop.rollout()).await);

        shop.canary.behaviour.set_error_share(0.0);
        let again = daemon.cli(&["retry", &shop.rollout(), "--reason", "it was the database"]).await?;
        ensure!(again.code == 0, "{again:?}");
        let promoted = |view: &RolloutView| view.outcome == Some(Outcome::Promoted);
        daemon.wait_for(&shop.rollout(), "to be promoted", promoted).await?;

        let told = daemon.cli(&["explain", &shop.rollout(), "-o", "json"]).await?;
        ensure!(told.stdout.contains("retry 1: all retries share one chance of a false abort"), "{told:?}");
        daemon.wait_replay(&shop.rollout()).await
    })
}

#[test]
fn a_release_that_is_only_slower_is_put_back() -> Result<()> {
    story(async {
        let shop = Shop::open("slow").await?;
        shop.stable.behaviour.set_latency(Duration::from_millis(30));
        shop.canary.behaviour.set_latency(Duration::from_millis(60));
        let daemon = run(vec![shop.policy()]).await?;

        let ended = start_and_wait(&daemon, &shop, "v2").await?;

        ensure!(ended.code == 1, "{}\n{}", ended.text(), daemon.account(&shop.rollout()).await);
        put_back(&shop).await?;
        let view = daemon.view(&shop.rollout()).await?;
        ensure!(view.reason.contains("latency") || view.reason.contains("slow"), "{}", view.reason);
        Ok(())
    })
}

#[test]
fn a_canary_without_traffic_neither_advances_nor_aborts_and_goes_on_when_users_come() -> Result<()> {
    story(async {
        let mut shop = Shop::without_users("quiet").await?;
        let daemon = run(vec![shop.policy()]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;

        let told = |view: &RolloutView| !view.alerts.is_empty();
        let view = daemon.wait_for(&shop.rollout(), "to tell on-call that it sees nothing", told).await?;
        assert_eq!((view.phase.as_str(), view.outcome), ("observing", None));
        shop.weights_were(&[0.0, 5.0]).await?;

        shop.let_users_in(crate::shop::USERS)?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        ensure!(view.alerts.is_empty(), "{:?}", view.alerts);
        Ok(())
    })
}

#[test]
fn while_metrics_are_gone_nothing_moves_and_when_they_are_back_it_goes_on() -> Result<()> {
    story(async {
        let shop = Shop::open("blind").await?;
        let daemon = run(vec![shop.policy()]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;

        for gone in [Exposition::Unavailable, Exposition::CutInHalf] {
            shop.canary.behaviour.set_exposition(gone);
            shop.stable.behaviour.set_exposition(gone);
            let blind = |view: &RolloutView| {
                matches!(view.verdict, Some(Verdict::SourceDown | Verdict::NoData)) && !view.alerts.is_empty()
            };
            let view = daemon.wait_for(&shop.rollout(), "to tell on-call that it is blind", blind).await?;
            let weight = view.weight;
            shop.canary.behaviour.set_exposition(Exposition::Whole);
            shop.stable.behaviour.set_exposition(Exposition::Whole);
            let sees = |view: &RolloutView| view.alerts.is_empty();
            let view = daemon.wait_for(&shop.rollout(), "to see again", sees).await?;
            ensure!(view.weight >= weight && view.outcome != Some(Outcome::Reverted), "{}", view.reason);
        }

        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        shop.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        Ok(())
    })
}

#[test]
fn the_metrics_of_the_canary_alone_may_be_gone_too() -> Result<()> {
    story(async {
        let shop = Shop::open("half-blind").await?;
        let policy = shop.policy_with(|spec| spec["limits"]["onSourceDown"] = json!("pause"));
        let daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;

        shop.canary.behaviour.set_exposition(Exposition::Unavailable);
        let blind = |view: &RolloutView| !view.alerts.is_empty();
        let view = daemon.wait_for(&shop.rollout(), "to tell on-call that it is blind", blind).await?;
        ensure!(view.outcome.is_none() && !view.weight.is_zero(), "{}", view.reason);
        Ok(())
    })
}

/// Opened, then shut once and for all; and the canary has got nothing since.
async fn put_back(shop: &Shop) -> Result<()> {
    wait::until_equal("the canary's weight", LIMIT, Some(0.0), || async { Ok(path(&shop.weights).pop()) })
        .await?;
    let path = path(&shop.weights);
    let rises = path.split_last().is_some_and(|(_, before)| before.is_sorted());
    ensure!(rises && path.starts_with(&[0.0, 5.0]) && path.iter().all(|weight| *weight <= 25.0), "{path:?}");
    shop.share_was_the_weights()
}
