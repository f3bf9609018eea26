//! OpenShift's Routes behind a HAProxy that is configured as OpenShift's router configures it: its arithmetic, its cookie, its
//! pause between two reloads.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rig::{Load, netns, openshift, wait};
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, LIMIT};
use sluice_wire::view::RolloutView;

use crate::gateway::Gateway;
use crate::release;
use crate::shop::{Shop, Split, host};

/// Requests a second of those who hold a cookie.
const HOLDERS: f64 = 50.0;
const IN_A_ROW: u64 = 20;
const STEPS: [f64; 3] = [10.0, 25.0, 50.0];

#[test]
fn routes_through_openshifts_router() -> Result<()> {
    netns::enclosed("openshift::routes_through_openshifts_router", async || {
        let gateway = Gateway::open_shift(&["even", "cut", "kept", "held"]).await?;
        let open = |name| gateway.shop(name, Split::Route);
        let (even, cut, kept, held) =
            tokio::try_join!(open("even"), open("cut"), open("kept"), open("held"))?;
        let url = gateway.prometheus.url();
        // It stands at every weight until the requests there have been counted.
        let steps: Vec<Value> = STEPS.iter().map(|weight| json!({"weight": weight, "pause": true})).collect();
        let counted = json!({"steps": steps, "promoteGates": [{"name": "counted", "approval": {}}]});
        let cuts = |word: &str| json!({"steps": [{"weight": 10, "pause": true}], "limits": {"drain": "40s", "onUndrained": word}});
        let policies = vec![
            even.policy_with(&url, counted),
            cut.policy_with(&url, cuts("cut")),
            kept.policy_with(&url, cuts("alert")),
            held.policy_with(&url, cuts("cut")),
        ];
        let daemon = gateway.daemon(policies).await?;
        tokio::try_join!(
            the_split_is_what_was_asked(&daemon, &even),
            holders_of_a_cookie_are_cut_off(&gateway, &daemon, &cut),
            holders_of_a_cookie_are_told_of(&gateway, &daemon, &kept),
            a_route_that_sends_none_is_seen(&gateway, &daemon, held),
        )?;
        print!("{}", even.account());
        Ok(())
    })
}

async fn the_split_is_what_was_asked(daemon: &Daemon, shop: &Shop) -> Result<()> {
    let (code, ()) = tokio::try_join!(release(daemon, shop), count_at_every_weight(daemon, shop))?;
    ensure!(code == 0, "{}", daemon.account(&shop.rollout()).await);
    shop.weights_were(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
    Ok(())
}

async fn count_at_every_weight(daemon: &Daemon, shop: &Shop) -> Result<()> {
    let rollout = shop.rollout();
    for percent in STEPS {
        let paused = |view: &RolloutView| view.phase == "paused" && view.weight.percent() == percent;
        daemon.wait_for(&rollout, &format!("to pause at {percent} %"), paused).await?;
        shop.is_divided(percent).await?;
        let resumed = daemon.cli(&["resume", &rollout, "--reason", "counted"]).await?;
        ensure!(resumed.code == 0, "{resumed:?}");
    }
    let asks = |view: &RolloutView| view.waits_for.as_deref() == Some("gate counted");
    daemon.wait_for(&rollout, "to ask before stable is replaced", asks).await?;
    shop.is_divided(90.0).await?;
    let promoted = daemon.cli(&["promote", &rollout, "--reason", "counted"]).await?;
    ensure!(promoted.code == 0, "{promoted:?}");
    Ok(())
}

/// Weight 0 is not no traffic: who holds the canary's cookie stays with it, until its pods go.
async fn holders_of_a_cookie_are_cut_off(gateway: &Gateway, daemon: &Daemon, shop: &Shop) -> Result<()> {
    let holders = abort_under_holders(gateway, daemon, shop).await?;
    let canary = format!("deployment/{}", shop.canary());
    gateway.kube.wait(&shop.name, &canary, "jsonpath={.spec.replicas}=0", LIMIT).await?;
    answered_by(&holders, &shop.name).await
}

/// The same with `onUndrained: alert`: the canary keeps its pods, and they go on answering.
async fn holders_of_a_cookie_are_told_of(gateway: &Gateway, daemon: &Daemon, shop: &Shop) -> Result<()> {
    let holders = abort_under_holders(gateway, daemon, shop).await?;
    answered_by(&holders, &shop.canary()).await?;
    let canary = gateway.kube.get(&shop.name, &format!("deployment/{}", shop.canary())).await?;
    ensure!(canary["spec"]["replicas"] == 1, "the canary's pods are cut: {}", canary["spec"]);
    Ok(())
}

/// All users have come before the release and hold a cookie of stable's: the Route says 10 %, and sends none.
async fn a_route_that_sends_none_is_seen(gateway: &Gateway, daemon: &Daemon, mut shop: Shop) -> Result<()> {
    let cookie = cookie(gateway, &shop, &shop.name).await?;
    shop.users_hold(&gateway.url(), &cookie)?;
    begin(daemon, &shop).await?;
    let told = |view: &RolloutView| {
        view.alerts
            .iter()
            .any(|alert| alert.contains("split: the canary gets 0.0 %") && alert.contains("says 10.0 %"))
    };
    let view = daemon.wait_for(&shop.rollout(), "to tell that the canary gets nothing", told).await?;
    ensure!(view.weight.percent() == 10.0 && view.outcome.is_none(), "{view:?}");
    Ok(())
}

/// Aborted while somebody holds a cookie of the canary: at weight 0 its requests still go there, and the drain ends as "no".
async fn abort_under_holders(gateway: &Gateway, daemon: &Daemon, shop: &Shop) -> Result<Load> {
    begin(daemon, shop).await?;
    let cookie = cookie(gateway, shop, &shop.canary()).await?;
    let headers = [("Host", &*host(&shop.name)), ("Cookie", &*cookie)];
    let holders = Load::with_headers(&gateway.url(), HOLDERS, &headers)?;
    answered_by(&holders, &shop.canary()).await?;
    let aborted = daemon.cli(&["abort", &shop.rollout(), "--reason", "the basket is empty"]).await?;
    ensure!(aborted.code == 0, "{aborted:?}");
    let view = daemon.wait_for_end(&shop.rollout()).await?;
    ensure!(view.outcome == Some(Outcome::Reverted), "{}", view.reason);
    shop.weights_were(&[0.0, 10.0, 0.0]).await?;
    daemon
        .wait_history(&shop.rollout(), "a drain that ended as no", |line| line.reason == "drained: no")
        .await?;
    Ok(holders)
}

/// Starts a release and waits until the first step's weight was read back.
async fn begin(daemon: &Daemon, shop: &Shop) -> Result<()> {
    let started = daemon.cli(&["start", &shop.rollout(), "--version", "v2"]).await?;
    ensure!(started.code == 0, "{started:?}");
    let at_ten = |view: &RolloutView| view.read_back.is_some_and(|weight| weight.percent() == 10.0);
    daemon.wait_for(&shop.rollout(), "to stand at 10 %", at_ten).await.map(drop)
}

/// A new user's, who asks until this version answers.
async fn cookie(gateway: &Gateway, shop: &Shop, version: &str) -> Result<String> {
    let (url, host) = (gateway.url(), host(&shop.name));
    let what = format!("a cookie of {version}");
    wait::until(&what, LIMIT, || openshift::cookie_of(&url, &host, version)).await
}

/// Waits until this version alone has answered a good number of requests in a row.
async fn answered_by(load: &Load, version: &str) -> Result<()> {
    let mut before = load.report();
    wait::until(&format!("{version} to answer alone"), LIMIT, || {
        let since = load.report().since(&before);
        let answers: u64 = since.by_version.values().sum();
        if answers >= IN_A_ROW && since.share(version) < 1.0 {
            before = load.report();
        }
        std::future::ready(Ok((answers >= IN_A_ROW && since.share(version) == 1.0).then_some(())))
    })
    .await
}
