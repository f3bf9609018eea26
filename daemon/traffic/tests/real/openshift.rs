//! What people do with a Route by hand, and versions run by DeploymentConfigs, whose controller this test plays.

use serde_json::json;
use sluice_rig::page::Page;
use sluice_traffic::openshift::{Backend, Change, connect_backends, shares};
use sluice_traffic::{AtStart, Size, Sizes, TargetError};
use sluice_wire::policy::{self, PlainRoute, PromoteBy, Workload};

use crate::shop::{LIMIT, Shop, fence, rollout, seen, up};

/// Pods behind the Services of the page's Route: one of stable, ten of the canary.
const VERSIONS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: checkout}, spec: {selector: {app: checkout}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: checkout-canary}, spec: {selector: {app: checkout-canary}, ports: [{port: 80}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: checkout}, spec: {replicas: 1, selector: {matchLabels: {app: checkout}},
  template: {metadata: {labels: {app: checkout}}, spec: {containers: [{name: app, image: 'checkout:1'}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: checkout-canary}, spec: {replicas: 10, selector: {matchLabels: {app: checkout-canary}},
  template: {metadata: {labels: {app: checkout-canary}}, spec: {containers: [{name: app, image: 'checkout:2'}]}}}}
";

async fn shop(label: &str) -> Shop {
    let shop = Shop::with_routers(label).await;
    shop.bind("sluice-workloads").await;
    shop.bind("sluice-openshift-route").await;
    shop
}

fn weights(backends: &[Backend]) -> Vec<u32> {
    backends.iter().map(|backend| backend.weight).collect()
}

#[tokio::test]
async fn weights_are_adjusted_by_hand_but_not_under_a_rollout() {
    let shop = shop("by-hand").await;
    shop.apply(&Page::read("openshift-route").unwrap().objects).await;
    let clients = shop.clients();
    let route = connect_backends(&shop.namespace, "checkout", &clients).await.unwrap();
    assert_eq!(weights(&route.read().await.unwrap()), [100, 0]);
    let adjust = |text: &str| Change::Adjust(text.parse().unwrap());
    assert_eq!(weights(&route.change(&adjust("checkout-canary=5%")).await.unwrap()), [95, 5]);
    assert_eq!(weights(&route.change(&adjust("checkout-canary=+15%")).await.unwrap()), [80, 20]);
    assert_eq!(weights(&route.change(&Change::Equal).await.unwrap()), [100, 100]);
    assert_eq!(weights(&route.change(&Change::Zero).await.unwrap()), [0, 0]);
    assert_eq!(weights(&route.change(&adjust("checkout=100")).await.unwrap()), [100, 0]);
    let unknown = route.change(&adjust("nowhere=5")).await.unwrap_err().to_string();
    assert!(unknown.contains("they are checkout, checkout-canary"), "{unknown}");

    let target = policy::Target::OpenShiftRoute(PlainRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "checkout".into(),
        canary: "checkout-canary".into(),
    });
    let target = shop.target(&target).await;
    target.apply(&up(5.0, "1.1")).await.unwrap();
    let refused = route.change(&Change::Equal).await.unwrap_err();
    let TargetError::NotAsNeeded(words) = &refused else { panic!("{refused:?}") };
    assert!(words.contains("shop/checkout@v2 has it in hand") && words.contains("set-weight"), "{words}");
    target.release(fence("1.2")).await.unwrap();
    route.change(&Change::Equal).await.unwrap();
    assert_eq!(target.observe().await.unwrap().fence, Some(fence("1.2")), "the fence stays");
}

#[tokio::test]
async fn many_canary_pods_beside_one_of_stable_get_more_than_was_written() {
    let shop = shop("skewed").await;
    shop.apply(&Page::read("openshift-route").unwrap().objects).await;
    shop.apply(VERSIONS).await;
    for (deployment, pods) in [("deployment/checkout", 1), ("deployment/checkout-canary", 10)] {
        let available = format!("jsonpath={{.status.availableReplicas}}={pods}");
        shop.kube.wait(&shop.namespace, deployment, &available, LIMIT).await.unwrap();
    }
    let clients = shop.clients();
    let route = connect_backends(&shop.namespace, "checkout", &clients).await.unwrap();
    let backends = route.change(&Change::Adjust("checkout-canary=1%".parse().unwrap())).await.unwrap();
    let endpoints = sluice_rig::wait::until("all endpoints", LIMIT, || async {
        let endpoints = route.endpoints(&backends).await?;
        Ok((endpoints == [1, 10]).then_some(endpoints))
    });
    let endpoints = endpoints.await.unwrap();
    let both: Vec<(u32, u32)> = weights(&backends).into_iter().zip(endpoints).collect();
    assert!((shares(&both)[1] - 0.0376).abs() < 1e-3, "{both:?}");
}

fn config(name: &str, replicas: u32) -> String {
    format!(
        "{{apiVersion: apps.openshift.io/v1, kind: DeploymentConfig, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, \
         selector: {{app: {name}}}, triggers: [], template: {{metadata: {{labels: {{app: {name}}}}}, \
         spec: {{containers: [{{name: app, image: 'checkout:1'}}]}}}}}}}}"
    )
}

/// What its controller would report.
async fn report(shop: &Shop, name: &str, pods: u32) {
    let what = format!("deploymentconfigs.apps.openshift.io/{name}");
    let generation = shop.get(&what).await["metadata"]["generation"].clone();
    let status = json!({"status": {"latestVersion": 1, "observedGeneration": generation, "replicas": pods,
        "updatedReplicas": pods, "availableReplicas": pods, "readyReplicas": pods, "unavailableReplicas": 0}});
    shop.kubectl(&["patch", &what, "--subresource=status", "--type=merge", "--patch", &status.to_string()])
        .await;
}

#[tokio::test]
async fn deployment_configs_are_scaled_and_waited_for_and_their_templates_stay_their_owners() {
    let shop = shop("configs").await;
    shop.apply(&format!("{}\n---\n{}", config("a", 3), config("b", 0))).await;
    report(&shop, "a", 3).await;
    let versions = |promote| policy::Workloads {
        stable: Workload::DeploymentConfig("a".into()),
        canary: Workload::DeploymentConfig("b".into()),
        promote,
        ..policy::Workloads::default()
    };
    let target =
        policy::Target::Webhook(serde_json::from_value(json!({"url": "http://127.0.0.1:1"})).unwrap());
    let workloads = shop.workloads(&versions(PromoteBy::Swap), &target).await;
    workloads.check().await.unwrap();
    let start = workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    assert_eq!(start, AtStart { stable: 3, canary: 0, stable_min: None });

    workloads.raise_canary(2, fence("1.2")).await.unwrap();
    assert_eq!(workloads.observe().await.unwrap().canary, Size { wanted: 2, available: 0 });
    let mut states = workloads.watch();
    report(&shop, "b", 2).await;
    let full = |n| Size { wanted: n, available: n };
    seen(&mut states, "both at size", |sizes| *sizes == Sizes { stable: full(3), canary: full(2) }).await;
    workloads.promote(start, fence("1.3")).await.unwrap();
    workloads.set_stable(0, fence("1.4")).await.unwrap();
    let a = shop.get("deploymentconfigs.apps.openshift.io/a").await;
    assert_eq!(
        (&a["spec"]["replicas"], &a["spec"]["template"]["spec"]["containers"][0]["image"]),
        (&json!(0), &json!("checkout:1"))
    );
    assert!(matches!(workloads.set_canary(0, fence("1.1")).await, Err(TargetError::Fenced { .. })));
}
