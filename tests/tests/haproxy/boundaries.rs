//! The daemon dies at every boundary of its order with nothing but its file to go on from: the embedded bus, a direct scrape,
//! HAProxy. (On NATS and Kubernetes: `tests/kubernetes/boundaries.rs`.)

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, DaemonOptions, Deaths, story};

use crate::house::{announcement, once_each, told};
use crate::shop::Shop;

#[test]
fn a_good_release_is_promoted_though_the_daemon_dies_at_every_boundary_beside_its_file() -> Result<()> {
    story(async {
        let shop = Shop::open("dies-good").await?;
        let deaths = Deaths::everywhere_but(&[])?;
        let daemon = released(&shop, &deaths).await?;
        ended_once(&shop, &daemon, Outcome::Promoted).await?;
        shop.weights_were(&[0.0, 5.0, 50.0, 90.0, 100.0]).await?;
        // No message comes by the bus: HTTP is its only door here. What only an abort or a person does has stories elsewhere, and who
        // dies before it is the latest attempt is taken up.
        let messages = ["message-read", "message-answered", "message-acknowledged"];
        deaths.missed_only(&[&messages[..], &["acknowledged", "made-current", "outrun"]].concat())?;
        deaths.include(&["saved requested", "saved evidence", "taken-up", "keys-deleted"])?;
        deaths.include_effects(&["set-traffic", "publish", "publish finished"])
    })
}

/// Where a release dies that is bad, and nowhere else. (Not where the evidence against it is saved: it has died before that, and
/// if weight 0 came through all the same, the mark on the target is what aborts.)
const ABORTING: [&str; 10] = [
    "outrun",
    "stepped evidence",
    "effect-begins set-traffic abort",
    "effect-performed set-traffic abort",
    "effect-begins watch-drain",
    "effect-performed watch-drain",
    "history-appended",
    "history-told",
    "keys-deleted",
    "taken-up",
];

#[test]
fn a_bad_release_is_put_back_though_the_daemon_dies_where_it_aborts_beside_its_file() -> Result<()> {
    story(async {
        let shop = Shop::open("dies-bad").await?;
        shop.canary.behaviour.set_error_share(0.3);
        let deaths = Deaths::at(&ABORTING)?;
        let daemon = released(&shop, &deaths).await?;
        ended_once(&shop, &daemon, Outcome::Reverted).await?;
        shop.weights_were(&[0.0, 5.0, 0.0]).await?;
        deaths.were(&ABORTING)
    })
}

/// A daemon that dies as asked, with a release that has come to its end.
async fn released(shop: &Shop, deaths: &Deaths) -> Result<Daemon> {
    let policy = shop.policy_with(|spec| {
        spec["steps"] = json!([{"weight": 5}, {"weight": 50}]);
        // Spans that many restarts do not use up.
        spec["limits"]["step"]["max"] = json!("1h");
        spec["limits"]["troubleAfter"] = json!("5m");
        spec["limits"]["shift"] = json!("5m");
    });
    let options =
        DaemonOptions { environment: deaths.environment(), ..DaemonOptions::embedded(vec![policy]) };
    let mut daemon = Daemon::start(options).await?;
    daemon.outlive_announcing(&format!("/events/{}", shop.rollout()), &announcement("v2")).await?;
    daemon.outlive_deaths_alone().await?;
    Ok(daemon)
}

async fn ended_once(shop: &Shop, daemon: &Daemon, outcome: Outcome) -> Result<()> {
    let view = daemon.view(&shop.rollout()).await?;
    ensure!(view.outcome == Some(outcome), "{view:?}\n{}", daemon.account(&shop.rollout()).await);
    once_each(&told(daemon, shop, "v2").await?)?;
    daemon.told_history_once(&shop.rollout()).await
}
