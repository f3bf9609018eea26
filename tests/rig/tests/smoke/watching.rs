//! Prometheus, Alertmanager and the inbox.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sluice_rig::prometheus::Target;
use sluice_rig::service::Exposition;
use sluice_rig::{
    Alertmanager, AlertmanagerOptions, Inbox, Load, Prometheus, PrometheusOptions, Service, http,
};

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn prometheus_counts_what_the_pods_counted_goes_away_and_comes_back() -> Result<()> {
    let stable = Service::start("v1", "checkout-a").await?;
    let canary = Service::start("v2", "checkout-canary-b").await?;
    canary.behaviour.set_error_share(0.5);
    canary.behaviour.set_latency(Duration::from_millis(20));
    let targets = vec![
        Target::pod(stable.address(), "shop", "checkout", stable.name()),
        Target::pod(canary.address(), "shop", "checkout-canary", canary.name()),
    ];
    let scrape_interval = Duration::from_millis(100);
    let mut prometheus =
        Prometheus::start(PrometheusOptions { scrape_interval, targets, ..Default::default() }).await?;
    prometheus.wait_until_up(2, LIMIT).await?;

    let loads = [Load::start(&stable.url(), 200.0)?, Load::start(&canary.url(), 200.0)?];
    let errors = "sum(http_requests_total{app=\"checkout-canary\",code=\"500\"})";
    prometheus.wait_for(errors, LIMIT, |count| count >= 50.0).await?;
    for load in loads {
        let report = load.stop().await?;
        assert_eq!(report.failed, 0, "{report:?}");
    }
    let counted = canary.counts();
    let all = "sum(http_requests_total{pod=\"checkout-canary-b\"})";
    prometheus.wait_for(all, LIMIT, |count| count == counted.requests as f64).await?;
    prometheus.wait_for(errors, LIMIT, |count| count == counted.errors as f64).await?;
    let quick = "sum(http_request_duration_seconds_bucket{app=\"checkout-canary\",le=\"0.01\"})";
    assert_eq!(prometheus.value(quick).await?, Some(0.0));
    assert_eq!(stable.counts().errors, 0);

    prometheus.server.stop().await?;
    assert!(prometheus.query("up").await.is_err());
    prometheus.server.start_again().await?;
    prometheus.wait_until_up(2, LIMIT).await?;
    prometheus.wait_for(all, LIMIT, |count| count == counted.requests as f64).await?;

    prometheus.targets().set(&[Target::pod(stable.address(), "shop", "checkout", stable.name())])?;
    prometheus.wait_until_up(1, LIMIT).await
}

#[tokio::test]
async fn expositions_can_be_cut_and_refused() -> Result<()> {
    let pod = Service::start("v1", "a").await?;
    let client = http::client()?;
    let url = format!("{}/metrics", pod.url());
    http::get_text(&client, &pod.url()).await?;
    let whole = http::get_text(&client, &url).await?;
    assert!(whole.contains("http_requests_total{code=\"200\",method=\"GET\"} 1\n"), "{whole}");
    assert!(
        whole.contains("http_request_duration_seconds_bucket{code=\"200\",method=\"GET\",le=\"+Inf\"} 1\n")
    );
    pod.behaviour.set_exposition(Exposition::CutInHalf);
    assert!(whole.starts_with(&http::get_text(&client, &url).await?));
    pod.behaviour.set_exposition(Exposition::Unavailable);
    assert!(http::get_text(&client, &url).await.is_err());
    pod.restart_counters();
    assert_eq!(pod.counts().requests, 0);
    Ok(())
}

#[tokio::test]
async fn alertmanager_lists_tells_and_forgets() -> Result<()> {
    let inbox = Inbox::start().await?;
    let webhook = Some(inbox.url("/hook"));
    let alertmanager = Alertmanager::start(AlertmanagerOptions { webhook, ..Default::default() }).await?;
    let labels = json!({"alertname": "RolloutAborted", "rollout": "checkout"});
    alertmanager.post(&json!([{"labels": labels, "annotations": {"summary": "errors"}}])).await?;
    let alert = alertmanager.wait_until_firing(&[("rollout", "checkout")], LIMIT).await?;
    assert_eq!(alert.annotations["summary"], "errors");
    inbox.wait_for(LIMIT, |letter| letter.json()["status"] == "firing").await?;

    alertmanager.post(&json!([{"labels": labels, "endsAt": "2020-01-01T00:00:00Z", "startsAt": "2019-01-01T00:00:00Z"}])).await?;
    alertmanager.wait_until_resolved(&[("rollout", "checkout")], LIMIT).await?;
    inbox.wait_for(LIMIT, |letter| letter.json()["status"] == "resolved").await?;
    Ok(())
}
