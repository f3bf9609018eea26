//! HAProxy's own exporter, read through a real Prometheus: preset `haproxy`. Nothing is scraped by Sluice itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::prometheus::Target;
use sluice_rig::{Prometheus, PrometheusOptions};
use sluice_rollout::Outcome;
use sluice_tests::{LIMIT, PolicyText, story};

use crate::house::{run, start_and_wait};
use crate::shop::Shop;

#[test]
fn haproxys_own_counters_tell_a_good_release_from_a_bad_one() -> Result<()> {
    story(async {
        let (good, bad) = (Shop::open("told-good").await?, Shop::open("told-bad").await?);
        bad.stable.behaviour.set_error_share(0.01);
        bad.canary.behaviour.set_error_share(0.10);
        let target = |shop: &Shop| Target::new(shop.haproxy.exporter(), &[("shop", &shop.name)]);
        let scrape_interval = Duration::from_millis(250);
        let targets = vec![target(&good), target(&bad)];
        let prometheus =
            Prometheus::start(PrometheusOptions { scrape_interval, targets, ..PrometheusOptions::default() })
                .await?;
        prometheus.wait_until_up(2, LIMIT).await?;
        let daemon = run([&good, &bad].map(|shop| through(&prometheus, shop)).to_vec()).await?;

        let (ended_well, ended_badly) =
            tokio::try_join!(start_and_wait(&daemon, &good, "v2"), start_and_wait(&daemon, &bad, "v2"))?;

        ensure!(ended_well.code == 0, "{}\n{}", ended_well.text(), daemon.account(&good.rollout()).await);
        good.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        good.share_was_the_weights()?;
        ensure!(ended_badly.code == 1, "{}\n{}", ended_badly.text(), daemon.account(&bad.rollout()).await);
        let view = daemon.view(&bad.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Reverted));
        ensure!(view.reason.contains("errors"), "{}", view.reason);
        assert_eq!(bad.haproxy.weight("canary").await?, 0);
        Ok(())
    })
}

/// Both shops' series have the same names of backend and servers: a label of the target tells them apart.
fn through(prometheus: &Prometheus, shop: &Shop) -> PolicyText {
    shop.policy_with(|spec| {
        spec["metrics"] = json!({"prometheus": {
            "url": prometheus.url(), "preset": "haproxy", "labels": {"match": format!("shop={:?}", shop.name)},
        }});
    })
}
