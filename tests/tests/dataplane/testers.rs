//! Testers: their requests carry a header, and reach the canary before everybody else's.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rig::{http, wait};
use sluice_tests::{Daemon, LIMIT};
use sluice_wire::view::RolloutView;

use crate::gateway::Gateway;
use crate::shop::{Shop, host};

/// Requests of everybody else that must all reach stable.
const OTHERS: usize = 20;

/// What a policy says of testers, who are asked before the first step.
pub fn policy() -> Value {
    json!({
        "testers": {"header": {"name": "x-canary", "value": "always"}},
        "steps": [{"weight": 10, "gates": [{"name": "testers", "approval": {}}]}, {"weight": 25}, {"weight": 50}],
    })
}

/// Testers reach the canary while nobody else does, and say yes.
pub async fn look(gateway: &Gateway, daemon: &Daemon, shop: &Shop) -> Result<()> {
    answers_testers(gateway, shop, &shop.canary()).await?;
    for _ in 0..OTHERS {
        let version = version_for(gateway, shop, &[]).await?;
        ensure!(version == shop.name, "a request without the header was answered by {version}");
    }
    ensure!(shop.weights() == [0.0], "{:?}", shop.weights());
    let asks = |view: &RolloutView| view.waits_for.as_deref() == Some("gate testers");
    daemon.wait_for(&shop.rollout(), "to ask whether testers are content", asks).await?;
    let yes = daemon.cli(&["promote", &shop.rollout(), "--reason", "looks well"]).await?;
    ensure!(yes.code == 0, "{yes:?}");
    Ok(())
}

/// The route is as its owner wrote it, and testers are users like any others.
pub async fn are_users_again(gateway: &Gateway, shop: &Shop) -> Result<()> {
    answers_testers(gateway, shop, &shop.name).await?;
    wait::until_equal("the route's rules", LIMIT, Some(1), || async { Ok(shop.rules()) }).await
}

async fn answers_testers(gateway: &Gateway, shop: &Shop, version: &str) -> Result<()> {
    wait::until_equal("the version that testers reach", LIMIT, version.to_owned(), || {
        version_for(gateway, shop, &[("x-canary", "always")])
    })
    .await
}

async fn version_for(gateway: &Gateway, shop: &Shop, headers: &[(&str, &str)]) -> Result<String> {
    let mut request = http::client()?.get(gateway.url()).header("Host", host(&shop.name));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await?;
    let version = answer.headers().get("x-version").context("no version answered")?;
    Ok(version.to_str()?.to_owned())
}
