//! Routes that a real data plane carries out, with real requests to real pods: whether the shares that Sluice writes are the shares
//! that versions get, and how soon. An HTTPRoute and an HTTPProxy behind Contour and Envoy; OpenShift's Routes behind HAProxy.
//!
//! All of it runs in a network of its own (`sluice_rig::netns`), where pods have their own addresses.
//! `cargo test -p sluice-tests --features real --test dataplane -- --nocapture` shows the shares and times.

mod gateway;
mod openshift;
mod shop;
mod testers;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::netns;
use sluice_rollout::Outcome;

use gateway::Gateway;
use shop::{Shop, Split};

#[test]
fn a_good_release_and_a_bad_one_through_envoy() -> Result<()> {
    netns::enclosed("a_good_release_and_a_bad_one_through_envoy", async || {
        let route = Split::HttpRoute;
        let gateway = Gateway::contour(&[("good", route), ("errors", route)]).await?;
        let (good, bad) = (gateway.shop("good", route).await?, gateway.shop("errors", route).await?);
        good.fleet.behaviour("good").set_error_share(0.005);
        good.fleet.behaviour("good-canary").set_error_share(0.005);
        bad.fleet.behaviour("errors").set_error_share(0.01);
        bad.fleet.behaviour("errors-canary").set_error_share(0.10);
        let url = gateway.prometheus.url();
        let policies = vec![good.policy_with(&url, testers::policy()), bad.policy_with(&url, json!({}))];
        let daemon = gateway.daemon(policies).await?;

        let (well, badly, ()) = tokio::try_join!(
            release(&daemon, &good),
            release(&daemon, &bad),
            testers::look(&gateway, &daemon, &good)
        )?;
        testers::are_users_again(&gateway, &good).await?;

        ensure!(well == 0, "{}", daemon.account(&good.rollout()).await);
        good.weights_were(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        good.share_was_the_weights()?;
        ensure!(badly == 1, "{}", daemon.account(&bad.rollout()).await);
        bad.was_put_back().await?;
        bad.share_was_the_weights()?;
        let view = daemon.view(&bad.rollout()).await?;
        ensure!(view.outcome == Some(Outcome::Reverted) && view.reason.contains("errors"), "{}", view.reason);
        for shop in [&good, &bad] {
            print!("{}", shop.account());
        }
        Ok(())
    })
}

#[test]
fn a_good_release_through_an_http_proxy() -> Result<()> {
    netns::enclosed("a_good_release_through_an_http_proxy", async || {
        let proxy = Split::HttpProxy;
        let gateway = Gateway::contour(&[("proxied", proxy)]).await?;
        let shop = gateway.shop("proxied", proxy).await?;
        shop.fleet.behaviour("proxied").set_error_share(0.005);
        shop.fleet.behaviour("proxied-canary").set_error_share(0.005);
        let policy = shop.policy_with(&gateway.prometheus.url(), testers::policy());
        let daemon = gateway.daemon(vec![policy]).await?;
        let (code, ()) = tokio::try_join!(release(&daemon, &shop), testers::look(&gateway, &daemon, &shop))?;
        ensure!(code == 0, "{}", daemon.account(&shop.rollout()).await);
        testers::are_users_again(&gateway, &shop).await?;
        shop.weights_were(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        shop.share_was_the_weights()?;
        print!("{}", shop.account());
        Ok(())
    })
}

/// `sluice start --wait`: its exit code.
async fn release(daemon: &sluice_tests::Daemon, shop: &Shop) -> Result<i32> {
    let args = ["start", &shop.rollout(), "--version", "v2", "--attempt", "v2", "--wait"];
    Ok(daemon.cli(&args).await?.code)
}
