//! Data planes that carry real requests.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use sluice_rig::fleet::Place;
use sluice_rig::kube::Crds;
use sluice_rig::{
    Contour, ContourOptions, Envoy, Fleet, Haproxy, HaproxyOptions, Kube, KubeOptions, Load, Service, http,
    netns, wait,
};

#[tokio::test]
async fn haproxy_splits_as_its_weights_say() -> Result<()> {
    let stable = Service::start("v1", "stable").await?;
    let canary = Service::start("v2", "canary").await?;
    let haproxy =
        Haproxy::start(HaproxyOptions::stable_and_canary(stable.address(), canary.address())).await?;
    let load = Load::start(&haproxy.url(), 500.0)?;
    let limit = Duration::from_secs(120);

    wait::until_equal("500 answers", limit, true, || async { Ok(load.report().sent >= 500) }).await?;
    assert_eq!(canary.counts().requests, 0);

    let weights = haproxy.log_weights(&["stable", "canary"]);
    wait::until_equal("the first look", limit, 1, async || Ok(weights.weights().len())).await?;
    haproxy.set_weight("stable", 192).await?;
    haproxy.set_weight("canary", 64).await?;
    is_split(&load, 0.25, limit).await?;
    assert_eq!(haproxy.weight("canary").await?, 64);
    assert_eq!(weights.weights().first(), Some(&vec![256, 0]));
    let last = async || Ok(weights.weights().pop());
    wait::until_equal("the weights that were set", limit, Some(vec![192, 64]), last).await?;
    let metrics = http::get_text(&http::client()?, &format!("http://{}/metrics", haproxy.exporter())).await?;
    assert!(
        metrics.contains("haproxy_server_http_responses_total{proxy=\"app\",server=\"canary\",code=\"2xx\"}")
    );

    let report = load.stop().await?;
    // What a busy machine has no room to send is skipped, and none of HAProxy's doing.
    assert_eq!(report.failed, 0, "{report:?}");
    Ok(())
}

/// Waits until a thousand answers in a row were split so: those that were under way at a change may be many on a busy machine.
async fn is_split(load: &Load, share: f64, limit: Duration) -> Result<()> {
    let mut before = load.report();
    wait::until("a thousand answers to be split", limit, || {
        let report = load.report().since(&before);
        let answers: u64 = report.by_version.values().sum();
        if answers >= 1000 {
            before = load.report();
        }
        let so = answers >= 1000 && (report.share("v2") - share).abs() < 0.03;
        std::future::ready(if so { Ok(Some(())) } else { Err(anyhow!("{report:?}")) })
    })
    .await
}

fn arm(name: &str, replicas: u32) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, \
         selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, \
         spec: {{containers: [{{name: main, image: rig}}]}}}}}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{selector: {{app: {name}}}, \
         ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n"
    )
}

const ROUTE: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: checkout}, spec: \
    {parentRefs: [{name: gateway}], rules: [{backendRefs: [{name: checkout, port: 80, weight: 90}, \
    {name: checkout-canary, port: 80, weight: 10}]}]}}";

/// A namespace of the kernel, a control plane, Contour, Envoy and four pods: the share that reached the canary.
#[test]
fn envoy_splits_as_the_httproute_says() -> Result<()> {
    netns::enclosed("traffic::envoy_splits_as_the_httproute_says", async || {
        let begun = Instant::now();
        let crds = vec![Crds::GatewayExperimental, Crds::Contour];
        let kube = Kube::start(KubeOptions { crds, ..KubeOptions::default() }).await?;
        println!("control plane and CRDs: {:?}", begun.elapsed());
        let limit = Duration::from_secs(120);
        let ns = "default";
        let fleet = Fleet::follow(&kube, ns, Place::PodAddress(8080)).await?;
        kube.apply(ns, &(arm("checkout", 3) + &arm("checkout-canary", 1) + ROUTE)).await?;
        fleet.wait_until_ready(("app", "checkout"), 3, limit).await?;
        fleet.wait_until_ready(("app", "checkout-canary"), 1, limit).await?;

        let contour = Contour::start(&kube, ContourOptions::default()).await?;
        let envoy = Envoy::start(&contour).await?;
        println!("with Contour and Envoy: {:?}", begun.elapsed());
        let client = http::client()?;
        // Envoy learns of each service's endpoints on its own; until then it answers 503 for them.
        wait::until("both services to answer", limit, async || {
            http::get_text(&client, &envoy.url()).await?;
            let both = ["checkout", "checkout-canary"].iter().all(|app| fleet.requests(("app", app)) > 0);
            Ok(both.then_some(()))
        })
        .await?;

        let load = Load::start(&envoy.url(), 500.0)?;
        wait::until_equal("2,000 requests", limit, true, async || Ok(load.report().sent >= 2000)).await?;
        let report = load.stop().await?;
        println!("{report:?}, canary {:.4}, all in {:?}", report.share("checkout-canary"), begun.elapsed());
        assert_eq!(report.by_code.keys().collect::<Vec<_>>(), [&200], "{report:?}");
        assert!((report.share("checkout-canary") - 0.1).abs() < 0.03, "{report:?}");
        assert!(fleet.requests(("app", "checkout-canary")) >= report.by_version["checkout-canary"]);
        let counted = "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"default_checkout-canary_80\"}";
        assert!(envoy.metrics().await?.contains(counted));
        Ok(())
    })
}
