//! Data planes that carry real requests.

use std::time::Duration;

use anyhow::Result;
use sluice_rig::{Haproxy, HaproxyOptions, Load, Service, http, wait};

#[tokio::test]
async fn haproxy_splits_as_its_weights_say() -> Result<()> {
    let stable = Service::start("v1", "stable").await?;
    let canary = Service::start("v2", "canary").await?;
    let haproxy = Haproxy::start(HaproxyOptions::stable_and_canary(stable.address(), canary.address())).await?;
    let load = Load::start(&haproxy.url(), 500.0)?;
    let limit = Duration::from_secs(10);

    wait::until_equal("500 answers", limit, true, || async { Ok(load.report().sent >= 500) }).await?;
    assert_eq!(canary.counts().requests, 0);

    haproxy.set_weight("stable", 192).await?;
    haproxy.set_weight("canary", 64).await?;
    let before = load.report();
    wait::until_equal("1,000 more", limit, true, || async { Ok(load.report().since(&before).sent >= 1000) }).await?;
    let report = load.report().since(&before);
    assert!((report.share("v2") - 0.25).abs() < 0.03, "{report:?}");
    assert_eq!(haproxy.weight("canary").await?, 64);
    let metrics = http::get_text(&http::client()?, &format!("http://{}/metrics", haproxy.exporter())).await?;
    assert!(metrics.contains("haproxy_server_http_responses_total{proxy=\"app\",server=\"canary\",code=\"2xx\"}"));

    let report = load.stop().await?;
    assert_eq!(report.failed + report.skipped, 0, "{report:?}");
    Ok(())
}
