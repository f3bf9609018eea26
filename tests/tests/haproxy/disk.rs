//! The disk under the embedded bus is full. Nothing is aborted for that reason and nothing is opened unsaved (a small save may
//! still find room in the file itself); an abort waits for no disk, and what was refused was refused in words. Once there is room
//! again everything goes on.

use anyhow::{Result, ensure};
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::outage::away;
use sluice_tests::{Daemon, DaemonOptions, LIMIT, story};
use sluice_wire::view::RolloutView;

use crate::house::{announcement, kinds, once_each, told, until_weight};
use crate::shop::Shop;
use crate::split::path;

/// Room for the bus' file, and not for much more.
const KILOBYTES: u32 = 24 * 1024;

async fn run(shop: &Shop, more: &[&Shop]) -> Result<Daemon> {
    // The deadline of a step is not the subject.
    let policy = |shop: &Shop| shop.policy_with(|spec| spec["limits"]["step"]["max"] = "2h".into());
    let policies = [&[shop], more].concat().into_iter().map(policy).collect();
    let options = DaemonOptions { disk_kilobytes: Some(KILOBYTES), ..DaemonOptions::embedded(policies) };
    let daemon = Daemon::start(options).await?;
    crate::house::announce(&daemon, shop, "v2").await?;
    until_weight(&daemon, shop, 5.0).await?;
    Ok(daemon)
}

async fn waits_for_room(daemon: &Daemon, shop: &Shop) -> Result<()> {
    let says =
        |view: &RolloutView| view.waits_for.as_ref().is_some_and(|words| words.contains("is the disk full?"));
    daemon.wait_for(&shop.rollout(), "to wait for room on the disk", says).await.map(drop)
}

#[test]
fn on_a_full_disk_nothing_is_aborted_and_with_room_the_release_goes_on() -> Result<()> {
    story(async {
        let (shop, other) = (Shop::open("full").await?, Shop::without_users("full-other").await?);
        let daemon = run(&shop, &[&other]).await?;
        daemon.fill_disk()?;
        waits_for_room(&daemon, &shop).await?;
        let fine = |view: &RolloutView| view.phase != "reverting" && view.outcome != Some(Outcome::Reverted);
        daemon.stays(&shop.rollout(), "on its way", away(), fine).await?;
        // What cannot be kept is not taken, and whoever sent it hears why.
        let (status, body) =
            daemon.post(&format!("/events/{}", other.rollout()), &announcement("v3")).await?;
        let words = body.to_string();
        ensure!(status == 409 && words.contains("not now") && words.contains("is the disk full?"), "{words}");

        daemon.empty_disk()?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        let account = daemon.account(&shop.rollout()).await;
        ensure!(view.outcome == Some(Outcome::Promoted), "{account}");
        shop.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        once_each(&told(&daemon, &shop, "v2").await?)
    })
}

#[test]
fn on_a_full_disk_a_bad_canary_is_aborted_and_the_record_agrees_afterwards() -> Result<()> {
    story(async {
        let shop = Shop::open("full-bad").await?;
        let daemon = run(&shop, &[]).await?;
        daemon.fill_disk()?;
        shop.canary.behaviour.set_error_share(0.5);
        let shut = || async { Ok((path(&shop.weights).last() == Some(&0.0)).then_some(())) };
        wait::until("HAProxy to give the canary nothing", LIMIT, shut).await?;
        let shut = |view: &RolloutView| view.weight.is_zero();
        // HAProxy hears of it first; the view follows.
        daemon.wait_for(&shop.rollout(), "to say that it is shut", shut).await?;
        daemon.stays(&shop.rollout(), "shut", away(), shut).await?;

        daemon.empty_disk()?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        ensure!(view.outcome == Some(Outcome::Reverted), "{}", daemon.account(&shop.rollout()).await);
        let weights = path(&shop.weights);
        ensure!(weights.last() == Some(&0.0) && !weights.contains(&90.0), "{weights:?}");
        let told = told(&daemon, &shop, "v2").await?;
        once_each(&told)?;
        ensure!(kinds(&told).contains(&"aborting".to_owned()), "{told:?}");
        daemon.wait_replay(&shop.rollout()).await
    })
}
